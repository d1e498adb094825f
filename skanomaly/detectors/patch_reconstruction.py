"""Patch reconstruction error: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from sklearn.utils._param_validation import StrOptions

from ..maps import structural_similarity
from ..patches import PatchMean, continued, patch_places
from ._patch_detector import PatchDetector, PatchLoss

SSIM_WINDOW = 11


class PatchReconstruction(PatchDetector):
    _parameter_constraints: dict = {
        **PatchDetector._parameter_constraints,
        "error": [StrOptions({"squared", "ssim"})],
        "aggregation": [StrOptions({"mean", "center"})],
    }

    def __init__(
        self,
        *,
        patch_size=63,
        channels=(3, 4, 12, 16),
        kernel_sizes=(5, 3, 3, 3),
        strides=(1, 1, 3, 1),
        error="squared",
        aggregation="mean",
        stride=1,
        n_patches=1000,
        image_size=None,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=20,
        lr=3e-3,
        lr_schedule="cosine",
        train_batch_size=1,
        batch_size=4,
        callbacks=None,
        checkpoint=None,
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.patch_size = patch_size
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.strides = strides
        self.error = error
        self.aggregation = aggregation
        self.stride = stride
        self.n_patches = n_patches
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.train_batch_size = train_batch_size
        self.batch_size = batch_size
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _fit_images(self, images, validation):
        module = self._make_autoencoder(images.n_channels)
        side = self.patch_size - 2 * self._rim(module)
        if side < 1:
            raise ValueError(
                f"patch_size={self.patch_size} is too small for error={self.error!r}: of a patch, "
                f"{module.patch_size - 2 * module.margin} pixels are reconstructed; choose a larger one"
            )
        if self.aggregation == "mean" and self.stride > side:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch covers: a patch gives the error "
                f"of its {side} inner pixels; choose a stride of at most {side}"
            )
        self.net_ = self._fit_on_patches(images, validation, module, PatchLoss)

    def _compute_maps(self, pixels):
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        x = continued(pixels, self.patch_size)
        rim = self._rim(self.net_.module_)
        if self.aggregation == "mean":
            mean = PatchMean(pixels[:, 0], self.patch_size, rim)
            for phase in self.net_.module_.phases(x, *places):
                mean.add_phase(self._errors(x, phase), phase)
            return mean.result()
        maps = pixels.new_empty(len(pixels), *map(len, places))
        for phase in self.net_.module_.phases(x, *places):
            phase.put(maps, phase.at(self._errors(x, phase), self.patch_size // 2 - rim))
        return maps

    def _rim(self, network):
        """Pixels at each border of a patch for which it gives no error."""
        return network.margin + (SSIM_WINDOW // 2 if self.error == "ssim" else 0)

    def _errors(self, x, phase):
        """Errors (n, h, w) of all patches of a phase, which agree where they overlap."""
        network = self.net_.module_
        y = network.decode(phase.z)
        top, left = (axis.start + network.margin for axis in (phase.rows, phase.columns))
        x = x[:, :, top : top + y.shape[2], left : left + y.shape[3]]
        if self.error == "ssim":
            return 1 - structural_similarity(x, y, SSIM_WINDOW)
        return (y - x).square().mean(dim=1)
