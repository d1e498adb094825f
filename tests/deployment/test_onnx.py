import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import joblib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, assert_same_scores, small
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import BaseEstimator, clone, is_outlier_detector
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

import skanomaly
from skanomaly import FlattenedImages, ImageFiles, InvalidImageError, OnnxDetector, export_onnx
from skanomaly.calibration import DriftMonitor
from skanomaly.exceptions import ExportError
from skanomaly.maps import resize_matrix
from skanomaly.metrics import aupro, aupro_score, evaluate
from skanomaly.model_selection import NormalKFold

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 64, 64), np.uint8)
OTHER_SIZE = RNG.integers(0, 256, (5, 80, 51), np.uint8)
REGIONS = RNG.random((12, 64, 64)) < 0.6
REGIONS[:, :20] = False
OTHER_REGION = np.zeros((80, 51), bool)
OTHER_REGION[10:70, 5:30] = True
EXPORTABLE = [
    name for name in DETECTORS if not hasattr(getattr(skanomaly, name), "_not_exportable")
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A cheap detector and its file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    detector = DistanceToMean(image_size=16).fit(GREY)
    export_onnx(detector, path, GREY)
    return detector, path


def assert_same(served, detector, X, rtol=1e-4, roi=None):
    found, expected = served.detect(X, roi=roi), detector.detect(X, roi=roi)
    assert_same_scores(found.scores, expected.scores, rtol)
    assert_array_equal(found.labels, expected.labels)
    for a, b in zip(found.maps, expected.maps, strict=True):
        assert a.shape == b.shape
        assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("name", EXPORTABLE)
def test_every_detector_that_can_be(name, tmp_path):
    detector = small(name).fit(GREY)
    report = export_onnx(detector, tmp_path / "model.onnx", GREY[:3])
    assert report.n_images == 3
    assert max(report.score_difference, report.map_difference) < 1e-4
    assert report.n_other_labels == 0
    served = OnnxDetector(tmp_path / "model.onnx")
    for X in (GREY, GREY[:1], OTHER_SIZE, [*GREY[:2], *OTHER_SIZE]):
        assert_same(served, detector, X)
    assert_same(served, detector, GREY, roi=REGIONS)
    assert_same(served, detector, OTHER_SIZE, roi=OTHER_REGION)
    mixed = [REGIONS[0], None, *5 * [OTHER_REGION]]
    assert_same(served, detector, [*GREY[:2], *OTHER_SIZE], roi=mixed)
    assert served.offset_ == detector.offset_
    assert served.map_threshold_ == detector.map_threshold_
    assert_allclose(served.p_values(OTHER_SIZE), detector.p_values(OTHER_SIZE))
    assert detector.predict(GREY).shape == (12,)  # which export has left as it was


def test_p_values_are_ranks_among_the_detectors_own_scores(tmp_path):
    detector = small("SubspaceAD").fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY[:3])
    served = OnnxDetector(tmp_path / "model.onnx")
    served.metadata_["validation_scores"] = [-np.inf, -np.inf, np.inf]
    assert_array_equal(served.p_values(GREY[:2]), [3 / 4, 3 / 4])


def test_an_exported_detector_can_be_watched(tmp_path):
    detector = small("SubspaceAD").fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY[:3])
    served = OnnxDetector(tmp_path / "model.onnx")
    assert_array_equal(served.validation_scores_, np.sort(detector.validation_scores_))
    found = [DriftMonitor(d, random_state=0).update(-1.0, GREY[0]) for d in (detector, served)]
    assert found[0] == found[1]


