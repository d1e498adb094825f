"""The contract, on a detector without a network, so that only the base class is tested."""

import io
import tracemalloc

import joblib
import numpy as np
import pytest
import torch
from conftest import DistanceToMean
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

from skanomaly import ImageFiles, InvalidImageError
from skanomaly.base import resolve_device
from skanomaly.calibration import quantile_of_new
from skanomaly.images import _checks


def random_images(n, height=16, width=16, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, height, width, channels), np.uint8)


@pytest.fixture(scope="module")
def detector():
    return DistanceToMean().fit(random_images(20))


def test_what_each_method_returns(detector):
    X = random_images(5, seed=1)
    maps, scores = detector.transform(X), detector.score_samples(X)
    assert maps.shape == (5, 16, 16)
    assert maps.dtype == np.float32
    assert scores.shape == (5,)
    assert scores.dtype == np.float64
    assert_array_equal(scores, -maps.max(axis=(1, 2)).astype(float))
    assert_array_equal(detector.decision_function(X), scores - detector.offset_)
    assert_array_equal(detector.predict(X), np.where(scores < detector.offset_, -1, 1))


def test_detect_is_the_other_methods_in_one_pass(detector, monkeypatch):
    X = random_images(9, seed=1)
    expected = detector.score_samples(X), detector.predict(X), detector.transform(X)
    n_seen = []
    compute = DistanceToMean._compute_maps
    monkeypatch.setattr(
        DistanceToMean, "_compute_maps", lambda self, x: n_seen.append(len(x)) or compute(self, x)
    )
    found = detector.detect(X)
    for one, other in zip((found.scores, found.labels, found.maps), expected, strict=True):
        assert_array_equal(one, other)
    assert sum(n_seen) == 9


@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
def test_score_is_the_reduction_of_the_map(reduction):
    detector = DistanceToMean(score_reduction=reduction).fit(random_images(8))
    X = random_images(3, 24, 20, seed=1)
    expected = [
        -getattr(np, reduction)(m, dtype=np.float64) if reduction != "max" else -m.max()
        for m in detector.transform(X)
    ]
    assert_allclose(detector.score_samples(X), expected, rtol=1e-12)


@pytest.mark.parametrize(("image_size", "sigma"), [(None, 2), ((32, 96), 0.5)], ids=str)
def test_auto_smoothes_by_a_64th_of_the_shorter_side_that_is_seen(image_size, sigma):
    X, new = random_images(8, 128, 130), random_images(3, 128, 130, seed=1)
    auto, fixed = (
        DistanceToMean(image_size=image_size, smoothing=value).fit(X) for value in ("auto", sigma)
    )
    assert_array_equal(auto.transform(new), fixed.transform(new))


def slow_share(anomaly_map, region, share):
    """Mean of the highest share of a map's pixels that count, at least one."""
    counted = np.sort(anomaly_map[np.broadcast_to(region, anomaly_map.shape)].astype(float))
    return counted[-max(1, round(share * len(counted))) :].mean()


def some_regions(kind):
    """Regions of three images of 24 x 20 pixels."""
    rng = np.random.default_rng(0)
    one_pixel = np.zeros((24, 20), bool)
    one_pixel[5, 7] = True
    return {
        "whole": None,
        "shared": rng.random((24, 20)) < 0.3,
        "each": list(rng.random((3, 24, 20)) < 0.5),
        "one pixel": [one_pixel, None, ~one_pixel],
    }[kind]


@pytest.mark.parametrize("kind", ["whole", "shared", "each", "one pixel"])
@pytest.mark.parametrize("share", [1e-6, 0.01, 0.2, 1.0])
def test_score_is_the_mean_of_a_share_of_the_pixels_that_count(share, kind):
    """Of the map of the image's own size, as `transform` returns it."""
    roi = some_regions(kind)
    regions = roi if isinstance(roi, list) else 3 * [roi]
    regions = [True if region is None else region for region in regions]
    detector = DistanceToMean(score_reduction=share).fit(random_images(8))
    X = random_images(3, 24, 20, seed=1)
    maps = detector.transform(X, roi=roi)
    expected = [-slow_share(m, region, share) for m, region in zip(maps, regions, strict=True)]
    assert_allclose(detector.score_samples(X, roi=roi), expected, rtol=1e-12)
    assert_allclose(detector.detect(X, roi=roi).scores, expected, rtol=1e-12)


def test_threshold_of_a_share():
    X = random_images(20)
    detector = DistanceToMean(score_reduction=0.1).fit(X)
    held_out = sorted(detector.seen_[1])
    expected = [-slow_share(m, True, 0.1) for m in detector.transform(X[held_out])]
    assert_allclose(detector.validation_scores_, expected, rtol=1e-6)
    assert detector.offset_ == quantile_of_new(detector.validation_scores_, 0.1)
    assert detector.map_threshold_ != -detector.offset_


