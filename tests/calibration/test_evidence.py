import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import beta

from skanomaly.calibration._evidence import BetsOnFlags, BetsOnPValues, RestartedMartingale


def test_bets_on_p_values_are_densities():
    bets = BetsOnPValues()
    for k in range(len(bets)):
        # Substituted so that densities which are infinite at an end can be integrated.
        total, _ = quad(lambda u, k=k: density(bets, k, u), 0, 1, limit=200)
        assert total == pytest.approx(1, abs=3e-5)


def density(bets, k, u):
    p = np.clip(u**4 / (u**4 + (1 - u) ** 4), 2.0**-53, 1 - 2.0**-53)
    return np.exp(bets.log_factors(p)[k]) * slope(u)


def slope(u):
    """Of u^4 / (u^4 + (1 - u)^4)."""
    return 4 * (u * (1 - u)) ** 3 / (u**4 + (1 - u) ** 4) ** 2


def test_the_last_bet_is_on_a_few_low_ones():
    p = np.array([0.001, 0.2, 0.9])
    found = np.exp([BetsOnPValues().log_factors(x)[-1] for x in p])
    assert_allclose(found, 0.9 + 0.1 * beta.pdf(p, 1, 129))


@pytest.mark.parametrize("ends", [2.0**-53, 1 - 2.0**-53])
def test_the_least_and_the_largest_p_value_are_finite(ends):
    assert np.isfinite(BetsOnPValues().log_factors(ends)).all()


@pytest.mark.parametrize("allowed", [0.001, 0.05, 0.3, 0.9])
def test_bets_on_flags_win_nothing_where_no_more_are_flagged(allowed):
    bets = BetsOnFlags(allowed)
    gains, losses = np.exp(bets.log_factors(True)), np.exp(bets.log_factors(False))
    assert len(bets) == len(gains)
    assert_allclose(allowed * gains + (1 - allowed) * losses, 1)
    for fewer in (0, allowed / 2):
        assert (fewer * gains + (1 - fewer) * losses <= 1).all()
    assert (gains > 1).all()


def slow(factors, horizon):
    """All bets and all beginnings, one by one."""
    n, n_bets = factors.shape
    total = horizon / (horizon + n)
    for t in range(1, n + 1):
        stake = horizon / (horizon + t - 1) - horizon / (horizon + t)
        for k in range(n_bets):
            total += stake / n_bets * np.prod(factors[t - 1 :, k])
    return total


@pytest.mark.parametrize("horizon", [1, 7, 1000])
def test_it_is_the_sum_over_all_beginnings(horizon):
    factors = np.random.default_rng(0).uniform(0, 2.5, (30, 4))
    factors[12, 2] = 0
    martingale = RestartedMartingale(4, horizon)
    assert martingale.log_value == 0
    for n, row in enumerate(factors, 1):
        with np.errstate(divide="ignore"):
            martingale.add(np.log(row))
        assert np.exp(martingale.log_value) == pytest.approx(slow(factors[:n], horizon))


def test_its_mean_stays_1():
    martingale = RestartedMartingale(2, 5)
    rng = np.random.default_rng(0)
    for _ in range(50):
        before = np.exp(martingale.log_value)
        f = rng.uniform(0.5, 1.5, 2)
        after = []
        for factors in (f, 2 - f):  # equally likely, of mean 1
            copied = RestartedMartingale(2, 5)
            copied.n_seen, copied.log_winnings = martingale.n_seen, martingale.log_winnings
            copied.add(np.log(factors))
            after.append(np.exp(copied.log_value))
        assert np.mean(after) == pytest.approx(before)
        martingale.add(np.log(f))


def test_it_is_as_seldom_high_as_promised():
    """With a horizon of 20, beside which 300 images are many."""
    rng, bets = np.random.default_rng(0), BetsOnPValues()
    highest = []
    for _ in range(150):
        martingale, most = RestartedMartingale(len(bets), 20), 0.0
        for p in rng.random(300):
            martingale.add(bets.log_factors(p))
            most = max(most, martingale.log_value)
        highest.append(most)
    for alpha in (0.1, 0.3):
        reached = np.mean(np.array(highest) >= -np.log(alpha))
        assert reached <= alpha + 3 * np.sqrt(alpha / 150)
        assert reached > alpha / 20