# Each value beside each of the others; the combinations that add none are slow.
@pytest.mark.parametrize(
    ("stride", "error", "aggregation"),
    [
        *[(1, "ssim", "mean"), (3, "ssim", "center"), (4, "ssim", "mean")],
        *[(3, "mahalanobis", "mean"), (4, "mahalanobis", "center")],
        *[(1, "squared", "center"), (3, "squared", "mean"), (4, "squared", "center")],
        pytest.param(1, "ssim", "center", marks=pytest.mark.slow),
        pytest.param(3, "ssim", "mean", marks=pytest.mark.slow),
        pytest.param(4, "ssim", "center", marks=pytest.mark.slow),
        pytest.param(1, "squared", "mean", marks=pytest.mark.slow),
        pytest.param(3, "squared", "center", marks=pytest.mark.slow),
        pytest.param(4, "squared", "mean", marks=pytest.mark.slow),
    ],
)
def test_patches_at_native_size(aggregation, error, stride, tmp_path):
    parameters = {"aggregation": aggregation, "error": error, "stride": stride, "patch_size": 45}
    X = np.repeat(GREY[:, :40, :51, None], 3, axis=3)
    detector = small("PatchReconstruction", image_size=None, max_epochs=1, **parameters).fit(X)
    export_onnx(detector, tmp_path / "model.onnx", X)
    assert_same(OnnxDetector(tmp_path / "model.onnx"), detector, X)


@pytest.mark.parametrize("name", sorted(set(DETECTORS) - set(EXPORTABLE)))
def test_the_others_say_why_not(name, tmp_path):
    detector = small(name).fit(GREY)
    with pytest.raises(ExportError, match=f"{name} cannot be exported: it.* [a-z]"):
        export_onnx(detector, tmp_path / "model.onnx", GREY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("reduction", ["max", "mean", "sum", 0.01, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 2.0, "auto"])
def test_reductions_and_smoothing(reduction, smoothing, tmp_path):
    detector = DistanceToMean(score_reduction=reduction, smoothing=smoothing).fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY)
    served = OnnxDetector(tmp_path / "model.onnx")
    assert_same(served, detector, OTHER_SIZE)
    assert_same(served, detector, OTHER_SIZE, roi=OTHER_REGION)


@pytest.mark.parametrize(
    ("X", "value_range"),
    [
        (np.repeat(GREY[..., None], 3, axis=3) // np.array([1, 2, 3], np.uint8), None),
        (RNG.random((6, 20, 20), np.float32), None),
        (RNG.random((6, 20, 20)), None),
        (RNG.integers(0, 4096, (6, 20, 20), np.uint16), (0, 4095)),
        (RNG.integers(0, 65536, (6, 20, 20), np.uint16), None),
    ],
)
def test_pixels_of_any_kind(X, value_range, tmp_path):
    detector = DistanceToMean(value_range=value_range).fit(X)
    export_onnx(detector, tmp_path / "model.onnx", X)
    served = OnnxDetector(tmp_path / "model.onnx")
    assert_same(served, detector, X)
    other = np.float64 if X.dtype == np.float32 else np.float32
    with pytest.raises(
        InvalidImageError, match=f"image 1: holds {np.dtype(other)}, expected {X.dtype}"
    ):
        served.predict([X[0], X[1].astype(other)])


def test_native_size_is_that_of_the_images(tmp_path):
    detector = DistanceToMean(image_size=None).fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY)
    served = OnnxDetector(tmp_path / "model.onnx")
    assert_same(served, detector, GREY)
    assert_same(served, detector, GREY, roi=REGIONS)
    with pytest.raises(InvalidImageError, match="image 0: is 80 x 51 pixels, expected 64 x 64"):
        served.predict(OTHER_SIZE)


def test_a_share_is_of_the_pixels_that_each_image_has(tmp_path):
    """The number of pixels is known only when the file is run."""
    detector = DistanceToMean(score_reduction=0.013, smoothing=0.0).fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY)
    served = OnnxDetector(tmp_path / "model.onnx")
    for height, width in [(64, 64), (80, 51), (9, 130), (5, 6), (1, 1)]:
        X = RNG.integers(0, 256, (3, height, width), np.uint8)
        found = served.detect(X)
        n_highest = max(1, round(0.013 * height * width))
        highest = np.sort(found.maps.reshape(3, -1).astype(float))[:, -n_highest:]
        assert_allclose(found.scores, -highest.mean(axis=1), rtol=1e-6)
        assert_allclose(found.scores, detector.score_samples(X), rtol=1e-4)


