"""What sets a threshold, and what holds for it: labels, groups, images of one's own, calibrate."""

import pickle
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold

import skanomaly
from skanomaly import InvalidImageError
from skanomaly.calibration import quantile_of_new
from skanomaly.exceptions import NonFiniteMapError, ThresholdWarning
from skanomaly.model_selection import NormalKFold


def random_images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 16, 16), np.uint8)


@pytest.fixture
def detector():
    return DistanceToMean().fit(random_images(40))


@pytest.mark.parametrize("as_masks", [False, True])
def test_anomalous_images_are_left_out(as_masks):
    X, y = random_images(30), np.ones(30, int)
    y[[3, 8, 20]] = -1
    X[y == -1] = 255
    truth = (y == -1)[:, None, None] & np.eye(16, dtype=bool) if as_masks else y
    found = DistanceToMean().fit(X, truth)
    alone = DistanceToMean().fit(X[y == 1])
    assert (found.n_left_out_, alone.n_left_out_) == (3, 0)
    assert found.offset_ == alone.offset_
    assert torch.equal(found.mean_, alone.mean_)
    labels = DistanceToMean().fit_predict(X, truth)
    assert_array_equal(labels, alone.predict(X))
    assert (labels[y == -1] == -1).all()


def test_regions_and_groups_go_with_their_images():
    X, y = random_images(20), np.tile([1, 1, -1, 1], 5)
    roi = [np.eye(16, dtype=bool) if i % 2 else None for i in range(20)]
    groups = np.repeat(np.arange(10), 2)
    normal = np.flatnonzero(y == 1)
    found = DistanceToMean().fit(X, y, roi=roi, groups=groups)
    alone = DistanceToMean().fit(X[normal], roi=[roi[i] for i in normal], groups=groups[normal])
    assert_array_equal(found.validation_scores_, alone.validation_scores_)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([-1] * 6, "was given 0 normal images.*6 more are anomalous"),
        ([1] + [-1] * 5, "was given 1 normal image .5 more"),
        ([1] * 5, "length 5, X of length 6"),
        ([0, 1] * 3, r"y\[0\] is 0.*np.where"),
        (["good"] * 6, "expected a label"),
    ],
)
def test_other_labels_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        DistanceToMean().fit(random_images(6), y)


def test_a_search_refits_without_the_defects():
    X, y = random_images(24), np.tile([1, 1, 1, -1], 6)
    X[y == -1] = 255
    search = GridSearchCV(
        DistanceToMean(), {"smoothing": [0.0, 1.0]}, cv=NormalKFold(3), scoring="roc_auc"
    ).fit(X, y)
    expected = clone(search.best_estimator_).fit(X[y == 1])
    assert search.best_estimator_.offset_ == expected.offset_
    assert search.best_estimator_.n_left_out_ == 6


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_kept_together(seed):
    groups = np.random.default_rng(seed).integers(0, 8, 40)
    found = DistanceToMean(random_state=seed, validation_fraction=0.25)
    learnt, kept_out = found.fit(random_images(40), groups=groups).seen_
    assert not {groups[i] for i in learnt} & {groups[i] for i in kept_out}
    assert len(learnt) + len(kept_out) == 40
    largest = np.bincount(groups).max()
    assert 1 <= len(kept_out) <= 10 + largest


def test_groups_kept_out_come_as_near_to_the_fraction_as_they_can():
    groups = np.repeat(np.arange(10), 4)
    for fraction, n_kept_out in ((0.3, 12), (0.05, 4), (0.52, 20), (0.99, 36)):
        found = DistanceToMean(validation_fraction=fraction)
        assert len(found.fit(random_images(40), groups=groups).seen_[1]) == n_kept_out


def test_groups_that_cannot_be_split():
    with pytest.raises(ValueError, match="one group.*X_val"):
        DistanceToMean().fit(random_images(6), groups=["a"] * 6)
    with pytest.raises(ValueError, match="groups is of length 5, X of length 6"):
        DistanceToMean().fit(random_images(6), groups=range(5))


