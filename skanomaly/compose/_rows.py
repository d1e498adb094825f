"""From images to rows of numbers: one for each position of a grid, or one for each image."""

from __future__ import annotations

import torch
import torch.nn.functional as F

_POOL = {"mean": lambda f: f.mean(dim=(2, 3)), "max": lambda f: f.amax(dim=(2, 3))}
POOLINGS = frozenset(_POOL)


def pooled(levels, pooling="mean"):
    """One row for each image: the features of all levels, pooled over all positions.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_k, h_k, w_k)
    pooling : {"mean", "max"}, default="mean"

    Returns
    -------
    tensor, shape (n, c_1 + c_2 + ...)
    """
    return torch.cat([_POOL[pooling](f) for f in levels], dim=1)


def pixels_around(pixels, side):
    """The values of the pixels in a square around each pixel.

    Parameters
    ----------
    pixels : tensor, shape (n, C, h, w)
    side : int
        Of the square, in pixels.

    Returns
    -------
    tensor, shape (n, C * side**2, h, w)
    """
    n, _, height, width = pixels.shape
    return F.unfold(_continued(pixels, side), side).view(n, -1, height, width)


def _continued(x, side):
    """Repeat the border, so that each position is in the middle of a square."""
    before, after = (side - 1) // 2, side // 2
    return F.pad(x, (before, after, before, after), mode="replicate") if side > 1 else x
