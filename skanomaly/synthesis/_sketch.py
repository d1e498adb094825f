"""Every number of a defect, drawn from its image's own seed, before any pixel is looked at."""

from __future__ import annotations

import numpy as np

# Cells a side of the random grids that smooth noise is interpolated from.
NOISE_CELLS = 16

# A stroke is a trunk with up to three branches, each a line through this many knots.
N_STROKES = 4
N_KNOTS = 17

N_EDGES = 7  # of a polygon


def sketch(generator, types, shape, seed):
    """Every number of one image's defect: its type's name, and a row a region."""
    n_channels, *size = shape
    rng = np.random.default_rng(seed)
    name = list(types)[rng.integers(len(types))]
    kind = types[name]
    least, most = generator.n_regions or kind.n_regions
    rows = [
        region_of(kind, generator, n_channels, size, rng)
        for _ in range(rng.integers(least, most + 1))
    ]
    return name, rows


def region_of(kind, generator, n_channels, size, rng):
    """Numbers of one region of a `DefectType`, by name; lengths in pixels, angles in radians."""
    side = min(size)
    stroke = kind.shape == "stroke"
    low, high = np.log(kind.length)
    length = max(1.5, generator.size * side * np.exp(rng.uniform(low, high)))
    width = rng.uniform(*kind.width) * (max(1.0, side / 160) if stroke else length)
    margin = 0.25 if stroke else 0.1
    deformed = length if stroke else width  # what the outline's noise is measured by
    return {
        "shape": kind.shape,
        "texture": kind.texture,
        "center": np.floor(rng.uniform(margin, 1 - margin, 2) * size),
        "angle": rng.uniform(0, 2 * np.pi),
        "length": length,
        "width": max(width, 0.6),
        "rim": max(1.0, rng.uniform(*kind.rim) * side / 256),
        "opacity": rng.uniform(*(generator.opacity or kind.opacity)),
        "amplitude": rng.uniform(*kind.roughness) * deformed,
        "cell": max(2.0, deformed * rng.uniform(0.5, 1.4)),
        "normals": (np.arange(N_EDGES) + rng.uniform(-0.4, 0.4, N_EDGES)) * (2 * np.pi / N_EDGES),
        "edges": rng.uniform(0.5, 1.0, N_EDGES),
        **_strokes(kind, length, rng),
        "zoom": np.exp(rng.uniform(np.log(0.6), np.log(1.6))),
        "turn": rng.uniform(0, 2 * np.pi),
        "shift": rng.uniform(-1, 1, 2),
        "gain": rng.uniform(0.7, 1.3),
        "offset": rng.normal(0, 0.05),
        "grain": side * np.exp(rng.uniform(np.log(0.01), np.log(0.3), 2)),
        "contrast": rng.uniform(0, 0.4, 2),
        "color": _color(kind.texture, n_channels, rng),
        "hues": rng.uniform(-1, 1, (2, n_channels)) + rng.choice([-1.5, 1.5]),
        "tint": rng.uniform(0.3, 0.65),
        "chance": rng.random(),
        "noise": rng.standard_normal((8, NOISE_CELLS, NOISE_CELLS), np.float32),
    }


def _color(texture, n_channels, rng):
    """Dark or bright and nearly grey where plain, anything where it carries noise."""
    if texture == "flat":
        level = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1)])
        return np.clip(level + rng.normal(0, 0.02, n_channels), 0, 1)
    grey = rng.uniform(0, 1)
    return np.clip(grey + rng.uniform(-0.4, 0.4, n_channels) * rng.integers(2), 0, 1)


def _strokes(kind, length, rng):
    """A trunk and its branches, each of these a row of

    "strokes": where it starts, (along, across) the trunk; its direction; its length; its
    width as a share of the trunk's. A length of 0 means that there is none.
    "knots": how far it is from the straight line at points evenly spaced along it.
    """
    strokes, knots = np.zeros((N_STROKES, 5)), np.zeros((N_STROKES, N_KNOTS))
    strokes[0] = -length, 0, 0, 2 * length, 1
    for i in range(1, rng.integers(kind.n_branches[0], kind.n_branches[1] + 1) + 1):
        turn = rng.choice([-1, 1]) * rng.uniform(0.3, 1.1)
        strokes[i] = rng.uniform(-0.6, 0.7) * length, 0, turn, rng.uniform(0.3, 0.8) * length, 0.7
    jag = rng.uniform(*kind.jag) * strokes[:, 3]
    for i in range(N_STROKES):
        knots[i] = jag[i] * _zigzag(rng)
    knots[0] -= knots[0, N_KNOTS // 2]  # the trunk passes the region's centre
    along = np.linspace(-length, length, N_KNOTS)
    strokes[1:, 1] = np.interp(strokes[1:, 0], along, knots[0])  # branches start on the trunk
    return {"strokes": strokes, "knots": knots}


def _zigzag(rng):
    """A rough line from 0 to 0, by displacing midpoints at ever finer scale."""
    line = np.zeros(N_KNOTS)
    step, height = N_KNOTS - 1, 1.0
    while step > 1:
        ends = line[::step]
        middles = (ends[1:] + ends[:-1]) / 2
        line[step // 2 :: step] = middles + height * rng.uniform(-1, 1, len(middles))
        step, height = step // 2, 0.55 * height
    return line
