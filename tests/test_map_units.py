import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage

from skanomaly import SubspaceAD, _map_units
from skanomaly._map_units import (
    PRIOR_OF_MEAN,
    PRIOR_OF_VARIANCE,
    SIGMA,
    KeptMaps,
    MapMoments,
    in_units,
)
from skanomaly.datasets import make_texture_defects

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")


def maps(n=20, size=(6, 8), seed=0):
    rng = np.random.default_rng(seed)
    phi = rng.gamma(3, size=(n, *size)) + 100
    phi[:, 0] *= 1.5  # as at a border
    return phi


def moments_of(phi, per_position, regions=None):
    moments = MapMoments(per_position)
    regions = [None] * len(phi) if regions is None else regions
    for part in np.array_split(np.arange(len(phi)), 3):
        moments.add(torch.from_numpy(phi[part]), [regions[i] for i in part])
    return moments


def slow_moments(phi):
    n, smooth = len(phi), lambda a: ndimage.gaussian_filter(a, SIGMA)
    variance = phi.var(axis=0, ddof=1)
    p, q = PRIOR_OF_VARIANCE / (n - 1 + PRIOR_OF_VARIANCE), PRIOR_OF_MEAN / (n + PRIOR_OF_MEAN)
    variance = smooth((1 - p) * variance + p * variance.mean())
    return smooth((1 - q) * phi.mean(axis=0) + q * phi.mean()), np.sqrt(variance)


def test_over_all_positions():
    phi = maps()
    mean, deviation = moments_of(phi, per_position=False).mean_and_deviation()
    assert_allclose(mean, phi.mean(), rtol=1e-12)
    assert_allclose(deviation, phi.std(), rtol=1e-9)


def test_at_each_position():
    phi = maps()
    mean, deviation = moments_of(phi, per_position=True).mean_and_deviation()
    expected_mean, expected_deviation = slow_moments(phi)
    assert_allclose(mean, expected_mean, rtol=1e-9)
    assert_allclose(deviation, expected_deviation, rtol=1e-9)


def test_a_map_left_out_is_judged_by_the_others():
    phi = maps()
    moments = moments_of(phi, per_position=True)
    left_out = moments.left_out(torch.from_numpy(phi[4:6]), [None, None])
    for own, i in zip(left_out, (4, 5)):
        mean, deviation = slow_moments(np.delete(phi, i, axis=0))
        assert_allclose(own, (phi[i] - mean) / deviation, rtol=1e-4)


def test_regions_that_hardly_meet_tell_a_unit_for_all_positions():
    phi, left = maps(4), np.zeros((60, 80), bool)
    left[:, :40] = True
    regions = [left, ~left, left, ~left]
    moments = moments_of(phi, per_position=True, regions=regions)
    for found in (
        moments.mean_and_deviation()[1],
        moments.left_out(torch.from_numpy(phi), regions),
    ):
        assert 0.01 < np.abs(found).max() < 50


@pytest.mark.parametrize("n", [1, 2])
def test_a_region_does_not_make_one_image_several(n):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n, 100, 100), np.uint8)
    roi = np.ones((100, 100), bool)
    roi[:7] = False
    detector = SubspaceAD(image_size=64, random_state=0).fit(X, roi=roi)
    assert abs(detector.offset_) < 1000


def test_of_two_maps_each_is_judged_by_the_other_as_a_whole():
    phi = maps(2)
    left_out = moments_of(phi, per_position=True).left_out(torch.from_numpy(phi), [None] * 2)
    for own, other, found in zip(phi, phi[::-1], left_out):
        assert_allclose(found, (own - other.mean()) / other.std(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2])
def test_few_maps_tell_a_unit_for_all_positions(n):
    phi = maps(n)
    mean, deviation = moments_of(phi, per_position=True).mean_and_deviation()
    assert_allclose(mean, np.full((6, 8), phi.mean()), rtol=1e-9)
    assert_allclose(deviation, np.full((6, 8), phi.std()), rtol=1e-6)


