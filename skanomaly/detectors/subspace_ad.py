"""SubspaceAD: arXiv 2602.23013."""

from __future__ import annotations

from numbers import Integral, Real

from .._parameters import parameter
from .._sklearn import Interval
from ..features import PrincipalSubspace, as_rows, on_finest_grid
from ._one_pass_detector import OnePassDetector


class SubspaceAD(OnePassDetector):
    """Detect defects as pretrained features far from the principal subspace of good parts'.

    One principal component analysis of the features of all positions of all images;
    the distance from the components that hold most of the variance is the map [1]_.
    Nothing is trained: one pass over the images, in memory that depends on the number of
    features alone, and a file of less than 1 MB beside the backbone's.

    Parameters
    ----------
    layers : sequence of int
        Levels of the pyramid; coarser ones are interpolated on the finest's grid.
    explained_variance : float in (0, 1)
        Share of the variance that the subspace holds. The paper's is 0.99, on features
        of a vision transformer.
    scale_levels : bool
        Bring each level to a total variance of one before they are joined.
    neighborhood : int
        Side of the square of positions whose features are averaged.

    Attributes
    ----------
    subspace_ : PrincipalSubspace
        Mean and scatter of the features.

    References
    ----------
    .. [1] "SubspaceAD", CVPR 2026, arXiv:2602.23013.

    Examples
    --------
    >>> from skanomaly import SubspaceAD
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> detector = SubspaceAD(image_size=128, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    explained_variance: float = parameter(0.95, Interval(Real, 0, 1, closed="neither"))
    scale_levels: bool = parameter(True, "boolean")
    neighborhood: int = parameter(3, Interval(Integral, 1, None, closed="left"))

    _grown = ("subspace_",)

    def _begin(self, images, validation):
        groups = self.encoder_.channels if self.scale_levels else None
        self.subspace_ = PrincipalSubspace(
            sum(self.encoder_.channels), self.explained_variance, groups
        )

    def _take(self, levels):
        self.subspace_.update(as_rows(on_finest_grid(levels, self.neighborhood)))

    def _absorb(self, others):
        for other in others:
            self.subspace_.absorb(other.subspace_)

    def _maps_of_features(self, levels):
        f = on_finest_grid(levels, self.neighborhood)
        return self.subspace_(as_rows(f)).view(f.shape[0], *f.shape[2:])
