import numpy as np
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from sklearn import config_context
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import InvalidImageError
from skanomaly.images import Regions
from skanomaly.maps import assemble_maps

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 32, 40), np.uint8)
LEFT = np.zeros((32, 40), bool)
LEFT[:, :20] = True
SCORING = ("transform", "score_samples", "decision_function", "predict")


def detector(**parameters):
    return DistanceToMean(**{"image_size": None, **parameters})


def smoothed_within(phi, region, sigma):
    """Each pixel: the mean over the region under the Gaussian, pixel by pixel."""
    out = np.full(phi.shape, phi[region].min())
    for i, j in np.argwhere(region):
        impulse = np.zeros(phi.shape)
        impulse[i, j] = 1
        weights = ndimage.gaussian_filter(impulse, sigma, mode="reflect") * region
        out[i, j] = (weights * phi).sum() / weights.sum()
    out[~region] = out[region].min()
    return out


@pytest.mark.parametrize("sigma", [0.0, 0.7, 2.0])
def test_smoothing_is_over_the_region(sigma):
    phi, region = RNG.normal(size=(9, 11)), RNG.random((9, 11)) < 0.5
    found = assemble_maps(
        torch.from_numpy(phi)[None], phi.shape, phi.shape, sigma, torch.from_numpy(region)[None]
    )
    # Beyond four standard deviations the Gaussian ends, so that a lone pixel is its own mean.
    assert_allclose(found[0].numpy(), smoothed_within(phi, region, sigma), rtol=1e-4, atol=1e-5)


@settings(max_examples=20, deadline=None)
@example(own_size=(2500, 3000), sigma=4.0, place=(0.4, 0.2), n=1)
@given(
    own_size=st.tuples(st.integers(1, 200), st.integers(1, 2000)),
    sigma=st.sampled_from([0.0, 0.4, 4.0, 300.0]),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    n=st.integers(1, 3),
)
def test_maps_are_finite_within_the_smallest_region(own_size, sigma, place, n):
    """One pixel of the image, of which many make one of the network's."""
    region = np.zeros((1, *own_size), bool)
    row, column = (int(p * size) for p, size in zip(place, own_size))
    region[0, row : row + n, column] = True
    phi = torch.rand(1, 4, 4) - 0.5
    found = assemble_maps(phi, (16, 16), own_size, sigma, torch.from_numpy(region))
    assert torch.isfinite(found).all()
    assert found.min() >= phi.min() - 1e-5
    assert found.max() <= phi.max() + 1e-5


