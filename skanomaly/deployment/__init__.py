"""Detectors at work: files without pickle, ONNX files and what serves them."""

from ._kinds import kind_of

__all__ = ["kind_of"]
