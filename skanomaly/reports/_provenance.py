"""What a report is of: the detector's settings, versions, checksums of model and data."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version

import numpy as np

from ..deployment.files import save

PACKAGES = ("skanomaly", "scikit-learn", "numpy", "torch", "timm", "onnxruntime", "pillow")
LONGEST = 300  # characters of a parameter


class _Sink:
    """A file that keeps the checksum of what is written to it, and nothing else."""

    def __init__(self):
        self.digest = hashlib.sha256()

    def write(self, data):
        self.digest.update(data)


def model_checksum(estimator):
    """SHA-256 of the file that `skanomaly.save` would write, and why there is none.

    Returns
    -------
    (str, None) or (None, str)
    """
    sink = _Sink()
    try:
        save(estimator, sink)
    except (TypeError, ValueError) as error:
        return None, str(error)
    return sink.digest.hexdigest(), None


def pixel_checksum(image):
    """SHA-256 of an image's shape, dtype and pixels, as bytes."""
    digest = hashlib.sha256(f"{image.shape} {image.dtype.str}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.digest()


def data_checksum(of_images):
    """One SHA-256 of those of all images, in order, as text."""
    return hashlib.sha256(b"".join(of_images)).hexdigest()


def versions():
    """Of what decides scores, by name."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def settings(estimator):
    """The parameters of an estimator by name, as text."""
    if not hasattr(estimator, "get_params"):
        return {}
    return {name: _short(value) for name, value in sorted(estimator.get_params().items())}


def _short(value):
    text = repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
