"""Pictures of maps, curves and scores.

All but `finding_picture` and `finding_sheet` need matplotlib, which
``pip install skanomaly[plot]`` brings. As in scikit-learn, a Display is made by
``from_estimator`` or ``from_predictions``, keeps what it has computed, and can be drawn again
with ``plot``.
"""

from . import _palette as palette  # noqa: F401, for pages that draw by themselves
from ._curves import PROCurveDisplay
from ._maps import AnomalyMapDisplay
from ._picture import finding_picture, finding_sheet
from ._scores import ScoreHistogramDisplay
from ._sheet import plot_sheet
from ._verdicts import times_threshold as times_threshold

__all__ = [
    "AnomalyMapDisplay",
    "PROCurveDisplay",
    "ScoreHistogramDisplay",
    "finding_picture",
    "finding_sheet",
    "plot_sheet",
]
