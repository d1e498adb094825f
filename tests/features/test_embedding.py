import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skanomaly.features import as_rows, on_finest_grid

RNG = np.random.default_rng(0)


def around(f, side, i, j):
    """The positions of a square around one, those that there are."""
    before, after = (side - 1) // 2, side // 2
    return f[:, :, max(0, i - before) : i + after + 1, max(0, j - before) : j + after + 1]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_features_are_means_over_a_square_on_the_finest_grid(side):
    fine, coarse = (torch.from_numpy(RNG.random(s)) for s in ((2, 3, 6, 8), (2, 4, 3, 4)))
    found = on_finest_grid([fine, coarse], side)
    means = np.stack(
        [[around(coarse, side, i, j).mean(dim=(2, 3)).numpy() for j in range(4)] for i in range(3)]
    ).transpose(2, 3, 0, 1)
    for i, j in np.ndindex(6, 8):
        assert_allclose(found[:, :3, i, j], around(fine, side, i, j).mean(dim=(2, 3)))
        y, x = np.clip((i - 0.5) / 2, 0, 2), np.clip((j - 0.5) / 2, 0, 3)
        top, left = min(int(y), 1), min(int(x), 2)
        b, r = y - top, x - left
        expected = (1 - b) * (1 - r) * means[:, :, top, left]
        expected += b * r * means[:, :, top + 1, left + 1]
        expected += (1 - b) * r * means[:, :, top, left + 1]
        expected += b * (1 - r) * means[:, :, top + 1, left]
        assert_allclose(found[:, 3:, i, j], expected)


def test_rows_are_positions_image_by_image():
    f = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    rows = as_rows(f)
    assert rows.shape == (8, 3)
    assert torch.equal(rows[5], f[1, :, 0, 1])
