"""Small pictures: no spot lost, values exact beside the threshold, bytes bounded."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from skanomaly.reports._pictures import (
    highest_within,
    map_codes,
    side_for,
    small_map,
    small_mask,
    thumbnail,
)


def decoded(codes, threshold, low, high):
    """As the page decodes: the inverse of `map_codes`, written down plainly."""
    values = []
    for code in codes.ravel().astype(int):
        if code <= 127:
            values.append(threshold - max(0, threshold - low) * ((127 - code) / 127) ** 2)
        else:
            values.append(threshold + max(0, high - threshold) * ((code - 127) / 128) ** 2)
    return np.array(values).reshape(codes.shape)


@pytest.mark.parametrize(("low", "high"), [(-3, 9), (0, 0.5), (2, 5), (1, 1), (-1, 1.0001)])
def test_codes_tell_what_exceeds_the_threshold_and_are_finest_beside_it(low, high):
    threshold = 1.0
    values = np.random.default_rng(0).uniform(low, high, (50, 60))
    values[0, :4] = low, high, np.clip(threshold, low, high), np.clip(1 + 1e-12, low, high)
    codes = map_codes(values, threshold)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes > 127, values > threshold)
    found = decoded(codes, threshold, values.min(), values.max())
    assert np.array_equal(found > threshold, values > threshold)
    span = max(threshold - low, high - threshold)
    near = np.abs(values - threshold) < 0.02 * span
    assert np.abs(found - values)[near].max(initial=0) <= 0.003 * span
    assert np.abs(found - values).max() <= 0.009 * span


def test_extremes_come_back_exactly():
    values = np.array([[-2.0, 0.5, 7.0]])
    codes = map_codes(values, 1.0)
    assert decoded(codes, 1.0, -2.0, 7.0)[0, [0, 2]].tolist() == [-2.0, 7.0]


@pytest.mark.parametrize("size", [(7, 5), (1, 3), (20, 31), (13, 31)])
def test_each_pixel_is_the_highest_of_its_own(size):
    values = np.random.default_rng(0).normal(size=(20, 31))
    found = highest_within(values, size)
    for (i, j), value in np.ndenumerate(found):
        rows = slice(i * 20 // size[0], (i + 1) * 20 // size[0])
        columns = slice(j * 31 // size[1], (j + 1) * 31 // size[1])
        assert value == values[rows, columns].max()


def test_one_pixel_of_a_large_map_is_seen():
    values = np.zeros((3000, 200), np.float32)
    values[1234, 56] = 5
    png, low, high = small_map(values, 1.0, 100, 10**6)
    codes = np.asarray(Image.open(BytesIO(png)))
    assert codes.shape == (100, 7)
    assert (codes > 127).sum() == 1
    assert (low, high) == (0.0, 5.0)
    assert np.asarray(Image.open(BytesIO(small_mask(values > 0, 100)))).max() == 255


def opened(content):
    return np.asarray(Image.open(BytesIO(content)))


@pytest.mark.parametrize(
    ("image", "value_range", "expected"),
    [
        (np.full((40, 60, 3), [10, 130, 250], np.uint8), None, [10, 130, 250]),
        (np.full((40, 60, 1), 2048, np.uint16), (0, 4096), 128),
        (np.full((40, 60, 4), [0, 0.2, 0.4, 0.2]), None, 51),
        (np.full((40, 60, 2), [0, 200], np.uint8), None, 100),
    ],
)
def test_images_of_any_kind_are_shown(image, value_range, expected):
    seen = opened(thumbnail(image, value_range, 64, 10**6))
    assert seen.shape[:2] == (40, 60)
    assert np.abs(seen.astype(int) - expected).max() <= 4


def test_pictures_keep_their_shape_and_their_share_of_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (900, 450, 3), np.uint8)
    content = thumbnail(noise, None, 256, 12_000)
    assert len(content) <= 12_000
    height, width = opened(content).shape[:2]
    assert height <= 256
    assert abs(height / width - 2) < 0.1
    png, *_ = small_map(noise[..., 0].astype(float), 128.0, 256, 9_000)
    assert len(png) <= 9_000


def test_the_more_images_the_smaller():
    sides = [side_for(n) for n in (1, 400, 2000, 10_000, 10**6)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 512
    assert sides[-1] == 64
    assert 200 < side_for(2000) < 260
