"""Images as people see them."""

from __future__ import annotations

import numpy as np

from ..images import ImageDataset, range_of


def as_shown(images, i, value_range=None):
    """Image i as floats in [0, 1] that pictures are made of: (H, W) or (H, W, 3).

    Of 2, or more than 3, channels the mean is shown, in grey.
    """
    # A dataset of its own, as images to look at may differ in their channels.
    stored = ImageDataset(images, value_range=value_range, indices=[i]).as_stored(0)
    low, high = range_of(stored.dtype, value_range)
    image = np.clip((stored.astype(np.float32) - low) / np.float32(high - low), 0, 1)
    return image if image.shape[2] == 3 else image.mean(axis=2)
