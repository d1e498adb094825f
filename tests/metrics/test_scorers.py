import pickle

import numpy as np
import pytest
from conftest import DistanceToMean, small_detector
from sklearn import config_context
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import ImageFiles
from skanomaly import metrics as m
from skanomaly.model_selection import NormalKFold

IMAGE_SCORERS = {
    "image_roc_auc": (m.image_roc_auc, roc_auc_score),
    "image_average_precision": (
        m.image_average_precision,
        lambda y, scores: average_precision_score(y == -1, -scores),
    ),
    "image_f1_max": (m.image_f1_max, m.image_f1_max_score),
}
MAP_SCORERS = {
    "pixel_roc_auc": (m.pixel_roc_auc, m.pixel_roc_auc_score),
    "pixel_average_precision": (m.pixel_average_precision, m.pixel_average_precision_score),
    "pixel_f1_max": (m.pixel_f1_max, m.pixel_f1_max_score),
    "aupro": (m.aupro, m.aupro_score),
    "aupimo": (m.aupimo, m.aupimo_score),
}
every_scorer = pytest.mark.parametrize(
    "scorer", [scorer for scorer, _ in (IMAGE_SCORERS | MAP_SCORERS).values()], ids=repr
)


@pytest.fixture(scope="module")
def data(textures):
    """Normal training images and the test images, with masks."""
    train, test = textures
    X = np.concatenate([train.images[:12], test.images])
    masks = np.concatenate([np.zeros((12, *test.masks.shape[1:]), bool), test.masks])
    return X, masks, np.where(masks.any(axis=(1, 2)), -1, 1)


@pytest.mark.parametrize("name", IMAGE_SCORERS)
def test_image_scorers(fitted, data, name):
    X, masks, labels = data
    scorer, metric = IMAGE_SCORERS[name]
    expected = metric(labels, fitted.score_samples(X))
    assert scorer(fitted, X, labels) == scorer(fitted, X, masks) == pytest.approx(expected)
    assert 0 < expected <= 1


@pytest.mark.parametrize("name", MAP_SCORERS)
def test_map_scorers(fitted, data, name):
    X, masks, _ = data
    scorer, metric = MAP_SCORERS[name]
    assert scorer(fitted, X, masks) == metric(masks, fitted.transform(X))


def test_all_metrics_are_those_of_the_single_scorers(fitted, data):
    X, masks, labels = data
    of_images = {name: scorer(fitted, X, masks) for name, (scorer, _) in IMAGE_SCORERS.items()}
    of_maps = {name: scorer(fitted, X, masks) for name, (scorer, _) in MAP_SCORERS.items()}
    scores = labels, fitted.score_samples(X)
    of_images |= {
        "neg_false_alarm_rate_at_detection_rate": -m.false_alarm_rate_at_detection_rate(*scores),
        "detection_rate_at_false_alarm_rate": m.detection_rate_at_false_alarm_rate(*scores),
    }
    assert m.all_metrics(fitted, X, masks) == pytest.approx(of_images | of_maps, abs=1e-12)
    assert m.all_metrics(fitted, X, labels) == pytest.approx(of_images, abs=1e-12)


@pytest.mark.parametrize("wrap", ["detector", "pipeline", "search"])
def test_all_metrics_take_one_pass(fitted, data, wrap, monkeypatch):
    X, masks, _ = data
    estimator = fitted
    if wrap != "detector":
        estimator = Pipeline([("same", FunctionTransformer()), ("detector", fitted)])
    if wrap == "search":
        search = GridSearchCV(estimator, {})
        search.best_estimator_ = estimator
        estimator = search
    n_seen, compute = [], type(fitted)._compute_maps
    monkeypatch.setattr(
        type(fitted), "_compute_maps", lambda self, x: n_seen.append(len(x)) or compute(self, x)
    )
    scores = m.all_metrics(estimator, X, masks)
    assert sum(n_seen) == len(X)
    assert set(scores) > set(IMAGE_SCORERS | MAP_SCORERS)


def test_an_estimator_without_detect_is_asked_for_scores_and_maps(fitted, data):
    class Plain:
        transform, score_samples, offset_ = fitted.transform, fitted.score_samples, fitted.offset_

    X, masks, _ = data
    assert m.all_metrics(Plain(), X, masks) == m.all_metrics(fitted, X, masks)