def test_a_search_hands_its_groups_on():
    """With metadata routing the fits within the folds keep lots together, too."""
    X, groups = random_images(24), np.repeat(np.arange(6), 4)
    seen = []

    class Watched(DistanceToMean):
        def _fit_images(self, images, validation):
            super()._fit_images(images, validation)
            seen.append(self.seen_)

    with config_context(enable_metadata_routing=True):
        GridSearchCV(
            Watched(),
            {"smoothing": [0.0]},
            cv=GroupKFold(3),
            scoring=lambda d, X, y=None: d.predict(X).mean(),
            error_score="raise",
            refit=False,
        ).fit(X, groups=groups)
    assert len(seen) == 3
    for learnt, kept_out in seen:  # positions within the fold, whose groups are four in a row
        assert not {i // 4 for i in learnt} & {i // 4 for i in kept_out}


def test_images_of_ones_own_set_the_threshold():
    X, X_val = random_images(12), random_images(30, seed=1)
    found = DistanceToMean().fit(X, X_val=X_val)
    assert len(found.seen_[0]) == 12
    assert_array_equal(found.validation_scores_, found.score_samples(X_val))
    assert found.offset_ == quantile_of_new(found.validation_scores_, 0.1)
    assert DistanceToMean().fit(X[:1], X_val=X_val).predict(X).shape == (12,)
    with pytest.raises(InvalidImageError, match="image 0: has 3 channels, expected 1"):
        DistanceToMean().fit(X, X_val=np.zeros((2, 16, 16, 3), np.uint8))


def test_a_region_for_all_holds_for_images_of_ones_own():
    X, X_val, roi = random_images(12), random_images(30, seed=1), np.eye(16, dtype=bool)
    found = DistanceToMean().fit(X, X_val=X_val, roi=roi)
    assert_array_equal(found.validation_scores_, found.score_samples(X_val, roi=roi))


def test_calibrate_with_kept_scores_changes_the_threshold_alone(detector):
    X, before = random_images(5, seed=1), dict(vars(detector))
    maps, scores = detector.transform(X), detector.score_samples(X)
    assert detector.set_params(false_alarm_rate=0.3).calibrate() is detector
    assert detector.offset_ == quantile_of_new(before["validation_scores_"], 0.3)
    assert detector.offset_ > before["offset_"]
    assert_array_equal(detector.transform(X), maps)
    assert_array_equal(detector.score_samples(X), scores)
    changed = {k for k, v in vars(detector).items() if before[k] is not v and before[k] != v}
    assert changed == {"false_alarm_rate", "offset_", "map_threshold_"}


def test_calibrate_on_new_images(detector):
    X = random_images(50, seed=1)
    detector.calibrate(X)
    assert_array_equal(detector.validation_scores_, detector.score_samples(X))
    assert_allclose(detector.validation_maxima_, detector.transform(X).max(axis=(1, 2)))
    again = DistanceToMean().fit(random_images(40))
    roi = np.eye(16, dtype=bool)
    again.calibrate(X, roi=roi)
    assert_array_equal(again.validation_scores_, again.score_samples(X, roi=roi))


def test_calibrate_needs_a_fit():
    with pytest.raises(ValueError, match="not fitted"):
        DistanceToMean().calibrate()


@pytest.mark.parametrize("changed", [{"smoothing": 2.0}, {"score_reduction": 0.1}])
def test_a_score_is_what_it_was_when_the_threshold_was_set(detector, changed):
    X = random_images(30, seed=1)
    detector.set_params(**changed)
    (name,) = changed
    for method in ("transform", "score_samples", "decision_function", "predict", "detect"):
        with pytest.raises(ValueError, match=f"{name} of DistanceToMean is .* call calibrate"):
            getattr(detector, method)(X)
    with pytest.raises(ValueError, match=name):
        list(detector.stream(X))
    with pytest.raises(ValueError, match=name):
        detector.calibrate()
    detector.calibrate(X)
    expected = DistanceToMean(**changed).fit(random_images(40))
    assert_array_equal(detector.score_samples(X), expected.score_samples(X))
    assert_array_equal(detector.validation_scores_, expected.score_samples(X))


@pytest.mark.parametrize("changed", [{"image_size": 8}, {"value_range": (0, 300)}])
def test_what_defines_maps_needs_a_fit(detector, changed):
    X = random_images(30, seed=1)
    before = detector.score_samples(X)
    detector.set_params(**changed)
    for use in (detector.predict, detector.calibrate):
        with pytest.raises(ValueError, match="when the threshold was set; fit anew"):
            use(X)
    detector.set_params(image_size=16, value_range=None)
    assert_array_equal(detector.score_samples(X), before)


def test_how_results_are_computed_may_change_at_any_time(detector):
    X = random_images(9, seed=1)
    before = detector.score_samples(X)
    detector.set_params(batch_size=2, n_jobs=2, device="cpu", random_state=7)
    assert_allclose(detector.score_samples(X), before, rtol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_says_what_depends_on_it(name):
    cls = DETECTORS[name]
    assert set(cls._affects.values()) <= {"maps", "scores", "threshold", "training", "nothing"}
    for parameter in ("batch_size", "device", "n_jobs"):
        assert cls._affects[parameter] == "nothing"
    for parameter in ("smoothing", "score_reduction"):
        assert cls._affects[parameter] == "scores"


@pytest.mark.parametrize("n", [2, 5, 7, 30])
def test_few_images_for_the_threshold_are_said(n):
    with pytest.warns(ThresholdWarning, match="not been learnt from can promise") as caught:
        DistanceToMean(false_alarm_rate=0.05).fit(random_images(n))
    assert caught[0].filename == __file__
    with pytest.warns(ThresholdWarning, match="20 or more"):
        DistanceToMean(false_alarm_rate=0.05).fit(random_images(n))


def test_enough_images_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DistanceToMean(false_alarm_rate=0.1).fit(random_images(40))


def test_images_that_are_learnt_from_and_set_the_threshold_are_said():
    X = random_images(40)
    with pytest.warns(ThresholdWarning, match="X_val holds the images that are learnt from"):
        DistanceToMean().fit(X, X_val=list(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DistanceToMean(false_alarm_rate=0.1).fit(X[:20], X_val=X[20:])


def test_copies_of_one_image_are_said():
    with pytest.warns(ThresholdWarning, match="hardly differ from images beside them"):
        DistanceToMean().fit(np.repeat(random_images(1), 30, axis=0))


def test_near_duplicates_on_both_sides_are_said():
    rng = np.random.default_rng(0)
    parts = random_images(20, seed=3).repeat(5, axis=0).astype(int)
    shots = np.clip(parts + rng.integers(-3, 4, parts.shape), 0, 255).astype(np.uint8)
    with pytest.warns(ThresholdWarning, match="hardly differ.*groups="):
        DistanceToMean(false_alarm_rate=0.1).fit(shots)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DistanceToMean(false_alarm_rate=0.1).fit(shots, groups=np.arange(100) // 5)


def test_a_map_that_is_not_finite_is_an_error():
    detector = DistanceToMean().fit(random_images(40))
    X = random_images(5, seed=1)
    detector.mean_.data[0, 3, 3] = torch.nan
    for method in ("transform", "score_samples", "predict", "detect"):
        with pytest.raises(NonFiniteMapError, match="image 0: the map .* is not finite"):
            getattr(detector, method)(X)
    with pytest.raises(NonFiniteMapError, match="image 0"):
        next(detector.stream(X))
    detector.mean_.data[0, 3, 3] = torch.inf
    with pytest.raises(NonFiniteMapError):
        detector.predict(X)


def test_a_fit_that_gives_no_finite_maps_leaves_the_old_state(monkeypatch, detector):
    before = dict(vars(detector))
    monkeypatch.setattr(DistanceToMean, "_compute_maps", lambda self, x: x.mean(dim=1) * torch.nan)
    with pytest.raises(NonFiniteMapError):
        detector.fit(random_images(10))
    assert vars(detector) == before


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "gpu", "meta"])
def test_an_absent_device_names_the_way_out(detector, device):
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("there is one")
    moved = pickle.loads(pickle.dumps(detector)).set_params(device=device)
    for use in (moved.predict, moved.fit):
        with pytest.raises(ValueError, match=r'cannot be used here.*set_params\(device="auto"\)'):
            use(random_images(5))
    assert moved.set_params(device="auto").predict(random_images(5)).shape == (5,)


def test_a_fit_takes_the_place_of_the_old_state_in_one_step(detector):
    """Whoever looks at the old state meanwhile sees all of it, as nothing in it changes."""
    state, copied = vars(detector), dict(vars(detector))
    detector.fit(random_images(20, seed=2))
    assert vars(detector) is not state
    assert state == copied


@pytest.fixture
def hasty_threads():
    """Threads change often, so that the rare moment is met."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_a_detector_is_judged_by_while_it_is_fitted_anew():
    """A verdict is the old state's or the new one's, never of both or of none."""
    X, other, X_new = random_images(12), 255 - random_images(12, seed=5), random_images(1, seed=1)
    shared = DistanceToMean().fit(X)
    allowed = {
        float(DistanceToMean().fit(images).decision_function(X_new)[0]) for images in (X, other)
    }
    found, errors, done = set(), [], threading.Event()

    def judge():
        while not done.is_set():
            try:
                found.add(float(shared.decision_function(X_new)[0]))
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=judge) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100):
        shared.fit(other if i % 2 else X)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert found <= allowed


@pytest.mark.parametrize("name", ["PaDiM", "HierarchicalFeatureAE", "PatchRestoration"])
def test_fits_in_threads_give_what_they_give_alone(name, textures):
    X = textures[0].images
    alone = small(name, max_epochs=1).fit(X)
    torch.manual_seed(3)
    before, found = torch.get_rng_state(), []
    threads = [
        threading.Thread(target=lambda: found.append(small(name, max_epochs=1).fit(X)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f.offset_ for f in found] == [alone.offset_] * 3
    assert torch.equal(torch.get_rng_state(), before)
    assert_array_equal(found[0].transform(X[:2]), alone.transform(X[:2]))


# Thresholds from folds that are held out in turn.


class Recording(DistanceToMean):
    """Remembers, beside itself, which images each fit has learnt from and which it scored."""

    fits = []

    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        Recording.fits.append((set(images.indices), list(validation.indices)))


def cross_fitted(X, groups=None, **parameters):
    Recording.fits.clear()
    return Recording(**parameters).fit(X, groups=groups)


@pytest.mark.parametrize(("n", "cv"), [(30, 5), (7, 7), (11, 2), (40, 3)])
def test_each_fold_is_scored_by_what_has_not_learnt_from_it(n, cv):
    found = cross_fitted(random_images(n), cv=cv)
    *folds, (learnt, _) = Recording.fits
    assert len(folds) == cv
    assert learnt == set(range(n))
    for learnt, held_out in folds:
        assert learnt == set(range(n)) - set(held_out)
        assert abs(len(held_out) - n / cv) < 1
    assert sorted(i for _, held_out in folds for i in held_out) == list(range(n))
    assert len(found.validation_scores_) == n
    assert found.offset_ == quantile_of_new(found.validation_scores_, 0.1)


def test_scores_of_folds_are_those_of_fits_without_them():
    """Slowly: a fit on the others alone, whose threshold does not matter."""
    X = random_images(12)
    found = cross_fitted(X, cv=4)
    expected = []
    for _, held_out in Recording.fits[:-1]:
        others = np.setdiff1d(np.arange(12), held_out)
        expected += list(DistanceToMean().fit(X[others], X_val=X[held_out]).validation_scores_)
    assert_allclose(found.validation_scores_, expected, rtol=1e-6)
    alone = DistanceToMean().fit(X, X_val=X)
    assert_allclose(found.score_samples(X), alone.score_samples(X), rtol=1e-6)


def test_groups_are_in_one_fold():
    groups = np.random.default_rng(0).integers(0, 9, 40)
    cross_fitted(random_images(40), groups=groups, cv=4)
    for learnt, held_out in Recording.fits[:-1]:
        assert not {groups[i] for i in learnt} & {groups[i] for i in held_out}


def test_folds_take_labels_and_regions_along():
    X, y = random_images(20), np.tile([1, 1, -1, 1], 5)
    roi = [np.eye(16, dtype=bool) if i % 2 else None for i in range(20)]
    normal = np.flatnonzero(y == 1)
    found = DistanceToMean(cv=3).fit(X, y, roi=roi)
    alone = DistanceToMean(cv=3).fit(X[normal], roi=[roi[i] for i in normal])
    assert_array_equal(found.validation_scores_, alone.validation_scores_)
    assert found.n_left_out_ == 5


def test_images_of_ones_own_go_before_folds():
    X, X_val = random_images(12), random_images(30, seed=1)
    found = DistanceToMean(cv=4).fit(X, X_val=X_val)
    assert found.offset_ == DistanceToMean().fit(X, X_val=X_val).offset_


@pytest.mark.parametrize("name", ["PaDiM", "HierarchicalFeatureAE", "FastFlow", "EnsembleDetector"])
def test_every_kind_of_detector_holds_out_in_turn(name, textures):
    X = textures[0].images
    make = {"max_epochs": 1, "cv": 3}
    if name == "EnsembleDetector":
        members = [("one", small("PaDiM")), ("other", small("MedianDifference"))]
        detector = skanomaly.EnsembleDetector(members, image_size=64, cv=3, random_state=0)
    else:
        detector = small(name, **make)
    found = clone(detector).fit(X)
    again = pickle.loads(pickle.dumps(clone(detector).fit(X)))
    assert len(found.validation_scores_) == len(X)
    assert found.offset_ == again.offset_
    assert_array_equal(found.score_samples(X[:3]), again.score_samples(X[:3]))


def test_a_search_over_folds():
    search = GridSearchCV(
        DistanceToMean(), {"cv": [None, 2]}, cv=NormalKFold(2), scoring="roc_auc"
    ).fit(random_images(20), np.tile([1, 1, -1, 1], 5))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("n", "groups", "message"),
    [
        (4, None, "cv=5 asks for more folds than there are normal images, 4; set cv to 4"),
        (9, list("aabbccddd"), "more folds than there are groups of normal images, 4"),
        (9, list("aaaaaaaaa"), "groups holds one group"),
        (1, None, "was given 1 normal image and needs at least 2"),
    ],
)
def test_too_few_images_for_the_folds(n, groups, message):
    with pytest.raises(ValueError, match=message):
        DistanceToMean(cv=5).fit(random_images(n), groups=groups)


def test_a_single_fold_is_none():
    with pytest.raises(ValueError, match="'cv' parameter"):
        DistanceToMean(cv=1).fit(random_images(9))
