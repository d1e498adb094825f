"""Classification data sets, one class of which is taken as normal."""

from __future__ import annotations

import gzip
import math
import operator
import pickle
import zlib
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.utils import Bunch

from ..exceptions import InvalidImageError

_DESCR = """{title}, class {normal} as normal, {split} split: {n} images, {n_normal} of them normal.

{reference}
"""

_MNIST_REFERENCE = """Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning
Applied to Document Recognition", Proceedings of the IEEE 86 (11), 1998. Licence CC BY-SA 3.0."""

_FASHION_MNIST_REFERENCE = """H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image
Dataset for Benchmarking Machine Learning Algorithms", arXiv:1708.07747, 2017. Licence MIT."""

_CIFAR10_REFERENCE = """A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
technical report, University of Toronto, 2009. The data set states no licence and asks for the
report to be cited."""

_FASHION_MNIST_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR10_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load_one_class(name, normal_class, root, *, split="train"):
    """Load a classification data set from disk, one class of it as normal.

    This is the one-class protocol [1]_: training images are those of the normal
    class, and the whole test split is scored, where every other class is
    anomalous.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "cifar10"}
    normal_class : int or str
        0 to 9 or, except for MNIST, the class's name, such as "Trouser" or
        "airplane".
    root : str or path-like
        The folder that holds the files as they are distributed: for MNIST and
        Fashion-MNIST, whose files have the same names, the IDX files, gzipped or
        not; for CIFAR-10 the binary or the python version, directly or in the
        folder they are unpacked to.
    split : {"train", "test"}, default="train"

    Returns
    -------
    Bunch
        images : ndarray of uint8, shape (n, 28, 28)
            (n, 32, 32, 3) for CIFAR-10.
        target : ndarray of int, shape (n,)
            +1 normal, -1 anomalous.
        masks : None
            As nothing is marked in the images.
        classes : ndarray of int, shape (n,)
            The classes' numbers.
        defect_types : ndarray of str, shape (n,)
            "good" for the normal class, the class's name for the others.
        class_names : list of str
            By number.
        DESCR : str
            What was read, in words.

    Raises
    ------
    InvalidImageError
        If a file is missing, damaged or not what its name says.

    Notes
    -----
    The files of CIFAR-10's python version are pickles. They are read without
    running anything they ask for, and one that asks for more than arrays is
    refused.

    References
    ----------
    .. [1] L. Ruff, R. Vandermeulen, N. Görnitz, L. Deecke, S. A. Siddiqui, A. Binder,
       E. Müller, M. Kloft, "Deep One-Class Classification", ICML 2018.

    Examples
    --------
    >>> from skanomaly.datasets import load_one_class
    >>> train = load_one_class("mnist", 3, "data/mnist")  # doctest: +SKIP
    >>> train.images.shape  # doctest: +SKIP
    (6131, 28, 28)
    """
    if name not in _DATA_SETS:
        raise ValueError(f"name must be one of {', '.join(map(repr, _DATA_SETS))}, got {name!r}")
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    data_set = _DATA_SETS[name]
    normal = _class_number(normal_class, data_set.names)
    class_names = list(data_set.names) or [str(number) for number in range(10)]

    images, classes = data_set.read(_check_folder(root), split)
    chosen = classes == normal if split == "train" else slice(None)
    images, classes = np.array(images[chosen], order="C"), classes[chosen].astype(int)
    is_normal = classes == normal
    return Bunch(
        images=images,
        target=np.where(is_normal, 1, -1),
        masks=None,
        classes=classes,
        defect_types=np.where(is_normal, "good", np.array(class_names)[classes]),
        class_names=class_names,
        DESCR=_DESCR.format(
            title=data_set.title,
            normal=class_names[normal],
            split=split,
            n=len(images),
            n_normal=np.count_nonzero(is_normal),
            reference=data_set.reference,
        ),
    )


def _class_number(normal_class, names):
    if normal_class in names:
        return names.index(normal_class)
    if isinstance(normal_class, Integral) and 0 <= normal_class <= 9:
        return int(normal_class)
    or_name = f" or one of {', '.join(map(repr, names))}" if names else ""
    raise ValueError(f"normal_class must be an int from 0 to 9{or_name}, got {normal_class!r}")


def _check_folder(root):
    root = Path(root)
    if not root.is_dir():
        raise InvalidImageError("not a folder; check the path", path=str(root))
    return root


def _first_complete(root, choices):
    """The first choice of files that are all in the folder."""
    missing = [[name for name in names if not (root / name).is_file()] for names in choices]
    for names, absent in zip(choices, missing):
        if not absent:
            return [root / name for name in names]
    begun = [absent for names, absent in zip(choices, missing) if len(absent) < len(names)]
    wanted = "; or ".join(", ".join(names) for names in begun or missing)
    raise InvalidImageError(
        f"the folder lacks {wanted}; put the data set's files there as they are distributed",
        path=str(root),
    )


