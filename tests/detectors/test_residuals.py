from copy import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage

from skanomaly import PatchReconstruction, SelfSupervisedAE
from skanomaly.detectors import _residuals
from skanomaly.detectors._residual_detector import MAX_IMAGES
from skanomaly.detectors._residuals import ResidualDistance, residual_features


def residuals(n, channels=2, size=(40, 36), seed=0, upper=3):
    """Of channels that vary together, and so many times as much in the upper half."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(channels) + 0.8 * np.eye(channels, k=1)
    e = np.einsum("cd,ndhw->nchw", mixing, rng.normal(0, 0.02, (n, channels, *size)))
    e[:, :, : size[0] // 2] *= upper
    return torch.from_numpy(e.astype(np.float32))


def slow_features(e):
    """Of cells of 2 x 2 pixels: with the Gaussian over them, a deviation of 2 pixels."""

    def averaged(a):
        height, width = a.shape[2:]
        a = np.pad(a, [(0, 0), (0, 0), (0, height % 2), (0, width % 2)], mode="edge")
        cells = (a[..., ::2, ::2] + a[..., 1::2, ::2] + a[..., ::2, 1::2] + a[..., 1::2, 1::2]) / 4
        sigma = np.sqrt(4 - 1 / 4) / 2
        return ndimage.gaussian_filter(cells, (0, 0, sigma, sigma), mode="nearest")

    e = e.double().numpy()
    return np.concatenate([averaged(e), np.log(averaged(e**2) + 1e-6)], axis=1)


@pytest.mark.parametrize("size", [(40, 36), (17, 30), (16, 21)])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_the_mean_and_the_logarithm_of_the_mean_square(channels, size):
    e = residuals(2, channels, size)
    assert_allclose(residual_features(e), slow_features(e), rtol=1e-4, atol=1e-5)


def test_distance_of_each_cell_by_itself():
    e, d = residuals(2), 4
    rng = np.random.default_rng(0)
    mean, deviation = rng.normal(size=(d, 20, 18)), rng.uniform(0.5, 2, (d, 20, 18))
    whitening = rng.normal(size=(d, d))
    distance = ResidualDistance(*map(torch.from_numpy, (mean, deviation, whitening)))
    z = (slow_features(e) - mean) / deviation
    expected = np.empty((2, 20, 18))
    for n, i, j in np.ndindex(expected.shape):
        usual = [sorted(of_feature.ravel())[(20 * 18 - 1) // 2] for of_feature in z[n]]
        expected[n, i, j] = np.linalg.norm(whitening @ (z[n, :, i, j] - usual))
    assert_allclose(distance(e), expected, rtol=1e-3, atol=1e-4)


def test_learnt_distance_is_that_of_the_mean_deviation_and_covariance_of_the_features():
    learnt, new = (residuals(n, upper=1, seed=n) for n in (300, 4))
    distance = ResidualDistance.of(learnt.split(100))
    f, f_new = slow_features(learnt), slow_features(new)
    mean, deviation = f.mean(axis=(0, 2, 3), keepdims=True), f.std(axis=(0, 2, 3), keepdims=True)
    z, z_new = ((values - mean) / deviation for values in (f, f_new))
    z, z_new = (values - np.median(values, axis=(2, 3), keepdims=True) for values in (z, z_new))
    precision = np.linalg.inv(np.cov(z.transpose(1, 0, 2, 3).reshape(4, -1)))
    expected = np.sqrt(np.einsum("nihw,ij,njhw->nhw", z_new, precision, z_new))
    within = np.s_[:, 4:-4, 4:-4]  # the border, whose averages vary more, has units of its own
    assert_allclose(distance(new)[within], expected[within], rtol=0.1, atol=0.2)


def test_what_varies_together_counts_once():
    distance = ResidualDistance.of(residuals(60).split(20))
    squared = distance(residuals(60, seed=1)).square()
    assert float(squared.mean()) == pytest.approx(4, rel=0.15)  # of as many features


def test_what_is_usual_at_one_place_is_unusual_at_another():
    def shifted(e, rows):
        e = e.clone()
        e[:, :, rows, 10:26] += 0.15
        return e

    here, elsewhere = slice(4, 14), slice(26, 36)
    distance = ResidualDistance.of(shifted(residuals(50), here).split(10))
    usual, unusual = (distance(shifted(residuals(8, seed=1), r)) for r in (here, elsewhere))
    assert float(usual[:, 3:6, 7:11].mean()) < 3 < float(unusual[:, 14:17, 7:11].mean())
    assert float(usual[:, 14:17, 7:11].mean()) < 3  # and nothing there is as usual


def test_an_image_that_is_darker_as_a_whole_is_as_normal():
    distance = ResidualDistance.of(residuals(60, upper=1).split(20))
    new = residuals(8, upper=1, seed=1)
    darker, partly = new - 0.1, new.clone()
    partly[:, :, 26:36, 10:26] -= 0.1
    assert float(distance(darker).mean()) < 1.1 * float(distance(new).mean())
    assert float(distance(partly)[:, 14:17, 7:11].mean()) > 3 * float(distance(new).mean())


def test_equal_channels_count_as_one():
    grey = residuals(40, 1)
    alone, thrice = (ResidualDistance.of(e.split(10)) for e in (grey, grey.expand(-1, 3, -1, -1)))
    new = residuals(4, 1, seed=1)
    assert_allclose(thrice(new.expand(-1, 3, -1, -1)), alone(new), rtol=0.03, atol=0.02)


def test_of_large_images_neighbouring_cells_have_one_unit(monkeypatch):
    learnt, new = residuals(40), residuals(4, seed=1)
    fine = ResidualDistance.of(learnt.split(10))
    monkeypatch.setattr(_residuals, "MAX_CELLS", 100)
    coarse = ResidualDistance.of(learnt.split(10))
    assert fine.mean.shape == (4, 20, 18)
    assert coarse.mean.shape == (4, 10, 9)
    assert np.corrcoef(fine(new).flatten(), coarse(new).flatten())[0, 1] > 0.9
    assert float(coarse(new).mean()) == pytest.approx(float(fine(new).mean()), rel=0.05)


def test_sizes_may_differ():
    distance = ResidualDistance.of([residuals(1), residuals(2, size=(30, 51)), residuals(1)])
    found = distance(residuals(2, size=(25, 25)))
    assert found.shape == (2, 13, 13)
    assert np.isfinite(found).all()


def test_nothing_ever_left_over_is_no_distance():
    distance = ResidualDistance.of([torch.zeros(3, 1, 16, 16)])
    assert not distance(torch.zeros(1, 1, 16, 16)).any()
    assert np.isfinite(distance(torch.ones(1, 1, 16, 16))).all()


@pytest.mark.parametrize(
    ("n", "channels", "size"), [(1, 3, 24), (4, 3, 24), (8, 3, 8), (1, 30, 64)], ids=str
)
def test_of_few_samples_no_direction_that_they_lack_outweighs_the_others(n, channels, size):
    distance = ResidualDistance.of([residuals(n, channels, (size, size))])
    new = residuals(8, channels, (size, size), seed=1)
    assert float(distance(new).mean()) < 2 * np.sqrt(2 * channels)


@pytest.mark.parametrize("error", ["squared", "ssim"])
def test_another_error_needs_no_other_fit(error, textures):
    X, new = textures[0].images, textures[1].images
    parameters = {"patch_size": 39, "n_patches": 40, "max_epochs": 2, "random_state": 0}
    both = PatchReconstruction(**parameters).fit(X[:20])
    direct = PatchReconstruction(**parameters, error=error).fit(X[:20])
    for changed, other in ((both, direct), (direct, both)):
        error = other.error
        with pytest.raises(ValueError, match="call calibrate with normal images"):
            changed.set_params(error=error).transform(new)
        assert_allclose(
            changed.calibrate(X[20:]).transform(new), other.calibrate(X[20:]).transform(new)
        )
        changed.set_params(error="mahalanobis" if changed is both else "squared")


def test_residuals_are_of_images_that_were_learnt_from(textures, monkeypatch):
    seen = []
    residuals_of = SelfSupervisedAE._residuals

    def watched(self, pixels):
        seen.append(pixels.mean(dim=(1, 2, 3)))
        return residuals_of(self, pixels)

    detector = SelfSupervisedAE(width=8, depth=1, max_epochs=1, image_size=16, random_state=0)
    monkeypatch.setattr(SelfSupervisedAE, "_residuals", watched)
    for n, n_learnt in ((20, 20), (160, MAX_IMAGES)):
        X = np.resize(textures[0].images, (n, 16, 16))
        detector.fit(X, X_val=X[:1])
        learnt = (255 * torch.cat(seen)).numpy()[:n_learnt]  # the threshold's image comes last
        assert len(torch.cat(seen)) == n_learnt + 1
        evenly = np.linspace(0, n - 1, n_learnt).round().astype(int)
        assert_allclose(learnt, X[evenly].mean(axis=(1, 2)), rtol=1e-4)
        seen.clear()


def test_what_residuals_depend_on_needs_another_fit(textures):
    detector = PatchReconstruction(patch_size=39, n_patches=40, max_epochs=1, random_state=0)
    detector.fit(textures[0].images)
    for parameter in ({"stride": 1}, {"aggregation": "center"}):
        with pytest.raises(ValueError, match="fit anew"):
            copy(detector).set_params(**parameter).transform(textures[1].images)