def test_maps_have_each_images_own_size(detector):
    X = [random_images(1, *size)[0] for size in ((16, 16), (40, 24), (16, 16), (7, 90))]
    maps = detector.transform(X)
    assert maps.dtype == object
    assert [m.shape for m in maps] == [(16, 16), (40, 24), (16, 16), (7, 90)]
    for image, anomaly_map, score in zip(X, maps, detector.score_samples(X), strict=True):
        assert_allclose(detector.transform([image])[0], anomaly_map, rtol=1e-5)
        assert score == -anomaly_map.max()


def test_native_size():
    detector = DistanceToMean(image_size=None, smoothing=0).fit(random_images(8, 12, 20))
    X = random_images(2, 12, 20, seed=1)
    expected = (X / 255 - detector.mean_.permute(1, 2, 0).numpy()) ** 2
    expected = expected.mean(axis=3).reshape(2, 6, 2, 10, 2).mean(axis=(2, 4))
    found = detector.transform(X)
    assert found.shape == (2, 12, 20)
    assert_allclose(found[:, 0, 0], expected[:, 0, 0], rtol=1e-4)


def test_image_size_may_be_a_pair():
    detector = DistanceToMean(image_size=(8, 24)).fit(random_images(6))
    assert detector.mean_.shape == (3, 8, 24)
    assert detector.transform(random_images(2)).shape == (2, 16, 16)


