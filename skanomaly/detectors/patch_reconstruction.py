"""Patch reconstruction error: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from numbers import Integral

import torch

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..maps import SSIM_WINDOW, structural_similarity
from ._patch_detector import PatchLoss
from ._patch_residual_detector import PatchResidualDetector
from ._patches import PatchMean, continued, interpolate_places, patch_places


class PatchReconstruction(PatchResidualDetector):
    """Detect defects as what an auto-encoder of small patches fails to reconstruct.

    A convolutional auto-encoder of a few thousand parameters is trained on patches of
    images of good parts; how an image's patches differ from their reconstructions is
    the map [1]_. From scratch, at the images' own resolution, for textures.

    Parameters
    ----------
    aggregation : {"mean", "center"}
        A pixel's difference, or error, is the mean over the patches that cover it, or
        that of the patch whose centre it is.
    stride : int
        Pixels between the patches that are looked at. 3, the step of the network, takes
        the least time.

    See Also
    --------
    PatchLatentSVM, PatchRestoration : The paper's other two methods.

    Notes
    -----
    The paper's map is that of ``error="squared"``, ``standardize=None`` and ``stride=1``. Of
    an error in units of deviations it is the logarithm, averaged by a Gaussian of 2 pixels,
    that is standardised: by what factor an error is usually exceeded does not depend on how
    large it usually is.

    The decoder gives back a patch without a rim of 12 pixels, which a patch's own
    latents do not determine. So a pixel is covered by the patches whose inner 39
    x 39 pixels hold it; with SSIM the inner 29 x 29, whose windows lie inside.

    The network has no padding, so an image is encoded once for every phase of its
    strides, not once for every patch, with the same result; and it is trained on
    windows, in which all patches are reconstructed at once.

    Stated in the paper are patch size, latent size and number of patches; kernels,
    strides, filters, GELU, batch norm, Adam and 20 epochs are those of the
    authors' network of the same year. The rest is ours.

    References
    ----------
    .. [1] N. Pinon, R. Trombetta, C. Lartizien, "Anomaly detection in image or
           latent space of patch-based auto-encoders for industrial image
           analysis", arXiv:2307.02495, GRETSI 2023.

    Examples
    --------
    >>> from skanomaly import PatchReconstruction
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=10, random_state=0)
    >>> detector = PatchReconstruction(n_patches=40, max_epochs=2, random_state=0)
    >>> detector.fit(train.images).transform(train.images[:2]).shape
    (2, 128, 128)
    """

    aggregation: str = parameter("mean", StrOptions({"mean", "center"}))
    stride: int = parameter(3, Interval(Integral, 1, None, closed="left"))

    def reconstruct(self, X):
        """The images as their patches are reconstructed.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W, C), or (n, H, W) for one channel, float32
            In [0, 1], of each image's own size; a pixel as `aggregation` says. If the
            images differ in size, an object array (n,) of such images.
        """
        return self._made_of(X, self._version)

    def _fit_images(self, images, validation):
        module = self._make_autoencoder(images.n_channels)
        self._check_coverage(module)
        patches = self._open_patches(images, validation)
        self.net_ = self._fit_autoencoder(patches, module, module, PatchLoss)
        self._learn_residuals(images)

    def _check_coverage(self, module):
        side = self.patch_size - 2 * (module.margin + self._lost)
        if side < 1:
            raise ValueError(
                f"patch_size={self.patch_size} is too small for error={self.error!r}: its window "
                f"exceeds the {module.patch_size - 2 * module.margin} pixels of a patch that are "
                "reconstructed; choose a larger one"
            )
        if self.aggregation == "mean" and self.stride > side:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch covers: a patch gives the error "
                f"of its {side} inner pixels; choose a stride of at most {side}"
            )

    def _version(self, pixels):
        return pixels + self._residuals(pixels)

    def _residuals(self, pixels):  # of centres apart it is differences that are interpolated
        return self._over_patches(torch.sub, pixels, like=pixels)

    def _compute_maps(self, pixels):
        if self.error == "mahalanobis":
            return super()._compute_maps(pixels)
        return self._over_patches(self._errors, pixels, like=pixels[:, :1], lost=self._lost)[:, 0]

    def _over_patches(self, compare, pixels, like, lost=0):
        """Of each pixel what ``compare(y, x)`` gives of patches y as they are reconstructed, and x.

        It is given all patches of a phase at once, (n, C, h, w), gives as many channels as
        `like` has, and loses some pixels at each border.
        """
        network = self.net_.module_.folded()
        self._check_coverage(network)
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        x, rim = continued(pixels, self.patch_size), network.margin + lost
        values = (
            (phase, compare(*_both(network, x, phase))) for phase in network.phases(x, *places)
        )
        if self.aggregation == "mean":
            mean = PatchMean(like, self.patch_size, rim)
            for phase, of_patches in values:
                mean.add_phase(of_patches, phase)
            return mean.result()
        maps = like.new_zeros(like.shape[0] * like.shape[1], *map(len, places))
        for phase, of_patches in values:
            central = phase.at(of_patches.flatten(0, 1), self.patch_size // 2 - rim)
            maps = phase.put(maps, central)
        return interpolate_places(maps, places, pixels.shape[2:]).view(like.shape)

    @property
    def _lost(self):
        """Pixels at each border of what is compared for which there is no error."""
        return SSIM_WINDOW // 2 if self.error == "ssim" else 0

    def _errors(self, y, x):
        if self.error == "ssim":
            return 1 - structural_similarity(x, y, SSIM_WINDOW)[:, None]
        # Channels first, for a mean over so few channels is slow where they lie together.
        return (y - x).contiguous().square_().mean(dim=1, keepdim=True)


def _both(network, x, phase):
    """All patches of a phase as they are reconstructed, and as they are, without their rim."""
    y = network.decode(phase.z)
    top, left = (axis.start + network.margin for axis in (phase.rows, phase.columns))
    return y, x[:, :, top : top + y.shape[2], left : left + y.shape[3]]