def test_make_map_scorer(fitted, data):
    X, masks, _ = data
    scorer = m.make_map_scorer(m.aupro_score, max_fpr=0.05)
    assert scorer(fitted, X, masks) == m.aupro_score(masks, fitted.transform(X), max_fpr=0.05)
    negative = m.make_map_scorer(m.aupro_score, greater_is_better=False)
    assert negative(fitted, X, masks) == -m.aupro(fitted, X, masks)
    assert repr(scorer) == "make_map_scorer(aupro_score, max_fpr=0.05)"
    assert repr(negative) == "make_map_scorer(aupro_score, greater_is_better=False)"
    with pytest.raises(ValueError, match="metric is 'aupro', expected a function"):
        m.make_map_scorer("aupro")


def test_masks_of_mixed_sizes(fitted, data):
    X, masks, _ = data
    X, masks = list(X[:16]), list(masks[:16])
    X[-1], masks[-1] = X[-1][:48], masks[-1][:48]
    masks[-1][20:24, 20:24] = True
    assert m.aupro(fitted, X, masks) == m.aupro_score(masks, fitted.transform(X))
    assert m.all_metrics(fitted, X, masks)["aupro"] == m.aupro(fitted, X, masks)


@every_scorer
def test_scorers_pickle(scorer, fitted, data):
    X, masks, _ = data
    again = pickle.loads(pickle.dumps(scorer))
    assert again(fitted, X, masks) == scorer(fitted, X, masks)


# In scikit-learn's searches -----------------------------------------------------------

# Halving searches score training folds too, which hold normal images only.
normal_training_folds_have_no_score = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:One or more of the train scores"
)
GRID = {"smoothing": [0.0, 4.0], "level_weights": ["area", "equal"]}
FOLDS = NormalKFold(n_splits=2)


def search_scores(search, data):
    X, masks, _ = data
    search.fit(X, masks)
    scores = search.cv_results_["mean_test_score"]
    assert np.all((scores > 0) & (scores <= 1))
    assert len(np.unique(scores)) > 1
    return scores


def test_grid_search_with_two_processes(data):
    detector = small_detector(max_epochs=1)
    parallel, serial = (
        GridSearchCV(detector, GRID, scoring=m.aupro, cv=FOLDS, refit=False, n_jobs=n_jobs)
        for n_jobs in (2, None)
    )
    # Other numbers of threads add in another order.
    np.testing.assert_allclose(
        search_scores(parallel, data), search_scores(serial, data), rtol=1e-3
    )


def test_randomized_search_in_a_pipeline(data):
    detector = small_detector(max_epochs=1)
    pipeline = Pipeline([("same", FunctionTransformer()), ("detector", detector)])
    grid = {f"detector__{name}": values for name, values in GRID.items()}
    search = RandomizedSearchCV(
        pipeline, grid, n_iter=3, scoring=m.pixel_roc_auc, cv=FOLDS, refit=False, random_state=0
    )
    search_scores(search, data)


@normal_training_folds_have_no_score
def test_halving_search_over_epochs(data):
    search = HalvingGridSearchCV(
        small_detector(),
        GRID,
        resource="max_epochs",
        max_resources=2,
        min_resources=1,
        factor=2,
        scoring=m.aupro,
        cv=FOLDS,
        refit=False,
    )
    search_scores(search, data)
    assert list(search.n_candidates_) == [4, 2]


@normal_training_folds_have_no_score
def test_halving_search_over_images(data):
    search = HalvingGridSearchCV(
        small_detector(max_epochs=1),
        {"smoothing": [0.0, 4.0]},
        min_resources=16,
        factor=2,
        scoring=m.image_roc_auc,
        cv=NormalKFold(n_splits=2, shuffle=True, random_state=0),
        refit=False,
        random_state=0,
        error_score="raise",
    )
    X, _, labels = data
    search.fit(X, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).any()


def test_several_metrics_in_one_search_and_in_cross_validation(data):
    X, masks, _ = data
    search = GridSearchCV(
        small_detector(max_epochs=1), GRID, scoring=m.all_metrics, cv=FOLDS, refit="aupro"
    ).fit(X, masks)
    assert 0 < search.best_score_ <= 1
    found = cross_validate(small_detector(max_epochs=1), X, masks, scoring=m.all_metrics, cv=FOLDS)
    for name in IMAGE_SCORERS | MAP_SCORERS:
        assert np.isfinite(search.cv_results_[f"mean_test_{name}"]).all()
        assert found[f"test_{name}"].shape == (2,)


