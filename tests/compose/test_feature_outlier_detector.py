import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks as on_tables

import skanomaly
from skanomaly import FeatureOutlierDetector, FlattenedImages, ImageFeatures, InvalidImageError
from skanomaly.compose import _outlier_scores
from skanomaly.compose._rows import pixels_around
from skanomaly.datasets import make_texture_defects
from skanomaly.deployment._document import known_class
from skanomaly.exceptions import ExportError, NonFiniteMapError
from skanomaly.metrics import pixel_roc_auc_score
from skanomaly.model_selection import NormalKFold
from skanomaly.utils import small_detector
from skanomaly.utils.estimator_checks import parametrize_with_checks

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (10, 32, 32), dtype=np.uint8)
X_NEW = RNG.integers(0, 256, (4, 32, 32), dtype=np.uint8)


def small(estimator=None, **parameters):
    estimator = IsolationForest(n_estimators=10) if estimator is None else estimator
    raw = {"standardize": None, **parameters}
    return small_detector(FeatureOutlierDetector, estimator=estimator, **raw)


def on_pixels(estimator, **parameters):
    return small(estimator, **{"backbone": None, "image_size": 8, "smoothing": 0.0, **parameters})


class Farness(BaseEstimator):
    """How far rows are from the mean row, by a method and with a sign that subclasses say."""

    def fit(self, X, y=None):
        self.rows_ = X
        self.mean_ = X.mean(axis=0)
        return self

    def far(self, X):
        return np.linalg.norm(X - self.mean_, axis=1)


class OfScikitLearn(Farness):
    def score_samples(self, X):
        return -self.far(X)

    def decision_function(self, X):
        raise AssertionError("score_samples is there")


class WithoutScoreSamples(Farness):
    def decision_function(self, X):
        return 3 - self.far(X)


class OfPyOD(Farness):
    """What PyOD documents of its detectors; as its ECOD, it keeps what it last computed."""

    def fit(self, X, y=None):
        super().fit(X)
        self.decision_scores_ = self.far(X)
        self.labels_ = (self.decision_scores_ > np.quantile(self.decision_scores_, 0.9)).astype(int)
        return self

    def decision_function(self, X):
        self.last_ = self.far(X)
        return self.last_.copy()


class Ranks(Farness):
    """Scores that depend on the rows beside a row, as those of PyOD's ECOD do."""

    def score_samples(self, X):
        return -np.argsort(np.argsort(self.far(X))).astype(float)


@parametrize_with_checks([small(), on_pixels(OneClassSVM(), level="image", image_size=16)])
def test_contract(detector, check):
    check(detector)


@pytest.mark.slow
@parametrize_with_checks(
    [
        small(level="image"),
        on_pixels(make_pipeline(StandardScaler(), GaussianMixture(2, reg_covar=1e-3))),
        small(LocalOutlierFactor(novelty=True)),
    ]
)
def test_contract_of_others(detector, check):
    check(detector)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:rows of:UserWarning")
