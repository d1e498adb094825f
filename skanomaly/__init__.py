"""scikit-learn for visual anomaly detection."""

from importlib import import_module

__version__ = "0.1.0"

_DETECTORS = {
    "FastFlow": "fast_flow",
    "HierarchicalFeatureAE": "hierarchical_feature_ae",
    "PaDiM": "padim",
    "PatchAE": "patch_ae",
    "PatchLatentSVM": "patch_latent_svm",
    "PatchReconstruction": "patch_reconstruction",
    "PatchRestoration": "patch_restoration",
    "SelfSupervisedAE": "self_supervised_ae",
}
# What is imported when it is first asked for, because PyTorch takes longer to import
# than everything else together.
_LAZY = {
    **{name: f".detectors.{module}" for name, module in _DETECTORS.items()},
    "FlattenedImages": ".flattened",
    "OnnxDetector": ".onnx_detector",
    "export_onnx": ".onnx_export",
    "load": ".persistence",
    "save": ".persistence",
}

__all__ = ["ImageFiles", "InvalidImageError", *_LAZY]

from .exceptions import InvalidImageError  # noqa: E402
from .images import ImageFiles  # noqa: E402


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LAZY])
