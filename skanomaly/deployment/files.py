"""Models in files without pickle: parameters as JSON, tensors as safetensors, a checksum over all.

A pickle runs whatever code its author wrote. What is read here is data, from which
objects of a fixed list of classes are built.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from importlib.metadata import version

import safetensors.numpy
from sklearn.base import BaseEstimator

from .._atomic import replaced
from ..exceptions import BackboneError, ModelFileError
from ._decoder import Decoder
from ._document import Refused, check_size, parsed, to_json
from ._encoder import Encoder
from ._kinds import MAGIC

FORMAT = 1
DIGEST_SIZE = hashlib.sha256().digest_size
LENGTH_SIZE = 8  # of the description, and within safetensors of its own
PACKAGES = ("skanomaly", "torch", "timm", "scikit-learn")


def save(estimator, path):
    """Write a detector to a file that can be read without trust in its author.

    If it is interrupted, a file that was there stays as it was.

    Parameters
    ----------
    estimator : detector, MultiProductDetector, FlattenedImages, ImageFeatures, or Pipeline of such
        Fitted or not. `callbacks`, `checkpoint` and `memory`, which concern a fit
        on this machine, are saved as None. An estimator of another package can be saved if
        nothing but its parameters and public attributes makes it, and is loaded if its
        class is named to `load`.
    path : str, path-like or binary file
        Customary suffix: ``.skanomaly``. Links are followed, a file that is replaced
        passes on its mode; devices and pipes are written to.

    Raises
    ------
    TypeError
        If it is no estimator, or holds something that is neither data nor of a known
        class; the message says where.
    ValueError
        If it holds NaN or infinity, with which it could give no verdict.
    OSError
        If the file cannot be written; the message says why.

    Examples
    --------
    >>> import skanomaly, tempfile
    >>> from pathlib import Path
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = skanomaly.PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "brick.skanomaly"
    ...     skanomaly.save(detector, path)
    ...     again = skanomaly.load(path)
    >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    if not isinstance(estimator, BaseEstimator):
        raise TypeError(
            f"a {type(estimator).__name__} cannot be saved; pass a detector, MultiProductDetector, "
            "FlattenedImages, ImageFeatures, or a Pipeline of such"
        )
    if isinstance(path, (str, bytes, os.PathLike)):
        with replaced(path) as file:
            save(estimator, file)
        return
    encoder = Encoder()
    head = to_json(
        {
            "format": FORMAT,
            "versions": {package: version(package) for package in PACKAGES},
            "estimator": encoder.encode(estimator, type(estimator).__name__),
        }
    )
    parts = len(head).to_bytes(LENGTH_SIZE, "little"), head, safetensors.numpy.save(encoder.tensors)
    path.write(MAGIC + _digest(parts))
    for part in parts:
        path.write(part)


def load(path, *, classes=()):
    """Read a detector that `save` has written.

    Nothing but objects of known classes is built from it; no code of the file's
    author runs. Loading takes memory in proportion to the file's size, whatever is in it.

    Parameters
    ----------
    path : str or path-like
    classes : sequence of class, default=()
        Further classes that may be built: detectors, networks and estimators of
        your own.

    Returns
    -------
    estimator
        On the CPU until it scores.

    Raises
    ------
    ModelFileError
        If it is damaged, cut short, no model or no regular file, of a newer format, asks
        for an unknown class, sets what is no parameter or fitted attribute, or holds NaN
        or infinity.
    OSError
        If there is no such file, or it may not be read.

    Warns
    -----
    UserWarning
        If it was written by other versions of the libraries.
    """
    name = os.fsdecode(path)
    try:
        document, tensors = _read(name)
        estimator = Decoder(tensors, classes).decode(document["estimator"])
        if not isinstance(estimator, BaseEstimator):
            raise Refused(f"it holds a {type(estimator).__name__}, expected an estimator")
        versions = {package: str(document["versions"][package])[:40] for package in PACKAGES}
    except (Refused, BackboneError) as error:
        raise ModelFileError(f"{name} cannot be loaded: {error}") from error.__cause__
    except MemoryError as error:
        raise ModelFileError(f"{name} cannot be loaded: there is not enough memory") from error
    except IsADirectoryError as error:
        raise ModelFileError(f"{name} is a folder, expected a file") from error
    except OSError:
        raise
    except Exception as error:  # its checksum is right, so somebody has made it so
        raise ModelFileError(f"{name} is no model that `save` writes ({error!r:.500})") from error
    _warn_of_versions(name, versions)
    return estimator


def versions_in(path):
    """Versions of the libraries that wrote a file of `save`, without loading what it holds.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict of str to str

    Raises
    ------
    ModelFileError
        If it is damaged, cut short or no such file.
    """
    name = os.fsdecode(path)
    try:
        versions = _read(name)[0]["versions"]
        return {package: str(versions[package])[:40] for package in PACKAGES}
    except (Refused, KeyError, TypeError) as error:
        raise ModelFileError(f"{name} cannot be read: {error}") from error


def _read(name):
    """The document and the tensors of a file, whose checksum is right."""
    with open(name, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Refused("it is no regular file, but a pipe or a device")
        start = file.read(len(MAGIC) + DIGEST_SIZE + LENGTH_SIZE)
        if not start.startswith(MAGIC):
            raise Refused(
                "it is no skanomaly model, was not written by skanomaly.save, or is damaged"
            )
        head_size = int.from_bytes(start[-LENGTH_SIZE:], "little")
        left = status.st_size - len(start) - head_size
        if left < LENGTH_SIZE:
            raise Refused("it is damaged or cut short; copy or save it again")
        head, body = file.read(head_size), file.read(left)
    if _digest((start[-LENGTH_SIZE:], head, body)) != start[len(MAGIC) : -LENGTH_SIZE]:
        raise Refused("it is damaged or cut short; copy or save it again")
    document = parsed(head)
    if document["format"] != FORMAT:
        raise Refused(
            f"it is of format {document['format']!r:.40}, this version reads {FORMAT}; update "
            "skanomaly"
        )
    check_size(body[LENGTH_SIZE : LENGTH_SIZE + int.from_bytes(body[:LENGTH_SIZE], "little")])
    return document, safetensors.numpy.load(body)


def _open_at_once(name, flags):
    """Open without waiting for somebody who writes to it, if it is a pipe."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _digest(parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _warn_of_versions(name, saved):
    other = {p: (saved[p], version(p)) for p in PACKAGES if saved[p] != version(p)}
    if other:
        found = ", ".join(f"{p} {old} (here {here})" for p, (old, here) in other.items())
        warnings.warn(
            f"{name} was written with {found}; scores may differ, so check them or fit anew",
            stacklevel=3,
        )
