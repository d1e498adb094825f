"""The levels of a pyramid as one feature for each position of a grid."""

from __future__ import annotations

import numpy as np
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


def on_grid_of(levels, k, neighborhood=1):
    """The levels of a pyramid on the grid of level k, averaged over neighbours.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_i, h_i, w_i)
        Finest first.
    k : int
    neighborhood : int, default=1
        As of `on_finest_grid`.

    Returns
    -------
    tensor, shape (n, sum of c_i, h_k, w_k)
        Finer levels are averaged, coarser ones interpolated bilinearly.
    """
    size = levels[k].shape[2:]
    finer = [_shrunk(f, size) for f in levels[:k]]
    coarser = [F.interpolate(f, size, mode="bilinear") for f in levels[k + 1 :]]
    return _averaged(torch.cat([*finer, levels[k], *coarser], dim=1), neighborhood)


def channel_statistics(batches):
    """Mean and standard deviation of each feature.

    Parameters
    ----------
    batches : iterable of tensor, each (n, d)
        Features as rows.

    Returns
    -------
    mean, std : tensor, shape (d,), float32
        The latter at least a thousandth of the largest, so that it may be divided by.
    """
    n, total, squares = 0, 0.0, 0.0
    for batch in batches:
        rows = batch.cpu().double()
        n, total, squares = n + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / n
    std = (squares / n - mean.square()).clamp(min=0).sqrt()
    return mean.float(), std.clamp(min=1e-3 * std.max().clamp(min=1e-6)).float()


def level_scales(batches, n_channels):
    """What brings each level of joined features to a total variance of one.

    Parameters
    ----------
    batches : iterable of tensor, each (n, d)
        Features as rows.
    n_channels : sequence of int
        Of each level; their sum is d.

    Returns
    -------
    ndarray, shape (d,), float32
        What to divide by.
    """
    n, total, squares = 0, 0.0, 0.0
    for batch in batches:
        rows = batch.cpu().double()
        n, total, squares = n + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    variances = (squares / n - (total / n).square()).clamp(min=0)
    totals = torch.stack([part.sum() for part in variances.split(list(n_channels))])
    return np.repeat(totals.clamp(min=1e-12).sqrt().float().numpy(), list(n_channels))


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


def _shrunk(f, size):
    ratios = [int(n) / int(m) for n, m in zip(f.shape[2:], size)]
    if all(ratio.is_integer() for ratio in ratios):  # the same, but also in ONNX
        return F.avg_pool2d(f, [int(ratio) for ratio in ratios])
    return F.adaptive_avg_pool2d(f, size)
