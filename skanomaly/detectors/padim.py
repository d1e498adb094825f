"""PaDiM: Defard, Setkov, Loesch, Audigier, arXiv 2011.08785."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import PositionwiseGaussian
from ._one_pass_detector import OnePassDetector


class PaDiM(OnePassDetector):
    """Detect defects as features that are unlikely where they are: a Gaussian for each position.

    Features of several layers of a pretrained network, on one grid, are modelled
    by a multivariate Gaussian for each position of the grid; the Mahalanobis
    distance to it is the map [1]_. Nothing is trained: one pass over the images,
    in memory that does not grow with their number. For parts that are always
    seen in the same place.

    Parameters
    ----------
    backbone : str
        timm network whose pretrained features are used. The paper's best is
        ``"wide_resnet50_2"``, its fastest ``"resnet18"``.
    layers : sequence of int
        Levels of the pyramid; coarser ones are repeated on the finest's grid.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, in pixels of the network's
        input; the paper's.
    n_features : int or None
        Features used at each position, drawn at random from those of all layers;
        None uses all. The paper's is 100 for ResNet-18.
    regularization : float
        Added to the diagonal of each covariance; the paper's.
    shrinkage : "auto" or float in [0, 1]
        How far each covariance is drawn towards a multiple of the identity.
        "auto" is the oracle approximating shrinkage, a share that falls with the
        number of images: without it, distances of new images are inflated until
        that number is several times `n_features`. The paper shrinks nothing (0.0).
    image_size : int, (int, int) or None
        Height and width that the network sees; None keeps each image's own,
        which must then be one.
    standardize : {"global", "position"} or None
        Units of the map. None are those of the distance, which has each position's own.

    Attributes
    ----------
    channels_ : list of ndarray of int
        The features drawn, of each layer.
    gaussian_ : PositionwiseGaussian
        Means and scatter matrices.
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.

    References
    ----------
    .. [1] T. Defard, A. Setkov, A. Loesch, R. Audigier, "PaDiM: a Patch
           Distribution Modeling Framework for Anomaly Detection and
           Localization", arXiv:2011.08785, 2020.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> detector = PaDiM(image_size=128, random_state=0).fit(train.images[:12])
    >>> detector.partial_fit(train.images[12:]).gaussian_.n_seen
    20
    >>> detector.transform(train.images[:2]).shape
    (2, 128, 128)
    """

    n_features: int | None = parameter(100, Interval(Integral, 1, None, closed="left"), None)
    regularization: float = parameter(0.01, Interval(Real, 0, None, closed="left"))
    shrinkage: float | str = parameter(
        "auto", StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")
    )
    standardize = None

    _grown = ("gaussian_",)
    _small_parameters = {"n_features": 20}
    _models_positions = True

    def _begin(self, images, validation):
        self._need_one_size(images, validation)
        self.channels_ = self._draw_channels()
        _, n_positions, d = self._vectors(self._example_of(images)).shape
        self.gaussian_ = PositionwiseGaussian(
            n_positions, d, self.regularization, self.shrinkage
        ).to(self._device)

    def _take(self, levels):
        self.gaussian_.update(self._vectors(levels))

    def _settle(self):
        self.gaussian_.settle()

    def _absorb(self, others):
        for other in others:
            self.gaussian_.absorb(other.gaussian_)
        self.gaussian_.settle()

    def _kind_of_state(self):
        drawn = {"draw of features (by random_state)": [c.tolist() for c in self.channels_]}
        return super()._kind_of_state() | drawn | {"number of positions": len(self.gaussian_.mean)}

    def _maps_of_features(self, levels):
        size = levels[0].shape[2:]
        return self.gaussian_(self._vectors(levels)).view(-1, *size)

    def _draw_channels(self):
        """Which features are used, of each level."""
        n = sum(self.encoder_.channels)
        if self.n_features is not None and self.n_features > n:
            raise ValueError(
                f"n_features={self.n_features} exceeds the {n} features that layers "
                f"{tuple(self.layers)} of {self.backbone} have; choose a smaller one, or None for "
                "all"
            )
        drawn = torch.randperm(n)[: self.n_features].sort().values.numpy()
        ends = np.cumsum(self.encoder_.channels)
        starts = ends - self.encoder_.channels
        return [drawn[(drawn >= s) & (drawn < e)] - s for s, e in zip(starts, ends)]

    def _vectors(self, levels):
        """The drawn features on the finest level's grid, (n, h * w, d)."""
        size = levels[0].shape[2:]
        drawn = [f[:, torch.from_numpy(c)] for f, c in zip(levels, self.channels_) if len(c)]
        # Channels last, so that a position's features lie side by side: the product with its
        # matrix takes a sixth of the time.
        drawn = [f.contiguous(memory_format=torch.channels_last) for f in drawn]
        on_grid = [F.interpolate(f, size, mode="nearest") for f in drawn]
        return torch.cat(on_grid, dim=1).permute(0, 2, 3, 1).flatten(1, 2)
