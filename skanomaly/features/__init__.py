"""Frozen backbones and what is made of their features: pyramids, data sets, memories, Gaussians."""

from ._dataset import FeatureDataset
from ._embedding import as_rows, on_finest_grid
from ._gaussian import PositionwiseGaussian
from ._k_center import k_center_greedy
from ._memory import PatchBank
from ._networks import FrozenNetwork
from ._pyramid import FeaturePyramid
from ._stored import pyramid_of_state
from ._subspace import PrincipalSubspace

__all__ = [
    "FeatureDataset",
    "FeaturePyramid",
    "FrozenNetwork",
    "PatchBank",
    "PositionwiseGaussian",
    "PrincipalSubspace",
    "as_rows",
    "k_center_greedy",
    "on_finest_grid",
    "pyramid_of_state",
]
