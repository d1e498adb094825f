"""From a stored image to what a network sees, without a large image in single precision."""

from __future__ import annotations

import numpy as np

# Numbers below which PyTorch works in the calling thread, where it is one of several that read.
_ONE_THREAD = 2**15 - 1

# Stored numbers that are brought to single precision at once.
_BAND = 2**20


def seen_pixels(image, size, low, high):
    """An image as a network sees it.

    Parameters
    ----------
    image : array, shape (H, W, C)
    size : (int, int)
        Height and width to resize to, bilinear and anti-aliased.
    low, high : numbers
        Pixel values that become 0 and 1.

    Returns
    -------
    tensor, shape (C, h, w), float32
    """
    import torch

    height, width, channels = image.shape
    if size == (height, width):
        return as_pixels(image, low, high)
    if size[1] > width and size[0] <= height:  # first the axis that shrinks
        swapped = seen_pixels(image.swapaxes(0, 1), size[::-1], low, high)
        return swapped.transpose(1, 2).contiguous()
    n_rows = max(1, min(_ONE_THREAD // (channels * size[1]), _BAND // (channels * width)))
    narrow = torch.empty((channels, height, size[1]))
    for top in range(0, height, n_rows):
        band = as_pixels(image[top : top + n_rows], low, high)
        narrow[:, top : top + n_rows] = resized(band[None], (band.shape[1], size[1]))[0]
    if size[0] == height:
        return narrow
    n_columns = max(1, _ONE_THREAD // (channels * size[0]))
    columns = narrow.split(n_columns, dim=2)
    return torch.cat([resized(part[None], (size[0], part.shape[2]))[0] for part in columns], dim=2)


def as_pixels(image, low, high):
    """An image (H, W, C) as a tensor (C, H, W), float32, with low at 0 and high at 1."""
    import torch

    pixels = np.array(image.transpose(2, 0, 1), dtype=np.float32, order="C")
    if low:
        pixels -= low
    pixels /= high - low
    return torch.from_numpy(pixels)


def resized(x, size):
    """Images (n, C, h, w) in another size: bilinear, anti-aliased where they shrink.

    Pixel centres are half-integers (``align_corners=False``).
    """
    from torch.nn.functional import interpolate

    def to(images, height, width):
        # Enlarging is the same either way, but not all devices have the anti-aliased kernel.
        shrinks = height < images.shape[2] or width < images.shape[3]
        antialias = shrinks or images.device.type == "cpu"
        return interpolate(images, (height, width), mode="bilinear", antialias=antialias)

    height, width = x.shape[2:]
    if size[0] < height and size[1] > width:  # PyTorch would first make it wide
        return to(resized(x, (size[0], width)), *size)
    if size[1] > 1:
        return to(x, *size)
    # PyTorch mistakes the rows of an image that is one pixel wide for its columns.
    return to(to(x, height, 1).transpose(2, 3), 1, size[0]).transpose(2, 3)
