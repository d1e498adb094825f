"""What scores of normal images are good for: thresholds, p-values, selection, drift."""

from importlib import import_module

from ._thresholds import conformal_p_values, false_alarm_interval, quantile_of_new, verdicts

# Imported when first asked for, as what they need takes longer to import than an image to score.
_LAZY = {"DriftMonitor": "_drift", "select": "_selection"}

__all__ = [
    "DriftMonitor",
    "conformal_p_values",
    "false_alarm_interval",
    "quantile_of_new",
    "select",
    "verdicts",
]


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
