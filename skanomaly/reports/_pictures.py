"""Small pictures of images and maps, as the page embeds them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from ..images import range_of, seen_pixels

# Of all pictures together, before base64, which adds a third: with regions and masks of 2,000
# images a page then stays below 60 MB.
TOTAL_BYTES = 36 * 2**20
LARGEST, SMALLEST = 512, 64  # pixels of the longer side
SHARE_OF_MAP = 1 / 3  # of an image's bytes
QUALITIES = (88, 78, 65, 50)  # of JPEG, in the order in which they are tried
SHRINKING = 0.8
BELOW, ABOVE = 127, 128  # the highest code up to the threshold, the lowest above it


def side_for(n):
    """The longer side of each of `n` pictures, by the bytes there are for it."""
    bytes_a_pixel = 0.27  # of JPEGs of this quality, of textures
    side = (TOTAL_BYTES * (1 - SHARE_OF_MAP) / n / bytes_a_pixel) ** 0.5
    return int(np.clip(side, SMALLEST, LARGEST))


def thumbnail(image, value_range, side, n_bytes):
    """A JPEG of an image (H, W, C), of which 2, or more than 3, channels are shown as their mean.

    It has the longer side that is asked for, or the image's own if that is less; quality and,
    if need be, size are reduced until it takes no more than `n_bytes`, down to a least size.
    """
    low, high = range_of(image.dtype, value_range)
    seen = seen_pixels(image, _size_within(image.shape[:2], side), low, high).numpy()
    pixels = np.round(255 * seen.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    if pixels.shape[2] != 3:
        pixels = np.round(pixels.mean(axis=2)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    while True:
        for quality in QUALITIES:
            file = BytesIO()
            picture.save(file, "JPEG", quality=quality, optimize=True)
            if file.tell() <= n_bytes:
                return file.getvalue()
        if max(picture.size) <= SMALLEST:
            return file.getvalue()
        size = _size_within(picture.size, max(SMALLEST, int(max(picture.size) * SHRINKING)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)


def small_map(anomaly_map, threshold, side, n_bytes):
    """An 8-bit PNG of a map and what its codes stand for.

    Each pixel is the highest of those that it stands for, so that nothing above the threshold
    is lost. Codes up to `BELOW` are values up to the threshold, those from `ABOVE` on values
    above it; steps are finest beside it, as they grow with the square of the distance.

    Returns
    -------
    png : bytes
    low, high : float
        The smallest and largest value.
    """
    while True:
        reduced = highest_within(anomaly_map, _size_within(anomaly_map.shape, side))
        values = reduced.astype(np.float64)
        png = _png(map_codes(values, threshold))
        if len(png) <= n_bytes or side <= SMALLEST:
            return png, float(values.min()), float(values.max())
        side = max(SMALLEST, int(side * SHRINKING))


def map_codes(values, threshold):
    """The code of each value of a map, uint8; see `small_map`."""
    below, above = np.minimum(values, threshold), np.maximum(values, threshold)
    depth, height = threshold - below.min(), above.max() - threshold
    down = np.sqrt((threshold - below) / (depth or 1))
    up = np.sqrt((above - threshold) / (height or 1))
    codes = np.where(
        values > threshold,
        np.maximum(ABOVE, BELOW + np.round((255 - BELOW) * up)),
        BELOW - np.round(BELOW * down),
    )
    return codes.astype(np.uint8)


def small_mask(mask, side):
    """A PNG of black and white: white where any of a pixel's own are marked."""
    reduced = highest_within(mask, _size_within(mask.shape, side))
    return _png(np.where(reduced, 255, 0).astype(np.uint8))


def highest_within(values, size):
    """Each of (h, w) blocks of a map (H, W) reduced to its highest value."""
    for axis, n in enumerate(size):
        starts = np.arange(n) * values.shape[axis] // n
        values = np.maximum.reduceat(values, starts, axis=axis)
    return values


def _size_within(size, side):
    """A height and width (or the other way round) of the same shape, not above `side`."""
    longer = max(size)
    return tuple(max(1, round(n * min(side, longer) / longer)) for n in size)


def _png(codes):
    file = BytesIO()
    Image.fromarray(codes).save(file, "PNG", optimize=True)
    return file.getvalue()