def test_files_stay_lazy_in_cross_validation(mvtec_root):
    from skanomaly.datasets import load_mvtec_ad

    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    found = cross_validate(
        small_detector(max_epochs=1),
        test.images,
        test.masks,
        scoring={"aupro": m.aupro, "image_roc_auc": m.image_roc_auc},
        cv=FOLDS,
    )
    assert isinstance(test.images, ImageFiles)
    assert np.isfinite([found["test_aupro"], found["test_image_roc_auc"]]).all()


# What is refused ----------------------------------------------------------------------


@pytest.mark.parametrize("scorer", [scorer for scorer, _ in MAP_SCORERS.values()], ids=repr)
def test_maps_need_masks(scorer, fitted, data):
    X, masks, labels = data
    for y, found in ((labels, "labels"), (None, "None"), (masks[:3], "of length 3")):
        with pytest.raises(ValueError, match=f"_score compares maps with masks, but y is {found}"):
            scorer(fitted, X, y)


def test_masks_of_another_size(fitted, data):
    X, masks, _ = data
    with pytest.raises(ValueError, match=r"mask 0 has shape \(32, 64\) and map 0 \(64, 64\)"):
        m.aupro(fitted, X, masks[:, :32])


@pytest.mark.parametrize("name", IMAGE_SCORERS)
def test_labels_are_checked(fitted, data, name):
    X, _, labels = data
    with pytest.raises(ValueError, match=r"y\[0\] is 0, expected a label"):
        IMAGE_SCORERS[name][0](fitted, X, (labels == -1).astype(int))


def test_undefined_scores_are_nan(fitted, data):
    X, masks, labels = data
    X, masks, labels = X[:6], masks[:6], labels[:6]
    for scorer, y in ((m.image_roc_auc, labels), (m.aupro, masks)):
        with pytest.warns(UndefinedMetricWarning, match="not defined without"):
            assert np.isnan(scorer(fitted, X, y))
    with pytest.warns(UndefinedMetricWarning, match="image_roc_auc, .*aupimo is not defined"):
        assert np.isnan(list(m.all_metrics(fitted, X, masks).values())).all()


class Stored:
    """An estimator that has its maps beforehand."""

    offset_ = 0.0

    def __init__(self, maps):
        self.maps = maps

    def transform(self, X, *, roi=None):
        return self.maps[X]

    def score_samples(self, X, *, roi=None):
        inside = self.maps if roi is None else np.where(roi, self.maps, -np.inf)
        return -inside[X].max(axis=(1, 2))


ALL = (
    *(m.image_roc_auc, m.image_average_precision, m.image_f1_max),
    *(m.pixel_roc_auc, m.pixel_average_precision, m.pixel_f1_max),
    *(m.aupro, m.aupimo, m.all_metrics),
)


@pytest.mark.parametrize("scorer", ALL, ids=repr)
def test_scorers_within_a_region(scorer):
    rng = np.random.default_rng(0)
    masks = rng.random((8, 12, 12)) < 0.2
    masks[:3] = False
    masks[3, :, 4:] = False  # a defect outside the region only: a normal image
    maps = rng.normal(size=masks.shape) + masks
    roi = np.zeros((12, 12), bool)
    roi[:, 4:] = True
    X = np.arange(8)
    found = scorer(Stored(maps), X, masks, roi=roi)
    assert found == scorer(Stored(maps[:, :, 4:]), X, masks[:, :, 4:])
    assert found != scorer(Stored(maps), X, masks)


def test_regions_are_routed_to_scorers():
    X = np.random.default_rng(0).integers(0, 256, (12, 16, 16), np.uint8)
    masks = np.zeros((12, 16, 16), bool)
    masks[8:, 3:9, 3:9] = True
    X[8:, 3:9, 3:9] //= 8
    X[:4, 12:, 12:] = 0  # what is not to count
    roi = np.ones_like(masks)
    roi[:, 12:, 12:] = False
    cv = NormalKFold(2)
    with config_context(enable_metadata_routing=True):
        detector = DistanceToMean(image_size=None).set_fit_request(roi=True)
        scorer = m.aupro.set_score_request(roi=True)
        assert m.aupro.get_metadata_routing().score.requests["roi"] is None
        routed = cross_validate(
            detector, X, masks, scoring=scorer, cv=cv, params={"roi": roi}, error_score="raise"
        )
    expected = []
    for train, test in cv.split(X, masks):
        fitted = DistanceToMean(image_size=None).fit(X[train], roi=roi[train])
        maps = fitted.transform(X[test], roi=roi[test])
        expected.append(m.aupro_score(masks[test], maps, roi=roi[test]))
    np.testing.assert_allclose(routed["test_score"], expected)
