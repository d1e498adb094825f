"""What the detectors share that compare an image with what a network makes of it."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from .._parameters import parameter
from .._sklearn import StrOptions
from ..maps import SSIM_WINDOW, structural_similarity
from ._residuals import ResidualDistance
from ._trained_detector import TrainedDetector

# Pixels of a side that the window of the structural similarity needs.
MIN_SIZE = SSIM_WINDOW // 2 + 1

# Images whose residuals tell what is normal; more cost time and tell little more.
MAX_IMAGES = 100


class ResidualDetector(TrainedDetector):
    """Base of the detectors whose map is how an image differs from a network's version of it.

    Parameters
    ----------
    error : {"mahalanobis", "squared", "ssim"}
        How they are compared. "squared" is the squared difference, mean over channels;
        "ssim" one minus the structural similarity around a pixel (Gaussian window of 11
        pixels); "mahalanobis" how far the difference around a pixel, its mean and the
        logarithm of its mean square in each channel (Gaussian of 2 pixels), is from those
        of training images at that place, but for what most of the image has in common.

    Attributes
    ----------
    residual_distance_ : ResidualDistance
        The difference's distribution in training images, for ``error="mahalanobis"``.
    """

    error: str = parameter(
        "mahalanobis", StrOptions({"mahalanobis", "squared", "ssim"}), affects="scores"
    )

    def _version(self, pixels):
        """What the network makes of images (n, C, H, W), of their shape."""
        raise NotImplementedError("a detector of residuals implements _version")

    def _residuals(self, pixels):
        return self._version(pixels) - pixels

    def _learn_residuals(self, images):
        """Learn what residuals are normal, once the network is trained."""
        n = len(images)
        evenly = np.linspace(0, n - 1, min(n, MAX_IMAGES)).round().astype(int)
        batches = self._batches_through(self._residuals, images.subset(evenly))
        self.residual_distance_ = ResidualDistance.of(residuals for residuals, _ in batches)

    def _compute_maps(self, pixels):
        residuals = self._residuals(pixels)
        if self.error == "mahalanobis":
            return self.residual_distance_(residuals)
        if self.error == "squared":
            return residuals.square().mean(dim=1)
        return dissimilarity(pixels, pixels + residuals)


def dissimilarity(x, y):
    """One minus the structural similarity (n, h, w) of images (n, C, h, w), to their borders."""
    r = SSIM_WINDOW // 2
    pair = (F.pad(image, (r, r, r, r), mode="reflect") for image in (x, y))
    return 1 - structural_similarity(*pair, SSIM_WINDOW)
