from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from points import KINDS, make_points
from scipy.spatial.distance import cdist

from skanomaly.features import _k_center, k_center_greedy

property_test = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10_000)
kinds = st.sampled_from(KINDS)
# So small that a few points already take several blocks, and bounds go out of date.
small_blocks = mock.patch.multiple(_k_center, BLOCK_ROWS=7, BLOCK_CENTERS=3, MAX_FRESH=2)


def plain_k_center(X, n_centers, start=0):
    X = X.astype(np.float64)
    squared = np.full(len(X), np.inf)
    centers = [start]
    for _ in range(n_centers):
        squared = np.minimum(squared, np.square(X - X[centers[-1]]).sum(axis=1))
        squared[centers] = -np.inf
        centers.append(int(squared.argmax()))
    return np.array(centers[:n_centers]), np.sqrt(max(squared.max(), 0))


@property_test
@given(
    kind=kinds,
    n=st.integers(1, 90),
    d=st.integers(1, 9),
    share=st.floats(0, 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=seeds,
)
@small_blocks
def test_k_center_is_the_plain_loop(kind, n, d, share, dtype, seed):
    rng = np.random.default_rng(seed)
    X = make_points(kind, n, d, rng).astype(dtype)
    n_centers, start = max(1, round(share * len(X))), int(rng.integers(len(X)))
    expected, radius = plain_k_center(X, n_centers, start)
    indices, found_radius = k_center_greedy(X, n_centers, start=start)
    np.testing.assert_array_equal(indices, expected)
    assert found_radius == radius


@pytest.mark.parametrize("kind", ["normal", "clusters", "far away", "grid"])
def test_k_center_is_the_plain_loop_in_blocks_of_full_size(kind):
    X = make_points(kind, 6000, 24, np.random.default_rng(0)).astype(np.float32)
    indices, radius = k_center_greedy(X, 300)
    expected, expected_radius = plain_k_center(X, 300)
    np.testing.assert_array_equal(indices, expected)
    assert radius == expected_radius


@property_test
@given(kind=kinds, n=st.integers(2, 60), d=st.integers(1, 20), seed=seeds)
def test_lower_bounds_are_below_and_close(kind, n, d, seed):
    X = make_points(kind, n, d, np.random.default_rng(seed)).astype(np.float32)
    greedy = _k_center._LazyGreedy(X, 0, 1)
    everywhere = np.arange(len(X))
    bounds = greedy._lower_bounds(everywhere, everywhere).astype(np.float64)
    exact = cdist(X.astype(np.float64), X.astype(np.float64), "sqeuclidean") / greedy.unit
    assert (bounds <= exact).all()
    np.testing.assert_allclose(bounds, exact, rtol=0, atol=1e-4 * d)


@small_blocks
def test_k_center_chooses_each_point_once_where_all_are_equal():
    indices, radius = k_center_greedy(np.ones((40, 3)), 40, start=7)
    np.testing.assert_array_equal(indices, [7, *(i for i in range(40) if i != 7)])
    assert radius == 0


@small_blocks
def test_k_center_takes_the_lowest_index_of_equally_far_points():
    X = np.zeros((30, 1))
    X[[20, 21, 25, 29]] = 1
    assert k_center_greedy(X, 2)[0].tolist() == [0, 20]


def test_k_center_of_integers_and_of_other_memory_orders():
    X = np.random.default_rng(0).integers(0, 50, (200, 4))
    expected = plain_k_center(X, 30)[0]
    for variant in (X, X.astype(np.float16), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        np.testing.assert_array_equal(k_center_greedy(variant, 30)[0], expected)


def test_k_center_does_not_change_its_input():
    X = np.random.default_rng(0).standard_normal((50, 3))
    before = X.copy()
    k_center_greedy(X, 10)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("X", "n_centers", "message"),
    [
        (np.array([[0.0], [np.nan]]), 1, "NaN or infinity"),
        (np.array([[0.0], [np.inf]]), 1, "NaN or infinity"),
        (np.zeros((3, 2)), 4, "n_centers=4, expected 1 to the 3 points"),
        (np.zeros((3, 2)), 0, "n_centers=0"),
        (np.zeros((0, 2)), 1, r"shape \(0, 2\)"),
        (np.zeros((3, 0)), 1, r"shape \(3, 0\)"),
        (np.zeros(3), 1, r"shape \(3,\)"),
    ],
)
def test_k_center_refuses(X, n_centers, message):
    with pytest.raises(ValueError, match=message):
        k_center_greedy(X, n_centers)


def test_k_center_refuses_a_start_outside():
    with pytest.raises(ValueError, match="start=3, expected 0 to 2"):
        k_center_greedy(np.zeros((3, 2)), 1, start=3)
