"""Patch reconstruction error: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

from numbers import Integral

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..maps import SSIM_WINDOW, structural_similarity
from ._patch_detector import PatchDetector, PatchLoss
from ._patches import PatchMean, continued, interpolate_places, patch_places


class PatchReconstruction(PatchDetector):
    """Detect defects as what an auto-encoder of small patches fails to reconstruct.

    A convolutional auto-encoder of a few thousand parameters is trained on random
    patches of images of good parts; the error between an image's patches and
    their reconstructions is the map [1]_. From scratch, at the images' own
    resolution, for textures.

    Parameters
    ----------
    error : {"squared", "ssim"}
        Squared difference, mean over channels, or one minus the structural
        similarity around a pixel (Gaussian window of 11 pixels).
    aggregation : {"mean", "center"}
        A pixel's error is the mean over the patches that cover it, or that of the
        patch whose centre it is.
    stride : int
        Pixels between the patches that are looked at. 3, the step of the network,
        takes about a sixth of the time of 1.

    See Also
    --------
    PatchLatentSVM, PatchRestoration : The paper's other two methods.

    Notes
    -----
    In units of deviations it is the logarithm of the error, averaged by a Gaussian of 2
    pixels, that is standardised: by what factor an error is usually exceeded does not depend
    on how large it usually is.

    The decoder gives back a patch without a rim of 12 pixels, which a patch's own
    latents do not determine. So a pixel is covered by the patches whose inner 39
    x 39 pixels hold it; with SSIM the inner 29 x 29, whose windows lie inside.

    The network has no padding, so an image is encoded once for every phase of its
    strides, not once for every patch, with the same result.

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

    error: str = parameter("squared", StrOptions({"squared", "ssim"}), affects="scores")
    aggregation: str = parameter("mean", StrOptions({"mean", "center"}), affects="scores")
    stride: int = parameter(1, Interval(Integral, 1, None, closed="left"), affects="scores")

    def _fit_images(self, images, validation):
        module = self._make_autoencoder(images.n_channels)
        self._check_coverage(module)
        patches = self._open_patches(images, validation)
        self.net_ = self._fit_on_patches(patches, module, PatchLoss)

    def _check_coverage(self, module):
        side = self.patch_size - 2 * self._rim(module)
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

    def _compute_maps(self, pixels):
        network = self.net_.module_.folded()
        self._check_coverage(network)
        places = [patch_places(size, self.stride) for size in pixels.shape[2:]]
        x = continued(pixels, self.patch_size)
        rim = self._rim(network)
        if self.aggregation == "mean":
            mean = PatchMean(pixels[:, 0], self.patch_size, rim)
            for phase in network.phases(x, *places):
                mean.add_phase(self._errors(network, x, phase), phase)
            return mean.result()
        maps = pixels.new_zeros(pixels.shape[0], *map(len, places))
        for phase in network.phases(x, *places):
            maps = phase.put(
                maps, phase.at(self._errors(network, x, phase), self.patch_size // 2 - rim)
            )
        return interpolate_places(maps, places, pixels.shape[2:])

    def _rim(self, network):
        """Pixels at each border of a patch for which it gives no error."""
        return network.margin + (SSIM_WINDOW // 2 if self.error == "ssim" else 0)

    def _errors(self, network, x, phase):
        """Errors (n, h, w) of all patches of a phase, which agree where they overlap."""
        y = network.decode(phase.z)
        top, left = (axis.start + network.margin for axis in (phase.rows, phase.columns))
        x = x[:, :, top : top + y.shape[2], left : left + y.shape[3]]
        if self.error == "ssim":
            return 1 - structural_similarity(x, y, SSIM_WINDOW)
        # Channels first, for a mean over so few channels is slow where they lie together.
        return y.sub_(x).contiguous().square_().mean(dim=1)
