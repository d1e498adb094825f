"""How good maps are, against masks."""

from ._pixels import aupro_score, pixel_average_precision_score, pixel_roc_auc_score

__all__ = ["aupro_score", "pixel_average_precision_score", "pixel_roc_auc_score"]
