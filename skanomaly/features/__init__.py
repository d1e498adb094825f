"""Frozen backbones and what is made of their features: pyramids, data sets, memories, Gaussians."""

from ._dataset import FeatureDataset
from ._embedding import as_rows, channel_statistics, level_scales, on_finest_grid, on_grid_of
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
    "channel_statistics",
    "k_center_greedy",
    "level_scales",
    "on_finest_grid",
    "on_grid_of",
    "pyramid_of_state",
]
