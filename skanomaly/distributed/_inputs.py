"""What the functions on clusters take."""

from __future__ import annotations

import os
from numbers import Integral

from sklearn.exceptions import NotFittedError

from .._unwrap import steps_of
from ..deployment import kind_of
from ..images import ImageFiles


def loaded(detector):
    """A detector, or the one in a file that runs no code of its author's."""
    if not isinstance(detector, (str, os.PathLike)):
        if not hasattr(steps_of(detector)[1], "offset_"):
            raise NotFittedError(f"this {type(detector).__name__} is not fitted yet; fit it first")
        return detector
    kind = kind_of(detector)
    if kind == "skanomaly":
        from ..deployment.files import load

        return load(detector)
    if kind == "onnx":
        from ..deployment.onnx_detector import OnnxDetector

        return OnnxDetector(detector)
    raise ValueError(
        f"{detector} is no model of skanomaly.save or export_onnx; load it, if you trust it, and "
        "pass the detector"
    )


def as_files(files):
    """Files as they are handed out, one or more."""
    files = files if isinstance(files, ImageFiles) else ImageFiles(files)
    if not len(files):
        raise ValueError("there are no files; pass one or more")
    return files


def blocks(n, size):
    """Positions 0 to n - 1 in runs of a size, the last of which may be shorter."""
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def check_positive(**values):
    """Raise ValueError unless each is an int of at least 1."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1, got {value!r}")