@pytest.mark.parametrize(("size", "new_size"), [(5, 5), (5, 17), (17, 5), (64, 63), (1, 3)])
def test_resizing_in_the_graph_is_that_of_maps(size, new_size):
    found = resize_matrix(torch.tensor(size), torch.tensor(new_size))
    assert_allclose(found, resize_matrix(size, new_size), atol=1e-15)


def test_what_the_file_says(exported):
    detector, path = exported
    model = onnx.load(path)
    (entry,) = model.metadata_props
    found = json.loads(entry.value)
    assert found["offset"] == detector.offset_
    assert (found["detector"], found["dtype"]) == ("DistanceToMean", "uint8")
    assert [i.name for i in model.graph.input] == ["images", "regions"]
    assert [o.name for o in model.graph.output] == ["maps", "scores"]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


class NotTraceable(DistanceToMean):
    def _compute_maps(self, pixels):
        return super()._compute_maps(pixels) * float(pixels.mean())  # a constant in the trace


class Unstable(DistanceToMean):
    def _compute_maps(self, pixels):
        return torch.linalg.cholesky(super()._compute_maps(pixels) + 100 * torch.eye(8))


def test_a_file_that_would_differ_is_not_written(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"old")
    X = np.concatenate([GREY[:1] // 8, GREY])
    with pytest.raises(ExportError, match="differs from the detector by .* more than tolerance"):
        export_onnx(NotTraceable().fit(X), tmp_path / "model.onnx", X)
    with pytest.raises(ExportError, match="more than tolerance=0"):
        export_onnx(small("PaDiM").fit(GREY), tmp_path / "model.onnx", GREY, tolerance=0)
    assert (tmp_path / "model.onnx").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_onnx_does_not_have(tmp_path):
    with pytest.raises(ExportError, match="Unstable cannot be exported: .*cholesky"):
        export_onnx(Unstable().fit(GREY), tmp_path / "model.onnx", GREY)


def test_images_of_one_kind(exported, tmp_path):
    with pytest.raises(ExportError, match=r"image 12 is uint8 of shape \(80, 51, 1\), image 0"):
        export_onnx(exported[0], tmp_path / "model.onnx", [*GREY, *OTHER_SIZE])


SEARCH = {"param_grid": {"batch_size": [4]}, "cv": NormalKFold(2), "scoring": "roc_auc"}
LABELS = np.repeat([1, -1], [9, 3])


@pytest.mark.parametrize(
    "estimator",
    [
        DistanceToMean(),
        make_pipeline(DistanceToMean()),
        make_pipeline(FunctionTransformer(), DistanceToMean()),
        GridSearchCV(DistanceToMean(), **SEARCH),
        FlattenedImages(DistanceToMean()),
        IsolationForest(),
    ],
)
def test_not_fitted(estimator, tmp_path):
    with pytest.raises(NotFittedError):
        export_onnx(estimator, tmp_path / "model.onnx", GREY)


@pytest.mark.parametrize(
    "wrap",
    [
        make_pipeline,
        lambda detector: Pipeline([("skipped", "passthrough"), ("detector", detector)]),
        lambda detector: Pipeline([("none", None), ("inner", make_pipeline(detector))]),
        lambda detector: make_pipeline(FunctionTransformer(), detector),
        lambda detector: GridSearchCV(detector, **SEARCH),
        lambda detector: make_pipeline(GridSearchCV(detector, **SEARCH)),
        lambda detector: GridSearchCV(
            make_pipeline(detector), **{**SEARCH, "param_grid": {"distancetomean__batch_size": [4]}}
        ),
    ],
)
def test_what_holds_a_detector_is_exported(wrap, tmp_path):
    estimator = wrap(DistanceToMean()).fit(GREY, LABELS)
    for whole in (estimator, FrozenEstimator(estimator)):
        assert export_onnx(whole, tmp_path / "model.onnx", GREY).n_images == 12
    expected = estimator.score_samples(GREY)
    assert_allclose(OnnxDetector(tmp_path / "model.onnx").score_samples(GREY), expected, rtol=1e-4)


class HasFit:
    def fit(self, X):
        return self


class Unlike(BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "a NoneType, expected a fitted detector"),
        (lambda: "model.joblib", "a str, expected a fitted detector"),
        (lambda: DistanceToMean, "a type, expected a fitted detector"),
        (HasFit, "a HasFit, expected a fitted detector"),
        (lambda: make_pipeline(HasFit()), "a Pipeline, expected a fitted detector"),
        (lambda: make_pipeline("passthrough"), "Pipeline"),
        (lambda: Unlike().fit(None), "a Unlike, which is no detector of images"),
        (lambda: IsolationForest().fit(GREY[:, 0]), "a IsolationForest, which is no detector"),
        (
            lambda: make_pipeline(FunctionTransformer(np.fliplr), DistanceToMean()).fit(GREY),
            "Pipeline changes images by functiontransformer before DistanceToMean sees them.* "
            "export the last step alone",
        ),
        (
            lambda: FlattenedImages(DistanceToMean()).fit(GREY.reshape(12, -1)),
            "FlattenedImages takes rows, .*: export its detector_",
        ),
        (
            lambda: make_pipeline(FlattenedImages(DistanceToMean())).fit(GREY.reshape(12, -1)),
            "FlattenedImages takes rows",
        ),
        (
            lambda: GridSearchCV(DistanceToMean(), refit=False, **SEARCH).fit(GREY, LABELS),
            "GridSearchCV.* fitted|refit=True",
        ),
    ],
)
def test_what_holds_none_is_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        export_onnx(make(), tmp_path / "model.onnx", GREY)
    assert type(raised.value) in (ExportError, NotFittedError)
    assert not list(tmp_path.iterdir())


