"""FastFlow: Yu et al., arXiv 2111.07677."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, Numbers
from ..features import FeatureDataset
from ._feature_detector import FrozenFeatureDetector

# Scale factors of a coupling lie between exp(-CLAMP) and exp(CLAMP).
CLAMP = 2.0


class AffineCoupling(nn.Module):
    """Scale and shift half of the channels by what a small network makes of the other half.

    Parameters
    ----------
    channels : int
        Two or more.
    hidden_ratio : float
        Channels inside the small network, relative to those it takes.
    kernel_size : int
        Of its two convolutions, odd.
    """

    def __init__(self, channels, hidden_ratio, kernel_size):
        super().__init__()
        kept = channels - channels // 2
        hidden = max(1, round(hidden_ratio * kept))
        self.split = [kept, channels - kept]
        self.subnet = nn.Sequential(
            nn.Conv2d(kept, hidden, kernel_size, padding="same"),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * (channels - kept), kernel_size, padding="same"),
        )
        nn.init.zeros_(self.subnet[2].weight)  # training starts from the identity
        nn.init.zeros_(self.subnet[2].bias)

    def forward(self, x):
        """The transformed features, and each position's log-determinant (n, h, w)."""
        kept, changed = x.split(self.split, dim=1)
        log_scale, shift = self._log_scale_and_shift(kept)
        return torch.cat([kept, changed * log_scale.exp() + shift], dim=1), log_scale.sum(dim=1)

    def inverse(self, y):
        """What `forward` made `y` of."""
        kept, changed = y.split(self.split, dim=1)
        log_scale, shift = self._log_scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1)

    def _log_scale_and_shift(self, kept):
        log_scale, shift = self.subnet(kept).chunk(2, dim=1)
        return CLAMP * torch.tanh(log_scale / CLAMP), shift


class Flow(nn.Module):
    """Invertible map of a level's features to what is normally distributed for normal images.

    The features are standardised channel by channel; then each step shuffles the
    channels and couples the halves.

    Parameters
    ----------
    mean, std : tensor, shape (c,)
        Of each channel over the training images.
    n_steps : int
    hidden_ratio : float
    kernel_sizes : sequence of int
        Of the couplings in turn.
    """

    def __init__(self, mean, std, n_steps, hidden_ratio, kernel_sizes):
        super().__init__()
        channels = len(mean)
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.register_buffer(
            "orders", torch.stack([torch.randperm(channels) for _ in range(n_steps)])
        )
        self.couplings = nn.ModuleList(
            AffineCoupling(channels, hidden_ratio, kernel_sizes[i % len(kernel_sizes)])
            for i in range(n_steps)
        )

    def forward(self, f):
        """The image z (n, c, h, w) of features, and each position's log-determinant (n, h, w)."""
        z = (f - self.mean) / self.std
        log_det = -self.std.log().sum().expand(len(f), *f.shape[2:])
        for order, coupling in zip(self.orders, self.couplings):
            z, step = coupling(z[:, order])
            log_det = log_det + step
        return z, log_det

    def inverse(self, z):
        """The features that `forward` maps to `z`."""
        for order, coupling in zip(reversed(self.orders), reversed(self.couplings)):
            z = coupling.inverse(z)[:, order.argsort()]
        return z * self.std + self.mean


class PyramidFlow(nn.Module):
    """A flow for each level of a pyramid, each by itself.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_k, h_k, w_k)
        Features of the training images.
    n_steps, hidden_ratio, kernel_sizes
        As for `Flow`.
    """

    def __init__(self, levels, n_steps=8, hidden_ratio=0.25, kernel_sizes=(3, 1)):
        super().__init__()
        self.flows = nn.ModuleList(
            Flow(*_channel_statistics(f), n_steps, hidden_ratio, kernel_sizes) for f in levels
        )

    def forward(self, levels):
        """(z, log-determinant) of each level."""
        return [flow(f) for flow, f in zip(self.flows, levels, strict=True)]


