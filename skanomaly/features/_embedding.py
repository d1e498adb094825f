"""The levels of a pyramid as one feature for each position of a grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def on_finest_grid(levels, pooling=1):
    """The levels of a pyramid, averaged over neighbours, on the grid of the finest.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_k, h_k, w_k)
        Finest first.
    pooling : int, default=1
        Odd side of the square of positions, of each level's own grid, that each is the mean
        of; at the border of those that there are.

    Returns
    -------
    tensor, shape (n, sum of c_k, h_0, w_0)
        Coarser levels are interpolated bilinearly.
    """
    size = levels[0].shape[2:]
    pooled = [_pooled(f, pooling) for f in levels]
    coarser = [F.interpolate(f, size, mode="bilinear") for f in pooled[1:]]
    return torch.cat([pooled[0], *coarser], dim=1)


def as_rows(f):
    """Features (n, d, h, w) as rows (n * h * w, d), image by image."""
    return f.permute(0, 2, 3, 1).flatten(0, 2)


def _pooled(f, size):
    if size == 1:
        return f
    return F.avg_pool2d(f, size, stride=1, padding=size // 2, count_include_pad=False)
