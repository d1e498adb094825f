"""What an image, and a batch of images, may be."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError
from ._arrays import as_array, is_array_like
from ._reading import check_pixel_count, decode, read_image


def check_images(X):
    """Check that `X` is a batch of images, without reading any of them.

    Parameters
    ----------
    X : array, or sequence of arrays, PIL images, paths, bytes or file objects, or ImageFiles
        Arrays are NumPy's or any other library's that has ``__array__`` or
        ``__dlpack__``; a sequence may be a column of a data frame.

    Returns
    -------
    sequence
        `X` itself, or its items as a list.

    Raises
    ------
    InvalidImageError
        If `X` is empty, one image instead of a batch, or nothing of the kind.
    """
    _check_is_not_one_image(X)
    if hasattr(X, "columns"):
        raise InvalidImageError(
            f"X is a {type(X).__name__}; pass the column that holds the images or paths"
        )
    if hasattr(X, "to_pylist"):  # a column of PyArrow
        X = X.to_pylist()
    elif hasattr(X, "to_numpy"):  # a column of pandas or Polars
        X = X.to_numpy()
    elif is_array_like(X) and len(getattr(X, "shape", ())) not in (3, 4):
        X = as_array(X)  # others are converted image by image
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUT":
        X = _one_dimensional(X)
    elif is_array_like(X):
        _check_array(X)
    elif not isinstance(X, Sequence):
        raise InvalidImageError(
            f"X is a {type(X).__name__}, expected an array (n, H, W) or (n, H, W, C), a sequence "
            "of arrays, PIL images or paths, or ImageFiles"
        )
    if len(X) == 0:
        raise InvalidImageError("X holds no images; pass at least one")
    return X


def _check_is_not_one_image(X):
    if isinstance(X, (str, os.PathLike)):
        raise InvalidImageError(
            "X is one path; pass a list of paths, or ImageFiles.from_folder(path) for a folder",
            path=os.fspath(X),
        )
    if isinstance(X, Image.Image):
        raise InvalidImageError("X is one PIL image, expected a batch; pass [image]")
    if isinstance(X, (bytes, bytearray, memoryview)) or hasattr(X, "read"):
        raise InvalidImageError(f"X is one {type(X).__name__}, expected a batch; pass [file]")


def _check_array(X):
    check_is_not_masked(X, "X")
    if len(X.shape) not in (3, 4):
        hint = "; for one grey image pass X[np.newaxis]" if len(X.shape) == 2 else ""
        raise InvalidImageError(
            f"X is an array of shape {tuple(X.shape)}, expected (n, H, W) or (n, H, W, C){hint}"
        )


def _one_dimensional(X):
    if X.ndim != 1:
        raise InvalidImageError(
            f"X is an array of {X.dtype} of shape {X.shape}; an array of images or paths has "
            "one dimension"
        )
    return list(X) if X.dtype.kind == "O" else X.tolist()


def check_is_not_masked(array, name):
    """Refuse NumPy's masked arrays, whose mask nothing here would see."""
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidImageError(
            f"{name} is a masked array, whose mask would be lost; pass {name}.data, and ~mask as "
            "the region of interest, roi="
        )


def path_of(item):
    """The path of an item of a batch, where it is one."""
    return os.fspath(item) if isinstance(item, (str, os.PathLike)) else None


def to_array(item):
    """An item of a batch as an array (H, W, C), in its own dtype."""
    if isinstance(item, Image.Image):
        image = _decoded(item)
    elif isinstance(item, (str, os.PathLike, bytes, bytearray, memoryview)) or (
        hasattr(item, "read") and not is_array_like(item)
    ):
        image = read_image(item)
    elif is_array_like(item):
        check_is_not_masked(item, "image")
        image = as_array(item)
    else:
        raise InvalidImageError(
            f"is a {type(item).__name__}, expected an array (H, W) or (H, W, C), a PIL image, "
            "a path, or a file's content or object"
        )
    if image.ndim not in (2, 3):
        raise InvalidImageError(f"has shape {image.shape}, expected (H, W) or (H, W, C)")
    if image.size == 0:
        raise InvalidImageError(f"has no pixels (shape {image.shape})")
    return image[..., np.newaxis] if image.ndim == 2 else image


def _decoded(image):
    check_pixel_count(image)
    try:
        return decode(image)
    except InvalidImageError:
        raise
    except Exception as error:  # a PIL image may not have been read yet
        raise InvalidImageError(f"is damaged or cut short ({error}); open it again") from error


