"""The colours of maps: pale up to the threshold, red above it. Without matplotlib."""

from __future__ import annotations

import numpy as np

QUIET = ("#ffffff", "#c4c9d0")
ALARMING = ("#fb6a4a", "#cb181d", "#67000d")
# From the bottom of the scale to its top; the threshold lies in the middle, where colours jump.
STOPS = tuple(zip((0, 0.5, 0.5, 0.75, 1), QUIET + ALARMING))

RED, GREEN, BLUE, ORANGE = "#c0392b", "#2e8b57", "#00bfff", "#ffa500"


def positions(anomaly_map, threshold, bottom, top):
    """Where values lie on the scale: 0 at the bottom, .5 at the threshold, 1 at the top.

    What is at the threshold is not above it, and has a position below .5.
    """
    values = np.asarray(anomaly_map, np.float64)
    lower = np.interp(values, (bottom, threshold), (0, np.nextafter(0.5, 0)))
    upper = np.interp(values, (threshold, top), (0.5, 1))
    return np.where(values > threshold, upper, lower)


def opacity(position):
    """Of a map laid over its image: nothing far below the threshold, most above it."""
    return np.where(
        position < 0.5,
        np.interp(position, (0, 0.25, 0.5), (0, 0, 0.2)),
        np.interp(position, (0.5, 0.75), (0.6, 0.85)),
    )


def colours(position):
    """(H, W, 3) colours in [0, 1] of positions on the scale."""
    stops, hexes = zip(*STOPS)
    table = np.array([rgb(value) for value in hexes])
    halves = (slice(0, 2), slice(2, None))
    below, above = (
        np.stack([np.interp(position, stops[half], table[half, c]) for c in range(3)], axis=-1)
        for half in halves
    )
    return np.where(np.asarray(position)[..., None] < 0.5, below, above)


def rgb(value):
    """Three numbers in [0, 1] of ``#rrggbb``."""
    return tuple(int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))
