"""Defect regions: the 8-connected components of one image's mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_EIGHT_CONNECTED = np.ones((3, 3), bool)


def label_regions(mask):
    """Number the regions of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
        With at least one True pixel.

    Returns
    -------
    labels : ndarray of int, shape (number of True pixels,)
        The region, from 0, of each pixel of ``mask[mask]``.
    n_regions : int
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, n_regions = ndimage.label(box, structure=_EIGHT_CONNECTED)
    return labels[box] - 1, n_regions


def shares_of_regions(mask):
    """For each pixel of ``mask[mask]`` 1 / its region's size, and the number of regions."""
    labels, n_regions = label_regions(mask)
    return 1 / np.bincount(labels)[labels], n_regions