@pytest.mark.parametrize("size", [(32, 40), (2500, 3000)])
def test_a_score_within_the_smallest_region_is_finite(size):
    fitted = detector(image_size=16, smoothing=4.0).fit(X)
    image, region = RNG.integers(0, 256, (1, *size), np.uint8), np.zeros(size, bool)
    region[size[0] // 3, size[1] // 5] = True
    found = fitted.detect(image, roi=region)
    assert np.isfinite(found.scores).all()
    assert_allclose(found.maps[0], -found.scores[0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    sigma=st.sampled_from([0.0, 1.0, 4.0]),
    reduction=st.sampled_from(["max", "mean", "sum"]),
)
def test_pixels_outside_change_nothing(seed, sigma, reduction):
    """Where the method works pixel by pixel: neither score nor map inside."""
    rng = np.random.default_rng(seed)

    class Pixelwise(DistanceToMean):
        def _compute_maps(self, pixels):
            return (pixels - self.mean_).square().mean(dim=1)

    fitted = Pixelwise(image_size=None, smoothing=sigma, score_reduction=reduction).fit(X)
    region = rng.random((32, 40)) < 0.3
    other = np.where(region, X, rng.integers(0, 256, X.shape, np.uint8))
    assert_allclose(
        fitted.score_samples(other, roi=region), fitted.score_samples(X, roi=region), rtol=1e-5
    )
    a, b = (fitted.transform(images, roi=region) for images in (X, other))
    assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector(name):
    images = RNG.integers(0, 256, (10, 64, 64), np.uint8)
    region = np.zeros((64, 64), bool)
    region[8:40, 10:50] = True
    fitted = small(name, max_epochs=1, score_reduction="max").fit(images, roi=region)
    found = fitted.detect(images, roi=region)
    inside = np.where(region, found.maps, -np.inf).max(axis=(1, 2))
    assert_allclose(found.scores, -inside)
    for m in found.maps:
        assert (m[~region] == m[region].min()).all()
    assert_array_equal(fitted.predict(images, roi=region), found.labels)
    assert_array_equal(fitted.transform(images, roi=region), found.maps)


@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
def test_forms_of_the_same_region(reduction):
    fitted = detector(score_reduction=reduction).fit(X)
    expected = fitted.score_samples(X, roi=LEFT)
    stacked = np.repeat(LEFT[None], len(X), axis=0)
    tensor = torch.from_numpy(stacked)
    forms = (stacked, list(stacked), stacked.astype(np.uint8), tuple(stacked), tensor, tensor[0])
    for roi in (*forms, list(tensor)):
        assert_array_equal(fitted.score_samples(X, roi=roi), expected)
    whole = fitted.score_samples(X)
    assert_array_equal(fitted.score_samples(X, roi=None), whole)
    assert_array_equal(fitted.score_samples(X, roi=[None] * len(X)), whole)
    assert_allclose(fitted.score_samples(X, roi=np.ones_like(LEFT)), whole, rtol=1e-5)
    some = [LEFT if i % 2 else None for i in range(len(X))]
    mixed = fitted.score_samples(X, roi=some)
    assert_allclose(mixed, np.where(np.arange(len(X)) % 2, expected, whole), rtol=1e-5)


def test_images_of_several_sizes():
    images = [*X[:6], *RNG.integers(0, 256, (3, 20, 24), np.uint8)]
    roi = [LEFT] * 6 + [np.eye(20, 24, dtype=bool)] * 3
    fitted = detector(image_size=(16, 16)).fit(images, roi=roi)
    maps = fitted.transform(images, roi=roi)
    assert [m.shape for m in maps] == [(32, 40)] * 6 + [(20, 24)] * 3


def test_the_threshold_is_that_of_the_region():
    noisy = X.copy()
    noisy[:, :, 20:] //= 4
    fitted = detector(false_alarm_rate=0.2).fit(noisy, roi=LEFT)
    held_out = sorted(fitted.seen_[1])
    assert_allclose(
        fitted.validation_scores_, fitted.score_samples(noisy[held_out], roi=LEFT), rtol=1e-5
    )
    assert fitted.offset_ != detector(false_alarm_rate=0.2).fit(noisy).offset_


def test_stream_has_one_region():
    fitted = detector().fit(X)
    found = [result.score for result in fitted.stream(iter(X), roi=LEFT)]
    assert_allclose(found, fitted.score_samples(X, roi=LEFT), rtol=1e-5)


def test_partial_fit_of_padim():
    images = RNG.integers(0, 256, (12, 64, 64), np.uint8)
    region = np.tri(64, dtype=bool)
    fitted = small("PaDiM", validation_fraction=0.5).partial_fit(images[:6], roi=region)
    fitted.partial_fit(images[6:], roi=region)
    assert len(fitted.validation_scores_) == 12


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        (LEFT.T, r"image 0: its region of interest has shape \(40, 32\), expected \(32, 40\)"),
        (np.zeros_like(LEFT), "image 0: its region of interest is empty"),
        (2 * LEFT.astype(int), "image 0: .* other values than 0 and 1; pass roi > 0"),
        ([LEFT] * 11, "roi holds 11 regions, X 12 images"),
        ([LEFT] * 5 + [~LEFT & LEFT] + [LEFT] * 6, "image 5: its region of interest is empty"),
        (3, "roi is a int, expected an array of bool"),
        (np.array(True), "roi is a ndarray, expected"),
        (np.ma.masked_array(LEFT, LEFT), "roi is a masked array"),
        ([np.ma.masked_array(LEFT, LEFT)] * 12, "image 0: its region of interest is a masked"),
    ],
)
def test_regions_that_cannot_be(roi, message):
    fitted = detector().fit(X)
    for method in (*SCORING, "detect"):
        with pytest.raises(ValueError, match=message):
            getattr(fitted, method)(X, roi=roi)


def test_a_bad_region_leaves_the_detector_unfitted():
    unfitted = detector()
    with pytest.raises(InvalidImageError, match="its region of interest is empty"):
        unfitted.fit(X, roi=np.zeros_like(LEFT))
    assert not hasattr(unfitted, "offset_")


def test_a_bad_region_of_any_image_is_found_before_training(monkeypatch):
    monkeypatch.setattr(DistanceToMean, "_fit_images", lambda *_: pytest.fail("has trained"))
    for i in range(len(X)):
        roi = [LEFT] * len(X)
        roi[i] = ~LEFT & LEFT
        with pytest.raises(InvalidImageError, match=f"image {i}: its region of interest is empty"):
            detector().fit(X, roi=roi)


def test_subset_keeps_the_images_numbers():
    regions = Regions([LEFT, ~LEFT, LEFT.T], 3).subset(np.array([1, 2]))
    assert_array_equal(regions.of(0, LEFT.shape), ~LEFT)
    with pytest.raises(InvalidImageError, match="image 2"):
        regions.of(1, LEFT.shape)


def test_metadata_routing():
    stacked = np.repeat(LEFT[None], len(X), axis=0)
    alone = detector().fit(X, roi=LEFT)
    with config_context(enable_metadata_routing=True):
        routed = detector().set_fit_request(roi=True).set_decision_function_request(roi=True)
        routed.set_predict_request(roi=True).set_transform_request(roi=True)
        pipeline = make_pipeline(FunctionTransformer(), routed).fit(X, roi=LEFT)
        assert_array_equal(pipeline.predict(X, roi=LEFT), alone.predict(X, roi=LEFT))
        assert_array_equal(pipeline.transform(X, roi=LEFT), alone.transform(X, roi=LEFT))
        decisions = cross_val_predict(
            routed, X, cv=2, method="decision_function", params={"roi": stacked}
        )
    first = detector().fit(X[6:], roi=LEFT)
    assert_array_equal(first.offset_, detector().fit(X[6:], roi=stacked[6:]).offset_)
    assert decisions.shape == (12,)
