"""Pixels in another size, and back in their dtype."""

from __future__ import annotations

import numpy as np

from ..images import seen_pixels


def of_size(image, size):
    """An image (H, W, C) in another size, float32."""
    return seen_pixels(image, tuple(size), 0, 1).permute(1, 2, 0).numpy()


def as_dtype(values, dtype):
    """Values as a dtype: rounded to integers, what lies beyond them at their ends."""
    if dtype.kind not in "iub":
        return values.astype(dtype)
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.rint(values).clip(*limits).astype(dtype)