def test_what_is_exported_already(exported, tmp_path):
    served = OnnxDetector(exported[1])
    for whole in (served, make_pipeline(served), FrozenEstimator(served)):
        with pytest.raises(ExportError, match="OnnxDetector is an exported detector already"):
            export_onnx(whole, tmp_path / "model.onnx", GREY)


def test_images_at_the_threshold(tmp_path):
    detector = small("PaDiM").fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY)
    scores = detector.score_samples(GREY)
    of_file = OnnxDetector(tmp_path / "model.onnx").score_samples(GREY)
    between = np.flatnonzero(scores != of_file)
    assert len(between)
    for i in between[:2]:  # the offset is the higher of both, so the lower is anomalous
        detector.offset_ = max(scores[i], of_file[i])
        report = export_onnx(detector, tmp_path / "model.onnx", GREY)
        assert report.n_other_labels == 1
        assert OnnxDetector(tmp_path / "model.onnx").predict(GREY)[i] != detector.predict(GREY)[i]


@pytest.mark.parametrize("level", [0, 128])
@pytest.mark.parametrize("name", ["DistanceToMean", "PatchAE", "PatchLatentSVM", "PaDiM"])
def test_maps_that_are_all_0(name, level, tmp_path):
    X = np.full((6, 64, 64), level, np.uint8)
    detector = (DistanceToMean() if name == "DistanceToMean" else small(name)).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # of a division by 0
        report = export_onnx(detector, tmp_path / "model.onnx", X)
    assert max(report.score_difference, report.map_difference) < 1e-4
    assert_allclose(OnnxDetector(tmp_path / "model.onnx").transform(X), 0, atol=1e-4)


