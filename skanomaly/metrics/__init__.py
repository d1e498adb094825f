"""How good maps are, against masks."""

from ._pixels import (
    aupimo_score,
    aupro_score,
    pixel_average_precision_score,
    pixel_f1_max_score,
    pixel_roc_auc_score,
    pro_curve,
)
from ._streaming import MapMetrics

__all__ = [
    "MapMetrics",
    "aupimo_score",
    "aupro_score",
    "pixel_average_precision_score",
    "pixel_f1_max_score",
    "pixel_roc_auc_score",
    "pro_curve",
]
