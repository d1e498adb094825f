"""Images or maps as one array."""

from __future__ import annotations

import numpy as np


def stack(maps, n):
    """`n` maps or images as one array, or as an object array where their sizes differ."""
    maps = iter(maps)
    first = next(maps)
    stacked = np.empty((n, *first.shape), np.float32)
    stacked[0] = first
    for i, anomaly_map in enumerate(maps, start=1):
        if stacked.dtype != object and anomaly_map.shape != first.shape:
            stacked = _as_objects(stacked, i)
        stacked[i] = anomaly_map
    return stacked


def _as_objects(stacked, n_filled):
    objects = np.empty(len(stacked), dtype=object)
    for i in range(n_filled):
        objects[i] = stacked[i].copy()
    return objects
