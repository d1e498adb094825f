"""Frozen backbones and what is made of their features: pyramids, data sets, memories, Gaussians."""

from ._dataset import FeatureDataset
from ._gaussian import PositionwiseGaussian
from ._k_center import k_center_greedy
from ._memory import PatchBank
from ._networks import FrozenNetwork
from ._pyramid import FeaturePyramid
from ._stored import pyramid_of_state

__all__ = [
    "FeatureDataset",
    "FeaturePyramid",
    "FrozenNetwork",
    "PatchBank",
    "PositionwiseGaussian",
    "k_center_greedy",
    "pyramid_of_state",
]
