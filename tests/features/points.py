"""Points that are hard for what measures distances between them."""

import numpy as np


def make_points(kind, n, d, rng):
    """Points that are hard in different ways for single precision or for ties."""
    if kind == "normal":
        return rng.standard_normal((n, d))
    if kind == "clusters":  # distances within a cluster drown in rounding of those between
        return rng.integers(0, 4, (n, 1)) * 1000 + 1e-3 * rng.standard_normal((n, d))
    if kind == "far away":
        return 1e4 + rng.standard_normal((n, d))
    if kind == "duplicates":
        return rng.standard_normal((max(1, n // 4), d))[rng.integers(0, max(1, n // 4), n)]
    if kind == "grid":
        return rng.integers(0, 3, (n, d)).astype(float)
    if kind == "tiny":
        return 1e-30 * rng.standard_normal((n, d))
    if kind == "huge":
        return 1e30 * rng.standard_normal((n, d))
    if kind == "all scales":
        return 10 ** rng.uniform(-40, 1, (n, 1)) * rng.standard_normal((n, d))
    if kind == "around 0":  # with a mean of exactly 0, so that squares underflow
        y = 10 ** rng.uniform(-30, 0, (n, 1)) * rng.standard_normal((n, d))
        return np.stack([y, -y], axis=1).reshape(-1, d)[: max(1, n // 2 * 2)]
    raise ValueError(kind)


KINDS = (
    "normal",
    "clusters",
    "far away",
    "duplicates",
    "grid",
    "tiny",
    "huge",
    "all scales",
    "around 0",
)
