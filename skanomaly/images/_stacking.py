"""Images or maps as one array."""

from __future__ import annotations

import numpy as np


def stack(maps, n, order=None):
    """`n` maps or images as one array, or as an object array where their sizes differ.

    The k-th of them gets the place ``order[k]``; None is as they come.
    """
    order = range(n) if order is None else order
    maps = iter(maps)
    first = next(maps)
    stacked = np.empty((n, *first.shape), np.float32)
    stacked[order[0]] = first
    for k, anomaly_map in enumerate(maps, start=1):
        if stacked.dtype != object and anomaly_map.shape != first.shape:
            stacked = _as_objects(stacked, order[:k])
        stacked[order[k]] = anomaly_map
    return stacked


def _as_objects(stacked, filled):
    objects = np.empty(len(stacked), dtype=object)
    for i in filled:
        objects[i] = stacked[i].copy()
    return objects
