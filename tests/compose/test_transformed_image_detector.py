import pickle

import numpy as np
import pytest
from conftest import DistanceToMean, small_detector
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import (
    ImageFiles,
    InvalidImageError,
    LocalContrast,
    OnnxDetector,
    PaDiM,
    TransformedImageDetector,
    export_onnx,
    load,
    save,
)
from skanomaly.exceptions import ExportError
from skanomaly.metrics import aupro, evaluate
from skanomaly.model_selection import NormalKFold
from skanomaly.preprocessing import (
    Align,
    CorrectIllumination,
    Crop,
    ImageTransformer,
    Resize,
    ToGrey,
)
from skanomaly.utils.estimator_checks import check_detector

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")

SCORING = ("transform", "score_samples", "decision_function", "predict", "p_values")
RNG = np.random.default_rng(0)
X = RNG.integers(90, 140, (20, 40, 48, 3), np.uint8)
BOX = 5, 10, 35, 46


def spot(images, top, left):
    spoilt = images.copy()
    spoilt[:, top : top + 4, left : left + 4] = 255
    return spoilt


def detector(**parameters):
    return DistanceToMean(**{"image_size": None, "smoothing": 0.0, **parameters})


@pytest.mark.parametrize(
    "transformer",
    [ImageTransformer(np.array), FunctionTransformer(), "passthrough"],
    ids=lambda t: type(t).__name__,
)
def test_without_a_change_it_is_the_detector(transformer):
    if transformer == "passthrough":
        transformer = make_pipeline("passthrough")
    bare = detector().fit(X[:12])
    composite = TransformedImageDetector(transformer, detector()).fit(X[:12])
    for method in SCORING:
        assert_array_equal(getattr(composite, method)(X), getattr(bare, method)(X))
    assert composite.offset_ == bare.offset_
    assert composite.map_threshold_ == bare.map_threshold_


def test_contract():
    padim = PaDiM(image_size=64, n_features=10, random_state=0)
    results = check_detector(TransformedImageDetector(ImageTransformer(np.array), padim))
    assert {result["status"] for result in results} == {"passed"}


def test_maps_are_of_the_original_images():
    top, left, bottom, right = BOX
    composite = TransformedImageDetector(Crop(BOX), detector()).fit(X[:12])
    cut = X[:, top:bottom, left:right]
    bare = detector().fit(cut[:12])
    maps, of_cut = composite.transform(X), bare.transform(cut)
    assert_array_equal(maps[:, top:bottom, left:right], of_cut)
    outside = np.ones(X.shape[1:3], bool)
    outside[top:bottom, left:right] = False
    assert_array_equal(maps[:, outside], of_cut.min(axis=(1, 2))[:, None] * np.ones(outside.sum()))
    assert_array_equal(composite.score_samples(X), bare.score_samples(cut))


def test_defects_are_found_where_they_are():
    steps = make_pipeline(CorrectIllumination(), Crop(BOX), ToGrey(), Resize((60, 50)))
    composite = TransformedImageDetector(steps, detector()).fit(X[:12])
    maps = composite.transform(spot(X[12:], 20, 30))
    assert maps.shape == (8, 40, 48)
    for anomaly_map in maps:
        row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        assert 19 <= row <= 24
        assert 29 <= column <= 34


def test_regions_are_of_the_original_images():
    top, left, bottom, right = BOX
    roi = np.zeros(X.shape[1:3], bool)
    roi[8:30, :40] = True
    composite = TransformedImageDetector(Crop(BOX), detector()).fit(X[:12], roi=roi)
    bare = detector().fit(X[:12, top:bottom, left:right], roi=roi[top:bottom, left:right])
    assert composite.offset_ == bare.offset_
    found = composite.detect(X, roi=roi)
    assert_array_equal(
        found.scores,
        bare.score_samples(X[:, top:bottom, left:right], roi=roi[top:bottom, left:right]),
    )
    assert (found.maps[:, ~roi] == found.maps[:, roi].min(axis=1)[:, None]).all()
    each = [None if i % 2 else roi for i in range(len(X))]
    mixed = composite.score_samples(X, roi=each)
    assert_array_equal(mixed[::2], found.scores[::2])
    assert_array_equal(mixed[1::2], composite.score_samples(X[1::2]))
    nowhere = np.zeros_like(roi)
    nowhere[:3] = True
    with pytest.raises(InvalidImageError, match="image 0: its region .* outside of what"):
        composite.score_samples(X, roi=nowhere)


