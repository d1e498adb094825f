import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

import skanomaly
from skanomaly import InvalidImageError, OnnxDetector, export_onnx
from skanomaly.exceptions import ExportError, ModelFileError
from skanomaly.maps import resize_matrix

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 64, 64), np.uint8)
OTHER_SIZE = RNG.integers(0, 256, (5, 80, 51), np.uint8)
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


def assert_same(served, detector, X, rtol=1e-4):
    found, expected = served.detect(X), detector.detect(X)
    assert_allclose(found.scores, expected.scores, rtol=rtol)
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
    assert served.offset_ == detector.offset_
    assert served.map_threshold_ == detector.map_threshold_
    assert detector.predict(GREY).shape == (12,)  # which export has left as it was


# Each value beside each of the others; the combinations that add none are slow.
@pytest.mark.parametrize(
    ("stride", "error", "aggregation"),
    [
        *[(1, "ssim", "mean"), (3, "ssim", "center"), (4, "ssim", "mean")],
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


@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 2.0])
def test_reductions_and_smoothing(reduction, smoothing, tmp_path):
    detector = DistanceToMean(score_reduction=reduction, smoothing=smoothing).fit(GREY)
    export_onnx(detector, tmp_path / "model.onnx", GREY)
    assert_same(OnnxDetector(tmp_path / "model.onnx"), detector, OTHER_SIZE)


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
    assert [i.name for i in model.graph.input] == ["images"]
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


def test_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        export_onnx(DistanceToMean(), tmp_path / "model.onnx", GREY)


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


def test_images_that_cannot_be_served(exported):
    served = OnnxDetector(exported[1])
    with pytest.raises(InvalidImageError, match="image 0: has 3 channels, expected 1"):
        served.predict(np.repeat(GREY[..., None], 3, axis=3))
    with pytest.raises(InvalidImageError, match="no images"):
        served.predict([])
    with pytest.raises(InvalidImageError, match="image 2: "):
        list(served.stream([*GREY[:2], None]))


@pytest.mark.parametrize("content", [b"", b"no model", "another", "without a threshold"])
def test_files_that_are_no_detector(content, tmp_path):
    if isinstance(content, str):
        node = onnx.helper.make_node("Identity", ["a"], ["b"])
        a, b = (onnx.helper.make_tensor_value_info(n, 1, [1]) for n in "ab")
        graph = onnx.helper.make_graph([node], "graph", [a], [b])
        opset = onnx.helper.make_opsetid("", 17)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
        if content == "without a threshold":
            onnx.helper.set_model_props(model, {"skanomaly": "{}"})
        content = model.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="no detector that export_onnx writes"):
        OnnxDetector(tmp_path / "model.onnx")


def test_no_file():
    with pytest.raises(FileNotFoundError):
        OnnxDetector("no such file.onnx")


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
