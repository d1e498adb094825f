"""Smooth noise, in which regions are where it is high."""

from __future__ import annotations

import torch


def perlin_noise(size, cells, generator):
    """Perlin's gradient noise, (h, w), of so many cells along each axis.

    Perlin, "An image synthesizer", SIGGRAPH 1985, with the interpolation of 2002.
    """
    angles = 2 * torch.pi * torch.rand(cells[0] + 1, cells[1] + 1, generator=generator)
    gradients = torch.stack([angles.cos(), angles.sin()])
    (row, y), (column, x) = (
        (place.long(), place.frac())
        for place in ((torch.arange(n) + 0.5) * c / n for n, c in zip(size, cells))
    )
    corners = [
        [
            gradients[0][row + i][:, column + j] * (y[:, None] - i)
            + gradients[1][row + i][:, column + j] * (x - j)
            for j in (0, 1)
        ]
        for i in (0, 1)
    ]
    y, x = (t**3 * (t * (6 * t - 15) + 10) for t in (y[:, None], x))
    upper, lower = (torch.lerp(left, right, x) for left, right in corners)
    return 2**0.5 * torch.lerp(upper, lower, y)
