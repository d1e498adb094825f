"""Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._whole_image_detector import WholeImageDetector, WholeImages

MIN_CENTER = 0.1

# Deviation, in shares of white, below which an image is taken for even.
MIN_CONTRAST = 1e-3


def away_from_zero(c):
    """A centre (d,) whose coordinates within 0.1 of zero are moved to that distance.

    Zero weights would meet a coordinate at zero whatever the image is.
    """
    least = torch.where(c < 0, -MIN_CENTER, MIN_CENTER)
    return torch.where(c.abs() < MIN_CENTER, least, c)


class SphereLoss(nn.Module):
    r"""Mean squared distance to the centre, or the soft boundary's loss.

    .. math:: \min_R R^2 + \frac{1}{\nu n} \sum_i \max(0, \lVert \phi(x_i) - c \rVert^2 - R^2)

    whose minimum is at the distance that a share nu of a batch's exceed.

    Parameters
    ----------
    c : tensor, shape (d,)
    nu : float or None, default=None
        Share of images that may lie outside; None is the mean.
    """

    def __init__(self, c, nu=None):
        super().__init__()
        self.register_buffer("c", c)
        self.nu = nu

    def forward(self, z, _):
        """The loss of representations (n, d)."""
        distance = (z - self.c).square().sum(dim=1)
        if self.nu is None:
            return distance.mean()
        n_outside = int(self.nu * len(distance))
        R2 = distance.detach().sort().values[-1 - n_outside]
        return R2 + F.relu(distance - R2).mean() / self.nu


class Representation(nn.Module):
    """An encoder of images, after global contrast normalisation if that is asked for.

    Parameters
    ----------
    encoder : ImageEncoder
        Without biases.
    normalize_contrast : bool
        Subtract an image's mean, and divide by its mean absolute deviation.
    """

    def __init__(self, encoder, normalize_contrast):
        super().__init__()
        self.encoder, self.normalize_contrast = encoder, normalize_contrast

    def forward(self, x):
        """From images (n, C, h, w) to representations (n, d)."""
        return self.encoder.head(self.features(x).flatten(1))

    def features(self, x):
        """What the last, linear map is given, (n, c, h', w')."""
        if self.normalize_contrast:
            x = x - x.mean(dim=(1, 2, 3), keepdim=True)
            x = x / x.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=MIN_CONTRAST)
        return self.encoder.blocks(x)


class DeepSVDD(WholeImageDetector):
    r"""Detect anomalies as images that a network does not bring near to a centre.

    A network without biases is pretrained as an auto-encoder's encoder, and then learns to
    bring images of good parts near to their mean representation [1]_. What lies far from it
    is anomalous. For small images of one kind of thing.

    Parameters
    ----------
    nu : float in (0, 1) or None
        :math:`\nu`. None is the paper's one-class objective; a number is its soft boundary, of
        which so large a share of a step's images may lie outside.
    normalize_contrast : bool
        Subtract from each image its mean and divide it by its mean absolute deviation, as
        the authors do with their data sets.
    pretrain_epochs : int
        Passes over the training images as an auto-encoder.
    max_epochs : int
        Passes over them after that. The paper has 150, at a rate of 1e-4 which falls to a
        tenth after 50.
    channels : sequence of int
        Of the encoder's convolutions, each of which halves the image. The paper's networks
        are LeNets that are pooled; ours have a stride of two instead.
    weight_decay : float
        Of Adam, in both trainings; the paper's.

    Attributes
    ----------
    center_ : tensor, shape (latent_dim,)
        :math:`c`.
    mean_features_ : tensor, shape (c, h, w)
        Mean of training images' last features before the linear map to the representation.

    Notes
    -----
    With the network :math:`\phi` and c the mean of :math:`\phi(x)` over training images before
    the second training, no coordinate of which is let be nearer to zero than 0.1,

    .. math:: \frac1n \sum_i \lVert \phi(x_i) - c \rVert^2

    is minimised, with weight decay. Biases would let the network give c whatever the image is.
    For the same reason norms are without scale and shift.

    A score is :math:`\lVert \phi(x) - c \rVert^2`, by the number of the map's pixels. The paper
    has no map. Ours is how the score comes about: as the last map is linear, :math:`\phi(x) =
    \sum_p W_p f_p` over positions p of the last features, and

    .. math:: \lVert \phi(x) - c \rVert^2 = \sum_p \Big\langle W_p (f_p - \bar f_p)
              + \frac{\phi(\bar f) - c}{P}, \, \phi(x) - c \Big\rangle ,

    with the mean features :math:`\bar f` of training images and P positions: a position's
    share, which may be negative. Its mean is the score but for resizing to an image that is
    no multiple of the features' grid.

    `fit` holds the training images at `image_size`, in a file if they exceed 4 GiB.

    References
    ----------
    .. [1] L. Ruff, R. Vandermeulen, N. Görnitz, L. Deecke, S. A. Siddiqui, A. Binder,
           E. Müller, M. Kloft, "Deep One-Class Classification", ICML 2018.

    Examples
    --------
    >>> from skanomaly import DeepSVDD
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=20, image_size=32, random_state=0).images
    >>> detector = DeepSVDD(pretrain_epochs=2, max_epochs=2, random_state=0).fit(X)
    >>> bool(detector.center_.abs().min() >= 0.1)
    True
    """

    nu: float | None = parameter(
        None, Interval(Real, 0, 1, closed="neither"), None, affects="training"
    )
    normalize_contrast: bool = parameter(True, "boolean")
    pretrain_epochs: int = parameter(
        50, Interval(Integral, 1, None, closed="left"), affects="training"
    )
    weight_decay: float = parameter(
        0.5e-6, Interval(Real, 0, None, closed="left"), affects="training"
    )
    max_epochs = 50

    _small_parameters = {"pretrain_epochs": 2}

    def _fit_images(self, images, validation):
        data, size = self._open_whole(images, validation)
        phi = Representation(self._make_encoder(size, bias=False), self.normalize_contrast)
        decoder = self._make_decoder(phi.encoder.sizes, bias=False)
        settings = {"optimizer": torch.optim.Adam, "optimizer__weight_decay": self.weight_decay}
        self.net_ = first = self._make_net(
            nn.Sequential(phi, decoder),
            nn.MSELoss,
            WholeImages,
            stage=1,
            max_epochs=self.pretrain_epochs,
            **settings,
        ).fit_on(*data)
        self.center_ = away_from_zero(self._mean_of(phi, images))
        self.net_ = self._make_net(
            phi, SphereLoss(self.center_, self.nu), WholeImages, stage=2, **settings
        ).fit_on(*data)
        if self.checkpoint is not None:
            dict(first.callbacks_)["checkpoint"].remove()
        self.mean_features_ = self._mean_of(phi.features, images)

    def _mean_of(self, process, images):
        """Mean over images of what a part of the network makes of them."""
        sums = [found.sum(dim=0) for found, _ in self._batches_through(process, images)]
        return (torch.stack(sums).sum(dim=0) / len(images)).cpu().clone()

    def _compute_maps(self, pixels):
        phi = self.net_.module_
        c, mean = (part.to(pixels.device) for part in (self.center_, self.mean_features_))
        f = phi.features(pixels)
        distance = phi.encoder.head(f.flatten(1)) - c
        toward = (distance @ phi.encoder.head.weight).view(f.shape)
        shares = (toward * (f - mean)).sum(dim=1)
        rest = distance @ (phi.encoder.head(mean.flatten()) - c)
        return shares + rest[:, None, None] / mean[0].numel()
