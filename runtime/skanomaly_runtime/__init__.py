"""Exported detectors of skanomaly, served by ONNX Runtime alone."""

from ._version import __version__
from .deployment.onnx_detector import OnnxDetector
from .exceptions import InvalidImageError, ModelFileError
from .images import ImageFiles

__all__ = ["ImageFiles", "InvalidImageError", "ModelFileError", "OnnxDetector", "__version__"]
