"""Nobody who has not asked for it is told anything: no output, no log, no warning."""

import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tifffile
from conftest import DETECTORS, small
from PIL import Image
from sklearn.ensemble import IsolationForest

import skanomaly
from skanomaly import _public
from skanomaly.exceptions import ThresholdWarning
from skanomaly.preprocessing import Crop

X = np.random.default_rng(0).integers(0, 256, (12, 64, 64), np.uint8)
PRODUCTS = np.repeat(["a", "b"], 6)
ROWS = X.reshape(12, -1)


def composites():
    """A small one of each, with the images that it takes."""
    inner = small("SubspaceAD")
    return {
        "EnsembleDetector": (skanomaly.make_ensemble(inner, small("LocalContrast")), X, {}),
        "FeatureOutlierDetector": (
            skanomaly.FeatureOutlierDetector(IsolationForest(n_estimators=5), image_size=64),
            X,
            {},
        ),
        "FlattenedImages": (skanomaly.FlattenedImages(inner, image_shape=(64, 64)), ROWS, {}),
        "ImageFeatures": (skanomaly.ImageFeatures(image_size=64), X, {}),
        "MultiProductDetector": (
            skanomaly.MultiProductDetector(inner),
            X,
            {"product": PRODUCTS},
        ),
        "TiledDetector": (skanomaly.TiledDetector(inner, tile_size=48), X, {}),
        "TransformedImageDetector": (
            skanomaly.TransformedImageDetector(Crop((0, 0, 48, 48)), inner),
            X,
            {},
        ),
    }


def use(estimator, images, given):
    """Fit and score."""
    estimator.fit(images, **given)
    method = "detect" if hasattr(estimator, "detect") else "transform"
    getattr(estimator, method)(images, **given)
    if hasattr(estimator, "predict"):
        estimator.predict(images, **given)


@pytest.fixture
def silence(capfd, caplog):
    """Fails if anything is said until the end of the test, but by the documented warning."""
    caplog.set_level(logging.INFO)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    assert tuple(capfd.readouterr()) == ("", "")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert not [w for w in warned if not issubclass(w.category, ThresholdWarning)]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector(name, silence):
    use(small(name), X, {})


@pytest.mark.parametrize("name", sorted(_public.public_classes("compose")))
def test_a_composite(name, silence):
    use(*composites()[name])


def test_files_of_many_kinds(tmp_path, silence):
    many = np.zeros((8, 8, 7), np.uint8)
    tifffile.imwrite(tmp_path / "7.tif", many, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "16.tif", np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    Image.fromarray(X[0]).save(tmp_path / "8.png")
    (tmp_path / "none.tif").write_bytes(b"II*\0" + bytes(50))
    files, errors = skanomaly.ImageFiles.from_folder(tmp_path).readable()
    assert len(files) == 3
    assert len(errors) == 1


FRESH = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np, skanomaly
folder = sys.argv[1]
for name in skanomaly.__all__:
    getattr(skanomaly, name)
from skanomaly import calibration, datasets, metrics, model_selection, preprocessing, utils
X = np.load(f"{folder}/X.npy")
warnings.filterwarnings("ignore", category=skanomaly.exceptions.ThresholdWarning)
detector = utils.small_detector(skanomaly.PaDiM).fit(X)
detector.predict(X)
warnings.simplefilter("default")  # PyTorch's exporter uses what Python will not have for ever
skanomaly.export_onnx(detector, f"{folder}/model.onnx", X[:2])
skanomaly.OnnxDetector(f"{folder}/model.onnx").predict(X)
skanomaly.save(detector, f"{folder}/model")
skanomaly.load(f"{folder}/model").predict(X)
"""


def test_imports_and_a_first_fit_export_and_load_of_a_process(tmp_path):
    """ONNX Runtime and PyTorch speak, if at all, when they are first used."""
    np.save(tmp_path / "X.npy", X)
    run = subprocess.run([sys.executable, "-c", FRESH, tmp_path], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
