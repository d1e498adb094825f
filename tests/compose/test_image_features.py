import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skanomaly
from skanomaly import ImageFeatures, ImageFiles, InvalidImageError
from skanomaly.features import FeaturePyramid

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (7, 48, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def features():
    return ImageFeatures(image_size=(32, 64), layers=(1, 3)).fit(X)


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", np.mean), ("max", np.max)])
def test_columns_are_features_over_all_positions(pooling, reduce):
    features = ImageFeatures(image_size=None, layers=(1, 3), pooling=pooling, batch_size=3)
    found = features.fit_transform(X)
    pixels = torch.from_numpy(X.astype(np.float32) / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        levels = FeaturePyramid(layers=(1, 3))(pixels)
    expected = [[reduce(f.numpy()) for level in levels for f in level[i]] for i in range(len(X))]
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_columns_have_names(features):
    first, third = features.encoder_.channels
    names = features.get_feature_names_out()
    assert list(names[[0, first - 1]]) == ["layer1_0", f"layer1_{first - 1}"]
    assert list(names[[first, -1]]) == ["layer3_0", f"layer3_{third - 1}"]
    assert len(names) == features.transform(X).shape[1]
    frame = clone(features).set_output(transform="pandas").fit_transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(names)
    assert_array_equal(frame, features.transform(X))


def test_any_batch_of_images(features, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for x, path in zip(X, paths):
        Image.fromarray(x).save(path)
    expected = features.transform(X)
    for same in (list(X), X.astype(np.float32) / 255, paths, ImageFiles(paths)):
        assert_allclose(features.transform(same), expected, rtol=1e-4, atol=1e-5)
    mixed = clone(features).set_params(image_size=None)
    larger = np.concatenate([X[0], X[1]], axis=1)
    found = mixed.fit(X).transform([X[0], larger, X[1]])
    assert_allclose(found[[0, 2]], mixed.transform(X[:2]), rtol=1e-4, atol=1e-5)


def test_pipelines_end_in_anything_for_tables(tmp_path):
    bright = RNG.integers(0, 2, 24)
    paths = [tmp_path / f"{i}.png" for i in range(24)]
    for path, is_bright in zip(paths, bright):
        image = RNG.integers(0, 100, (32, 32), dtype=np.uint8) + np.uint8(100 * is_bright)
        Image.fromarray(image).save(path)
    files, features = ImageFiles(paths), ImageFeatures(image_size=32, layers=(1, 2))
    classifier = make_pipeline(features, StandardScaler(), LogisticRegression())
    assert cross_val_score(classifier, files, bright, cv=3).mean() > 0.9
    search = GridSearchCV(classifier, {"imagefeatures__pooling": ["mean", "max"]}, cv=2)
    assert search.fit(files, bright).score(files, bright) > 0.9
    outliers = make_pipeline(features, StandardScaler(), OneClassSVM(nu=0.1, gamma=1e-3))
    scores = outliers.fit(files[np.flatnonzero(bright == 0)]).score_samples(files)
    assert scores[bright == 1].max() < scores[bright == 0].min()


def test_is_the_same_elsewhere(features, tmp_path):
    expected = features.transform(X)
    skanomaly.save(features, tmp_path / "features.skanomaly")
    for again in (
        pickle.loads(pickle.dumps(features)),
        skanomaly.load(tmp_path / "features.skanomaly"),
    ):
        assert_array_equal(again.transform(X), expected)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(features.transform, 4 * [X]):
            assert_array_equal(found, expected)


def test_wrong_images(features):
    with pytest.raises(NotFittedError, match="ImageFeatures"):
        clone(features).transform(X)
    with pytest.raises(NotFittedError, match="ImageFeatures"):
        clone(features).get_feature_names_out()
    with pytest.raises(InvalidImageError, match="image 0: has 1 channels, expected 3"):
        features.transform(X[..., 0])
    with pytest.raises(InvalidImageError, match="image 1: is 8 x 8 pixels"):
        clone(features).set_params(image_size=None).fit(X).transform([X[0], X[1][:8, :8]])
    with pytest.raises(InvalidImageError, match="image_size=.* is smaller than the stride"):
        clone(features).set_params(image_size=8).fit(X)


def test_a_fit_that_fails_changes_nothing(features):
    again = pickle.loads(pickle.dumps(features))
    with pytest.raises(skanomaly.exceptions.BackboneError):
        again.set_params(weights="/no/such/file").fit(X[..., 0])
    assert_array_equal(again.set_params(weights="imagenet").transform(X), features.transform(X))


@pytest.mark.parametrize("name", ["layers", "pooling", "image_size", "batch_size", "n_jobs"])
def test_wrong_parameters_are_named(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter of ImageFeatures"):
        ImageFeatures(**{name: "wrong"}).fit(X)
