"""One defect and its surroundings, moved to places on seams of tiles and within tiles."""

import numpy as np
from _large import DRAWN, WINDOW, LargeImages, draw, size_for

PLACES = ("within a tile", "on a border", "in an overlap")
TILE = 512

# What is moved: pixels of its longer side, and its opacity.
EXTENT, SEEN = (12, 24), (0.8, 1.0)


def scores_by_place(detectors, overlap, sources, k, n_places):
    """Scores of defect k by each detector, at places of each kind."""
    rng = np.random.default_rng(k)
    step = int(TILE * (1 - overlap))
    side = TILE + 2 * step
    canvas = LargeImages(sources, (2 * side - TILE,) * 2, [1000 + k])[0]
    middle = len(canvas) // 2 - WINDOW // 2
    window = canvas[middle : middle + WINDOW, middle : middle + WINDOW]
    kind = DRAWN[k % len(DRAWN)]
    window[:], mask = draw(window, kind, rng, size_for(kind, EXTENT), EXTENT, SEEN)
    box = [np.flatnonzero(mask.any(axis))[[0, -1]] for axis in (1, 0)]
    kinds = PLACES if overlap else PLACES[:2]
    found = {units: {kind: [] for kind in PLACES} for units in detectors}
    counts = dict.fromkeys(kinds, 0)
    while min(counts.values()) < n_places:
        top, left = start = rng.integers(TILE // 2, side - TILE // 2 - WINDOW, 2)
        place = place_of(start, box, step)
        if counts.get(place, n_places) == n_places:
            continue
        counts[place] += 1
        region = np.zeros((side, side), bool)
        region[top : top + WINDOW, left : left + WINDOW] = True
        y, x = middle - start
        moved = canvas[y : y + side, x : x + side][None]
        for units, detector in detectors.items():
            score = float(-detector.score_samples(moved, roi=region)[0])
            found[units][place].append(score)
    return found


def place_of(start, box, step):
    """Where among three tiles a side, so far apart, the box of a defect lies; None is between."""
    # Of the tile in the middle, and those of its neighbours that lie in it.
    edges = np.array([step, TILE, 2 * step, step + TILE])
    lows, highs = (start + np.array([of_axis[i] for of_axis in box]) for i in (0, 1))
    if any(((low < edges) & (edges <= high)).any() for low, high in zip(lows, highs)):
        return "on a border"
    if any(sum(s <= at < s + TILE for s in (0, step, 2 * step)) > 1 for at in (lows + highs) / 2):
        return "in an overlap"
    near = any(((low - 64 < edges) & (edges <= high + 64)).any() for low, high in zip(lows, highs))
    return None if near else "within a tile"
