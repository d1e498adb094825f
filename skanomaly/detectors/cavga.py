"""Attention of an adversarial variational auto-encoder: Venkataramanan et al., arXiv 1911.08616."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._convolutional_autoencoder import (
    SLOPE,
    AutoencoderDetector,
    ConvDecoder,
    ConvEncoder,
    EvidenceLoss,
    Halvings,
    continued,
    drawn,
    moments_of,
)
from ._differentiable import differentiable


class AttentiveVAE(nn.Module):
    """Variational auto-encoder with a feature map as its latent, its attention, a discriminator.

    Parameters
    ----------
    n_channels : int
        Of the images.
    size : (int, int)
        Their height and width; they are continued to what can be halved.
    width : int
        Channels of the finest grids.
    latent_dim : int
        Channels of the latent.
    """

    def __init__(self, n_channels, size, width, latent_dim):
        super().__init__()
        halvings = Halvings(size)
        self.stride = halvings.stride
        *earlier, last = ConvEncoder(n_channels, halvings, width)
        self.features, self.last = nn.Sequential(*earlier), last
        self.latent = nn.Conv2d(width, 2 * latent_dim, 3, padding=1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_dim, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            ConvDecoder(n_channels, halvings, width),
        )
        self.discriminator = Discriminator(n_channels, halvings, width)

    def forward(self, x):
        """All that the loss is made of, for images (n, C, h, w).

        Returns
        -------
        y : tensor, shape (n, C, h, w)
            The reconstruction; of a latent that is drawn, in training, else of the mean.
        mean, log_var : tensor, shape (n, latent_dim, h', w')
            The latents' mean and logarithm of the variance.
        a : tensor, shape (n, 2 h', 2 w')
            Logits of the attention.
        real, fake : tensor, shape (n,)
            Logits of the discriminator for the images and their reconstructions; the gradient
            of the latter has the opposite sign in the auto-encoder.
        """
        whole = continued(x, self.stride) - 0.5
        with torch.enable_grad():  # which attention is made of, while a loss is validated, too
            mean, log_var, a = self.attend(whole)
        y = self.decoder(drawn(mean, log_var, self.training))
        real, fake = (self.discriminator(image) for image in (whole, 2 * y.detach() - y))
        return 0.5 + y[:, :, : x.shape[2], : x.shape[3]], mean, log_var, a, real, fake

    def attend(self, x):
        """Mean and logarithm of the variance of the latents, and the logits of the attention."""
        f = self.features(x)
        mean, log_var = moments_of(self.latent(self.last(f)))
        (gradient,) = torch.autograd.grad(mean.sum(), f, create_graph=self.training)
        alpha = gradient.mean(dim=(2, 3), keepdim=True)
        return mean, log_var, (alpha * f).sum(dim=1)


class Discriminator(nn.Module):
    """Logits (n,) of images being real.

    Parameters
    ----------
    n_channels : int
        Of the images.
    halvings : Halvings
        Of their size.
    width : int
        Channels of the finest grids.
    """

    def __init__(self, n_channels, halvings, width):
        super().__init__()
        self.features = ConvEncoder(n_channels, halvings, width)
        self.logit = nn.Linear(width * math.prod(halvings.grid), 1)

    def forward(self, x):
        """Of images (n, C, h, w)."""
        return self.logit(self.features(x).flatten(1))[:, 0]


class AttentionLoss(nn.Module):
    """Evidence, adversarial and attention expansion loss, per value, place and image.

    Parameters
    ----------
    decoder_std, adversarial_weight, attention_weight : float
        As of `CAVGA`.
    """

    def __init__(self, decoder_std, adversarial_weight, attention_weight):
        super().__init__()
        self.evidence = EvidenceLoss(decoder_std)
        self.adversarial_weight, self.attention_weight = adversarial_weight, attention_weight

    def forward(self, found, x):
        """The loss of what `AttentiveVAE` gives of `x`."""
        y, mean, log_var, a, real, fake = found
        adversarial = F.softplus(-real).mean() + F.softplus(fake).mean()
        return (
            self.evidence((y, mean, log_var), x)
            + self.adversarial_weight * adversarial
            + self.attention_weight * torch.sigmoid(-a).mean()
        )


class CAVGA(AutoencoderDetector):
    r"""Detect defects as what the attention of an auto-encoder of good images leaves out.

    An adversarial variational auto-encoder whose latent is a feature map is trained on
    images of good parts, and made to attend to all of them. Where it does not attend to a
    new image is the map [1]_. This is the unsupervised variant with plain convolutions.

    Parameters
    ----------
    latent_dim : int
        Channels of the latent.
    decoder_std : float
        :math:`\sigma`, standard deviation of a pixel about its reconstruction, in units of the
        value range. The smaller, the more the reconstruction counts beside the latents' prior.
    adversarial_weight : float
        Of the adversarial loss; 0 is a variational auto-encoder.
    attention_weight : float
        Of the attention expansion loss.
    two_sided : bool
        In units of deviations, count what lies below the mean as well: attention follows
        contrast, and so a defect may have more of it than what is normal there. The
        paper's method does not.

    Notes
    -----
    The attention is Grad-CAM's: with the features :math:`F_k` of the second coarsest grid
    (16 x 16 places for patches of 128 x 128) and the latent's mean :math:`\mu`,

    .. math:: A = \operatorname{sigmoid}\big(\textstyle\sum_k \alpha_k F_k\big), \quad
              \alpha_k = \operatorname{mean}_{ij} \;
              \partial \big(\textstyle\sum \mu\big) / \partial F_k^{ij} ,

    where the second sum is over the latent's places and channels. The map is 1 - A, and the loss
    of an image the negative evidence lower bound per value,

    .. math:: \frac{1}{2 \sigma^2} \lVert x - \hat x \rVert^2
              + D_{KL}(q(z \mid x) \,\|\, N(0, 1)) ,

    plus the weighted :math:`-\log D(x) - \log(1 - D(\hat x))` and :math:`\overline{1 - A}`. The
    discriminator D descends the second, the auto-encoder ascends it: what D's gradient says of
    :math:`\hat x` changes its sign on its way into the decoder, so that one optimiser trains
    both, each step at once.

    The paper's text was not at hand: the losses and the map are as remembered, the networks and
    weights ours, chosen on the development categories.

    References
    ----------
    .. [1] S. Venkataramanan, K.-C. Peng, R. V. Singh, A. Mahalanobis, "Attention Guided
           Anomaly Localization in Images", ECCV 2020, arXiv:1911.08616.

    Examples
    --------
    >>> from skanomaly import CAVGA
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=20, image_size=64, random_state=0)
    >>> detector = CAVGA(image_size=64, width=8, max_epochs=2, random_state=0)
    >>> detector.fit(train.images).transform(train.images[:2]).shape
    (2, 64, 64)
    """

    decoder_std: float = parameter(0.1, Interval(Real, 0, None, closed="neither"))
    adversarial_weight: float = parameter(0.01, Interval(Real, 0, None, closed="left"))
    attention_weight: float = parameter(1.0, Interval(Real, 0, None, closed="left"))
    two_sided: bool = parameter(True, "boolean", affects="scores")
    latent_dim = 32

    _not_exportable = "its maps are made of gradients"

    def _sided(self, deviations):
        return deviations.abs() if self.two_sided else deviations

    def _module(self, n_channels, size):
        return AttentiveVAE(n_channels, size, self.width, self.latent_dim)

    def _criterion(self):
        return AttentionLoss(self.decoder_std, self.adversarial_weight, self.attention_weight)

    def _patch_maps(self, x):
        module = self.net_.module_
        whole = continued(x, module.stride) - 0.5
        with differentiable(whole) as whole:
            *_, a = module.attend(whole)
        unattended = F.interpolate(
            torch.sigmoid(-a.detach())[:, None], whole.shape[2:], mode="bilinear"
        )
        return unattended[:, 0, : x.shape[2], : x.shape[3]]