@on_tables([FlattenedImages(small(), min_side=32)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def around(x, side, i, j):
    """The square around a position, whose border is repeated."""
    rows = np.clip(np.arange(i - (side - 1) // 2, i + side // 2 + 1), 0, x.shape[2] - 1)
    columns = np.clip(np.arange(j - (side - 1) // 2, j + side // 2 + 1), 0, x.shape[3] - 1)
    return x[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("side", [1, 2, 3, 9])
def test_pixels_around_each_pixel(side):
    x = torch.from_numpy(RNG.random((2, 3, 5, 7)))
    found = pixels_around(x, side)
    for i in range(5):
        for j in range(7):
            assert_array_equal(found[:, :, i, j], around(x, side, i, j).flatten(1))


def test_maps_are_the_estimators_scores_of_each_position():
    detector = on_pixels(OfScikitLearn(), image_size=None, neighborhood=3).fit(X)
    pixels = torch.from_numpy(X_NEW / np.float32(255))[:, None]
    found = detector.transform(X_NEW)
    for n, i, j in [(0, 0, 0), (1, 31, 4), (3, 17, 20)]:
        row = around(pixels[n : n + 1], 3, i, j).flatten(1).numpy()
        assert_allclose(found[n, i, j], -detector.estimator_.score_samples(row)[0], rtol=1e-6)


def test_rows_of_images_are_the_table_of_image_features():
    svm = make_pipeline(StandardScaler(), OneClassSVM())
    detector = small(svm, level="image", layers=(1, 2), score_reduction="mean", max_patches=10_000)
    found = detector.fit(X, X_val=X_NEW).score_samples(X_NEW)
    features = ImageFeatures(image_size=64, layers=(1, 2))
    assert_allclose(found, make_pipeline(features, svm).fit(X).score_samples(X_NEW), rtol=1e-5)
    maps = detector.transform(X_NEW)
    assert_allclose(maps, np.broadcast_to(-found[:, None, None], maps.shape), rtol=1e-5)


def test_whole_images_of_pixels_as_rows():
    detector = on_pixels(OneClassSVM(), level="image", image_size=None).fit(X, X_val=X_NEW)
    rows, new_rows = (x.reshape(len(x), -1) / np.float32(255) for x in (X, X_NEW))
    expected = OneClassSVM().fit(rows).score_samples(new_rows)
    assert_allclose(detector.score_samples(X_NEW), expected, rtol=1e-5)
    with pytest.raises(InvalidImageError, match="image 1: is 40 x 32 pixels"):
        detector.predict([X_NEW[0], np.zeros((40, 32), np.uint8)])


def test_images_of_any_size():
    for detector in (small(image_size=None, level="image"), small(image_size=None)):
        maps = detector.fit(X).transform([X_NEW[0], np.zeros((70, 48), np.uint8)])
        assert [m.shape for m in maps] == [(32, 32), (70, 48)]


@pytest.mark.parametrize("level", ["patch", "image"])
@pytest.mark.parametrize("other", [WithoutScoreSamples, OfPyOD])
@pytest.mark.parametrize("is_pipeline", [False, True])
def test_higher_is_more_anomalous_whoever_wrote_it(level, other, is_pipeline):
    found = []
    for cls in (OfScikitLearn, other):
        estimator = make_pipeline(StandardScaler(), make_pipeline(cls())) if is_pipeline else cls()
        found.append(on_pixels(estimator, level=level).fit(X).score_samples(X_NEW))
    shift = 3 if other is WithoutScoreSamples else 0
    assert_allclose(found[1], found[0] + shift, rtol=1e-5)


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_scoring_changes_nothing_even_if_the_estimators_does(is_pipeline):
    estimator = make_pipeline(StandardScaler(), OfPyOD()) if is_pipeline else OfPyOD()
    detector = on_pixels(estimator).fit(X)
    detector.score_samples(X_NEW)
    fitted = detector.estimator_[-1] if is_pipeline else detector.estimator_
    assert not hasattr(fitted, "last_")


def test_an_image_is_scored_whatever_stands_beside_it():
    detector = on_pixels(Ranks(), image_size=None).fit(X)
    whole = detector.score_samples(X_NEW)
    assert_array_equal(whole, [detector.score_samples(x[None])[0] for x in X_NEW])
    assert_array_equal(whole, np.full(4, -1023.0))


def test_rows_are_scored_in_parts(monkeypatch):
    expected = on_pixels(OfScikitLearn()).fit(X).transform(X_NEW)
    sizes = []

    class Counts(OfScikitLearn):
        def score_samples(self, X):
            sizes.append(len(X))
            return super().score_samples(X)

    monkeypatch.setattr(_outlier_scores, "MAX_ROWS", 30)
    assert_array_equal(on_pixels(Counts()).fit(X).transform(X_NEW), expected)
    assert sizes[-3:] == [30, 30, 4]


def test_the_estimator_sees_a_sample_of_all_rows():
    train = [np.full((8, 8), i, np.uint8) for i in range(5)]
    detector = on_pixels(OfScikitLearn(), neighborhood=1, max_patches=100)
    values = detector.fit(train, X_val=train[:1]).estimator_.rows_ * 255
    assert values.shape == (100, 1)
    assert set(np.unique(values.round())) == set(range(5))
    whole = clone(detector).set_params(max_patches=1000).fit(train, X_val=train[:1])
    assert whole.estimator_.rows_.shape == (5 * 64, 1)
    few = clone(detector).set_params(max_patches=3, level="image").fit(train, X_val=train[:1])
    assert few.estimator_.rows_.shape == (3, 64)


def test_seeds_reach_what_the_estimator_draws():
    forest = IsolationForest(n_estimators=5)
    estimator = make_pipeline(PCA(2, random_state=7), forest)
    first, again, other = (
        on_pixels(estimator, random_state=seed).fit(X).estimator_ for seed in (0, 0, 1)
    )
    assert first[0].random_state == 7
    assert first[1].random_state == again[1].random_state != other[1].random_state
    assert forest.random_state is None
    stated = on_pixels(IsolationForest(n_estimators=5, random_state=3)).fit(X).estimator_
    assert stated.random_state == 3


def test_searches_reach_the_estimator(textures):
    _, test = textures
    detector = small(layers=(1, 2))
    search = GridSearchCV(
        detector,
        {"estimator__n_estimators": [3, 6], "level": ["patch", "image"]},
        scoring="roc_auc",
        cv=NormalKFold(2),
    )
    search.fit(test.images, test.target)
    assert search.best_estimator_.estimator_.n_estimators in (3, 6)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(search.best_estimator_).estimator is not search.best_estimator_.estimator


def test_another_estimator_is_for_the_next_fit():
    detector = on_pixels(IsolationForest(n_estimators=3)).fit(X)
    before = detector.score_samples(X_NEW)
    detector.set_params(estimator__n_estimators=8)
    assert_array_equal(detector.score_samples(X_NEW), before)
    assert len(detector.fit(X).estimator_.estimators_) == 8


@pytest.fixture(scope="module")
def larger_textures():
    draw = partial(make_texture_defects, "brick", image_size=96, random_state=0)
    return draw(n_normal=32), draw(split="test", n_normal=10, n_defective=12)


@pytest.mark.parametrize(
    "estimator",
    [
        LocalOutlierFactor(novelty=True),
        make_pipeline(StandardScaler(), PCA(0.95)),
        GaussianMixture(2, reg_covar=1e-2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_finds_drawn_defects(larger_textures, estimator):
    train, test = larger_textures
    detector = small(estimator, max_patches=2000, layers=(1, 2), image_size=96).fit(train.images)
    found = detector.detect(test.images)
    assert roc_auc_score(test.target, found.scores) > 0.75
    assert pixel_roc_auc_score(test.masks, found.maps) > 0.9


@pytest.mark.parametrize("is_pipeline", [False, True])
def test_detectors_of_pyod(is_pipeline):
    ECOD = pytest.importorskip("pyod.models.ecod").ECOD
    estimator = make_pipeline(StandardScaler(), ECOD()) if is_pipeline else ECOD()
    detector = on_pixels(estimator).fit(X)
    darker = X_NEW // 4
    scores = detector.score_samples(np.concatenate([X_NEW, darker]))
    assert scores[4:].max() < scores[:4].min()
    again = pickled(detector)
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(again.score_samples, 8 * np.split(X_NEW, 4)))
    assert_array_equal(np.concatenate(alone), np.tile(scores[:4], 8))
    search = GridSearchCV(detector, {"level": ["image"]}, scoring="roc_auc", cv=NormalKFold(2))
    labels = np.repeat([1, -1], 4)
    assert search.fit(np.concatenate([X_NEW, darker]), labels).best_score_ >= 0


def pickled(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LocalOutlierFactor(), "LocalOutlierFactor with novelty=False .* set novelty=True"),
        (make_pipeline(PCA(2), LocalOutlierFactor()), "LocalOutlierFactor with novelty=False"),
        (KMeans(2), "KMeans has neither score_samples nor decision_function"),
        (make_pipeline(PCA(2), KMeans(2)), "KMeans has neither"),
        (LogisticRegression(), "LogisticRegression cannot be fitted on 300 rows of 9 features: "),
        (GaussianMixture(400), "GaussianMixture cannot be fitted on 300 rows of 9 features: "),
        (object(), "'estimator' parameter of FeatureOutlierDetector"),
    ],
)
def test_estimators_that_will_not_do(estimator, message):
    with pytest.raises(ValueError, match=message):
        on_pixels(estimator).fit(X)


def test_a_class_is_no_estimator():
    with pytest.raises(TypeError, match="instance"):
        on_pixels(IsolationForest).fit(X)


def test_scores_that_are_not_one_a_row():
    class Twice(Farness):
        def score_samples(self, X):
            return np.stack([self.far(X)] * 2, axis=1)

    with pytest.raises(ValueError, match=r"Twice gives scores of shape \(64, 2\) for 64 rows"):
        on_pixels(Twice()).fit(X)


def test_features_that_are_not_finite_name_the_image():
    detector = small(level="image").fit(X)
    with torch.inference_mode():
        detector.encoder_ = lambda x: [f + x.mean() / 0 for f in torch.zeros(1, len(x), 152, 1, 1)]
    with pytest.raises(NonFiniteMapError, match="image 0"):
        detector.score_samples(X_NEW)


def test_only_a_pickle_holds_it(tmp_path):
    detector = on_pixels(IsolationForest(n_estimators=3)).fit(X)
    assert_array_equal(pickled(detector).transform(X_NEW), detector.transform(X_NEW))
    for estimator in (detector, clone(detector), make_pipeline(detector)):
        with pytest.raises(TypeError, match=r"estimator may be any; use joblib.dump.* runs"):
            skanomaly.save(estimator, tmp_path / "model.skanomaly")
    with pytest.raises(ExportError, match=r"FeatureOutlierDetector cannot be exported.*joblib"):
        skanomaly.export_onnx(detector, tmp_path / "model.onnx", X_NEW)
    with pytest.raises(TypeError, match="joblib.dump"):
        detector.__reduce__()
    assert not list(tmp_path.iterdir())
    assert known_class("skanomaly.compose.image_features.ImageFeatures") is ImageFeatures
    assert known_class("skanomaly.compose.feature_outlier_detector.FeatureOutlierDetector") is None
