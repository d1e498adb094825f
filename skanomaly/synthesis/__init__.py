"""Artificial defects, drawn onto images of good parts."""

from ._dataset import CorruptionDataset
from ._generator import DefectGenerator, Defects
from ._types import CORRUPTION_TYPES, DEFECT_TYPES, DefectType

__all__ = [
    "CORRUPTION_TYPES",
    "DEFECT_TYPES",
    "CorruptionDataset",
    "DefectGenerator",
    "DefectType",
    "Defects",
]

DefectGenerator.__module__ = __name__  # by which files and pickles know it
