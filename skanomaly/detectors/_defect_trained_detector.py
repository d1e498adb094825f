"""What the detectors that are trained with drawn defects share."""

from __future__ import annotations

from .._parameters import parameter
from ..synthesis import CorruptionDataset, DefectGenerator
from ._trained_detector import MixedPrecisionDetector


class DefectTrainedDetector(MixedPrecisionDetector):
    """Base of the detectors that are trained on images of good parts with drawn defects.

    Parameters
    ----------
    defects : DefectGenerator or None
        What draws the defects; None means ``DefectGenerator()``. With
        ``DefectGenerator(opacity=(0, 0))`` nothing is drawn.

    See Also
    --------
    skanomaly.synthesis.DefectGenerator : What the defects are.
    """

    defects: DefectGenerator | None = parameter(None, DefectGenerator, None, affects="training")

    def _train_with_defects(self, module, criterion, images, validation, draw, **settings):
        """Train a network on what ``draw(generator, x, seeds, sources)`` makes of images.

        It gives (input, target) of images (n, C, H, W), by `DefectGenerator.draw`.
        ``crop_size`` among the settings is the data sets', the others are of `_make_net`.
        """
        generator = DefectGenerator() if self.defects is None else self.defects
        part = {"crop_size": settings.pop("crop_size", None), "n_jobs": self.n_jobs}
        train = CorruptionDataset(images, generator, **part)
        held_out = CorruptionDataset(validation, generator, train, fixed=True, **part)
        net = self._make_net(
            module,
            criterion,
            CorruptionDataset,
            prepare_batch=lambda x, seeds, sources: draw(generator, x, seeds.tolist(), sources),
            **settings,
        )
        return net.fit_on(train, held_out)
