import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from skanomaly.calibration._online import OnlineRanks

numbers = st.lists(st.integers(0, 5), max_size=12)


@settings(deadline=None)
@given(before=numbers, stream=numbers)
def test_a_p_value_is_a_rank_among_all_before(before, stream):
    ranks, random_state = OnlineRanks(np.array(before)), np.random.RandomState(0)
    seen = list(before)
    for score in stream:
        p = ranks.add(score, random_state)
        below, ties = (sum(map(test, seen)) for test in (score.__gt__, score.__eq__))
        assert below / (len(seen) + 1) < p < (below + ties + 1) / (len(seen) + 1)
        seen.append(score)


@settings(deadline=None)
@given(before=st.lists(st.integers(0, 5), min_size=1, max_size=12), stream=numbers)
def test_later_scores_are_counted_between_those_that_are_kept(before, stream):
    ranks, random_state = OnlineRanks(np.array(before), max_ranked=1), np.random.RandomState(0)
    kept = np.sort(before)
    counts = [1] * (len(kept) + 1)
    for score in stream:
        p = ranks.add(score, random_state)
        gaps = range(np.sum(kept < score), np.sum(kept <= score) + 1)
        intervals = [np.array([sum(counts[:g]), sum(counts[: g + 1])]) / sum(counts) for g in gaps]
        (gap,) = [g for g, (low, high) in zip(gaps, intervals) if low < p < high]
        counts[gap] += 1
    assert len(ranks.ranked) == len(before)


@pytest.mark.parametrize("max_ranked", [5, 20, 1000])
@pytest.mark.parametrize("n_values", [3, 10**9])
def test_p_values_are_independent_and_uniform(max_ranked, n_values):
    """Over many streams; a few equal values or all different."""
    rng = np.random.RandomState(0)
    found = []
    for _ in range(1500):
        scores = rng.randint(n_values, size=35)
        ranks = OnlineRanks(scores[:5], max_ranked)
        found.append([ranks.add(score, rng) for score in scores[5:]])
    found = np.array(found)
    assert found.shape == (1500, 30)
    assert kstest(found.ravel(), "uniform").statistic < 1.7 / np.sqrt(found.size)
    for t in (0, 10, 29):
        assert kstest(found[:, t], "uniform").statistic < 1.9 / np.sqrt(1500)
    correlation = np.corrcoef(found.T)[np.triu_indices(30, 1)]
    assert np.std(correlation) == pytest.approx(1 / np.sqrt(1500), rel=0.15)
    # Were it the same set for all, means of streams would vary more than independent ones.
    assert found.mean(axis=1).var() == pytest.approx(1 / 12 / 30, rel=0.15)


def test_ranks_among_one_set_are_not_independent():
    """What the test above would find of them."""
    rng = np.random.RandomState(0)
    found = []
    for _ in range(1500):
        kept = np.sort(rng.random_sample(5))
        found.append((np.searchsorted(kept, rng.random_sample(30)) + rng.random_sample(30)) / 6)
    assert np.array(found).mean(axis=1).var() > 2 / 12 / 30


def test_memory_has_a_bound_and_a_copy_goes_on_alike():
    ranks, rng = OnlineRanks(np.arange(10.0), max_ranked=50), np.random.RandomState(0)
    for score in rng.normal(size=200):
        ranks.add(score, rng)
    assert (len(ranks.ranked), ranks.counts.sum()) == (50, 51 + 160)
    copied, state = pickle.loads(pickle.dumps((ranks, rng)))
    assert [ranks.add(s, rng) for s in range(9)] == [copied.add(s, state) for s in range(9)]
