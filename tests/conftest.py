"""Shared data and small fitted detectors."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import nn

import skanomaly
from skanomaly import HierarchicalFeatureAE
from skanomaly.base import BaseImageDetector
from skanomaly.datasets import make_texture_defects

_BESIDE_THE_CHECKOUT = Path(__file__).parents[2] / "shared"

# Every detector, small enough to be fitted in a second or two. Whatever is added here
# is covered by all that tests detectors.
SMALL = {
    "FastFlow": {"n_steps": 2},
    "HierarchicalFeatureAE": {},
    "PaDiM": {"dim": 20},
    "PatchAE": {"dim": 32, "max_patches": 500},
    "PatchLatentSVM": {"patch_size": 33, "n_patches": 40, "n_estimators": 2, "n_support": 50},
    "PatchReconstruction": {"patch_size": 33, "n_patches": 40},
    "PatchRestoration": {
        "patch_size": 33,
        "n_patches": 40,
        "n_prior_patches": 20,
        "n_restorations": 2,
        "n_codes": 16,
        "prior_width": 8,
        "prior_depth": 1,
        "stride": 9,
    },
    "SelfSupervisedAE": {"width": 16, "depth": 2},
}
# Nothing is trained by gradients, so that there are no epochs.
UNTRAINED = {"PaDiM"}


def small(name, **parameters):
    """One of the detectors, small; what does not concern it is left out."""
    parameters = {"image_size": 64, "max_epochs": 2, "random_state": 0, **SMALL[name], **parameters}
    if name in UNTRAINED:
        parameters.pop("max_epochs")
    return getattr(skanomaly, name)(**parameters)


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

    def __init__(
        self,
        *,
        image_size=16,
        value_range=None,
        smoothing=1.0,
        score_reduction="max",
        contamination=0.1,
        validation_fraction=0.3,
        batch_size=4,
        device="cpu",
        n_jobs=None,
        random_state=0,
    ):
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

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
            nn.init.normal_(part.bias, 0, 0.1, generator=generator)
    return module.eval()