FORMS = {
    "uint8": lambda X, _: X,
    "list": lambda X, _: list(X),
    "float64": lambda X, _: X / 255,
    "float32": lambda X, _: (X / 255).astype(np.float32),
    "uint16": lambda X, _: X.astype(np.uint16) * 257,
    "fortran": lambda X, _: np.asfortranarray(X),
    "pil": lambda X, _: [Image.fromarray(x) for x in X],
    "paths": lambda X, paths: [str(p) for p in paths],
    "path objects": lambda X, paths: list(paths),
    "array of paths": lambda X, paths: np.array([str(p) for p in paths]),
    "files": lambda X, paths: ImageFiles(paths),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_images_give_the_same_scores(detector, form, tmp_path):
    X = random_images(5, 20, 30, seed=2)
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)
    same = FORMS[form](X, paths)
    assert_allclose(detector.score_samples(same), detector.score_samples(X), rtol=1e-5)
    assert_allclose(detector.transform(same), detector.transform(X), rtol=1e-4, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_parts_and_order_do_not_matter(data):
    detector = DistanceToMean().fit(random_images(10))
    X = random_images(7, 18, 14, seed=data.draw(st.integers(0, 100)))
    order = data.draw(st.permutations(range(7)))
    cut = data.draw(st.integers(1, 6))
    batch_size, n_jobs = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([None, 2]))
    whole = detector.score_samples(X)
    detector.set_params(batch_size=batch_size, n_jobs=n_jobs)
    parts = [detector.score_samples(X[order[:cut]]), detector.score_samples(X[order[cut:]])]
    assert_allclose(np.concatenate(parts), whole[order], rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels(channels):
    X = random_images(6, channels=channels)
    detector = DistanceToMean().fit(X)
    assert detector.n_channels_in_ == channels
    assert detector.transform(X).shape == (6, 16, 16)


def test_grey_images_need_no_channel_axis():
    X = random_images(6, channels=1)
    one, other = DistanceToMean().fit(X), DistanceToMean().fit(X[..., 0])
    assert_array_equal(one.score_samples(X[..., 0]), other.score_samples(X))


def test_value_range_of_a_12_bit_camera():
    X = random_images(6, channels=1).astype(np.uint16) * 16
    detector = DistanceToMean(value_range=(0, 4080)).fit(X)
    same = DistanceToMean().fit((X // 16).astype(np.uint8))
    assert_allclose(detector.score_samples(X), same.score_samples((X // 16).astype(np.uint8)))


def test_other_channel_count_than_fitted(detector):
    with pytest.raises(InvalidImageError, match="image 0: has 1 channels, expected 3"):
        detector.score_samples(random_images(2, channels=1))


@pytest.mark.parametrize(
    "X", [Image.new("RGB", (16, 16)), iter([]), "one.png", np.zeros((16, 16)), [], 3.0]
)
@pytest.mark.parametrize("method", ["fit", "transform", "score_samples", "predict", "detect"])
def test_what_is_no_batch_is_refused_by_every_method(method, X, detector):
    with pytest.raises(InvalidImageError, match="X (is|holds)"):
        getattr(detector, method)(X)


def test_validation_images_are_kept_out(detector):
    train, validation = detector.seen_
    assert not train & validation
    assert train | validation == set(range(20))
    assert len(validation) == 6


@pytest.mark.parametrize("n", [2, 3])
def test_few_images(n):
    train, validation = DistanceToMean().fit(random_images(n)).seen_
    assert (len(train), len(validation)) == (n - 1, 1)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_extreme_validation_fraction_leaves_images_on_both_sides(fraction):
    train, validation = DistanceToMean(validation_fraction=fraction).fit(random_images(5)).seen_
    assert train
    assert validation


def test_one_image_is_too_few():
    with pytest.raises(InvalidImageError, match="given 1 normal image and needs at least 2"):
        DistanceToMean().fit(random_images(1))


def test_not_fitted():
    for method in ("transform", "score_samples", "decision_function", "predict", "detect"):
        with pytest.raises(NotFittedError):
            getattr(DistanceToMean(), method)(random_images(2))


@pytest.mark.parametrize(
    "parameters",
    [
        {"smoothing": -1},
        {"false_alarm_rate": 0.0},
        {"false_alarm_rate": 0.6},
        {"validation_fraction": 1.0},
        {"batch_size": 0},
        {"score_reduction": "median"},
        {"score_reduction": 0.0},
        {"score_reduction": -0.1},
        {"score_reduction": 1.5},
        {"score_reduction": np.nan},
        {"score_reduction": None},
        {"image_size": 0},
    ],
)
def test_invalid_parameter(parameters):
    with pytest.raises(InvalidParameterError, match=next(iter(parameters))):
        DistanceToMean(**parameters).fit(random_images(4))


def test_equal_seeds_give_equal_bits():
    X, new = random_images(9), random_images(4, seed=1)
    one, same, other = (DistanceToMean(random_state=seed).fit(X) for seed in (3, 3, 4))
    assert_array_equal(one.transform(new), same.transform(new))
    assert torch.equal(one.noise_, same.noise_)
    assert one.offset_ == same.offset_
    assert not torch.equal(one.noise_, other.noise_)


def test_fit_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    DistanceToMean().fit(random_images(4))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("stop", [InvalidImageError("broken"), KeyboardInterrupt(), MemoryError()])
def test_failed_fit_leaves_the_detector_as_it_was(stop, monkeypatch):
    detector = DistanceToMean().fit(random_images(8))
    before, new = dict(vars(detector)), random_images(3, seed=1)
    scores = detector.score_samples(new)

    def fail(self, pixels):
        raise stop

    other = random_images(8, channels=1, seed=5)
    monkeypatch.setattr(DistanceToMean, "_compute_maps", fail)
    with pytest.raises(type(stop)):
        detector.fit(other)
    monkeypatch.undo()
    assert vars(detector) == before
    assert_array_equal(detector.score_samples(new), scores)


def test_failed_first_fit_leaves_the_detector_unfitted():
    detector = DistanceToMean()
    with pytest.raises(InvalidImageError):
        detector.fit([np.zeros((8, 8), np.uint8), np.full((8, 8), np.nan)])
    assert not [name for name in vars(detector) if name.endswith("_")]


def test_refit_forgets():
    X, other = random_images(8), random_images(8, channels=1, seed=1)
    refitted = DistanceToMean().fit(other).fit(X)
    assert_array_equal(refitted.transform(X), DistanceToMean().fit(X).transform(X))


def test_fit_changes_neither_images_nor_parameters():
    X = random_images(6)
    before, detector = X.copy(), DistanceToMean()
    parameters = detector.get_params()
    detector.fit(X)
    assert_array_equal(X, before)
    assert detector.get_params() == parameters


def test_clone_and_set_params(detector):
    again = clone(detector)
    assert again.get_params() == detector.get_params()
    assert not hasattr(again, "offset_")
    assert again.set_params(smoothing=3.0).smoothing == 3.0


def test_threshold_is_the_quantile_of_the_validation_scores():
    X = random_images(20)
    detector = DistanceToMean(false_alarm_rate=0.2).fit(X)
    assert len(detector.validation_scores_) == round(detector.validation_fraction * 20)
    assert set(detector.validation_scores_) <= set(detector.score_samples(X))
    assert detector.offset_ == quantile_of_new(detector.validation_scores_, 0.2)


def test_required_size_is_asked_of_every_image():
    detector = DistanceToMean(image_size=None).fit(random_images(6))
    detector.required_size_ = (16, 16)
    with pytest.raises(InvalidImageError, match="image 1: is 16 x 18 pixels, expected 16 x 16"):
        detector.predict([*random_images(1), *random_images(1, width=18)])


def test_map_threshold_is_that_of_the_maps_maxima():
    X = random_images(20)
    maxima = DistanceToMean(score_reduction="mean").fit(X).validation_maxima_
    assert_allclose(maxima, -DistanceToMean().fit(X).validation_scores_)
    assert DistanceToMean().fit(X).map_threshold_ == -DistanceToMean().fit(X).offset_
    by_mean = DistanceToMean(score_reduction="mean").fit(X)
    assert by_mean.map_threshold_ == DistanceToMean().fit(X).map_threshold_


def test_pipeline_with_paths_in_front(tmp_path):
    X = random_images(8)
    paths = [str(tmp_path / f"{i}.png") for i in range(8)]
    for image, path in zip(X, paths, strict=True):
        Image.fromarray(image).save(path)
    loading = Pipeline(
        [("load", FunctionTransformer(ImageFiles)), ("detector", DistanceToMean())]
    ).fit(paths)
    expected = DistanceToMean().fit(X)
    assert_allclose(loading.score_samples(paths), expected.score_samples(X))
    assert_array_equal(loading.predict(paths), expected.predict(X))
    assert loading.transform(paths).shape == (8, 16, 16)
    assert_allclose(
        make_pipeline(DistanceToMean()).fit(paths).score_samples(X), expected.score_samples(X)
    )


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_with_roc_auc(as_files, n_jobs, tmp_path):
    X = np.concatenate([random_images(16) // 8 + 100, random_images(8, seed=1)])
    y = np.array([1] * 16 + [-1] * 8)
    fold = np.array([-1] * 8 + [0] * 16)  # train on normal images only
    if as_files:
        paths = [tmp_path / f"{i:02d}.png" for i in range(24)]
        for image, path in zip(X, paths, strict=True):
            Image.fromarray(image).save(path)
        X = ImageFiles(paths)
    search = GridSearchCV(
        DistanceToMean(),
        {"smoothing": [0.0, 1.0]},
        scoring="roc_auc",
        cv=PredefinedSplit(fold),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ == 1.0
    assert search.predict(X).shape == (24,)


def test_dump_before_fit():
    file = io.BytesIO()
    joblib.dump(DistanceToMean(smoothing=2.0), file)
    file.seek(0)
    assert joblib.load(file).smoothing == 2.0


def test_many_files_are_streamed(detector, tmp_path, monkeypatch):
    """Never more images in memory than a few batches."""
    path = tmp_path / "one.png"
    Image.fromarray(random_images(1)[0]).save(path)
    n_read = 0
    ahead = []
    read = _checks.read_image

    def count(path):
        nonlocal n_read
        n_read += 1
        return read(path)

    monkeypatch.setattr(_checks, "read_image", count)
    for n_done, _ in enumerate(detector._maps(detector._open([path] * 100))):
        ahead.append(n_read - n_done)
    assert n_read == 100
    assert max(ahead) <= 4 * detector.batch_size


def test_resolve_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.backends.mps.is_available():
        assert resolve_device("auto").type == expected


def test_tags_and_html(detector):
    from sklearn.utils import get_tags

    tags = get_tags(detector)
    assert tags.estimator_type == "outlier_detector"
    assert tags.input_tags.three_d_array
    assert not tags.input_tags.two_d_array
    assert "DistanceToMean" in detector._repr_html_()


def test_stream_is_one_frame_at_a_time(detector):
    X = random_images(6, seed=1)
    expected = detector.detect(X)
    taken = []
    stream = detector.stream(taken.append(i) or x for i, x in enumerate(X))
    assert taken == []
    for i, found in enumerate(stream):
        assert taken == list(range(i + 1))
        assert found.index == i
        assert found.score == pytest.approx(expected.scores[i])
        assert found.label == expected.labels[i]
        assert_allclose(found.map, expected.maps[i], rtol=1e-5)


def test_another_stream_goes_on_after_a_bad_frame(detector):
    X = list(random_images(5, seed=1))
    X[2] = X[2][:, :, :2]
    frames, found = iter(X), []
    with pytest.raises(InvalidImageError, match="image 2: has 2 channels, expected 3"):
        found.extend(result.score for result in detector.stream(frames))
    found.extend(result.score for result in detector.stream(frames))
    assert_allclose(found, detector.score_samples([*X[:2], *X[3:]]))


def test_stream_of_an_unfitted_detector_fails_at_once():
    with pytest.raises(NotFittedError):
        DistanceToMean().stream([])


def test_stream_keeps_nothing(detector):
    """Memory after 1200 frames is that after 200, up to what the allocator rounds."""
    frame = random_images(1, seed=1)[0]
    stream = detector.stream(frame.copy() for _ in range(1200))
    tracemalloc.start()
    try:
        for found in stream:
            if found.index == 200:
                before, _ = tracemalloc.get_traced_memory()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.index == 1199
    assert after - before < 50_000
    assert peak < before + 500_000
