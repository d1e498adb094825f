"""Reverse distillation (RD4AD): Deng, Li, arXiv 2201.10703."""

from __future__ import annotations

import math
from itertools import pairwise
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ..features import FeatureDataset
from ._compared_levels import ComparedLevels
from ._feature_detector import FrozenFeatureDetector
from ._trained_detector import MixedPrecisionDetector

# Decay rates of Adam's averages; the paper's.
BETAS = (0.5, 0.999)


class ResidualBlock(nn.Module):
    """Two convolutions, as ResNet-18's blocks have them, and a way past them.

    Parameters
    ----------
    first : torch.nn.Module
        The first of the two, which may change the grid.
    c_hidden, c_out : int
        Channels that it gives, and those of the block.
    shortcut : torch.nn.Module
        The way past them, to the same channels and grid.
    """

    def __init__(self, first, c_hidden, c_out, shortcut):
        super().__init__()
        self.convolutions = nn.Sequential(
            first,
            nn.BatchNorm2d(c_hidden),
            nn.ReLU(),
            nn.Conv2d(c_hidden, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = shortcut

    def forward(self, x):
        """What is before the ReLU, which those take who go on from it."""
        return self.convolutions(x) + self.shortcut(x)


def _stage(change_grid, shortcut, c_in, c_out, n_blocks, hidden_ratio):
    """Residual blocks, the first of which changes channels and grid."""
    c_hidden = max(1, round(hidden_ratio * c_out))
    past = nn.Sequential(shortcut(c_in, c_out), nn.BatchNorm2d(c_out))
    blocks = [ResidualBlock(change_grid(c_in, c_hidden), c_hidden, c_out, past)]
    for _ in range(n_blocks - 1):
        convolution = nn.Conv2d(c_out, c_hidden, 3, padding=1, bias=False)
        blocks += [nn.ReLU(), ResidualBlock(convolution, c_hidden, c_out, nn.Identity())]
    return nn.Sequential(*blocks)


def _halving(c_in, c_out, kernel_size=3):
    padding = kernel_size // 2
    return nn.Conv2d(c_in, c_out, kernel_size, stride=2, padding=padding, bias=False)


class Bottleneck(nn.Module):
    """One-class embedding of all levels: fused on the coarsest grid, then one more residual stage.

    Parameters
    ----------
    channels, strides : sequence of int
        Of the levels, finest first.
    n_blocks : int
        Of the residual stage.
    hidden_ratio : float
        Channels within a block, relative to its own.
    """

    def __init__(self, channels, strides, n_blocks, hidden_ratio):
        super().__init__()
        c = channels[-1]
        n_halvings = [round(math.log2(strides[-1] / s_k)) for s_k in strides]
        self.fusion = nn.ModuleList(_to_grid(c_k, c, n) for c_k, n in zip(channels, n_halvings))
        c_fused = sum(c if n else c_k for c_k, n in zip(channels, n_halvings))
        size = c_fused, 2 * c, n_blocks, hidden_ratio
        self.embedding = _stage(_halving, lambda *cs: _halving(*cs, kernel_size=1), *size)

    def forward(self, f_e):
        """From levels, each (n, c_k, h_k, w_k), to a code of half the coarsest's grid."""
        fused = torch.cat([to_grid(f) for to_grid, f in zip(self.fusion, f_e)], dim=1)
        return F.relu(self.embedding(fused))


def _to_grid(c_in, c_out, n_halvings):
    """3x3 convolutions that halve the grid, whose channels grow by one and the same ratio."""
    c = [round(c_in * (c_out / c_in) ** (i / max(1, n_halvings))) for i in range(n_halvings + 1)]
    layers = []
    for c_before, c_after in pairwise(c):
        layers += [_halving(c_before, c_after), nn.BatchNorm2d(c_after), nn.ReLU()]
    return nn.Sequential(*layers)


class ReverseDecoder(nn.Module):
    """The student: from the code back to all levels, coarsest first, as an encoder in reverse.

    Parameters
    ----------
    channels, strides, n_blocks, hidden_ratio
        As for `Bottleneck`.
    """

    def __init__(self, channels, strides, n_blocks, hidden_ratio):
        super().__init__()
        channels = [*channels, 2 * channels[-1]]
        ratios = [round(b / a) for a, b in zip(strides, [*strides[1:], 2 * strides[-1]])]
        self.stages = nn.ModuleList(
            _growing_stage(c_in, c_out, ratio, n_blocks, hidden_ratio)
            for c_in, c_out, ratio in zip(channels[:0:-1], channels[-2::-1], reversed(ratios))
        )

    def forward(self, code, f_e):
        """f_D of each level, finest first, of the sizes of f_E; more of f_E is not used."""
        f, f_d = code, []
        for stage, target in zip(self.stages, reversed(f_e)):
            height, width = target.shape[2:]
            f = stage(f)[:, :, :height, :width]  # a grid of odd size was rounded up when halved
            f_d.append(f)
            f = F.relu(f)
        return tuple(reversed(f_d))


def _growing_stage(c_in, c_out, ratio, n_blocks, hidden_ratio):
    def larger(c_before, c_after):
        return nn.ConvTranspose2d(c_before, c_after, ratio, ratio, bias=False)

    return _stage(larger, larger, c_in, c_out, n_blocks, hidden_ratio)


class ReverseStudent(nn.Module):
    """Bottleneck and decoder, which are trained together.

    Parameters
    ----------
    channels, strides, n_blocks, hidden_ratio
        As for `Bottleneck`.
    """

    def __init__(self, channels, strides, n_blocks=2, hidden_ratio=1.0):
        super().__init__()
        self.bottleneck = Bottleneck(channels, strides, n_blocks, hidden_ratio)
        self.decoder = ReverseDecoder(channels, strides, n_blocks, hidden_ratio)

    def forward(self, f_e):
        """f_D of the encoder's levels, of their shapes."""
        return self.decoder(self.bottleneck(f_e), f_e)


class WholeMapCosineLoss(nn.Module):
    """One minus the cosine of each level's whole map, as one vector; summed over levels."""

    def forward(self, f_d, f_e):
        """The loss of a decoder's features, given the encoder's."""
        cosines = [
            F.cosine_similarity(e.flatten(1), d.float().flatten(1))
            for e, d in zip(f_e, f_d, strict=True)
        ]
        return sum((1 - cosine).mean() for cosine in cosines)


class ReverseDistillation(MixedPrecisionDetector, FrozenFeatureDetector, ComparedLevels):
    r"""Detect defects as pretrained features that a student cannot give back from a code.

    A bottleneck fuses the levels of a frozen encoder into a small code, from which a
    decoder, an encoder in reverse, learns to give back every level on images of good
    parts. What is defective does not pass through the code [1]_. One forward pass an image.

    Parameters
    ----------
    backbone : str
        Encoder, a network of timm. The paper's is ``"wide_resnet50_2"``; it also has
        ``"resnet18"``.
    layers : sequence of int
        Levels of the pyramid that are fused and given back; the paper's.
    n_blocks : int
        Residual blocks of each stage, those of ResNet-18.
    hidden_ratio : float
        Channels within a block, as a multiple of its own. Blocks are ResNet-18's, of two
        3x3 convolutions; a fourth keeps them small with the wide levels of a ResNet-50.
    level_reduction : {"product", "sum"}
        How the levels' residuals, brought to one size, become one map. A "product" is high
        where all levels differ; the paper's is the "sum".
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.
    max_epochs : int
        The state of the lowest validation loss is kept. The paper trains for 200.
    lr : float
        Learning rate of Adam at the start; the paper's, as are Adam's decay rates of .5
        and .999. The paper has no schedule.
    train_batch_size : int
        Images a step of training. The paper's is 16; fewer make more steps of an epoch.

    See Also
    --------
    HierarchicalFeatureAE : A decoder that starts from the coarsest level alone.
    STFPM : A student that sees the image.

    Notes
    -----
    With features :math:`f_E^k` of the encoder and :math:`f_D^k` of the decoder at level k,
    the loss takes each level of an image for one vector,

    .. math:: \sum_k 1 - \frac{f_E^k \cdot f_D^k}{\lVert f_E^k \rVert \lVert f_D^k \rVert},

    as the authors' program does, and the map compares position by position, here in the
    paper's form,

    .. math:: \sum_k \mathrm{Resize}\Big(1 - \frac{f_E^k(h, w) \cdot f_D^k(h, w)}
              {\lVert f_E^k(h, w) \rVert \lVert f_D^k(h, w) \rVert}\Big).

    The bottleneck brings all levels to the coarsest grid by 3x3 convolutions that halve it,
    joins them, and goes on by a residual stage to a grid of half the side. Each level of the
    decoder is what its last block has before the ReLU, as there are encoders whose features
    may be negative.

    Encoder and data are frozen, so that features are computed once. A fit holds them in
    memory, .7 MiB an image of 256 x 256 with the default network, 1.8 MiB with
    ``"resnet18"``; in a temporary file where they take more than 4 GiB.

    References
    ----------
    .. [1] H. Deng, X. Li, "Anomaly Detection via Reverse Distillation from One-Class
           Embedding", CVPR 2022, arXiv:2201.10703.

    Examples
    --------
    >>> from skanomaly import ReverseDistillation
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("gravel", n_normal=10, image_size=64, random_state=0).images
    >>> detector = ReverseDistillation(max_epochs=2, image_size=64, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 64, 64)
    """

    n_blocks: int = parameter(2, Interval(Integral, 1, None, closed="left"))
    hidden_ratio: float = parameter(1.0, Interval(Real, 0, None, closed="neither"))
    standardize = "position"
    max_epochs = 30
    lr = 5e-3

    _small_parameters = {"n_blocks": 1, "hidden_ratio": 0.5}

    def _net_on(self, levels):
        return self._make_net(
            ReverseStudent,
            WholeMapCosineLoss,
            FeatureDataset,
            keep_best=True,
            module__channels=self.encoder_.channels,
            module__strides=self.encoder_.strides,
            module__n_blocks=self.n_blocks,
            module__hidden_ratio=self.hidden_ratio,
            optimizer=torch.optim.Adam,
            optimizer__betas=BETAS,
        )

    def _maps_of_features(self, f_e):
        return self._compared(f_e, self.net_.module_(f_e))
