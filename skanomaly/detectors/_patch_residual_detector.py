"""What the detectors share that compare an image with its patches reconstructed."""

from __future__ import annotations

from ._patch_detector import PatchDetector
from ._residual_detector import ResidualDetector
from ._residuals import LEAST_SQUARE, SIGMA, locally_averaged


class PatchResidualDetector(ResidualDetector, PatchDetector):
    """Base of the detectors whose map is how an image differs from its patches reconstructed.

    Parameters
    ----------
    two_sided : bool
        In units of deviations, count what lies below the mean as well, if `error` is no distance:
        a smooth spot where there is a texture elsewhere is easier to reconstruct than what is
        normal there. The paper's method does not.
    """

    def _combined(self, maps):
        if self.standardize is None or self.error == "mahalanobis":
            return maps
        # Errors compare by ratios, not by differences. Averaged before, a thin line's few large
        # ones count for their surroundings.
        return (locally_averaged(maps[:, None], SIGMA)[:, 0] + LEAST_SQUARE).log()

    def _sided(self, deviations):
        return deviations if self.error == "mahalanobis" else super()._sided(deviations)
