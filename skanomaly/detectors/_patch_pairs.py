"""Pairs of patches to learn codes from, and maps of what patches score."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F

# Pixels between neighbouring codes, which is the stride of the first convolution.
STEP = 2

# Where a second patch lies from the first: rows and columns.
DIRECTIONS = [d for d in product((-1, 0, 1), repeat=2) if d != (0, 0)]


def draw_pairs(grid, patch_size, n_pairs, generator):
    """Places of a patch and one beside it, and of a patch and one in some direction.

    Parameters
    ----------
    grid : (int, int)
        Number of places along each axis, `STEP` pixels apart.
    patch_size, n_pairs : int
    generator : torch.Generator

    Returns
    -------
    places : tensor, shape (n_pairs, 4, 2), int64
    directions : tensor, shape (n_pairs,), int64
        The numbers of those in which the fourth patch lies from the third.
    """

    def integers(high):
        return (torch.rand(n_pairs, 2, generator=generator) * high).long()

    n = torch.tensor(grid)
    first, steps = integers(n), torch.tensor(DIRECTIONS)
    beside = steps[torch.randint(len(steps), (n_pairs,), generator=generator)]
    near = torch.minimum((first + beside).clamp(min=0), n - 1)
    directions = torch.randint(len(steps), (n_pairs,), generator=generator)
    away = (3 * patch_size // 4 + integers(max(1, patch_size // 4))) // STEP
    shift = steps[directions] * torch.minimum(away, n - 1)
    one = integers(n - shift.abs()) + (-shift).clamp(min=0)
    return torch.stack([first, near, one, one + shift], dim=1), directions


def spread(scores, patch_size, stride, size):
    """Maps (n, *size) from scores (n, h, w) of patches: at each pixel the mean of those over it.

    Pixels that no patch covers, fewer than a stride at the right and below, go on as the last.
    """
    kernel = scores.new_ones(1, 1, patch_size, patch_size)
    total, count = (
        F.conv_transpose2d(s[:, None], kernel, stride=stride)
        for s in (scores, torch.ones_like(scores[:1]))
    )
    found = total / count
    below, right = (int(n) - int(m) for n, m in zip(size, found.shape[2:]))
    return F.pad(found, (0, right, 0, below), mode="replicate")[:, 0]
