import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skanomaly.calibration import quantile_of_new

scores = arrays(float, st.integers(1, 40), elements=st.floats(-100, 100, width=32))


def flagged_share_of_exponentials(n, share, draws, rng):
    """Share of new scores -Exp(1) below the threshold, over many sets of n."""
    thresholds = (quantile_of_new(-rng.exponential(size=n), share) for _ in range(draws))
    return np.mean([np.exp(min(0.0, t)) for t in thresholds])


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_share_is_flagged_on_average(share):
    found = flagged_share_of_exponentials(40, share, 4000, np.random.default_rng(0))
    assert found == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(("n", "share"), [(40, 0.01), (40, 0.002), (10, 0.01), (2, 0.1)])
def test_share_beyond_the_smallest_score_is_flagged_on_average(n, share):
    found = flagged_share_of_exponentials(n, share, 20_000, np.random.default_rng(0))
    assert found == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("draw", ["normal", "gumbel", "logistic"])
def test_other_tails_are_flagged_less_than_ranks_alone_would(draw):
    rng = np.random.default_rng(0)
    new = getattr(rng, draw)(size=1_000_000)
    flagged = [
        np.mean(-new[:20_000] < quantile_of_new(-getattr(rng, draw)(size=40), 0.01))
        for _ in range(1000)
    ]
    assert np.mean(flagged) < 0.013  # 1 / 41 = 0.024 lies below the smallest


@given(scores)
def test_smaller_shares_never_raise_the_threshold(scores):
    by_ranks = 1 / (len(scores) + 1)
    shares = np.append(np.geomspace(1e-4, 1, 60)[:-1], [by_ranks - 1e-9, by_ranks])
    thresholds = [quantile_of_new(scores, share) for share in np.sort(shares)]
    assert np.all(np.diff(thresholds) >= 0)


@given(scores, st.floats(0.001, 0.5))
def test_shift_and_scale_of_the_scores_pass_through(scores, share):
    found = quantile_of_new(4 * scores + 3, share)
    assert found == pytest.approx(4 * quantile_of_new(scores, share) + 3, rel=1e-9, abs=1e-6)


def test_one_score_is_its_own_threshold():
    assert quantile_of_new(np.array([-2.5]), 0.05) == -2.5


def test_scores_are_not_changed():
    scores = np.array([3.0, 1.0, 2.0])
    quantile_of_new(scores, 0.01)
    assert scores.tolist() == [3, 1, 2]
