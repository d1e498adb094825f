"""The levels of a pyramid as one feature for each position of a grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def on_finest_grid(levels, neighborhood=1, each_level=False):
    """The levels of a pyramid on the grid of the finest, averaged over neighbours.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_k, h_k, w_k)
        Finest first.
    neighborhood : int, default=1
        Side of the square of positions that each is the mean of; at the border of those
        that there are.
    each_level : bool, default=False
        Average on each level's own grid, before coarser ones are interpolated.

    Returns
    -------
    tensor, shape (n, sum of c_k, h_0, w_0)
        Coarser levels are interpolated bilinearly.
    """
    size = levels[0].shape[2:]
    if each_level:
        levels = [_averaged(f, neighborhood) for f in levels]
    coarser = [F.interpolate(f, size, mode="bilinear") for f in levels[1:]]
    joined = torch.cat([levels[0], *coarser], dim=1)
    return joined if each_level else _averaged(joined, neighborhood)


def as_rows(f):
    """Features (n, d, h, w) as rows (n * h * w, d), image by image."""
    return f.permute(0, 2, 3, 1).flatten(0, 2)


def _averaged(f, side):
    if side == 1:
        return f
    before, after = (side - 1) // 2, side // 2  # an even one has more behind
    counts = F.pad(torch.ones_like(f[:1, :1]), (before, after, before, after))
    sums = F.avg_pool2d(F.pad(f, (before, after, before, after)), side, stride=1)
    return sums / F.avg_pool2d(counts, side, stride=1)