def _channel_statistics(f):
    """Mean and standard deviation of each channel, image by image so that memory stays small."""
    mean = torch.stack([x.mean(dim=(1, 2), dtype=torch.float64) for x in f]).mean(dim=0)
    squares = torch.stack([x.double().square().mean(dim=(1, 2)) for x in f]).mean(dim=0)
    std = (squares - mean.square()).clamp(min=0).sqrt()
    return mean.float(), std.clamp(min=1e-3 * std.max().clamp(min=1e-6)).float()


class FlowLoss(nn.Module):
    r"""Negative log-likelihood of the features, up to a constant, per element; mean over levels.

    .. math:: \tfrac12 \lVert z \rVert^2 - \log \lvert \det \partial z / \partial f \rvert
    """

    def forward(self, found, levels):
        """The loss of what `PyramidFlow` gives of `levels`, which are only counted."""
        return torch.stack(
            [(0.5 * z.square().sum(dim=1) - log_det).mean() / z.shape[1] for z, log_det in found]
        ).mean()


class FastFlow(FrozenFeatureDetector):
    """Detect defects as features that are unlikely under a normalising flow.

    Features of several layers of a pretrained network are mapped by invertible
    networks, one a layer, to noise of independent normal distribution. They are
    convolutional: what is likely at a position depends on its surroundings. How
    unlikely the noise is that a new image's features are mapped to is the map [1]_.

    Parameters
    ----------
    backbone : str
        timm network whose pretrained features are used. The paper has
        ``"resnet18"``, ``"wide_resnet50_2"`` and two transformers.
    layers : sequence of int
        Levels of the pyramid, a flow each; the paper's.
    n_steps : int
        Couplings of each flow. The paper has 8 for ResNets; half of them take half the
        time and judge images of small training sets better.
    hidden_ratio : float
        Channels within a coupling's network, relative to those it takes. 1.0,
        which is common, takes twice the time for as good maps.
    kernel_sizes : sequence of int
        Of the couplings in turn, odd. The paper alternates 3 and 1, or takes 3
        throughout for ResNet-18.
    max_epochs : int
        The state of the lowest validation loss is kept. The paper trains for 500.
    lr : float
        Learning rate of Adam; the paper's.
    weight_decay : float
        Of Adam; the paper's.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None. "position" judges
        images better, above all of textures, as likelihoods are lower at an image's border;
        None outlines defects on parts better.

    Notes
    -----
    The map of a level is :math:`1 - \\exp(-\\overline{z^2} / 2)`, the mean over
    channels, as public implementations have it (the authors published none); the
    levels' maps are resized and summed.

    References
    ----------
    .. [1] J. Yu, Y. Zheng, X. Wang, W. Li, Y. Wu, R. Zhao, L. Wu, "FastFlow:
           Unsupervised Anomaly Detection and Localization via 2D Normalizing
           Flows", arXiv:2111.07677, 2021.

    Examples
    --------
    >>> from skanomaly import FastFlow
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> detector = FastFlow(n_steps=2, max_epochs=2, image_size=128, random_state=0)
    >>> detector.fit(train.images).transform(train.images[:2]).shape
    (2, 128, 128)
    """

    n_steps: int = parameter(4, Interval(Integral, 1, None, closed="left"))
    hidden_ratio: float = parameter(0.25, Interval(Real, 0, None, closed="neither"))
    kernel_sizes: tuple[int, ...] = parameter((3, 1), Numbers(Integral, 1))
    weight_decay: float = parameter(
        1e-5, Interval(Real, 0, None, closed="left"), affects="training"
    )

    standardize = "position"

    _small_parameters = {"n_steps": 2}

    def _fit_images(self, images, validation):
        if even := [k for k in self.kernel_sizes if k % 2 == 0]:
            raise ValueError(
                f"kernel_sizes={tuple(self.kernel_sizes)} holds {even[0]}; use odd whole numbers"
            )
        return super()._fit_images(images, validation)

    def _maps_of_features(self, levels):
        return [1 - torch.exp(-0.5 * z.square().mean(dim=1)) for z, _ in self.net_.module_(levels)]

    def _net_on(self, levels):
        return self._make_net(
            PyramidFlow(levels, self.n_steps, self.hidden_ratio, self.kernel_sizes),
            FlowLoss,
            FeatureDataset,
            keep_best=True,
            optimizer=torch.optim.Adam,
            optimizer__weight_decay=self.weight_decay,
        )
