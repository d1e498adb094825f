"""scikit-learn for visual anomaly detection."""

from importlib import import_module

from ._public import public_classes
from ._version import __version__
from .exceptions import InvalidImageError
from .images import ImageFiles

# What is imported when it is first asked for, because PyTorch takes longer to import
# than everything else together.
_LAZY = {
    **public_classes("detectors", "compose"),
    "audit_images": "preprocessing.audit",
    "find_regions": "regions",
    "make_ensemble": "compose.ensemble_detector",
    "merge_detectors": "growing",
    "OnnxDetector": "deployment.onnx_detector",
    "export_onnx": "deployment.onnx_export",
    "load": "deployment.files",
    "save": "deployment.files",
}

__all__ = ["ImageFiles", "InvalidImageError", "__version__", *_LAZY]


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])
