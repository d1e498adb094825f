"""Choosing by images of good parts: splitters for scikit-learn's searches."""

from ._splitters import NormalGroupKFold, NormalKFold, NormalShuffleSplit

__all__ = ["NormalGroupKFold", "NormalKFold", "NormalShuffleSplit"]
