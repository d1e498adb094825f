"""Fits on few images: none is given away where a fit is cheap."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import PatchCore, SubspaceAD
from skanomaly._holdout import ENOUGH, hold_out_in_turn, until_enough
from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import ThresholdWarning
from skanomaly.utils import all_detectors, small_detector

IN_TURN = [cls for _, cls in all_detectors() if cls._holds_out_in_turn]
quiet = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("brick", n_normal=24, image_size=64, random_state=0).images


@pytest.mark.parametrize("n", [2, 3, 7, 19])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_each_image_is_held_out_once(n, fraction):
    folds = hold_out_in_turn(n, fraction, None, np.random.RandomState(0))
    assert sorted(np.concatenate(folds)) == list(range(n))
    assert 2 <= len(folds) <= max(2, round(1 / fraction))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


def test_groups_are_held_out_together():
    groups = np.array(list("aabbbccdd"))
    for held_out in hold_out_in_turn(9, 0.2, groups, np.random.RandomState(0)):
        assert not set(groups[held_out]) & set(np.delete(groups, held_out))
    with pytest.raises(ValueError, match="groups holds one group"):
        hold_out_in_turn(3, 0.2, ["a"] * 3, np.random.RandomState(0))


@quiet
def test_scores_are_of_what_had_not_seen_the_image_and_all_are_learnt_from(images):
    X = images[:10]
    detector = SubspaceAD(image_size=64, standardize=None, random_state=0).fit(X)
    assert detector.subspace_.n_seen == 10 * 16 * 16
    random_state = np.random.RandomState(0)
    random_state.randint(2**31 - 1)
    expected = []
    for held_out in hold_out_in_turn(10, 0.2, None, random_state):
        part = SubspaceAD(image_size=64, standardize=None, random_state=0)
        part.fit(np.delete(X, held_out, axis=0), X_val=X[held_out])
        expected += list(part.validation_scores_)
    assert_allclose(detector.validation_scores_, expected, rtol=1e-5)


@quiet
@pytest.mark.parametrize("cls", IN_TURN, ids=lambda cls: cls.__name__)
def test_from_one_image_on(cls, images):
    for n in (1, 2, 4, 8):
        detector = small_detector(cls).fit(images[:n])
        assert np.isfinite(detector.score_samples(images)).all()
        assert (detector.predict(images[:n]) == 1).sum() >= n - 1


def test_one_image_gives_no_threshold_and_says_so(images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector = PatchCore(image_size=64, random_state=0).fit(images[:1])
    (found,) = [w for w in caught if w.category is ThresholdWarning]
    assert "one normal image tells nothing" in str(found.message)
    assert found.filename == __file__
    assert detector.predict(images[:1])[0] == 1
    detector.calibrate(images[1:])
    assert len(detector.validation_scores_) == 23


@quiet
@pytest.mark.parametrize(
    ("n", "fraction", "n_scored", "n_learnt"),
    [(19, 0.2, 19, 19), (24, 0.2, 20, 24), (24, 0.5, 24, 24), (24, 0.8, 24, 24), (24, 0.9, 22, 2)],
)
def test_images_are_held_out_in_turn_until_enough_are(n, fraction, n_scored, n_learnt, images):
    detector = SubspaceAD(image_size=64, validation_fraction=fraction, random_state=0)
    detector.fit(images[:n])
    assert len(detector.validation_scores_) == n_scored
    assert detector.subspace_.n_seen == n_learnt * 256


@pytest.mark.parametrize(
    ("n", "n_folds"), [(3, 3), (19, 5), (20, 5), (30, 4), (50, 2), (95, 2), (99, 1)]
)
def test_no_more_folds_than_needed(n, n_folds):
    folds = until_enough(hold_out_in_turn(n, 0.2, None, np.random.RandomState(0)))
    assert len(folds) == n_folds
    assert sum(map(len, folds)) >= min(n, ENOUGH)
    assert sum(map(len, folds[:-1])) < ENOUGH


@quiet
def test_regions_follow_their_images(images):
    X, roi = images[:6].copy(), np.ones((6, 64, 64), bool)
    for i in range(6):
        roi[i, 8 * i : 8 * i + 16] = False
        X[i, 8 * i : 8 * i + 16] = 255  # what does not count
    with_regions = SubspaceAD(image_size=64, smoothing=0.0, random_state=0).fit(X, roi=roi)
    without = SubspaceAD(image_size=64, smoothing=0.0, random_state=0).fit(X)
    assert with_regions.validation_scores_.mean() > without.validation_scores_.mean()
    again = SubspaceAD(image_size=64, smoothing=0.0, random_state=0).fit(X, roi=roi)
    assert_array_equal(with_regions.validation_scores_, again.validation_scores_)
