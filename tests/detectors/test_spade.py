import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import SPADE, OnnxDetector, export_onnx
from skanomaly.features import FeaturePyramid
from skanomaly.images import resized

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (13, 64, 64, 3), np.uint8)
NEW = RNG.integers(0, 256, (3, 64, 64, 3), np.uint8)


def fitted(x=X, **parameters):
    settings = {"image_size": 64, "n_images": 4, "standardize": None, "random_state": 0}
    return SPADE(**(settings | parameters)).fit(x[:10], X_val=x[10:])


def pixels_of(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2) / 255


def slow_levels(detector, new, good, sides):
    """Features of new and good images on square grids of these sides."""
    encoder = FeaturePyramid(detector.backbone, detector.layers)
    for f_new, f_good, side in zip(encoder(pixels_of(new)), encoder(pixels_of(good)), sides):
        yield tuple(resized(f, (side, side)).double().numpy() for f in (f_new, f_good))


def slow_maps(detector, new, good, sides):
    """Of each level, by all pairs of positions, one after the other."""
    levels = list(slow_levels(detector, new, good, sides))
    deep_new, deep_good = (f.mean(axis=(2, 3)) for f in levels[-1])
    maps = []
    for (f_new, f_good), side in zip(levels, sides):
        found = np.empty((len(new), side, side))
        for i, y, x in np.ndindex(found.shape):
            far = np.linalg.norm(deep_good - deep_new[i], axis=1)
            nearest = np.argsort(far)[: detector.n_images]
            reach = side if detector.window is None else detector.window // 2
            ys, xs = (slice(max(0, at - reach), at + reach + 1) for at in (y, x))
            differences = f_good[nearest, :, ys, xs] - f_new[i, :, y, x][None, :, None, None]
            distances = np.sort(np.linalg.norm(differences, axis=1).ravel())
            found[i, y, x] = distances[: detector.n_neighbors].mean() / len(sides)
        maps.append(found)
    return maps


@pytest.mark.parametrize(
    ("parameters", "sides"),
    [
        ({}, (16, 8, 4)),
        ({"n_images": 50, "n_neighbors": 3}, (16, 8, 4)),
        ({"window": 1}, (16, 8, 4)),
        ({"window": 5, "n_neighbors": 2}, (16, 8, 4)),
        ({"window": 99}, (16, 8, 4)),
        ({"max_positions": 64}, (8, 8, 4)),
        ({"max_positions": 1, "window": 3}, (1, 1, 1)),
    ],
)
def test_nearest_features_of_the_most_similar_images(parameters, sides):
    detector = fitted(**parameters)
    good = X[:10]
    found = detector._compute_maps(pixels_of(NEW))
    for phi, expected in zip(found, slow_maps(detector, NEW, good, sides), strict=True):
        assert_allclose(phi, expected, rtol=2e-3)  # what is kept has half precision


@pytest.mark.parametrize("window", [None, 3])
def test_an_image_that_was_learnt_from_lies_at_no_distance(window):
    detector = fitted(window=window)
    learnt, held_out = X[:10], X[10:]
    at_home, away = (detector.transform(x).mean() for x in (learnt, held_out))
    assert at_home < 1e-3 * away


def test_a_feature_elsewhere_is_found_without_a_window_only():
    rolled = np.roll(X, 32, axis=1)
    everywhere, around = (fitted(window=window).transform(rolled) for window in (None, 1))
    assert everywhere[:, 28:36].mean() < around[:, 28:36].mean()


@pytest.mark.parametrize("window", [None, 3])
def test_batches_give_the_same_bits(window):
    detector = fitted(window=window, batch_size=1)
    one_by_one = detector.transform(X)
    assert_array_equal(detector.set_params(batch_size=8).transform(X), one_by_one)
    assert_array_equal(detector.transform(X[::-1])[::-1], one_by_one)


def test_a_fit_holds_no_more_images_than_asked_for():
    galleries = fitted(max_images=5, max_positions=20).galleries_
    assert [g.features.shape[:3] for g in galleries] == [(5, 4, 5), (5, 4, 5), (5, 4, 4)]
    assert {g.features.dtype for g in galleries} == {torch.float16}


def test_images_are_drawn_from_all():
    drawn = set()
    for seed in range(6):
        detector = fitted(max_images=1, n_images=1, random_state=seed)
        scores = detector.score_samples(X)
        drawn.add(int(scores.argmax()))
        assert scores.max() > 0.05 * scores.min()
    assert len(drawn) > 2


def test_grids_keep_about_the_shape_of_the_image():
    galleries = fitted(np.repeat(X, 2, axis=1), image_size=(128, 64), max_positions=50).galleries_
    assert [tuple(g.features.shape[1:3]) for g in galleries] == [(10, 5), (10, 5), (8, 4)]


@pytest.mark.parametrize("parameters", [{"window": 3}, {"n_neighbors": 3}])
def test_exported_forms(parameters, tmp_path):
    detector = fitted(max_positions=50, **parameters)
    export_onnx(detector, tmp_path / "model.onnx", NEW)
    served = OnnxDetector(tmp_path / "model.onnx")
    assert_allclose(served.transform(X), detector.transform(X), rtol=1e-4, atol=1e-4)


def test_a_window_without_a_middle():
    with pytest.raises(ValueError, match="window=4 has no middle; choose an odd number"):
        fitted(window=4)


def test_there_are_no_more_neighbours_than_images():
    few, all_of_them = fitted(n_neighbors=5), fitted(n_neighbors=4)
    assert_array_equal(few.transform(NEW), all_of_them.transform(NEW))