@pytest.mark.parametrize("attribute", ["offset_", "map_threshold_"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_threshold_that_gives_no_verdict(attribute, value, tmp_path):
    detector = DistanceToMean().fit(GREY)
    setattr(detector, attribute, value)
    with pytest.raises(ExportError, match=f"{attribute}="):
        export_onnx(detector, tmp_path / "model.onnx", GREY)


class Overflows(DistanceToMean):
    """Maps that are infinite where images are white, NaN where they are black."""

    def _compute_maps(self, pixels):
        grey = torch.nn.functional.avg_pool2d(pixels, 2)[:, 0]
        return super()._compute_maps(pixels) + torch.exp((grey - 0.9) * 1e5) + grey / grey


@pytest.mark.parametrize("level", [0, 255])
def test_no_verdict_on_what_is_not_finite(level, tmp_path):
    X = GREY // 2 + 1
    export_onnx(Overflows(smoothing=0.0).fit(X), tmp_path / "model.onnx", X)
    served = OnnxDetector(tmp_path / "model.onnx", batch_size=2)
    bad = X[:4].copy()
    bad[2, 20:40, 20:40] = level
    for method in ("score_samples", "decision_function", "predict", "transform", "detect"):
        with pytest.raises(InvalidImageError, match="image 2: its map or score is NaN or infin"):
            getattr(served, method)(bad)
    with pytest.raises(InvalidImageError, match="image 2: its map or score is NaN or infin"):
        list(served.stream(iter(bad)))
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for image, path in zip(bad, paths):
        Image.fromarray(image).save(path)
    for files in (paths, ImageFiles(paths)):
        with pytest.raises(InvalidImageError, match=r"image 2 \(.*2\.png\): its map") as raised:
            served.predict(files)
        assert (raised.value.index, raised.value.path) == (2, str(paths[2]))
    with pytest.raises(ExportError, match="does not run: image 2: .* NaN or infin"):
        export_onnx(Overflows(smoothing=0.0).fit(X), tmp_path / "model.onnx", bad)


def test_served_methods_hang_together(exported):
    served = OnnxDetector(exported[1], batch_size=5, n_threads=1)
    found = served.detect(GREY)
    assert_array_equal(served.score_samples(GREY), found.scores)
    assert_array_equal(served.transform(GREY), found.maps)
    assert_array_equal(served.predict(GREY), found.labels)
    assert_array_equal(served.decision_function(GREY), found.scores - served.offset_)
    for i, one in enumerate(served.stream(iter(GREY))):
        assert (one.index, one.label) == (i, found.labels[i])
        assert one.score == pytest.approx(found.scores[i], rel=1e-5)


def test_regions_in_every_method(exported):
    served = OnnxDetector(exported[1], batch_size=5)
    found = served.detect(GREY, roi=REGIONS)
    assert_array_equal(served.score_samples(GREY, roi=REGIONS), found.scores)
    assert_array_equal(served.transform(GREY, roi=REGIONS), found.maps)
    assert_array_equal(served.predict(GREY, roi=REGIONS), found.labels)
    assert_array_equal(served.decision_function(GREY, roi=REGIONS), found.scores - served.offset_)
    assert (found.scores != served.score_samples(GREY)).any()
    shared = REGIONS[0]
    for one, score in zip(
        served.stream(iter(GREY), roi=shared), served.score_samples(GREY, roi=shared), strict=True
    ):
        assert one.score == pytest.approx(score, rel=1e-5)
    with pytest.raises(InvalidImageError, match=r"image 2: its region of interest has shape"):
        served.predict(GREY[:3], roi=[None, None, OTHER_REGION])
    with pytest.raises(ValueError, match="roi holds 12 regions, X 3 images"):
        served.predict(GREY[:3], roi=REGIONS)


def test_any_runtime_may_leave_regions_out(exported):
    session = onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])
    images = GREY[..., None]
    (alone,) = session.run(["scores"], {"images": images})
    whole = np.ones(GREY.shape, bool)
    (within,) = session.run(["scores"], {"images": images, "regions": whole})
    assert_allclose(alone, within, rtol=1e-5)
    assert_allclose(alone, exported[0].score_samples(GREY), rtol=1e-4)


