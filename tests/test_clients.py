"""Detectors inside what people use them with."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from conftest import DETECTORS, assert_same_scores, small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import make_map_scorer, pixel_roc_auc_score
from skanomaly.model_selection import NormalKFold

QUICKLY = {"image_size": 48, "max_epochs": 1}
# One with a pretrained network and one that trains its own. The others are slow: they take as
# long again each, and go the same ways through the same base class.
QUICK = ("PaDiM", "PatchReconstruction")
EVERY = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS
]


@pytest.fixture(scope="module")
def bunch():
    """Normal images and some with drawn defects, labels and masks."""
    return make_texture_defects(
        "brick", split="test", n_normal=12, n_defective=6, image_size=48, random_state=0
    )


@pytest.fixture(params=EVERY)
def detector(request):
    return small(request.param, **QUICKLY)


def darker(X):
    return X // 2


def test_pipeline(detector, bunch):
    X = bunch.images
    pipeline = make_pipeline(FunctionTransformer(darker), detector).fit(X[bunch.target == 1])
    alone = clone(detector).fit(darker(X)[bunch.target == 1])
    for method in ("transform", "score_samples", "decision_function", "predict"):
        assert_array_equal(getattr(pipeline, method)(X), getattr(alone, method)(darker(X)))


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_searches(detector, search, bunch):
    settings = {} if search is GridSearchCV else {"n_iter": 2, "random_state": 0}
    found = search(
        detector,
        {"smoothing": [0.0, 4.0]},
        scoring={"auc": "roc_auc", "pixels": lambda d, X, y: d.transform(X).mean()},
        refit="auc",
        cv=NormalKFold(2),
        error_score="raise",
        **settings,
    ).fit(bunch.images, bunch.target)
    assert np.isfinite(found.cv_results_["mean_test_auc"]).all()
    assert found.cv_results_["mean_test_pixels"][0] != found.cv_results_["mean_test_auc"][0]
    assert set(found.predict(bunch.images)) <= {-1, 1}


def test_cross_validation(detector, bunch):
    found = cross_validate(
        detector,
        bunch.images,
        bunch.masks,
        scoring=make_map_scorer(pixel_roc_auc_score),
        cv=NormalKFold(2),
        return_estimator=True,
        error_score="raise",
    )
    assert np.isfinite(found["test_score"]).all()
    X = bunch.images[bunch.target == 1]
    decisions = cross_val_predict(detector, X, cv=2, method="decision_function")
    for half, other in ((slice(6), slice(6, None)), (slice(6, None), slice(6))):
        fitted = clone(detector).fit(X[other])
        assert_allclose(decisions[half], fitted.decision_function(X[half]), rtol=1e-3, atol=1e-5)


def test_learning_curve(detector, bunch):
    X = bunch.images[bunch.target == 1]
    sizes, train, test = learning_curve(
        detector,
        X,
        None,
        cv=2,
        train_sizes=[4, 6],
        scoring=lambda d, X, y=None: d.predict(X).mean(),
    )
    assert_array_equal(sizes, [4, 6])
    assert train.shape == test.shape == (2, 2)
    assert np.isfinite(test).all()


def test_frozen(detector, bunch):
    X = bunch.images
    fitted = detector.fit(X[bunch.target == 1])
    frozen = make_pipeline(FunctionTransformer(darker), FrozenEstimator(fitted)).fit(X[:2])
    assert_array_equal(frozen.predict(X), fitted.predict(darker(X)))
    assert clone(frozen)[-1].estimator is fitted


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(detector, backend, bunch):
    X = bunch.images
    fitted = detector.fit(X[bunch.target == 1])
    with joblib.parallel_config(backend, n_jobs=2):
        parts = joblib.Parallel()(joblib.delayed(fitted.score_samples)(x) for x in np.split(X, 3))
        scores = cross_validate(
            detector, X, bunch.target, scoring="roc_auc", cv=NormalKFold(2), error_score="raise"
        )
    assert_same_scores(np.concatenate(parts), fitted.score_samples(X), rtol=1e-3)
    assert np.isfinite(scores["test_score"]).all()


def test_dump_and_load_in_a_fresh_process(tmp_path, bunch):
    """All detectors in one, as a process takes longer to start than they to score."""
    X, normal = bunch.images[:3], bunch.images[bunch.target == 1]
    fitted = {name: small(name, **QUICKLY).fit(normal) for name in DETECTORS}
    for name, detector in fitted.items():
        joblib.dump(detector, tmp_path / name)
    np.save(tmp_path / "X.npy", X)
    code = (
        "import joblib, sys, numpy as np; X = np.load('X.npy')\n"
        "for name in sys.argv[1:]: np.save(name + '.npy', joblib.load(name).transform(X))"
    )
    subprocess.run([sys.executable, "-c", code, *fitted], cwd=tmp_path, check=True)
    for name, detector in fitted.items():
        found, expected = np.load(tmp_path / f"{name}.npy"), detector.transform(X)
        assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected), err_msg=name)


def test_set_output_leaves_maps_alone(detector, bunch):
    """Maps are no table; in a pipeline that was told to make tables they stay arrays."""
    pipeline = Pipeline([("detector", detector)]).fit(bunch.images[bunch.target == 1])
    assert not hasattr(detector, "set_output")
    assert pipeline.transform(bunch.images[:2]).shape == (2, 48, 48)


def test_optuna(detector, bunch):
    integration = pytest.importorskip("optuna_integration", reason="needs optuna-integration")
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = integration.OptunaSearchCV(
        detector,
        {"smoothing": optuna.distributions.FloatDistribution(0, 4)},
        scoring="roc_auc",
        cv=NormalKFold(2),
        n_trials=3,
        random_state=0,
        error_score="raise",
    ).fit(bunch.images, bunch.target)
    assert 0 <= search.best_params_["smoothing"] <= 4
    assert np.isfinite(search.best_score_)
