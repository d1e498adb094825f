"""What an image, and a batch of images, may be."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError
from ._reading import check_pixel_count, decode


def check_images(X):
    """Check that `X` is a batch of images, without reading any of them.

    Parameters
    ----------
    X : array, or sequence of arrays, PIL images or paths, or ImageFiles

    Returns
    -------
    sequence
        `X` itself, or its items as a list.

    Raises
    ------
    InvalidImageError
        If `X` is empty, one image instead of a batch, or nothing of the kind.
    """
    if isinstance(X, (str, os.PathLike)):
        raise InvalidImageError(
            "X is one path; pass a list of paths, or ImageFiles.from_folder(path) for a folder",
            path=os.fspath(X),
        )
    if isinstance(X, Image.Image):
        raise InvalidImageError("X is one PIL image, expected a batch; pass [image]")
    if hasattr(X, "iloc"):  # a pandas Series of paths
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.dtype == object or X.dtype.kind == "U":
            X = _one_dimensional(X)
        elif X.ndim not in (3, 4):
            hint = "; for one grey image pass X[np.newaxis]" if X.ndim == 2 else ""
            raise InvalidImageError(
                f"X is an array of shape {X.shape}, expected (n, H, W) or (n, H, W, C){hint}"
            )
    elif not isinstance(X, Sequence):
        raise InvalidImageError(
            f"X is a {type(X).__name__}, expected an array (n, H, W) or (n, H, W, C), a sequence "
            "of arrays, PIL images or paths, or ImageFiles"
        )
    if len(X) == 0:
        raise InvalidImageError("X holds no images; pass at least one")
    return X


def _one_dimensional(X):
    if X.ndim != 1:
        raise InvalidImageError(
            f"X is an array of {X.dtype} of shape {X.shape}; an array of images or paths has "
            "one dimension"
        )
    return X.tolist() if X.dtype.kind == "U" else list(X)


def to_array(image):
    if isinstance(image, Image.Image):
        check_pixel_count(image)
        try:
            image = decode(image)
        except Exception as error:  # a PIL image may not have been read yet
            raise InvalidImageError(f"is damaged or cut short ({error}); open it again") from error
    if not isinstance(image, np.ndarray):
        raise InvalidImageError(
            f"is a {type(image).__name__}, expected an array (H, W) or (H, W, C), a PIL image "
            "or a path"
        )
    if image.ndim not in (2, 3):
        raise InvalidImageError(f"has shape {image.shape}, expected (H, W) or (H, W, C)")
    if image.size == 0:
        raise InvalidImageError(f"has no pixels (shape {image.shape})")
    return image[..., np.newaxis] if image.ndim == 2 else image


def check_size(image, min_size, required_size):
    height, width, channels = image.shape
    if required_size is not None and (height, width) != tuple(required_size):
        raise InvalidImageError(
            f"is {height} x {width} pixels, expected {required_size[0]} x {required_size[1]} as "
            "the others; to bring all to one size set image_size"
        )
    if min(height, width) < min_size:
        raise InvalidImageError(
            f"is {height} x {width} pixels with {channels} channels, smaller than the "
            f"{min_size} that the method needs; images are (H, W) or (H, W, C) and a batch has one "
            "dimension more"
        )


def check_channels(image, n_channels):
    found = image.shape[2]
    if n_channels is not None and found != n_channels:
        hint = (
            "; images are (H, W, C), and this one looks like (C, H, W)"
            if image.shape[0] == n_channels
            else "; convert it, or fit on images of that kind"
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
