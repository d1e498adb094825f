"""scikit-learn for visual anomaly detection."""

from importlib import import_module

__version__ = "0.1.0"

# Detectors are imported when they are first asked for, because PyTorch takes
# longer to import than everything else together.
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

__all__ = ["ImageFiles", "InvalidImageError", *_DETECTORS]

from .exceptions import InvalidImageError  # noqa: E402
from .images import ImageFiles  # noqa: E402


def __getattr__(name):
    if name in _DETECTORS:
        return getattr(import_module(f".detectors.{_DETECTORS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_DETECTORS])
