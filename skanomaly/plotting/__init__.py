"""Pictures of maps, curves and scores; all but `finding_picture` need matplotlib.

``pip install skanomaly[plot]`` brings it. As in scikit-learn, a Display is made by
``from_estimator`` or ``from_predictions``, keeps what it has computed, and can be drawn again
with ``plot``.
"""

from ._curves import PROCurveDisplay
from ._maps import AnomalyMapDisplay
from ._picture import finding_picture
from ._scores import ScoreHistogramDisplay
from ._sheet import plot_sheet

__all__ = [
    "AnomalyMapDisplay",
    "PROCurveDisplay",
    "ScoreHistogramDisplay",
    "finding_picture",
    "plot_sheet",
]
