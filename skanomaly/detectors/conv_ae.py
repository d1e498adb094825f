"""Convolutional auto-encoder: Bergmann et al., arXiv 1807.02011."""

from __future__ import annotations

from torch import nn

from .._parameters import parameter
from .._sklearn import StrOptions
from ..maps import structural_similarity
from ._convolutional_autoencoder import AutoencoderDetector, ConvAutoencoder
from ._reconstruction import Reconstructs
from ._residual_detector import dissimilarity


class SimilarityLoss(nn.Module):
    """One minus the structural similarity, mean over the pixels whose window is in the image."""

    def forward(self, y, x):
        """The loss of reconstructions of `x`."""
        return 1 - structural_similarity(x, y).mean()


class ConvAE(Reconstructs, AutoencoderDetector):
    r"""Detect defects as what an auto-encoder with a narrow latent fails to reconstruct.

    Convolutions with strides squeeze an image, or a large patch of it, through a vector of
    a hundred numbers, others give it back. The network is trained on images of good parts
    alone; how it changes a new one, in pixels or in structure, is the map [1]_.

    Parameters
    ----------
    loss : {"ssim", "l2"}
        What is minimised, and what the map shows: "ssim" is one minus the structural
        similarity of windows of 11 pixels, "l2" the squared difference, mean over channels.
    latent_dim : int
        Numbers in the latent. 100 is what the paper's authors are reported to have for
        patches of 128 x 128, 500 for whole images of 256 x 256.

    See Also
    --------
    VAEGrad : A variational auto-encoder, whose images are moved to where they are likely.

    Notes
    -----
    With the reconstruction :math:`\hat x = d(e(x))`, the map is

    .. math:: 1 - \operatorname{SSIM}(x, \hat x) \quad \text{or} \quad
              \tfrac1C \lVert x - \hat x \rVert_2^2

    at each pixel, and the loss its mean over pixels; for "ssim" over those whose window
    lies in the image, while the map continues it by reflection.

    The paper's text was not at hand. Its losses, latent sizes, LeakyReLU of slope 0.2, strided
    convolutions (32, 32, 32, 64, 64, 128, 64, 32 for 128 x 128), Adam, its weight decay of
    1e-5, rate of 2e-4 and 200 epochs are from memory, and not known to be the paper's. Ours:
    as many halvings as leave 8 x 8 places or fewer, He's initialisation, with which fewer
    epochs at a higher rate do, a falling rate, and the epoch of the lowest validation loss.

    References
    ----------
    .. [1] P. Bergmann, S. Löwe, M. Fauser, D. Sattlegger, C. Steger, "Improving
           Unsupervised Defect Segmentation by Applying Structural Similarity to
           Autoencoders", arXiv:1807.02011, 2018.

    Examples
    --------
    >>> from skanomaly import ConvAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=20, image_size=64, random_state=0)
    >>> detector = ConvAE(image_size=64, width=8, max_epochs=2, random_state=0)
    >>> detector.fit(train.images).reconstruct(train.images[:2]).shape
    (2, 64, 64)
    """

    loss: str = parameter("ssim", StrOptions({"l2", "ssim"}))

    def _version(self, pixels):
        return self._over_patches(self.net_.module_, pixels)

    def _module(self, n_channels, size):
        return ConvAutoencoder(n_channels, size, self.width, self.latent_dim)

    def _criterion(self):
        return {"l2": nn.MSELoss, "ssim": SimilarityLoss}[self.loss]

    def _patch_maps(self, x):
        y = self.net_.module_(x)
        return (x - y).square().mean(dim=1) if self.loss == "l2" else dissimilarity(x, y)
