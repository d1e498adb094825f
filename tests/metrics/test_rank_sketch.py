import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skanomaly.metrics._rank_sketch import RankSketch, ranked

CAPACITY = 64
property_test = settings(max_examples=60, deadline=None)
orders = st.sampled_from(["random", "ascending", "descending", "ties", "heavy tail"])


def stream(order, n, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=n)
    if order == "ties":
        values = np.round(values)
    if order == "heavy tail":
        values = np.sign(values) * np.exp(5 * np.abs(values))
    return {"ascending": np.sort, "descending": lambda x: np.sort(x)[::-1]}.get(order, lambda x: x)(
        values
    )


def in_pieces(values, n_pieces):
    return np.array_split(values, n_pieces)


def weight_at_least(sketch, thresholds, column=0):
    return sum(part.at_least(thresholds) for part in ranked(sketch.pieces, column))


def bound(n):
    """The docstring's, for as many levels as n values can have."""
    n_levels = sum(n > 4**level * CAPACITY * 2 ** min(level, 3) for level in range(20))
    return sum(16 / (7 * CAPACITY * 2 ** min(level, 3)) for level in range(n_levels))


@property_test
@given(order=orders, n=st.integers(1, 20_000), n_pieces=st.integers(1, 50), seed=st.integers(0, 9))
def test_weights_are_within_the_counted_error(order, n, n_pieces, seed):
    values = stream(order, n, seed)
    sketch = RankSketch(1, CAPACITY)
    for piece in in_pieces(values, n_pieces):
        sketch.add(piece.copy(), np.ones(1))
    thresholds = np.concatenate([values, values + 1e-9, [-np.inf, np.inf]])
    exact = len(values) - np.searchsorted(np.sort(values), thresholds)
    error = np.abs(weight_at_least(sketch, thresholds) - exact)
    assert np.all(error <= sketch.error_at(thresholds)[:, 0])
    assert np.all(sketch.error_at(thresholds)[:, 0] <= sketch.error[0])
    assert sketch.error[0] <= bound(n) * n


@property_test
@given(
    order=orders,
    n=st.integers(1, 5000),
    n_pieces=st.integers(1, 20),
    spread=st.floats(0, 12),
    seed=st.integers(0, 9),
)
def test_several_weights_are_within_the_counted_error(order, n, n_pieces, spread, seed):
    values = stream(order, n, seed)
    weights = np.exp(spread * np.random.default_rng(seed).random((n, 2)))
    sketch = RankSketch(2, CAPACITY)
    for piece, w in zip(in_pieces(values, n_pieces), in_pieces(weights, n_pieces)):
        sketch.add(piece.copy(), w)
    order = np.argsort(values)
    for column in range(2):
        suffix_sums = np.append(np.cumsum(weights[order][::-1, column])[::-1], 0)
        exact = suffix_sums[np.searchsorted(values[order], values)]
        error = np.abs(weight_at_least(sketch, values, column) - exact)
        slack = 1e-9 * suffix_sums[0]
        assert np.all(error <= sketch.error_at(values)[:, column] + slack)
        assert weight_at_least(sketch, [-np.inf], column)[0] == pytest.approx(suffix_sums[0])


@property_test
@given(sizes=st.lists(st.integers(0, 2000), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_merged_sketches_are_within_the_sum_of_their_errors(sizes, seed):
    parts = [stream("random", n, seed + i) for i, n in enumerate(sizes)]
    whole = RankSketch(1, CAPACITY)
    for part in parts:
        other = RankSketch(1, CAPACITY)
        for piece in in_pieces(part, 3):
            other.add(piece.copy(), np.ones(1))
        whole.merge(other)
    values = np.sort(np.concatenate(parts))
    exact = len(values) - np.searchsorted(values, values)
    error = np.abs(weight_at_least(whole, values) - exact)
    assert np.all(error <= whole.error_at(values)[:, 0])
    assert whole.error[0] <= bound(len(values)) * len(values)


def test_up_to_its_capacity_nothing_is_lost():
    values = stream("random", CAPACITY, 0)
    sketch = RankSketch(1, CAPACITY)
    sketch.add(values, np.ones(1))
    assert sketch.error[0] == 0
    np.testing.assert_array_equal(ranked(sketch.pieces)[0].values, np.sort(values))


def test_highest_values_are_exact_and_equal_ones_cost_nothing():
    values = stream("random", 10_000, 0)
    sketch = RankSketch(1, CAPACITY)
    for piece in in_pieces(values, 100):
        sketch.add(piece.copy(), np.ones(1))
    highest = np.sort(values)[-CAPACITY // 8 :]
    assert not sketch.error_at(highest).any()
    np.testing.assert_array_equal(weight_at_least(sketch, highest), np.arange(CAPACITY // 8, 0, -1))
    constant = RankSketch(1, CAPACITY)
    constant.add(np.full(10_000, 0.25), np.ones(1))
    assert constant.error[0] == 0
    assert weight_at_least(constant, [0.25])[0] == 10_000


def test_error_really_arises():
    """Else the tests above could not fail."""
    sketch = RankSketch(1, CAPACITY)
    values = stream("random", 20_000, 0)
    sketch.add(values.copy(), np.ones(1))
    exact = len(values) - np.searchsorted(np.sort(values), values)
    assert np.abs(weight_at_least(sketch, values) - exact).max() > 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int64])
def test_values_keep_their_dtype(dtype):
    sketch = RankSketch(1, CAPACITY)
    sketch.add(np.arange(100).astype(dtype), np.ones(1))
    assert {values.dtype for values, _ in sketch.pieces} == {np.dtype(dtype)}