@pytest.mark.parametrize("image_size", [16, None])
def test_a_plain_file_has_no_branch(image_size, tmp_path):
    detector = DistanceToMean(image_size=image_size).fit(GREY)
    path = tmp_path / "plain.onnx"
    report = export_onnx(detector, path, GREY[:3], regions=False)
    assert report.score_difference < 1e-4
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["images"]
    assert "If" not in {node.op_type for node in graph.node}
    served = OnnxDetector(path)
    assert_same(served, detector, GREY)
    assert_array_equal(served.predict(GREY[:2], roi=[None, None]), detector.predict(GREY[:2]))
    with pytest.raises(ValueError, match="takes no roi, as it was exported with regions=False"):
        served.predict(GREY, roi=REGIONS)


def test_images_that_cannot_be_served(exported):
    served = OnnxDetector(exported[1])
    with pytest.raises(InvalidImageError, match="image 0: has 3 channels, expected 1"):
        served.predict(np.repeat(GREY[..., None], 3, axis=3))
    with pytest.raises(InvalidImageError, match="no images"):
        served.predict([])
    with pytest.raises(InvalidImageError, match="image 2: "):
        list(served.stream([*GREY[:2], None]))


def test_copies(exported, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported[1].read_bytes())
    served = OnnxDetector(path, batch_size=3, n_threads=1, providers=["CPUExecutionProvider"])
    expected = served.score_samples(GREY)
    pickled = pickle.dumps(served)
    copies = [pickle.loads(pickled), copy.deepcopy(served), copy.copy(served), clone(served)]
    export_onnx(DistanceToMean(smoothing=3.0).fit(OTHER_SIZE), path, OTHER_SIZE)
    assert (OnnxDetector(path).score_samples(GREY) != expected).all()
    path.unlink()
    for other in (served, *copies, pickle.loads(pickled)):
        assert_array_equal(other.score_samples(GREY), expected)
        assert (other.batch_size, other.n_threads) == (3, 1)
        assert other.providers == ["CPUExecutionProvider"]
        assert other.offset_ == served.offset_
        assert repr(other) == repr(served)


