import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skanomaly.calibration import conformal_p_values, select
from skanomaly.exceptions import ThresholdWarning


def benjamini_hochberg(ranks, n, fdr):
    """Step up, as it is defined, in exact numbers: ranks among n normal images."""
    p_values, m = [Fraction(r, n + 1) for r in ranks], len(ranks)
    last = max((k for k, p in enumerate(sorted(p_values), 1) if p <= fdr * k / m), default=0)
    return [p <= fdr * last / m for p in p_values] if last else [False] * m


@settings(max_examples=300, deadline=None)
@given(data=st.data(), n=st.integers(1, 400), fdr=st.integers(1, 99))
def test_it_is_the_procedure_of_benjamini_and_hochberg(data, n, fdr):
    ranks = data.draw(st.lists(st.integers(1, n + 1), max_size=40))
    found = select(np.array(ranks) / (n + 1), fdr / 100, n_reference=10**9)
    assert found.dtype == bool
    assert_array_equal(found, benjamini_hochberg(ranks, n, Fraction(fdr, 100)))


def test_false_discoveries_are_as_many_as_asked_at_most():
    rng = np.random.RandomState(0)
    shares = []
    for _ in range(400):
        scores = np.append(rng.normal(size=40), rng.normal(-3, size=10))
        p_values = conformal_p_values(scores, rng.normal(size=400), rng)
        flagged = select(p_values, 0.2)
        shares.append(flagged[:40].sum() / max(1, flagged.sum()))
    error = np.std(shares) / 20
    assert np.mean(shares) == pytest.approx(0.2 * 0.8, abs=3 * error)


def warning_of(p_values, fdr, **n_reference):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        flagged = select(p_values, fdr, **n_reference)
    assert {w.filename for w in caught} <= {__file__}
    return flagged, [str(w.message) for w in caught]


@pytest.mark.parametrize(("n", "m"), [(99, 10), (199, 20), (9, 1), (19, 2)])
def test_a_single_defect_can_just_be_flagged(n, m):
    p_values = np.append(1 / (n + 1), np.full(m - 1, 0.9))
    flagged, said = warning_of(p_values, 0.1, n_reference=n)
    assert flagged.tolist() == [True] + [False] * (m - 1)
    assert not said
    p_values[0] = 1 / n
    flagged, (said,) = warning_of(p_values, 0.1, n_reference=n - 1)
    assert not flagged.any()
    assert f"for a single defect {n} normal images are needed" in said


def test_what_too_few_normal_images_can_do_is_said():
    _, (said,) = warning_of(np.full(30, 1 / 20), 0.1, n_reference=19)
    assert "never below 0.05" in said
    assert "flags none unless 15 or more are lowest, of 30 images" in said
    assert select(np.append(np.full(15, 1 / 20), np.ones(15)), 0.1, n_reference=19)[:15].all()
    assert not select(np.append(np.full(14, 1 / 20), np.ones(16)), 0.1, n_reference=19).any()
    flagged, (said,) = warning_of(np.full(5, 0.25), 0.2, n_reference=3)
    assert not flagged.any()
    assert "cannot flag any of 5 images" in said
    assert issubclass(ThresholdWarning, UserWarning)


@pytest.mark.parametrize("n", [5, 36, 99, 1000])
def test_p_values_tell_what_they_are_ranks_among(n):
    rng = np.random.RandomState(0)
    p_values = conformal_p_values(rng.normal(size=200), rng.normal(size=n), rng)
    _, said = warning_of(p_values, 0.01)
    assert len(said) == 1
    assert f"among {n} normal images" in said[0]
    _, said = warning_of(p_values[:10], 0.99)
    assert len(said) == (n < 10)


@pytest.mark.parametrize(
    "p_values",
    [np.random.default_rng(0).uniform(size=50), np.full(3, 0.5), np.ones(20), []],
    ids=["of a density", "few", "all 1", "none"],
)
def test_what_does_not_tell_is_not_said(p_values):
    flagged, said = warning_of(p_values, 0.01)
    assert not said
    assert flagged.shape == (len(p_values),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p_values": [0.5, 0.0]}, r"p_values\[1\] is 0.0, expected a number above 0 and up to 1"),
        ({"p_values": [0.5, 0.2, 1.5]}, r"p_values\[2\] is 1.5"),
        ({"p_values": [np.nan]}, r"p_values\[0\] is nan"),
        ({"p_values": [-3.2, -4.1]}, "scores are none"),
        ({"p_values": [[0.5]]}, r"of shape \(1, 1\), expected \(m,\)"),
        ({"fdr": 0}, "fdr is 0"),
        ({"fdr": 10}, "fdr is 10"),
        ({"n_reference": 0}, "n_reference is 0, expected a number of images"),
        ({"n_reference": 0.5}, "n_reference is 0.5"),
    ],
)
def test_other_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        select(**{"p_values": [0.5], **arguments})


@pytest.mark.parametrize(("n", "m", "fdr"), [(9, 3, 0.3), (4, 3, 0.6), (9, 6, 0.6)])
def test_a_rate_that_is_met_exactly_is_met(n, m, fdr):
    p_values = np.append(1 / (n + 1), np.ones(m - 1))
    assert select(p_values, fdr, n_reference=n).tolist() == [True] + [False] * (m - 1)


def test_a_p_value_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"p_values\[0\] is 0.001, and among n_reference=19"):
        select([0.001, 0.5], n_reference=19)
    assert select([0.05, 0.5], 0.2, n_reference=19).tolist() == [True, False]
