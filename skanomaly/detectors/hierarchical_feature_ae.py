"""Hierarchical feature reconstruction (HFR-AE): Chen et al., arXiv 2405.09148."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import FeatureDataset
from ..images import stack
from ..maps import assemble_maps_by_size, normalized_residual
from ._feature_detector import FrozenFeatureDetector

# To which the similarity of a level's features and their reconstructions is raised to weigh it.
SIMILARITY_POWER = 8


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
    level_weights : {"similarity", "area", "equal"}
        Weight of a level's residual in the map. "similarity" is the eighth power of
        `level_similarities_`: fine levels count on parts, where they are reconstructed
        well and tell exactly where a defect is, and less on irregular textures, whose
        fine structure does not follow from the coarsest level. "area" is the paper's
        :math:`1 / (w_k h_k)`, which favours the coarse levels; "equal" is 1.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.
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
    level_similarities_ : list of float
        Mean cosine, at each level, of the features of the images kept out of training
        and their reconstructions.

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
    level_weights: str = parameter(
        "similarity", StrOptions({"similarity", "area", "equal"}), affects="scores"
    )
    standardize = "position"
    max_epochs = 30
    lr = 0.4
    momentum: float = parameter(0.9, Interval(Real, 0, 1, closed="left"), affects="training")
    weight_decay: float = parameter(
        1e-4, Interval(Real, 0, None, closed="left"), affects="training"
    )
    train_batch_size = 2

    def residual_maps(self, X):
        """The residual of each level by itself, as the paper's figures 2 and 3 show them.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        list of ndarray, each (n, H, W), float32, in [0, 2]
            phi_k of each level of `layers`, finest first, brought to each image's own
            size; neither weighted, nor smoothed, nor standardised. If the images differ
            in size, object arrays (n,) of such maps.
        """
        now = self._as_it_is("maps")
        images = now._open(X)
        by_level = [[] for _ in now.layers]
        residuals = now._batches_through(lambda x: now._residuals(now.encoder_(x)), images)
        for of_batch, sizes in residuals:
            for maps, phi_k in zip(by_level, of_batch):
                seen_size = now._seen_size or sizes[0]
                whole = [None] * len(sizes)
                assembled = assemble_maps_by_size(phi_k, seen_size, sizes, 0, whole)
                maps += [phi.numpy() for phi in assembled]
        return [stack(maps, len(images)) for maps in by_level]

    def _residuals(self, f_enc):
        """phi_k of each level, (n, h_k, w_k)."""
        f_dec = self.net_.module_(f_enc)
        return [normalized_residual(e, d) for e, d in zip(f_enc, f_dec, strict=True)]

    def _maps_of_features(self, f_enc):
        """phi_k of each level, weighted for the sum of eqs. 9-10."""
        return [w * phi_k for w, phi_k in zip(self._weights(), self._residuals(f_enc), strict=True)]

    def _weights(self):
        if self.level_weights == "similarity":
            return [max(0.0, s) ** SIMILARITY_POWER for s in self.level_similarities_]
        if self.level_weights == "area":
            return [1 / area for area in self.level_areas_]
        return [1.0] * len(self.level_areas_)

    def _validation_maps(self, features):
        self.level_similarities_ = self._similarities(features)
        return super()._validation_maps(features)

    def _similarities(self, features):
        self._place(self._device)
        sums, n_images = 0.0, 0
        for levels, sizes in features.batches(self.batch_size):
            with torch.inference_mode():
                residuals = self._residuals([f_k.to(self._device) for f_k in levels])
            sums = sums + np.array([float(phi.mean(dim=(1, 2)).sum()) for phi in residuals])
            n_images += len(sizes)
        return (1 - sums / n_images).tolist()

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
