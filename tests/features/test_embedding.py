import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skanomaly.features import as_rows, level_scales, on_finest_grid, on_grid_of

RNG = np.random.default_rng(0)


def around(f, side, i, j):
    """The positions of a square around one, those that there are."""
    before, after = (side - 1) // 2, side // 2
    return f[:, :, max(0, i - before) : i + after + 1, max(0, j - before) : j + after + 1]


def enlarged(coarse):
    """Twice the size, bilinear: (n, c, 3, 4) to (n, c, 6, 8)."""
    found = torch.empty(*coarse.shape[:2], 6, 8, dtype=coarse.dtype)
    for i, j in np.ndindex(6, 8):
        y, x = np.clip((i - 0.5) / 2, 0, 2), np.clip((j - 0.5) / 2, 0, 3)
        top, left = min(int(y), 1), min(int(x), 2)
        b, r = y - top, x - left
        found[:, :, i, j] = (1 - b) * (1 - r) * coarse[:, :, top, left]
        found[:, :, i, j] += b * r * coarse[:, :, top + 1, left + 1]
        found[:, :, i, j] += (1 - b) * r * coarse[:, :, top, left + 1]
        found[:, :, i, j] += b * (1 - r) * coarse[:, :, top + 1, left]
    return found


def averaged(f, side):
    found = torch.empty_like(f)
    for i, j in np.ndindex(*f.shape[2:]):
        found[:, :, i, j] = around(f, side, i, j).mean(dim=(2, 3))
    return found


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("each_level", [False, True])
def test_features_are_means_over_a_square(side, each_level):
    fine, coarse = (torch.from_numpy(RNG.random(s)) for s in ((2, 3, 6, 8), (2, 4, 3, 4)))
    found = on_finest_grid([fine, coarse], side, each_level)
    if each_level:
        expected = torch.cat([averaged(fine, side), enlarged(averaged(coarse, side))], dim=1)
    else:
        expected = averaged(torch.cat([fine, enlarged(coarse)], dim=1), side)
    assert_allclose(found, expected)


def test_rows_are_positions_image_by_image():
    f = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    rows = as_rows(f)
    assert rows.shape == (8, 3)
    assert torch.equal(rows[5], f[1, :, 0, 1])


@pytest.mark.parametrize("side", [1, 3])
def test_levels_on_the_grid_of_one(side):
    fine, middle, coarse = (
        torch.from_numpy(RNG.random(s)) for s in ((2, 2, 12, 16), (2, 3, 6, 8), (2, 4, 3, 4))
    )
    shrunk = fine.reshape(2, 2, 6, 2, 8, 2).mean(dim=(3, 5))
    expected = averaged(torch.cat([shrunk, middle, enlarged(coarse)], dim=1), side)
    assert_allclose(on_grid_of([fine, middle, coarse], 1, side), expected)


def test_levels_whose_grids_do_not_divide():
    fine, middle = torch.rand(1, 2, 7, 9), torch.rand(1, 3, 3, 4)
    assert on_grid_of([fine, middle], 1).shape == (1, 5, 3, 4)


def test_scales_bring_each_level_to_a_total_variance_of_one():
    batches = [torch.from_numpy(RNG.normal(5, 3, (50, 7))) for _ in range(3)]
    scales = level_scales(batches, [3, 4])
    rows = torch.cat(batches).numpy() / scales
    for part in (slice(3), slice(3, 7)):
        assert len(set(scales[part])) == 1
        assert rows[:, part].var(axis=0).sum() == pytest.approx(1, rel=1e-5)
