"""ARAE: Salehi et al., Adversarially Robust Training of Autoencoders, arXiv 2003.05669."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._reconstruction import Reconstructs
from ._residual_detector import MIN_SIZE, ResidualDetector
from ._whole_image_detector import WholeImageDetector, WholeImages


class AdversarialAE(nn.Module):
    """Auto-encoder that is given images, while it is trained, whose latents were moved.

    Parameters
    ----------
    encoder, decoder : torch.nn.Module
    epsilon : float
        Largest change of a pixel.
    n_steps : int
        Of the search for the change.
    """

    def __init__(self, encoder, decoder, epsilon, n_steps):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.epsilon, self.n_steps = epsilon, n_steps

    def forward(self, x):
        """Reconstructions of images (n, C, h, w), their latents, and those moved, if any."""
        z = self.encoder(x)
        z_adv = self.encoder(self.perturbed(x)) if self.training else z
        return self.decoder(z_adv), z, z_adv

    def perturbed(self, x):
        r"""Images near x whose latents are far from those of x.

        Projected ascent of :math:`\lVert e(x + \delta) - e(x) \rVert^2` by signs of the
        gradient, from a random start, with :math:`\lVert \delta \rVert_\infty \le \epsilon`.
        """
        self.encoder.eval()  # the statistics of its norms are to be those of images
        with torch.no_grad():
            z = self.encoder(x)
        low, high = (x - self.epsilon).clamp(min=0), (x + self.epsilon).clamp(max=1)
        x_adv = low + (high - low) * torch.rand_like(x)
        for _ in range(self.n_steps):
            x_adv.requires_grad_()
            moved = (self.encoder(x_adv) - z).square().sum()
            (gradient,) = torch.autograd.grad(moved, x_adv)
            step = 2 * self.epsilon / self.n_steps * gradient.sign()
            x_adv = (x_adv.detach() + step).clamp(low, high)
        self.encoder.train()
        return x_adv


class RobustLoss(nn.Module):
    r"""Mean squared error of the reconstruction, and how far the latent was moved.

    Parameters
    ----------
    latent_weight : float
        :math:`\gamma`.
    """

    def __init__(self, latent_weight):
        super().__init__()
        self.latent_weight = latent_weight

    def forward(self, found, x):
        """The loss of what `AdversarialAE` gives, beside the images themselves."""
        y, z, z_adv = found
        return F.mse_loss(y, x) + self.latent_weight * F.mse_loss(z_adv, z)


class ARAE(Reconstructs, ResidualDetector, WholeImageDetector):
    r"""Detect anomalies as what an auto-encoder, trained against an adversary, does not give back.

    While it is trained, each image is changed by a little, such that its latent changes
    most, and the network is to give back the image as it was [1]_. So its latents hold what
    an image is of, rather than what a small change of pixels can move, and an image of
    something else is given back badly. For small images of one kind of thing.

    Parameters
    ----------
    epsilon : float in [0, 1]
        :math:`\epsilon`, largest change of a pixel; 0 is an ordinary auto-encoder. It, the
        two that follow, the networks and their training are not known to be the paper's.
    n_steps : int
        Steps of the ascent, each of :math:`2 \epsilon` by their number.
    latent_weight : float
        :math:`\gamma`, the loss's weight on the latent's change.
    error : {"mahalanobis", "squared", "ssim"}
        How an image and its reconstruction are compared. "squared" is the paper's squared
        difference, mean over channels; "ssim" one minus the structural similarity around a
        pixel; "mahalanobis" how far the difference around a pixel is from those of training
        images at that place.

    Attributes
    ----------
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored.

    Notes
    -----
    With encoder e and decoder d, of an image x

    .. math:: x^* = \arg\max_{\lVert x' - x \rVert_\infty \le \epsilon} \lVert e(x') - e(x) \rVert^2

    is sought by projected gradient ascent, and

    .. math:: \lVert x - d(e(x^*)) \rVert^2 + \gamma \lVert e(x^*) - e(x) \rVert^2 ,

    each averaged over its numbers, is minimised. The map is :math:`(x - d(e(x)))^2`, averaged
    over channels.

    `fit` holds the training images at `image_size`, in a file if they exceed 4 GiB.

    References
    ----------
    .. [1] M. Salehi, A. Arya, B. Pajoum, M. Otoofi, A. Shaeiri, M. H. Rohban, H. R. Rabiee,
           "ARAE: Adversarially Robust Training of Autoencoders Improves Novelty Detection",
           arXiv:2003.05669; Neural Networks, 2021.

    Examples
    --------
    >>> from skanomaly import ARAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=20, image_size=32, random_state=0).images
    >>> detector = ARAE(max_epochs=2, random_state=0).fit(X)
    >>> detector.reconstruct(X[:2]).shape
    (2, 32, 32)
    """

    epsilon: float = parameter(0.05, Interval(Real, 0, 1, closed="both"), affects="training")
    n_steps: int = parameter(1, Interval(Integral, 1, None, closed="left"), affects="training")
    latent_weight: float = parameter(
        0.1, Interval(Real, 0, None, closed="left"), affects="training"
    )
    error = "squared"
    lr = 5e-3

    def _fit_images(self, images, validation):
        self._need_size(MIN_SIZE, images, validation)
        data, size = self._open_whole(images, validation)
        encoder = self._make_encoder(size)
        module = AdversarialAE(
            encoder, self._make_decoder(encoder.sizes), self.epsilon, self.n_steps
        )
        self.net_ = self._make_net(
            module, RobustLoss(self.latent_weight), WholeImages, optimizer=torch.optim.Adam
        ).fit_on(*data)
        self._learn_residuals(images)

    def _version(self, pixels):
        return self.net_.module_(pixels)[0]