def _check_labels(labels, n_images, path):
    if len(labels) != n_images:
        raise InvalidImageError(
            f"the file holds {len(labels)} labels for {n_images} images; take both from the same "
            "copy of the data set",
            path=str(path),
        )
    (unknown,) = np.nonzero((labels < 0) | (labels > 9))
    if len(unknown):
        raise InvalidImageError(
            f"label {unknown[0]} is {labels[unknown[0]]}, expected 0 to 9; the file is damaged or "
            "belongs to another data set",
            path=str(path),
        )


# MNIST and Fashion-MNIST --------------------------------------------------------------


def _read_mnist(root, split):
    prefix = {"train": "train", "test": "t10k"}[split]
    images_path, labels_path = (
        _first_complete(root, [[name], [f"{name}.gz"]])[0]
        for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    )
    images, labels = _read_idx(images_path, (28, 28)), _read_idx(labels_path, ())
    _check_labels(labels, len(images), labels_path)
    return images, labels


def _read_idx(path, item_shape):
    """The array of an IDX file: a magic number, one size a dimension, the bytes."""
    data = _read_bytes(path)
    n_dimensions = 1 + len(item_shape)
    magic = bytes([0, 0, 8, n_dimensions])  # 8 stands for unsigned bytes
    if data[:4] != magic:
        raise InvalidImageError(
            f"the file begins with {data[:4].hex() or 'nothing'}, expected the magic number "
            f"{magic.hex()}; check that it is what its name says, or download it again",
            path=str(path),
        )
    start = 4 + 4 * n_dimensions
    shape = tuple(int.from_bytes(data[i : i + 4]) for i in range(4, start, 4))
    n_bytes = len(data) - start
    if n_bytes != math.prod(shape):
        raise InvalidImageError(
            f"the header announces {' x '.join(map(str, shape))} bytes, {max(n_bytes, 0)} follow; "
            "the file is damaged or cut short, download it again",
            path=str(path),
        )
    if shape[1:] != item_shape:
        raise InvalidImageError(
            f"the images are {shape[1]} x {shape[2]} pixels, expected "
            f"{item_shape[0]} x {item_shape[1]}; the file belongs to another data set",
            path=str(path),
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read_bytes(path):
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidImageError(
            f"the file is damaged, cut short or not gzipped ({error}); download it again",
            path=str(path),
        ) from error


# CIFAR-10 -----------------------------------------------------------------------------


def _read_cifar10(root, split):
    stems = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}[split]
    choices = [
        [f"{folder}{stem}{suffix}" for stem in stems]
        for suffix, unpacked in ((".bin", "cifar-10-batches-bin/"), ("", "cifar-10-batches-py/"))
        for folder in ("", unpacked)
    ]
    batches = []
    for path in _first_complete(root, choices):
        read_batch = _read_binary_batch if path.suffix == ".bin" else _read_pickled_batch
        pixels, labels = read_batch(path)
        _check_labels(labels, len(pixels), path)
        batches.append((pixels, labels))
    pixels, labels = map(np.concatenate, zip(*batches))
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _read_binary_batch(path):
    """Records of one byte for the label and 3 x 32 x 32 for the pixels."""
    data = path.read_bytes()
    if not data or len(data) % 3073:
        raise InvalidImageError(
            f"the file holds {len(data)} bytes, expected a multiple of 3073; it is cut short or "
            "not of CIFAR-10's binary version, download it again",
            path=str(path),
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return records[:, 1:], records[:, 0]


def _read_pickled_batch(path):
    try:
        with open(path, "rb") as file:
            batch = _BatchUnpickler(file, encoding="bytes").load()
        pixels = _array_of(batch[b"data"])
        labels = np.array([operator.index(label) for label in batch[b"labels"]], dtype=int)
        if pixels.shape[1:] != (3072,):
            raise ValueError(f"its data has shape {pixels.shape}, expected (n, 3072)")
    except Exception as error:  # a damaged pickle raises whatever it happens to run into
        raise InvalidImageError(
            "the file is damaged or not of CIFAR-10's python version "
            f"({type(error).__name__}: {error}); download it again",
            path=str(path),
        ) from error
    return pixels, labels


class _Recorded:
    """Stands in for what builds arrays in a pickle: keeps what it is given, runs nothing."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        self.state = state


class _BatchUnpickler(pickle.Unpickler):
    _ARRAY_PARTS = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),  # written before NumPy 2
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module, name):
        if (module, name) not in self._ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return _Recorded


def _array_of(recorded):
    _, shape, dtype, is_fortran, data = recorded.state
    if dtype.args[0] not in ("u1", b"u1"):
        raise ValueError(f"its data is of dtype {dtype.args[0]!r}, expected 'u1'")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _DataSet(NamedTuple):
    title: str
    read: Callable  # (root, split) -> images, labels
    names: tuple  # of the classes; none where these are numbers
    reference: str


_DATA_SETS = {
    "mnist": _DataSet("MNIST", _read_mnist, (), _MNIST_REFERENCE),
    "fashion_mnist": _DataSet(
        "Fashion-MNIST", _read_mnist, _FASHION_MNIST_NAMES, _FASHION_MNIST_REFERENCE
    ),
    "cifar10": _DataSet("CIFAR-10", _read_cifar10, _CIFAR10_NAMES, _CIFAR10_REFERENCE),
}
