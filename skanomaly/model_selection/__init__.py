"""Choosing by images of good parts: splitters for scikit-learn's searches, and one's own search."""

from ._recommend import recommend
from ._search import SyntheticDefectSearchCV
from ._splitters import NormalGroupKFold, NormalKFold, NormalShuffleSplit

__all__ = [
    "NormalGroupKFold",
    "NormalKFold",
    "NormalShuffleSplit",
    "SyntheticDefectSearchCV",
    "recommend",
]
