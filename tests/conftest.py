"""Shared data and small fitted detectors."""

import os
import shutil
from collections import OrderedDict, deque
from pathlib import Path
from weakref import WeakValueDictionary

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from scipy.interpolate import RegularGridInterpolator
from torch import nn

import skanomaly
from skanomaly import HierarchicalFeatureAE, cli
from skanomaly._holdout import hold_out
from skanomaly.base import BaseImageDetector
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors._trained_detector import TrainedDetector
from skanomaly.features import _engine, _networks
from skanomaly.reports import inspection_report
from skanomaly.utils import all_detectors
from skanomaly.utils import small_detector as small_detector_of

if "PYTEST_XDIST_WORKER" in os.environ:  # a thread a worker, lest they wait for each other
    torch.set_num_threads(1)

_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared"

DETECTORS = dict(all_detectors())
UNTRAINED = {name for name, cls in DETECTORS.items() if not issubclass(cls, TrainedDetector)}


def small(name, **parameters):
    """One of the detectors, small; what does not concern it is left out."""
    return small_detector_of(DETECTORS[name], **parameters)


@pytest.fixture(scope="session")
def shared():
    """Folder with ``data/`` (real images) and ``weights/``."""
    folder = Path(os.environ.get("SKANOMALY_SHARED", _BESIDE_THE_CHECKOUT))
    if not folder.is_dir():
        pytest.skip("needs real images; set SKANOMALY_SHARED to a folder with data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def mvtec_root(shared):
    """Folder with the MVTec AD categories bottle and grid."""
    return shared / "data" / "mvtec_ad"


@pytest.fixture(scope="session")
def resnet18_weights(shared):
    """ImageNet weights of ResNet-18's first three stages."""
    return shared / "weights" / "resnet18_imagenet_layers1-3.safetensors"


@pytest.fixture(scope="session")
def textures():
    """Small training and test sets with drawn defects."""
    train = make_texture_defects("brick", n_normal=24, image_size=64, random_state=0)
    test = make_texture_defects(
        "brick", split="test", n_normal=6, n_defective=6, image_size=64, random_state=0
    )
    return train, test


class DistanceToMean(BaseImageDetector):
    """Squared distance to the mean training image, at half the resolution."""

    image_size = 16
    smoothing = 1.0
    false_alarm_rate = 0.1
    validation_fraction = 0.3
    batch_size = 4
    device = "cpu"
    random_state = 0

    def _fit_images(self, images, validation):
        self.seen_ = set(images.indices), set(validation.indices)
        batches = [batch.pixels.mean(dim=0) for batch in images.batches(1)]
        self.mean_ = torch.nn.Parameter(torch.stack(batches).mean(dim=0), requires_grad=False)
        self.noise_ = torch.rand(1)

    def _compute_maps(self, pixels):
        distance = (pixels - self.mean_).square().mean(dim=1)
        return torch.nn.functional.avg_pool2d(distance[:, None], 2)[:, 0]


def interpolated(values, places, size):
    """Maps of images' size from values (n, rows, columns) at places, going on to the border."""
    inner = [np.clip(np.arange(n), p[0], p[-1]) for p, n in zip(places, size)]
    at = np.stack(np.meshgrid(*inner, indexing="ij"), axis=-1)
    places = [np.append(p, p[-1] + 1) for p in places]  # two, where there is but one
    values = np.pad(values, [(0, 0), (0, 1), (0, 1)], mode="edge")
    return np.stack([RegularGridInterpolator(places, v)(at) for v in values])


def small_detector(**parameters):
    """The default detector, small enough to be fitted in a second or two."""
    return HierarchicalFeatureAE(
        **{"image_size": 64, "max_epochs": 2, "random_state": 0, **parameters}
    )


@pytest.fixture(scope="session")
def fitted(textures):
    """A detector fitted on `textures`; tests must not change it."""
    return small_detector().fit(textures[0].images)


def assert_same_scores(found, expected, rtol):
    """To a share of each, or of the largest where there are both signs, and so some next to 0."""
    of_both_signs = expected.min() < 0 < expected.max()
    atol = rtol * np.abs(expected).max() if of_both_signs else 0
    assert_allclose(found, expected, rtol=rtol, atol=atol)


def split_of(detector, n_images):
    """Positions of the images that a fit learns from, and of those that it keeps out."""
    random_state = np.random.RandomState(detector.random_state)
    random_state.randint(2**31 - 1)
    held_out = hold_out(n_images, detector.validation_fraction, None, random_state)
    return np.setdiff1d(np.arange(n_images), held_out), held_out


@pytest.fixture
def as_in_a_fresh_process(monkeypatch):
    """No network and no session is there yet, and none that comes is there afterwards."""
    monkeypatch.setattr(_networks, "_by_origin", WeakValueDictionary())
    monkeypatch.setattr(_networks, "_by_content", WeakValueDictionary())
    monkeypatch.setattr(_networks, "_recent", deque(maxlen=_networks.MAX_UNUSED))
    monkeypatch.setattr(_engine, "_sessions", OrderedDict())
    monkeypatch.setattr(_engine, "_failures", {})


def as_if_trained(module, seed=0):
    """A module with random weights and batch-norm statistics, ready to score."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.3, generator=generator)
        elif isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0, part.weight[0].numel() ** -0.5, generator=generator)
            if part.bias is not None:
                nn.init.normal_(part.bias, 0, 0.1, generator=generator)
    return module.eval()


# Folders of images and small models, as the command line meets them.

# Of a detector that is fitted and scores at once.
QUICK_FIT = ["--detector", "LocalContrast", "--set", "image_size=64", "--set", "scales=[2, 4]"]


@pytest.fixture(scope="session")
def good_parts(textures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(textures[0].images):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def model(good_parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.skanomaly"
    assert cli.main(["fit", str(good_parts), "-o", str(path), *QUICK_FIT]) == 0
    return path


@pytest.fixture(scope="session")
def models(model, textures, tmp_path_factory):
    """The same model in each format, under names that say nothing of it."""
    folder, detector = tmp_path_factory.mktemp("models"), skanomaly.load(model)
    shutil.copy(model, folder / "a.joblib")
    skanomaly.export_onnx(detector, folder / "a", textures[1].images[:2])
    joblib.dump(detector, folder / "a.skanomaly")
    joblib.dump(detector, folder / "a.onnx", compress=3)
    return {
        "skanomaly": folder / "a.joblib",
        "onnx": folder / "a",
        "pickle": folder / "a.skanomaly",
        "compressed pickle": folder / "a.onnx",
    }


@pytest.fixture
def new_parts(textures, tmp_path):
    folder = tmp_path / "new"
    (folder / "line 2").mkdir(parents=True)
    for i, image in enumerate(textures[1].images):
        place = folder if i % 2 else folder / "line 2"
        Image.fromarray(image).save(place / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def parts(textures, tmp_path_factory):
    """A folder laid out like MVTec AD."""
    root = tmp_path_factory.mktemp("parts")
    for bunch in textures:
        for image, mask, name in zip(bunch.images, bunch.masks, bunch.filenames):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            if mask.any():
                place = root / "ground_truth" / path.parent.name
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(place / f"{path.stem}_mask.png")
    return root


# A report on small images with drawn defects, and names that no page should trip over.

NASTY_NAMES = (
    "</script><script>document.title='caught'</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "quotes \"double\" and 'single', commas.png",
    "\udcff\udcfe no utf-8.png",
    "line\nbreak\u2028\u2029.png",
    "{{script}} ${x} &amp; \U0001f50d ä.png",
    "__proto__",
    "=1+1.png",
)


@pytest.fixture(scope="session")
def brick_padim():
    train = make_texture_defects("brick", n_normal=40, image_size=64, random_state=0)
    settings = {"n_features": 60, "smoothing": 1.0, "false_alarm_rate": 0.2, "batch_size": 8}
    return skanomaly.PaDiM(image_size=64, random_state=0, **settings).fit(train.images)


@pytest.fixture(scope="session")
def bricks():
    """12 good and 12 defective images."""
    return make_texture_defects(
        "brick", split="test", n_normal=12, n_defective=12, image_size=64, random_state=0
    )


@pytest.fixture(scope="session")
def brick_report(brick_padim, bricks):
    n = len(bricks.images)
    return inspection_report(
        brick_padim,
        bricks.images,
        masks=bricks.masks,
        defect_types=bricks.defect_types,
        groups=[f"lot {i % 3}" for i in range(n)],
        names=[*NASTY_NAMES, *(f"part {i}.png" for i in range(len(NASTY_NAMES), n))],
        title='<b>Bricks</b> & "more"',
    )