def test_in_other_processes(exported):
    served = OnnxDetector(exported[1], n_threads=2)
    expected = served.predict(GREY)
    parts = joblib.Parallel(2)(joblib.delayed(served.predict)(GREY[i : i + 6]) for i in (0, 6))
    assert_array_equal(np.concatenate(parts), expected)
    for method in {"spawn", "fork"} & set(multiprocessing.get_all_start_methods()):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert_array_equal(pool.submit(served.predict, GREY).result(timeout=120), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_serves_and_ends(exported):
    served = OnnxDetector(exported[1], n_threads=4)
    expected = served.score_samples(GREY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        pid = os.fork()
    if not pid:
        is_same = (served.score_samples(GREY) == expected).all()
        del served  # which with the parent's session crashes
        os._exit(0 if is_same else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_first_requests_from_many_threads(exported, monkeypatch):
    served = pickle.loads(pickle.dumps(OnnxDetector(exported[1])))
    opened = []
    open_session = OnnxDetector._open
    monkeypatch.setattr(
        OnnxDetector, "_open", lambda self: opened.append(self) or open_session(self)
    )
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: served.score_samples(GREY), range(8)))
    assert len(opened) == 1
    for scores in found:
        assert_array_equal(scores, found[0])


def test_providers(exported):
    served = OnnxDetector(exported[1], providers=[("CPUExecutionProvider", {})])
    expected = served.score_samples(GREY)
    for wrong in (["NoSuchProvider"], ["CPUExecutionProvider", "NoSuchProvider"], []):
        with pytest.raises(ValueError, match="providers=.* cannot be used here: ONNX Runtime has"):
            OnnxDetector(exported[1], providers=wrong)
    served.providers = ["NoSuchProvider"]  # as where a pickle comes from
    elsewhere = pickle.loads(pickle.dumps(served))
    with pytest.raises(ValueError, match="NoSuchProvider"):
        elsewhere.predict(GREY)
    elsewhere.providers = None
    assert_array_equal(elsewhere.score_samples(GREY), expected)


def test_settings_may_change_and_are_checked(exported):
    served = OnnxDetector(exported[1])
    expected = served.score_samples(GREY)
    served.n_threads, served.batch_size = 1, 5
    assert_allclose(served.score_samples(GREY), expected, rtol=1e-6)
    for wrong in (0, -1, 2.0, None):
        served.batch_size = wrong
        with pytest.raises(ValueError, match="batch_size=.* expected a positive integer"):
            served.predict(GREY)


def test_as_a_fitted_estimator_of_scikit_learn(exported):
    served = OnnxDetector(exported[1])
    check_is_fitted(served)
    assert is_outlier_detector(served)
    assert repr(served) == f"OnnxDetector({str(exported[1])!r})"
    assert "n_threads=2" in repr(OnnxDetector(exported[1].read_bytes(), n_threads=2))
    expected = served.predict(GREY, roi=REGIONS)
    turned = GREY[:, ::-1]
    for pipeline in (
        make_pipeline(FunctionTransformer(np.fliplr), served),
        make_pipeline(FunctionTransformer(np.fliplr), FrozenEstimator(served)).fit(turned, LABELS),
        clone(make_pipeline(FunctionTransformer(np.fliplr), served)),
    ):
        assert_array_equal(pipeline.predict(turned, roi=REGIONS), expected)
        assert "OnnxDetector" in repr(pipeline)
        assert "OnnxDetector" in estimator_html_repr(pipeline)
    assert 0 <= get_scorer("roc_auc")(served, GREY, LABELS) <= 1
    assert aupro(served, GREY, ~REGIONS) == aupro_score(~REGIONS, served.transform(GREY))
    with pytest.raises(TypeError, match="cannot be fitted anew"):
        served.fit(GREY)


def test_evaluated_and_shown(exported):
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    from skanomaly.plotting import (
        AnomalyMapDisplay,
        PROCurveDisplay,
        ScoreHistogramDisplay,
        plot_sheet,
    )

    served = OnnxDetector(exported[1])
    masks = np.zeros(GREY.shape, bool)
    masks[:3, 10:20, 10:20] = True
    roi = ~masks[0]
    roi[:15] = True
    for estimator in (served, make_pipeline(served), FrozenEstimator(served)):
        found, expected = (
            evaluate(d, GREY, masks, roi=roi, n_resamples=5, random_state=0)
            for d in (estimator, exported[0])
        )
        assert found["aupro"] == pytest.approx(expected["aupro"], abs=1e-3)
        assert [row.extent for row in found.rows] == [row.extent for row in expected.rows]
        shown = AnomalyMapDisplay.from_estimator(estimator, GREY[:2], masks[:2])
        assert shown.threshold == served.map_threshold_
        assert_allclose(shown.images[0], GREY[0] / 255, atol=1e-6)
        shown = ScoreHistogramDisplay.from_estimator(estimator, GREY, masks)
        assert (shown.threshold, len(shown.scores)) == (served.offset_, 12)
        assert PROCurveDisplay.from_estimator(estimator, GREY, masks).aupro > 0
        plt.close("all")
    found = served.detect(GREY)
    assert plot_sheet(GREY, found.maps, masks=masks, flagged=found.labels == -1).axes


def test_serving_needs_no_pytorch(exported, tmp_path):
    np.save(tmp_path / "X.npy", GREY)
    code = (
        "import sys, numpy as np; from skanomaly import OnnxDetector;"
        "print(*OnnxDetector(sys.argv[1]).score_samples(np.load(sys.argv[2])));"
        "print([m for m in ('torch', 'timm', 'skorch', 'sklearn') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, exported[1], tmp_path / "X.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    scores, heavy = run.stdout.splitlines()
    assert_allclose(np.array(scores.split(), float), exported[0].score_samples(GREY), rtol=1e-4)
    assert heavy == "[]"
