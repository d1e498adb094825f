"""Hierarchical feature reconstruction (HFR-AE): Chen et al., arXiv 2405.09148."""

from __future__ import annotations

from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import FeatureDataset
from ..maps import normalized_residual
from ._feature_detector import FrozenFeatureDetector


class HierarchicalDecoder(nn.Module):
    """Reconstruct every level of a feature pyramid from its coarsest one.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's levels, finest first.
    hidden_ratio : float, default=1.0
        Channels inside a level, as a multiple of the level's own.
    negative_slope : float, default=0.1
        Of the leaky ReLUs.
    """

    def __init__(self, channels, hidden_ratio=1.0, negative_slope=0.1):
        super().__init__()
        coarse_to_fine = list(reversed(channels))
        inputs = [coarse_to_fine[0], *coarse_to_fine]
        self.levels = nn.ModuleList(
            _level(c_in, max(1, round(hidden_ratio * c)), c, negative_slope)
            for c_in, c in zip(inputs, coarse_to_fine)
        )

    def forward(self, f_enc):
        """Reconstruct a batch of pyramids.

        Parameters
        ----------
        f_enc : sequence of tensor, each (n, c_k, h_k, w_k)
            The encoder's features, finest first; of all but the coarsest only
            the size is used.

        Returns
        -------
        tuple of tensor
            f_dec, of the same shapes.
        """
        f, f_dec = f_enc[-1], []
        for level, target in zip(self.levels, reversed(f_enc)):
            if f_dec:
                f = F.interpolate(f, target.shape[2:], mode="nearest")  # eq. 4
            f = level(f)  # eq. 3
            f_dec.append(f)
        return tuple(reversed(f_dec))


def _level(c_in, c_hidden, c_out, negative_slope):
    """Convolutions 1x1, 3x3, 1x1 with batch norm and leaky ReLU, then one more 1x1."""
    blocks = []
    for c, kernel in ((c_in, 1), (c_hidden, 3), (c_hidden, 1)):
        blocks += [
            nn.Conv2d(c, c_hidden, kernel, padding="same", bias=False),
            nn.BatchNorm2d(c_hidden),
            nn.LeakyReLU(negative_slope),
        ]
    return nn.Sequential(*blocks, nn.Conv2d(c_hidden, c_out, 1))


class HierarchicalFeatureLoss(nn.Module):
    """Mean over positions of each level's residual, mean over levels (eqs. 7-8)."""

    def forward(self, f_dec, f_enc):
        """The loss of reconstructed features, given the encoder's; a scalar in [0, 2]."""
        L_k = [normalized_residual(e, d).mean() for e, d in zip(f_enc, f_dec, strict=True)]
        return torch.stack(L_k).mean()


class HierarchicalFeatureAE(FrozenFeatureDetector):
    r"""Detect defects where a pyramid of pretrained features cannot be reconstructed.

    A frozen encoder gives features of three levels; a decoder learns, on images
    of good parts, to reconstruct all of them from the coarsest. Where it fails,
    the image differs from what was learnt [1]_. One forward pass an image.

    Parameters
    ----------
    backbone : str
        Encoder, a network of timm that gives a feature pyramid. The paper uses
        ResNet-18 and WideResNet-50-2; the default needs no download.
    hidden_ratio : float
        Channels inside the decoder's levels, as a multiple of the level's own.
        Not stated in the paper.
    negative_slope : float
        Of the leaky ReLUs. The paper's.
    level_weights : {"area", "equal"}
        Weight of a level's residual in the map. "area" is the paper's
        :math:`1 / (w_k h_k)`, which favours the coarse levels; "equal" is 1.
    max_epochs : int
        Passes over the training images. Not stated in the paper.
    lr : float
        Learning rate of SGD at the start. The paper's, as are the momentum, the
        weight decay, `smoothing` and `score_reduction`.
    momentum : float
        Of SGD.
    weight_decay : float
        Of SGD.

    Attributes
    ----------
    level_areas_ : list of int
        :math:`w_k h_k` of the images that were learnt from, by which "area" divides
        whatever an image's own size is, so that scores of different sizes compare.

    See Also
    --------
    skanomaly.features.FeaturePyramid : The encoder.

    Notes
    -----
    With features :math:`f_{enc}^k` of the encoder and :math:`f_{dec}^k` of the
    decoder at level k, the residual is

    .. math:: \phi_k = \tfrac12 \left\lVert
              \frac{f_{enc}^k}{\lVert f_{enc}^k \rVert_2} -
              \frac{f_{dec}^k}{\lVert f_{dec}^k \rVert_2}
              \right\rVert_2^2,

    the loss its mean over positions and levels, and the map

    .. math:: f_a = G_\sigma\Big(\sum_k \mathrm{Resize}\big(
              \tfrac{1}{w_k h_k} \phi_k\big)\Big).

    The decoder's input at a level is the reconstructed feature of the coarser
    level, upsampled to the nearest neighbour. Training is by SGD and without
    augmentation, so the encoder's features are computed once.

    References
    ----------
    .. [1] H. Chen, P. Chen, H. Mao, M. Jiang, "A Hierarchically Feature
           Reconstructed Autoencoder for Unsupervised Anomaly Detection",
           arXiv:2405.09148, 2024.

    Examples
    --------
    >>> from skanomaly import HierarchicalFeatureAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", split="train", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> detector = HierarchicalFeatureAE(max_epochs=2, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    hidden_ratio: float = parameter(1.0, Interval(Real, 0, None, closed="neither"))
    negative_slope: float = parameter(0.1, Interval(Real, 0, None, closed="left"))
    level_weights: str = parameter("area", StrOptions({"area", "equal"}), affects="scores")
    max_epochs = 60
    lr = 0.4
    momentum: float = parameter(0.9, Interval(Real, 0, 1, closed="left"), affects="training")
    weight_decay: float = parameter(
        1e-4, Interval(Real, 0, None, closed="left"), affects="training"
    )
    train_batch_size = 2

    def _maps_of_features(self, f_enc):
        """phi_k of each level, (n, h_k, w_k), weighted for the sum of eqs. 9-10."""
        f_dec = self.net_.module_(f_enc)
        phi = [normalized_residual(e, d) for e, d in zip(f_enc, f_dec, strict=True)]
        if self.level_weights == "equal":
            return phi
        return [phi_k / area for phi_k, area in zip(phi, self.level_areas_, strict=True)]

    def _net_on(self, levels):
        self.level_areas_ = [f_k.shape[2] * f_k.shape[3] for f_k in levels]
        return self._make_net(
            HierarchicalDecoder,
            HierarchicalFeatureLoss,
            FeatureDataset,
            module__channels=self.encoder_.channels,
            module__hidden_ratio=self.hidden_ratio,
            module__negative_slope=self.negative_slope,
            optimizer=torch.optim.SGD,
            optimizer__momentum=self.momentum,
            optimizer__weight_decay=self.weight_decay,
        )
