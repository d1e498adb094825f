"""How good scores and maps are: metrics, scorers for searches, and a report.

Functions on maps take masks first, `(masks, maps)`; a map is higher where it is more
anomalous. Functions on images take scikit-learn's outlier labels and scores,
`(y_true, y_score)`: +1 normal, -1 anomalous, a score is higher where an image is more normal.
"""

from ._evaluate import evaluate
from ._image_scores import (
    detection_rate_at_false_alarm_rate,
    false_alarm_rate_at_detection_rate,
    image_f1_max_score,
)
from ._pixels import (
    aupimo_score,
    aupro_score,
    pixel_average_precision_score,
    pixel_f1_max_score,
    pixel_roc_auc_score,
    pro_curve,
)
from ._report import EvaluationReport
from ._scorers import (
    all_metrics,
    aupimo,
    aupro,
    image_average_precision,
    image_f1_max,
    image_roc_auc,
    make_map_scorer,
    pixel_average_precision,
    pixel_f1_max,
    pixel_roc_auc,
)
from ._streaming import MapMetrics

__all__ = [
    # from masks and maps
    "aupimo_score",
    "aupro_score",
    "pixel_average_precision_score",
    "pixel_f1_max_score",
    "pixel_roc_auc_score",
    "pro_curve",
    "MapMetrics",
    # from labels and scores
    "detection_rate_at_false_alarm_rate",
    "false_alarm_rate_at_detection_rate",
    "image_f1_max_score",
    # scorers
    "all_metrics",
    "aupimo",
    "aupro",
    "image_average_precision",
    "image_f1_max",
    "image_roc_auc",
    "make_map_scorer",
    "pixel_average_precision",
    "pixel_f1_max",
    "pixel_roc_auc",
    # a report on a detector
    "EvaluationReport",
    "evaluate",
]
