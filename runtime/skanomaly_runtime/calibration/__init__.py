"""What a threshold and p-values are made of."""

from ._thresholds import conformal_p_values, verdicts

__all__ = ["conformal_p_values", "verdicts"]