def checked_image_size(image_size):
    """Height and width to resize to, or None.

    Raises
    ------
    ValueError
        If it is no positive int, or not two of them.
    """
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, Integral) else _items(image_size)
    if len(size) != 2 or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in size
    ):
        raise ValueError(
            f"image_size must be an int, or height and width as two ints, above 0, got "
            f"{image_size!r}"
        )
    return int(size[0]), int(size[1])


def _items(pair):
    return tuple(pair) if isinstance(pair, (Sequence, np.ndarray)) else ()


def checked_value_range(value_range):
    """Values that mean black and white as two floats, or None.

    Raises
    ------
    ValueError
        If they are not two finite numbers, the second above the first.
    """
    if value_range is None:
        return None
    limits = _items(value_range)
    if (
        len(limits) != 2
        or not all(isinstance(v, Real) and math.isfinite(v) for v in limits)
        or not limits[0] < limits[1]
    ):
        raise ValueError(
            "value_range must be two finite numbers, what means black below what means white, got "
            f"{value_range!r}"
        )
    return limits


def check_size(image, min_size, required_size, image_size):
    """Refuse an image (H, W, C) of another size than required, or of too few pixels."""
    height, width, channels = image.shape
    if required_size is not None and (height, width) != tuple(required_size):
        raise InvalidImageError(
            f"is {height} x {width} pixels, expected {required_size[0]} x {required_size[1]} as "
            "the others; bring all to one size, or set image_size where there is one"
        )
    if min(image_size or (height, width)) >= min_size:
        return
    if image_size is not None:
        raise InvalidImageError(
            f"would be resized to image_size={image_size}, less than the {min_size} pixels that "
            "the method needs; choose a larger one"
        )
    raise InvalidImageError(
        f"is {height} x {width} pixels with {channels} channels, smaller than the "
        f"{min_size} that the method needs; images are (H, W) or (H, W, C) and a batch has one "
        "dimension more; smaller ones can be enlarged with image_size"
    )


def check_channels(image, n_channels):
    """Refuse an image of another number of channels, or whose axes seem to be in another order.

    Parameters
    ----------
    image : ndarray, shape (H, W, C)
    n_channels : int or None
        None takes any number.

    Raises
    ------
    InvalidImageError
    """
    height, width, found = image.shape
    if n_channels is None and height <= 4 < min(width, found):
        raise InvalidImageError(
            f"has shape {image.shape}, which is {height} rows of {width} pixels with {found} "
            "channels; images are (H, W, C), and this one looks like (C, H, W)"
        )
    if n_channels is not None and found != n_channels:
        hint = (
            "; images are (H, W, C), and this one looks like (C, H, W)"
            if height == n_channels
            else "; convert it, have files converted by ImageFiles(paths, convert=...), or fit on "
            "images of that kind"
        )
        raise InvalidImageError(f"has {found} channels, expected {n_channels}{hint}")


def range_of(dtype, value_range):
    """Pixel values that mean black and white, of images of a dtype."""
    if value_range is not None and dtype.kind in "buif":
        return value_range
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 0, np.iinfo(dtype).max
    if dtype.kind in "bf":
        return 0, 1
    raise InvalidImageError(
        f"holds {dtype}, whose black and white are not known; state them with "
        "value_range=(low, high), which numbers need to be real for"
    )


def check_values(image, value_range):
    """Refuse an image that holds NaN, infinity, or values outside of its range.

    Parameters
    ----------
    image : ndarray, shape (H, W, C)
    value_range : (float, float) or None
        Values that mean black and white; None is by dtype, see `range_of`.

    Raises
    ------
    InvalidImageError
        It says which value, and of a number that is not finite where it stands.
    """
    low, high = range_of(image.dtype, value_range)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        row, column, channel = np.argwhere(~np.isfinite(image))[0]
        raise InvalidImageError(
            f"holds {image[row, column, channel]} at row {row}, column {column}, channel "
            f"{channel}; repair the pixel or remove the image"
        )
    if value_range is None and image.dtype.kind != "f":
        return  # an unsigned dtype cannot leave its own range
    smallest, largest = image.min(), image.max()
    slack = 1e-6 * (high - low)  # what resizing in single precision may add
    if smallest < low - slack or largest > high + slack:
        raise InvalidImageError(
            f"holds values from {smallest:.8g} to {largest:.8g}, expected {low:g} to {high:g}; "
            "state what means black and white with value_range=(low, high)"
        )