@pytest.mark.parametrize("groups", [None, np.arange(14) // 2])
def test_anomalous_images_and_groups(groups):
    y = np.ones(14, int)
    y[[2, 7]] = -1
    spoilt = X[:14].copy()
    spoilt[[2, 7]] = 255
    composite = TransformedImageDetector(CorrectIllumination(), detector())
    composite.fit(spoilt, y, groups=groups)
    good = np.flatnonzero(y == 1)
    other = clone(composite).fit(X[good], groups=None if groups is None else groups[good])
    assert composite.n_left_out_ == 2
    assert composite.offset_ == other.offset_
    masks = np.zeros(spoilt.shape[:3], bool)
    masks[[2, 7], 3, 3] = True
    assert clone(composite).fit(spoilt, masks, groups=groups).offset_ == composite.offset_


def test_images_of_ones_own_set_the_threshold():
    roi = np.ones(X.shape[1:3], bool)
    roi[:12] = False
    top, left, bottom, right = BOX
    composite = TransformedImageDetector(Crop(BOX), detector()).fit(X[:8], X_val=X[8:], roi=roi)
    cut = X[:, top:bottom, left:right]
    bare = detector().fit(cut[:8], X_val=cut[8:], roi=roi[top:bottom, left:right])
    assert composite.offset_ == bare.offset_
    assert len(composite.validation_scores_) == 12


def test_parameters_after_the_fit():
    composite = TransformedImageDetector(Crop(BOX), detector(false_alarm_rate=0.2)).fit(X)
    loose = composite.offset_
    assert composite.set_params(detector__false_alarm_rate=0.01).calibrate().offset_ < loose
    assert composite.set_params(detector__batch_size=1).score_samples(X).shape == (20,)
    composite.set_params(detector__smoothing=1.0)
    with pytest.raises(ValueError, match="smoothing of DistanceToMean is 1.0 and was 0.0"):
        composite.predict(X)
    assert composite.calibrate(X).predict(X).shape == (20,)
    composite.set_params(transformer__box=(0, 0, 20, 20))
    with pytest.raises(ValueError, match=r"transformer__box is .* fit anew"):
        composite.predict(X)
    composite.set_params(transformer__box=BOX, detector=LocalContrast())
    with pytest.raises(ValueError, match="is a LocalContrast and was a DistanceToMean in fit"):
        composite.predict(X)


def test_a_failed_fit_changes_nothing():
    composite = TransformedImageDetector(Crop(BOX), detector()).fit(X)
    before = composite.score_samples(X)
    with pytest.raises(InvalidImageError, match="image 1: is 30 x 48 pixels, and the box"):
        composite.fit([X[0], X[1, :30], X[2]])
    assert_array_equal(composite.score_samples(X), before)


@pytest.mark.parametrize(
    "transformer",
    [
        ImageTransformer(lambda x: x[::2], keeps_pixels=False),
        FunctionTransformer(lambda x: x[:, ::2]),
    ],
)
def test_pixels_that_went_who_knows_where_are_refused(transformer):
    with pytest.raises(InvalidImageError, match="does not say where they went"):
        TransformedImageDetector(transformer, detector()).fit(X)
    lost = FunctionTransformer(lambda x: x[:-1])
    with pytest.raises(InvalidImageError, match="made 19 images of 20"):
        TransformedImageDetector(lost, detector()).fit(X)


def test_what_is_no_detector_is_refused():
    with pytest.raises(ValueError, match="detector is a Pipeline, expected a detector of images"):
        TransformedImageDetector(Crop(BOX), make_pipeline(detector())).fit(X)


def test_what_an_alignment_makes_up_does_not_count():
    """Beyond the border of a moved image there is nothing to judge."""
    plain = np.full((10, 64, 64), 50, np.uint8) + RNG.integers(0, 3, (10, 64, 64), np.uint8)
    plain[:, 20:44, 18:46] = 200
    plain[:, 20:30, 18:26] = 120
    plain[:, :, 0] = 255  # of which moving makes a wide strip
    moved = np.roll(plain, 9, axis=2)
    moved[:, :, :9] = 50
    moved[:, :, 9] = 50
    composite = TransformedImageDetector(Align(motion="translation"), detector())
    composite.fit(plain)
    maps = composite.transform(moved)
    assert maps.shape == moved.shape
    inside = np.s_[:, 20:44, 27:55]
    assert maps[inside].max() < 0.05


def test_files_streams_and_mixed_sizes(tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    files = ImageFiles.from_folder(tmp_path)
    composite = TransformedImageDetector(Crop((0, 0, 30, 30)), detector()).fit(X)
    assert_array_equal(composite.score_samples(files), composite.score_samples(X))
    for found in composite.stream(iter(X[:3])):
        assert found.map.shape == (40, 48)
        assert found.score == composite.score_samples(X[:3])[found.index]
    mixed = composite.transform([X[0], np.pad(X[1], ((0, 9), (0, 0), (0, 0)), mode="edge")])
    assert [m.shape for m in mixed] == [(40, 48), (49, 48)]
    (tmp_path / "03.png").write_bytes(b"")
    with pytest.raises(InvalidImageError, match=r"image 3 .*03.png"):
        composite.score_samples(files)


@pytest.mark.parametrize(
    "step",
    [CorrectIllumination(), Align(motion="translation", working_size=32, min_similarity=-1.0)],
    ids=lambda t: type(t).__name__,
)
def test_saved_and_pickled(step, tmp_path):
    composite = TransformedImageDetector(
        make_pipeline(step, Crop((4, 4, 60, 60))),
        PaDiM(image_size=64, n_features=10, random_state=0),
    )
    images = RNG.integers(0, 20, (12, 64, 64, 3), np.uint8)
    images[:, 20:40, 20:50] += 150
    expected = composite.fit(images).transform(images[:3])
    assert_array_equal(pickle.loads(pickle.dumps(composite)).transform(images[:3]), expected)
    save(composite, tmp_path / "model.skanomaly")
    assert_array_equal(load(tmp_path / "model.skanomaly").transform(images[:3]), expected)


def test_export_says_what_it_cannot():
    composite = TransformedImageDetector(CorrectIllumination(), LocalContrast()).fit(X)
    with pytest.raises(ExportError, match="CorrectIllumination"):
        export_onnx(composite, "never.onnx", X[:2])


@pytest.mark.parametrize("image_size", [32, None])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_what_can_be_in_a_file_is(image_size, kind, tmp_path):
    """Crops and conversions of channels; the file takes whole images, of other sizes too."""
    images = X if kind == np.uint8 else X / 255
    images = (images * 65535).astype(kind) if kind == np.uint16 else images.astype(kind)
    steps = make_pipeline(Crop((2, 4, 38, 46)), ToGrey(), "passthrough", Crop((3, 3, 33, 40)))
    contrast = LocalContrast(image_size=image_size, random_state=0)
    composite = TransformedImageDetector(steps, contrast).fit(images)
    report = export_onnx(composite, tmp_path / "model.onnx", images[:3])
    assert report.n_other_labels == 0
    served = OnnxDetector(tmp_path / "model.onnx")
    roi = np.zeros((40, 48), bool)
    roi[8:30, 3:40] = True
    for more in ({}, {"roi": roi}):
        found, expected = (d.detect(images[:5], **more) for d in (served, composite))
        assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-3)
        assert_allclose(found.maps, expected.maps, rtol=1e-3, atol=2e-3)
    if image_size is not None:
        larger = np.pad(images[:2], ((0, 0), (0, 9), (0, 5), (0, 0)), mode="edge")
        found, expected = (d.transform(larger) for d in (served, composite))
        assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_masks_of_original_images_search_a_detector_behind_a_crop():
    y = np.zeros((20, 40, 48), bool)
    images = X.copy()
    images[14:] = spot(X[14:], 20, 30)
    y[14:, 20:24, 30:34] = True
    composite = TransformedImageDetector(Crop(BOX), detector())
    search = GridSearchCV(
        composite,
        {"transformer__box": [BOX, (0, 0, 18, 28)], "detector__smoothing": [0.0, 3.0]},
        scoring=aupro,
        cv=NormalKFold(3),
    )
    search.fit(images, y)
    assert search.best_params_["transformer__box"] == BOX
    assert search.best_estimator_.n_left_out_ == 6
    assert evaluate(search, images, y)["pixel_roc_auc"] > 0.95


class Counted(CorrectIllumination):
    """Counts its fits."""

    fits = []

    def fit(self, X, y=None):
        self.fits.append(len(X))
        return super().fit(X, y)


def test_a_search_with_a_memory_computes_once_what_does_not_change(tmp_path):
    images, y = X.copy(), np.ones(20, int)
    images[14:] = spot(X[14:], 20, 30)
    y[14:] = -1
    grid = {"distancetomean__smoothing": [0.0, 1.0, 2.0]}
    found = []
    for memory in (None, str(tmp_path)):
        Counted.fits.clear()
        pipeline = make_pipeline(Counted(), detector(), memory=memory)
        search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=NormalKFold(2))
        found.append(search.fit(images, y).cv_results_["mean_test_score"])
        assert len(Counted.fits) == (7 if memory is None else 3)
    assert_array_equal(*found)


def test_features_of_transformed_images_are_kept(tmp_path, textures):
    images = textures[0].images
    detectors = [
        TransformedImageDetector(
            CorrectIllumination(), small_detector(max_epochs=1, memory=memory, hidden_ratio=0.5)
        ).fit(images)
        for memory in (None, tmp_path, tmp_path)
    ]
    scores = [d.score_samples(images[:4]) for d in detectors]
    assert_allclose(scores[1], scores[0], rtol=1e-5)
    assert_array_equal(scores[2], scores[1])
    assert list(tmp_path.rglob("*.pkl"))


def test_grown(textures):
    images = textures[0].images
    composite = TransformedImageDetector(
        Crop((0, 0, 60, 60)), PaDiM(image_size=32, n_features=10, random_state=0)
    ).fit(images[:12])
    composite.partial_fit(images[12:])
    assert composite.detector_.n_images_ == len(images)
    assert not hasattr(TransformedImageDetector(Crop(BOX), detector()), "partial_fit")
    with config_context(assume_finite=True):
        assert_allclose(composite.score_samples(images[:2]), composite.detect(images[:2]).scores)


def test_a_class_is_no_estimator():
    with pytest.raises(ValueError, match=r"detector is the class PaDiM; pass .* PaDiM\(\)"):
        TransformedImageDetector(Crop(BOX), PaDiM).fit(X)
    with pytest.raises(ValueError, match="transformer is the class Crop; pass an instance"):
        TransformedImageDetector(Crop, detector()).fit(X)
    composite = TransformedImageDetector(Crop(BOX), detector()).fit(X)
    composite.set_params(transformer=ToGrey())
    with pytest.raises(ValueError, match="transformer is a ToGrey and was a Crop in fit"):
        composite.predict(X)
