import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skanomaly import SubspaceAD
from skanomaly.calibration import conformal_p_values, false_alarm_interval, quantile_of_new
from skanomaly.datasets import make_texture_defects

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


@settings(max_examples=50, deadline=None)
@given(
    reference=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    scores=st.lists(st.integers(-1, 7), min_size=1, max_size=10),
)
def test_p_values_are_ranks_among_normal_scores(reference, scores):
    found = conformal_p_values(np.array(scores), np.array(reference), np.random.RandomState(0))
    n = len(reference)
    for p, score in zip(found, scores):
        below, ties = (sum(map(test, reference)) for test in (score.__gt__, score.__eq__))
        assert (below + 1) / (n + 1) <= p <= (below + ties + 1) / (n + 1)
        assert (p * (n + 1)) == pytest.approx(round(p * (n + 1)))


@pytest.mark.parametrize("distinct", [3, 10**9])
def test_p_values_of_normal_images_are_uniform(distinct):
    rng = np.random.RandomState(0)
    found = []
    for _ in range(2000):
        *reference, score = rng.randint(distinct, size=20)
        found.append(conformal_p_values(np.array([score]), np.array(reference), rng)[0])
    for share in (0.1, 0.3, 0.5, 0.9):
        assert np.mean(np.array(found) <= share) == pytest.approx(share, abs=0.03)


def test_a_detectors_p_values():
    X = make_texture_defects("brick", n_normal=40, image_size=64, random_state=0).images
    detector = SubspaceAD(image_size=64, random_state=0).fit(X[:30], X_val=X[30:])
    bad = X[:3].copy()
    bad[:, 20:40, 20:40] = 255
    p = detector.p_values(np.concatenate([X[30:], bad]))
    assert ((p > 0) & (p <= 1)).all()
    assert (p[-3:] <= 1 / 11).all()
    np.testing.assert_array_equal(p[-3:], detector.p_values(bad))


def share_flagged(n, rate, draws, rng):
    """The exact share of new uniform scores below the threshold, over many sets of n."""
    found = [quantile_of_new(rng.random(n), rate) for _ in range(draws)]
    return np.clip(found, 0, 1)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (99, 0.05), (40, 0.1), (25, 0.3), (1, 0.05)])
def test_the_interval_holds_as_often_as_it_says(n, rate):
    low, high = false_alarm_interval(n, rate, confidence=0.8)
    shares = share_flagged(n, rate, 4000, np.random.default_rng(0))
    at_a_rank = n == 1 or abs(rate * (n + 1) - round(rate * (n + 1))) < 1e-9
    below, above = np.mean(shares < low), np.mean(shares > high)
    assert below <= 0.1 + 0.015
    assert above <= 0.1 + 0.015
    if at_a_rank:
        assert below == pytest.approx(0.1, abs=0.015)
        assert above == pytest.approx(0.1, abs=0.015)


def test_the_interval_of_a_number_of_new_images_is_wider_and_holds():
    rng = np.random.default_rng(0)
    low, high = false_alarm_interval(39, 0.1, n_new=50, confidence=0.8)
    shares = rng.binomial(50, share_flagged(39, 0.1, 4000, rng)) / 50
    assert np.mean(shares < low) <= 0.1 + 0.015
    assert np.mean(shares > high) <= 0.1 + 0.015
    # The next value inwards would not hold.
    assert np.mean(shares < low + 0.021) > 0.1 - 0.015
    assert np.mean(shares > high - 0.021) > 0.1 - 0.015
    in_the_long_run = false_alarm_interval(39, 0.1, confidence=0.8)
    assert high - low > in_the_long_run[1] - in_the_long_run[0]


def test_the_interval_of_a_threshold_below_all_scores_begins_at_0():
    low, high = false_alarm_interval(20, 0.01)
    assert low == 0
    assert (1 - high) ** 20 == pytest.approx(0.025)  # none of 20 lies below


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 3000), rate=st.floats(0.001, 0.49), n_new=st.none() | st.integers(1, 500))
def test_the_interval_holds_the_share_that_was_asked(n, rate, n_new):
    low, high = false_alarm_interval(n, rate, n_new=n_new, confidence=0.99)
    assert 0 <= low <= high <= 1
    if n > 1:
        assert low <= rate + (n_new is not None) / (n_new or 1)
        assert rate <= high + (n_new is not None) / (n_new or 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_validation": 0}, "n_validation is 0, expected a number of images"),
        ({"n_validation": 2.5}, "n_validation is 2.5"),
        ({"rate": 0}, "rate is 0, expected a number above 0 and below 1"),
        ({"rate": 5}, "rate is 5"),
        ({"rate": np.nan}, "rate is nan"),
        ({"n_new": 0}, "n_new is 0"),
        ({"confidence": 95}, "confidence is 95"),
    ],
)
def test_an_interval_of_other_numbers_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        false_alarm_interval(**{"n_validation": 50, "rate": 0.05, **arguments})
