"""The one skorch net behind every trained part, its callbacks and checkpoints."""

from ._callbacks import EpochProgress, KeepBest, LearningRate
from ._checkpoint import Checkpoint
from ._net import AnomalyNet, use_bfloat16

__all__ = [
    "AnomalyNet",
    "Checkpoint",
    "EpochProgress",
    "KeepBest",
    "LearningRate",
    "use_bfloat16",
]
