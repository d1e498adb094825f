"""Channels, converted where the user has said so."""

from __future__ import annotations

import numpy as np

from ..exceptions import InvalidImageError

# Luma of ITU-R BT.601 in 1/65536, rounded as Pillow rounds it.
_LUMA = (19595, 38470, 7471)


def check_convert(convert):
    """Raise ValueError unless it names a conversion."""
    if convert not in (None, "rgb", "grey"):
        raise ValueError(f'convert must be "rgb", "grey" or None, got {convert!r}')


def converted(image, convert):
    """An image (H, W) or (H, W, C) with the channels that were asked for, of the same dtype.

    Grey is repeated to be RGB, RGB is weighted to be grey, and alpha is dropped.
    """
    if convert is None:
        return image
    n_channels = 1 if image.ndim == 2 else image.shape[2]
    if n_channels > 4:
        raise InvalidImageError(
            f"has {n_channels} channels, of which it is not known what is red, green and blue; "
            f'convert="{convert}" takes 1 to 4'
        )
    if n_channels <= 2:
        grey = image if image.ndim == 2 else image[..., 0]
        return np.repeat(grey[..., np.newaxis], 3, axis=2) if convert == "rgb" else grey
    return image[..., :3] if convert == "rgb" else _luma(image)


def traced_conversion(images, convert):
    """As `converted`, of a tensor (n, H, W, C), by operations that ONNX has.

    Parameters
    ----------
    images : tensor, shape (n, H, W, C)
        Integers of at most 16 bits, or floats.
    convert : {"rgb", "grey"}

    Returns
    -------
    tensor, shape (n, H, W, 1 or 3), of the same dtype
    """
    if images.shape[3] <= 2:
        grey = images[..., :1]
        return grey.repeat(1, 1, 1, 3) if convert == "rgb" else grey
    if convert == "rgb":
        return images[..., :3]
    wide = images[..., :3].double()
    grey = sum(weight * wide[..., i : i + 1] for i, weight in enumerate(_LUMA))
    if images.dtype.is_floating_point:
        return (grey / 65536).to(images.dtype)
    return ((grey + 0x8000) / 65536).floor().to(images.dtype)


def _luma(image):
    fits = image.dtype.kind == "u" and image.dtype.itemsize <= 2
    wide = np.uint32 if fits else np.float64
    grey = np.full(image.shape[:2], 0x8000 if fits else 0, wide)
    for i, weight in enumerate(_LUMA):
        grey += wide(weight) * image[..., i].astype(wide)
    if fits:
        return (grey >> 16).astype(image.dtype)
    grey /= 65536
    return (grey if image.dtype.kind == "f" else grey.round()).astype(image.dtype)
