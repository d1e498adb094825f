from statistics import NormalDist

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import median_abs_deviation

from skanomaly import MedianDifference
from skanomaly.detectors import median_difference

RNG = np.random.default_rng(0)
X = RNG.random((21, 12, 10, 3), np.float32)


def fitted(x=X, **parameters):
    parameters = {"image_size": x.shape[1:3], "random_state": 0, **parameters}
    return MedianDifference(**parameters).fit(x)


def slow_spread(values, spread):
    if spread is None:
        return 1.0
    if spread == "mad":
        return median_abs_deviation(values, scale="normal")
    low, high = np.quantile(values, [0.05, 0.95])
    return (high - low) / (2 * NormalDist().inv_cdf(0.95))


@pytest.mark.parametrize("max_sorted", [1, 2**22])
@pytest.mark.parametrize("spread", ["range", "mad", None])
def test_distance_from_the_median_in_units_of_the_spread(spread, max_sorted, monkeypatch):
    monkeypatch.setattr(median_difference, "MAX_SORTED", max_sorted)
    detector = fitted(spread=spread, min_spread=0.2, smoothing=0.0, validation_fraction=0.1)
    good, new = X, RNG.random((2, 12, 10, 3), np.float32)
    expected = np.zeros((2, 12, 10))
    for i, j, c in np.ndindex(12, 10, 3):
        values = good[:, i, j, c].astype(float)
        unit = max(slow_spread(values, spread), 0.2)
        distance = np.abs(new[:, i, j, c] - np.median(values)) / unit
        expected[:, i, j] = np.maximum(expected[:, i, j], distance)
    assert_allclose(detector.transform(new), expected, rtol=1e-4)


@pytest.mark.parametrize("spread", ["range", "mad"])
def test_spread_of_gaussian_values_is_their_deviation(spread):
    values = torch.from_numpy(np.random.default_rng(0).normal(0.5, 0.07, (4000, 20)))
    found = MedianDifference(spread=spread)._median_and_spread(values.float())[1]
    assert_allclose(found, 0.07, rtol=0.07)


def test_an_even_background_counts_in_units_of_the_least_spread():
    detector = fitted(np.full((8, 12, 10, 1), 0.5, np.float32), min_spread=0.02, smoothing=0.0)
    new = np.full((1, 12, 10, 1), 0.51, np.float32)
    assert_allclose(detector.transform(new), 0.5, rtol=1e-4)


@pytest.mark.parametrize(("spread", "n_bad", "stands"), [("mad", 9, True), ("range", 9, False)])
def test_bad_images_among_the_good(spread, n_bad, stands):
    values = np.random.default_rng(0).normal(0.5, 0.01, (30, 50))
    values[:n_bad] = 1.0
    x = torch.from_numpy(values).float()
    median, found = MedianDifference(spread=spread)._median_and_spread(x)
    assert_allclose(median, 0.5, atol=0.02)
    assert (found.max() < 0.03) == stands


def test_no_more_images_than_asked_for_are_drawn_from_all():
    x = (
        np.arange(40, dtype=np.float32)[:, None, None, None]
        / 40
        * np.ones((1, 4, 4, 1), np.float32)
    )
    medians = {float(fitted(x, max_images=1, random_state=s).median_[0, 0, 0]) for s in range(8)}
    assert len(medians) > 3
    assert np.isin([round(40 * m) for m in medians], np.arange(40)).all()


def test_no_limit_that_is_not_reached():
    assert_array_equal(fitted(max_images=21).median_, fitted(max_images=10**6).median_)


def test_images_of_several_sizes_need_an_image_size():
    mixed = [*X[:8], np.zeros((9, 10, 3), np.float32)]
    with pytest.raises(ValueError, match="set image_size"):
        MedianDifference(image_size=None, random_state=0).fit(mixed)
