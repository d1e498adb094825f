import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from conftest import interpolated
from hypothesis import given, settings
from hypothesis import strategies as st

from skanomaly.detectors._patch_autoencoder import Axis, Phase
from skanomaly.detectors._patches import (
    PatchDataset,
    PatchMean,
    WindowDataset,
    continued,
    interpolate_places,
    patch_places,
)
from skanomaly.images import ImageDataset

property_test = settings(max_examples=40, deadline=None)


def images(n=1, channels=1, height=1, width=1):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


@property_test
@given(size=st.integers(1, 200), stride=st.integers(1, 40))
def test_patches_are_one_for_every_stride_of_pixels(size, stride):
    places = patch_places(size, stride)
    assert len(places) == math.ceil(size / stride)
    assert places[0] >= 0
    assert places[-1] < size
    assert (np.diff(places) > 0).all()
    distances = np.abs(np.arange(size)[:, np.newaxis] - places)
    assert distances.min(axis=1).max() <= stride // 2


@property_test
@given(patch_size=st.integers(1, 12), height=st.integers(7, 15), width=st.integers(7, 15))
def test_images_are_continued_so_that_each_pixel_is_a_patchs_centre(patch_size, height, width):
    x = images(2, 3, height, width)
    y = continued(x, patch_size)
    before, after = patch_size // 2, patch_size - 1 - patch_size // 2
    widths = [(0, 0), (0, 0), (before, after), (before, after)]
    np.testing.assert_array_equal(y.numpy(), np.pad(x.numpy(), widths, mode="reflect"))
    patches = y.unfold(2, patch_size, 1).unfold(3, patch_size, 1)
    assert torch.equal(patches[..., patch_size // 2, patch_size // 2], x)


def dataset(*sizes, patch_size=5, n_patches=20, **parameters):
    """Patches of images whose pixels all differ, and those images."""
    pixels, first = [], 0
    for height, width in sizes:
        pixels.append(np.arange(first, first + height * width).reshape(height, width))
        first += height * width
    pixels = [(image / first).astype(np.float32) for image in pixels]
    data = PatchDataset(ImageDataset(pixels), patch_size, n_patches, **parameters)
    return data, [torch.from_numpy(image)[None, None] for image in pixels]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("patch_size", [4, 5])
def test_patches_are_parts_of_their_images(patch_size, fixed):
    data, x = dataset((8, 11), (6, 9), (7, 7), patch_size=patch_size, fixed=fixed)
    assert len(data) == 3
    drawn = data.__getitems__([2, 0])
    assert drawn.shape == (40, 1, patch_size, patch_size)
    for image, patches in ((x[2], drawn[:20]), (x[0], drawn[20:])):
        parts = continued(image, patch_size)[0, 0].unfold(0, patch_size, 1).unfold(1, patch_size, 1)
        parts = parts.flatten(0, 1)
        for patch in patches:
            assert (parts == patch[0]).all(dim=(1, 2)).any()


def test_fixed_patches_are_equal_each_time():
    data, _ = dataset((8, 11), (8, 11), fixed=True)
    first = data.__getitems__([0, 1])
    torch.manual_seed(5)
    assert torch.equal(data.__getitems__([1, 0]), torch.cat([first[20:], first[:20]]))
    assert not torch.equal(first[:20], first[20:])


def test_other_patches_follow_the_random_state():
    data, _ = dataset((8, 11), (8, 11))
    torch.manual_seed(5)
    first, second = data.__getitems__([0]), data.__getitems__([0])
    torch.manual_seed(5)
    assert torch.equal(data.__getitems__([0]), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fixed", [True, False])
def test_every_pixel_is_as_likely_a_patchs_centre(fixed):
    torch.manual_seed(0)
    data, x = dataset((4, 5), n_patches=4000, fixed=fixed)
    centres = Counter(data.__getitems__([0])[:, 0, 2, 2].tolist())
    counts = np.array([centres[value] for value in x[0].flatten().tolist()])
    assert counts.sum() == 4000  # no other value was in the middle
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_patches_serve_as_input_and_target():
    patches = images(3, 1, 5, 5)
    x, y = PatchDataset.collate(patches)
    assert x is patches
    assert y is patches


def slow_mean(shape, patches, patch_size, rim):
    """Mean of what patches (values, row, column) say of each pixel."""
    said = {}
    for values, row, column in patches:
        for i, j in np.ndindex(values.shape[-2:]):
            pixel = row - patch_size // 2 + rim + i, column - patch_size // 2 + rim + j
            said.setdefault(pixel, []).append(values[..., i, j])
    mean = torch.full(shape, torch.nan)
    for i, j in np.ndindex(shape[-2:]):
        if (i, j) in said:
            mean[..., i, j] = torch.stack(said[i, j]).mean(dim=0)
    return mean


@property_test
@given(
    patch_size=st.integers(5, 8),
    rim=st.integers(0, 2),
    places=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1, max_size=20),
)
def test_mean_of_patches(patch_size, rim, places):
    side = patch_size - 2 * rim
    patches = [(images(3, 1, side, side)[:, 0] + i * j, i, j) for i, j in places]
    mean = PatchMean(torch.empty(3, 9, 7), patch_size, rim)
    for patch, row, column in patches:
        mean.add(patch, row, column)
    expected = slow_mean((3, 9, 7), patches, patch_size, rim)
    torch.testing.assert_close(mean.result(), expected, equal_nan=True)


@property_test
@given(
    patch_size=st.integers(5, 8),
    rim=st.integers(0, 2),
    stride=st.integers(1, 4),
    step=st.integers(1, 3),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
)
def test_mean_of_phases(patch_size, rim, stride, step, height, width):
    """Patches of different phases overlap, and only those of one phase agree."""
    side = patch_size - 2 * rim
    places = patch_places(height, stride), patch_places(width, stride)
    mean, patches = PatchMean(torch.empty(2, height, width), patch_size, rim), []
    for number, starts in enumerate(product(range(step), repeat=2)):
        axes = [Axis(s, None, p[(p - s) % step == 0]) for p, s in zip(places, starts)]
        if not all(len(axis.places) for axis in axes):
            continue
        values = number + images(2, 1, height + patch_size, width + patch_size)[:, 0]
        mean.add_phase(values, Phase(None, step, *axes))
        for row, column in product(*(axis.places for axis in axes)):
            i, j = row - axes[0].start, column - axes[1].start
            patches.append((values[:, i : i + side, j : j + side], row, column))
    expected = slow_mean((2, height, width), patches, patch_size, rim)
    torch.testing.assert_close(mean.result(), expected, equal_nan=True)


@property_test
@given(side=st.integers(1, 9), rim=st.integers(0, 3), size=st.integers(1, 60), data=st.data())
def test_patches_cover_an_image_up_to_a_stride_of_their_side(side, rim, size, data):
    stride = data.draw(st.integers(1, side))
    mean = PatchMean(torch.empty(size, 1), side + 2 * rim, rim)
    for place in patch_places(size, stride):
        mean.add(torch.ones(side, side), place, 0)
    assert (mean.n_covering > 0).all()


@property_test
@given(stride=st.integers(1, 9), height=st.integers(1, 30), width=st.integers(1, 30))
def test_interpolation_between_places(stride, height, width):
    places = patch_places(height, stride), patch_places(width, stride)
    values = torch.rand(2, *map(len, places), generator=torch.Generator().manual_seed(0))
    found = interpolate_places(values, places, (height, width))
    expected = interpolated(values, places, (height, width))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@property_test
@given(stride=st.integers(1, 40), size=st.integers(1, 200))
def test_places_are_of_one_phase_and_centred(stride, size):
    places = patch_places(size, stride)
    assert len(set(places % stride)) == 1
    assert abs(places[0] - (size - 1 - places[-1])) <= 1


@property_test
@given(
    patch_size=st.integers(3, 9),
    margin=st.integers(0, 3),
    step=st.integers(1, 3),
    n_patches=st.integers(1, 20),
    sizes=st.lists(st.tuples(st.integers(6, 14), st.integers(6, 14)), min_size=1, max_size=3),
    fixed=st.booleans(),
)
def test_windows_are_parts_of_their_images(patch_size, margin, step, n_patches, sizes, fixed):
    margin = min(margin, (patch_size - 1) // 2)
    data, x = dataset(*sizes, patch_size=patch_size, n_patches=n_patches, fixed=fixed)
    windows = WindowDataset(data, margin, step).__getitems__(range(len(sizes)))
    height, width = windows.shape[2:]
    assert height * width <= max(n_patches, 1) * patch_size**2
    for k, side in enumerate((height, width)):
        assert (side - patch_size) % step == 0
        assert side <= max(patch_size, min(size[k] for size in sizes) + 2 * margin)
    for image, window in zip(x, windows):
        parts = continued(image, patch_size)[0, 0].unfold(0, height, 1).unfold(1, width, 1)
        assert (parts == window[0]).all(dim=(2, 3)).any()


def test_windows_follow_the_random_state_or_are_fixed():
    for fixed in (True, False):
        data, _ = dataset((14, 15), (14, 15), fixed=fixed, n_patches=4)
        drawn = [WindowDataset(data, 1, 1).__getitems__([0, 1]) for _ in range(8)]
        assert all(torch.equal(drawn[0], other) for other in drawn) == fixed
        torch.manual_seed(0)
        first = WindowDataset(data, 1, 1).__getitems__([0, 1])
        torch.manual_seed(0)
        assert torch.equal(WindowDataset(data, 1, 1).__getitems__([0, 1]), first)


def test_a_window_holds_all_of_a_small_image_but_no_more_than_the_pixels_of_a_large_one():
    data, _ = dataset((20, 30), n_patches=16)
    assert WindowDataset(data, 2, 1).__getitems__([0]).shape == (1, 1, 20, 20)  # 16 of 5 x 5
    assert WindowDataset(data.drawing(1000), 2, 1).__getitems__([0]).shape == (1, 1, 24, 34)
    assert WindowDataset(data.drawing(1000), 2, 3).__getitems__([0]).shape == (1, 1, 23, 32)
