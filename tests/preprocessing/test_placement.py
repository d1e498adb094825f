import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly.preprocessing import Placement

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def placements(draw):
    """Any affine motion that neither collapses nor explodes."""
    angle = draw(st.floats(-4, 4))
    scales = draw(st.tuples(st.floats(0.4, 2.5), st.floats(0.4, 2.5)))
    shift = draw(st.tuples(st.floats(-6, 6), st.floats(-6, 6)))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[c, -s], [s, c]]) * scales
    matrix[:2, 2] = shift
    return Placement(matrix, draw(sizes), draw(sizes))


def place_of(placement, row, column):
    return (placement.matrix @ (row, column, 1))[:2]


def is_within(place, size):
    """In an image whose pixels reach half a pixel around their centres; None at its very edge."""
    distances = [p + 0.5 for p in place] + [n - 0.5 - p for p, n in zip(place, size)]
    return None if min(map(abs, distances)) < 1e-6 else min(distances) > 0


def bilinear(values, row, column):
    height, width = values.shape
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = min(int(row), height - 1), min(int(column), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = row - top, column - left
    return (1 - y) * ((1 - x) * values[top, left] + x * values[top, right]) + y * (
        (1 - x) * values[bottom, left] + x * values[bottom, right]
    )


@settings(max_examples=60, deadline=None)
@given(placement=placements(), seed=st.integers(0, 99))
def test_maps_come_back_to_where_their_pixels_were(placement, seed):
    values = np.random.default_rng(seed).normal(size=placement.new_size).astype(np.float32)
    found, back = placement.on_old(values), np.linalg.inv(placement.matrix)
    assert found.dtype == np.float32
    for row, column in np.ndindex(placement.old_size):
        place = (back @ (row, column, 1))[:2]
        within = is_within(place, placement.new_size)
        if within is not None:
            expected = bilinear(values, *place) if within else values.min()
            assert found[row, column] == pytest.approx(expected, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(placement=placements(), seed=st.integers(0, 99))
def test_regions_are_asked_for_at_the_nearest_pixel(placement, seed):
    region = np.random.default_rng(seed).random(placement.old_size) < 0.5
    found = placement.on_new(region)
    for row, column in np.ndindex(placement.new_size):
        place = place_of(placement, row, column)
        if np.abs(place - np.floor(place) - 0.5).min() > 1e-6:
            nearest = np.clip(np.rint(place), 0, np.subtract(region.shape, 1)).astype(int)
            assert found[row, column] == region[tuple(nearest)]


@settings(max_examples=60, deadline=None)
@given(placement=placements())
def test_covered_says_which_pixels_come_from_the_image(placement):
    covered = placement.covered()
    covered = np.ones(placement.new_size, bool) if covered is None else covered
    for row, column in np.ndindex(placement.new_size):
        within = is_within(place_of(placement, row, column), placement.old_size)
        assert within is None or covered[row, column] == within


@settings(max_examples=30, deadline=None)
@given(first=placements(), second=placements())
def test_one_after_the_other(first, second):
    both = first.then(second)
    assert (both.old_size, both.new_size) == (first.old_size, second.new_size)
    place = place_of(second, 2, 3)
    assert_allclose(place_of(both, 2, 3), place_of(first, *place), atol=1e-9)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_images_are_sampled_bilinearly(kind):
    rng = np.random.default_rng(0)
    image = (rng.random((9, 11, 2)) * (1 if kind == np.float32 else 200)).astype(kind)
    matrix = np.array([[0.8, -0.3, 1.2], [0.3, 0.8, 0.4], [0, 0, 1]])
    placement = Placement(matrix, (9, 11), (7, 8))
    found = placement.sampled(image)
    assert (found.shape, found.dtype) == ((7, 8, 2), kind)
    for row, column, channel in np.ndindex(found.shape):
        value = bilinear(image[..., channel].astype(float), *place_of(placement, row, column))
        assert abs(float(found[row, column, channel]) - value) <= (
            1e-5 if kind == np.float32 else 0.501
        )


def test_a_cut_is_exact():
    values = np.arange(12, dtype=np.float32).reshape(3, 4) + 5
    placement = Placement.cut((6, 9), (1, 2, 4, 6))
    expected = np.full((6, 9), 5, np.float32)
    expected[1:4, 2:6] = values
    assert_array_equal(placement.on_old(values), expected)
    region = np.arange(54).reshape(6, 9) % 3 == 0
    assert_array_equal(placement.on_new(region), region[1:4, 2:6])
    assert placement.covered() is None


def test_resized_edges_meet():
    placement = Placement.resized((10, 12), (5, 4))
    assert_allclose(place_of(placement, -0.5, -0.5), (-0.5, -0.5))
    assert_allclose(place_of(placement, 4.5, 3.5), (9.5, 11.5))
    assert placement.covered() is None


def test_what_is_not_known_stays_so():
    unknown = Placement.unknown((4, 5), (2, 2))
    assert not unknown.is_known()
    assert not Placement.unmoved((4, 5)).then(unknown).is_known()
    assert not unknown.then(Placement.unmoved((2, 2))).is_known()
    assert Placement.unmoved((4, 5)).is_unmoved()