@pytest.mark.parametrize("per_position", [False, True])
def test_what_lies_outside_a_region_does_not_count(per_position):
    phi, region = maps(), np.ones((6, 8), bool)
    region[:, :3] = False
    disturbed = phi.copy()
    disturbed[:, :, :3] = 1e3
    found = [moments_of(p, per_position, [region] * 20) for p in (phi, disturbed)]
    (mean, deviation), (other_mean, other_deviation) = (m.mean_and_deviation() for m in found)
    inside = (slice(None), slice(3, None)) if per_position else ()
    assert_allclose(other_mean[inside], mean[inside], rtol=1e-6)
    assert_allclose(other_deviation[inside], deviation[inside], rtol=1e-6)


def test_maps_that_do_not_differ_keep_their_unit():
    mean, deviation = moments_of(np.full((4, 3, 3), 2.0), per_position=False).mean_and_deviation()
    assert (mean, deviation) == (2, 1)


def test_several_resolutions_are_summed_on_the_finest():
    fine, coarse = torch.rand(2, 8, 8), torch.rand(2, 4, 4)
    expected = (
        fine + torch.nn.functional.interpolate(coarse[:, None], (8, 8), mode="bilinear")[:, 0]
    )
    assert_allclose(in_units((fine, coarse), 1.0, 2.0), (expected - 1) / 2, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("gravel", n_normal=30, image_size=64, random_state=0).images


def fitted(standardize, images, **parameters):
    detector = SubspaceAD(image_size=64, standardize=standardize, random_state=0, **parameters)
    return detector.fit(images[:20], X_val=images[20:])


def test_a_global_unit_changes_no_verdict(images):
    plain, scaled = fitted(None, images), fitted("global", images)
    scores = (plain.score_samples(images) + scaled.map_mean_) / scaled.map_deviation_
    assert_allclose(scaled.score_samples(images), scores, rtol=1e-4, atol=1e-4)
    assert (plain.predict(images) == scaled.predict(images)).all()


def test_normal_maps_have_mean_0_everywhere(images):
    maps = fitted("position", images, smoothing=0.0).transform(images[20:])
    plain = fitted(None, images, smoothing=0.0).transform(images[20:])
    border = np.ones((64, 64), bool)
    border[16:-16, 16:-16] = False

    def unevenness(found):
        mean = found.mean(axis=0)
        return abs(mean[border].mean() - mean[~border].mean()) / found.std()

    assert unevenness(maps) < 0.5 * unevenness(plain)


def test_units_change_with_calibration_alone(images):
    detector = fitted("position", images)
    before = detector.map_mean_
    detector.set_params(false_alarm_rate=0.2).calibrate()
    assert detector.map_mean_ is before
    detector.calibrate(images[:10])
    assert not np.array_equal(detector.map_mean_, before)


def test_images_of_other_sizes_stretch_the_units(images):
    detector = SubspaceAD(image_size=None, random_state=0).fit(images[:20], X_val=images[20:])
    wide = np.concatenate([images[0], images[1]], axis=1)
    assert detector.transform([wide]).shape == (1, 64, 128)


@pytest.mark.parametrize("max_bytes", [0, 100, 2**20])
def test_a_stream_is_computed_again_only_where_it_is_large(max_bytes, monkeypatch):
    monkeypatch.setattr(_map_units, "MAX_BYTES_KEPT", max_bytes)
    computed = []

    def stream():
        for i in range(3):
            computed.append(i)
            yield torch.full((2, 4, 4), float(i)), [(4, 4)] * 2

    kept = KeptMaps(stream(), stream)
    for _ in range(3):
        assert [float(phi.mean()) for phi, _ in kept] == [0, 1, 2]
    assert len(computed) == (3 if max_bytes == 2**20 else 9)


def test_a_fit_scores_images_kept_out_once(images, monkeypatch):
    n_scored, compute = [], SubspaceAD._compute_maps
    monkeypatch.setattr(
        SubspaceAD, "_compute_maps", lambda self, x: n_scored.append(len(x)) or compute(self, x)
    )
    fitted("position", images)
    assert sum(n_scored) == 10
