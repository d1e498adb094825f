"""What every detector keeps besides the contract, for which `tests/utils` checks it."""

import re
from functools import partial

import numpy as np
import pytest
from conftest import DETECTORS, UNTRAINED, small
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback, EarlyStopping

from skanomaly import ImageFiles, InvalidImageError
from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import TrainingError
from skanomaly.metrics import pixel_roc_auc_score

# The least of what a few more epochs must reach on drawn defects: image and pixel AUROC, for
# every detector and for those of which it is something else.
LEARNS = {"max_epochs": 10}, 0.8, 0.9
OF_SQUARES = {"patch_size": 32, "stride": 16}
# Of those that look at small images as a whole, and are for other things.
WHOLE_IMAGES = {
    "max_epochs": 10,
    "lr": 1e-2,
    "score_reduction": "max",
    "smoothing": 4.0,
    "standardize": "position",
}
LEARNING = {
    "ARAE": (WHOLE_IMAGES, 0.85, 0.7),
    # What attention is unusual in is seen, but a good wall's is as unusual somewhere.
    "CAVGA": ({"max_epochs": 60, "lr": 2e-3, **OF_SQUARES}, 0.55, 0.6),
    "ConvAE": (
        {
            "loss": "l2",
            "max_epochs": 150,
            "lr": 3e-3,
            "latent_dim": 50,
            "score_reduction": 0.01,
            **OF_SQUARES,
        },
        0.8,
        0.85,
    ),
    "DeepSVDD": ({**WHOLE_IMAGES, "pretrain_epochs": 10}, 0.6, 0.55),
    "FastFlow": ({"max_epochs": 10, "n_steps": 4, "hidden_ratio": 1.0}, 0.9, 0.9),
    "HierarchicalFeatureAE": ({"max_epochs": 10}, 0.9, 0.9),
    "LSA": (WHOLE_IMAGES, 0.8, 0.7),
    "LocalContrast": ({}, 0.7, 0.75),
    "MKD": ({"max_epochs": 50}, 0.9, 0.85),
    "MedianDifference": ({}, 0.7, 0.7),
    "PaDiM": ({"n_features": 100}, 0.9, 0.9),
    "PatchAE": ({"max_epochs": 10, "latent_dim": 256, "max_patches": 2000}, 0.9, 0.95),
    "PatchLatentSVM": (
        {
            "max_epochs": 10,
            "n_patches": 200,
            "n_support": 500,
            "gamma": 0.01,
            "standardize": None,
        },
        0.6,
        0.75,
    ),
    "PatchReconstruction": (
        {"max_epochs": 5, "n_patches": 200, "standardize": None},
        0.8,
        0.75,
    ),
    "PatchRestoration": (
        {"max_epochs": 10, "n_patches": 200, "n_prior_patches": 50, "lr": 1e-2},
        0.6,
        0.75,
    ),
    "PatchSVDD": ({"max_epochs": 30}, 0.65, 0.9),
    "ReverseDistillation": ({"max_epochs": 30}, 0.85, 0.95),
    "SelfSupervisedAE": ({"max_epochs": 10, "lr": 3e-3}, 0.85, 0.9),
    "VAEGrad": (
        {"n_steps": 10, "max_epochs": 60, "lr": 3e-3, "latent_dim": 100, **OF_SQUARES},
        0.65,
        0.8,
    ),
    "SuperSimpleNet": ({"max_epochs": 30, "lr": 2e-3}, 0.9, 0.9),
}


@pytest.fixture(params=DETECTORS)
def make(request):
    """Makes one of the detectors, small."""
    return partial(small, request.param)


@pytest.fixture
def make_trained(make, request):
    """As `make`, of those that are trained by gradients."""
    if type(make()).__name__ in UNTRAINED:
        pytest.skip("nothing is trained by gradients")
    return make


_FITTED = {}


@pytest.fixture
def fitted(make, textures):
    """One of the detectors, fitted on `textures`; tests must not change it."""
    detector = make()
    name = type(detector).__name__
    if name not in _FITTED:
        _FITTED[name] = detector.fit(textures[0].images)
    return _FITTED[name]


def test_no_name_is_of_no_detector():
    assert set(LEARNING) <= set(DETECTORS)


def test_finds_drawn_defects(make):
    draw = partial(make_texture_defects, "brick", image_size=96, random_state=0)
    train, test = draw(n_normal=32), draw(split="test", n_normal=10, n_defective=12)
    parameters, image_auroc, pixel_auroc = LEARNING.get(type(make()).__name__, LEARNS)
    detector = make(image_size=96, **parameters).fit(train.images)
    found = detector.detect(test.images)
    assert roc_auc_score(test.target, found.scores) > image_auroc
    assert pixel_roc_auc_score(test.masks, found.maps) > pixel_auroc
    if hasattr(detector, "net_"):
        losses = detector.net_.history[:, "valid_loss"]
        assert losses[0] - min(losses) > 0.05 * abs(losses[0])


def test_another_seed_gives_something_else(make, fitted, textures):
    other = make(random_state=1).fit(textures[0].images)
    assert not np.array_equal(other.validation_scores_, fitted.validation_scores_)


@pytest.mark.parametrize("size", [(64, 64), (61, 83), (48, 100)])
def test_sizes_that_are_no_multiple_of_the_stride(make, size):
    X = np.random.default_rng(0).integers(0, 256, (6, *size), np.uint8)
    detector = make(image_size=None, max_epochs=1).fit(X)
    assert detector.transform(X[:2]).shape == (2, *size)
    assert np.isfinite(detector.transform(X[:2])).all()


def test_mixed_sizes_and_colours_from_files(make, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        size = (70 + 5 * i, 90, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / f"{i}.png")
    files = ImageFiles.from_folder(tmp_path)
    detector = make(max_epochs=1).fit(files)
    assert [m.shape for m in detector.transform(files)] == [(70 + 5 * i, 90) for i in range(6)]


def test_mixed_sizes_are_taken_or_need_an_image_size(make, textures):
    X = [*textures[0].images[:4], np.zeros((80, 64), np.uint8)]
    detector, refused = make(image_size=None, validation_fraction=0.01, random_state=1), ""
    try:
        detector.fit(X)
    except InvalidImageError as error:
        refused = str(error)
    if refused:
        assert re.match("image 4: is 80 x 64 pixels.*set image_size", refused)
        assert type(detector)().image_size is not None  # or its defaults could not be used
    else:
        assert [m.shape for m in detector.transform(X[3:])] == [(64, 64), (80, 64)]


def test_image_smaller_than_the_stride_is_resized(fitted):
    least = getattr(fitted, "min_image_size_", 1)
    X = [np.zeros((64, 64), np.uint8), np.zeros((max(1, least - 1), 64), np.uint8)]
    assert [m.shape for m in fitted.transform(X)] == [x.shape for x in X]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(make, channels):
    X = np.random.default_rng(0).integers(0, 256, (5, 64, 64, channels), np.uint8)
    assert make(max_epochs=1).fit(X).transform(X[:1]).shape == (1, 64, 64)


def test_early_stopping_leaves_a_fitted_detector(make_trained, textures):
    stop = EarlyStopping("valid_loss", patience=1, threshold=1e9, threshold_mode="abs")
    detector = make_trained(max_epochs=30, callbacks=[stop]).fit(textures[0].images)
    assert len(detector.net_.history) < 30
    assert detector.predict(textures[1].images[:2]).shape == (2,)


def test_diverging_training_leaves_the_detector_as_it_was(make_trained, textures):
    detector = make_trained().fit(textures[0].images[:6])
    detector.set_params(lr=1e30, max_epochs=50)
    before = dict(vars(detector))
    with pytest.raises(TrainingError, match=r"epoch \d+.*learning rate below"):
        detector.fit(textures[0].images[:6])
    assert vars(detector) == before


class Interrupt(Callback):
    """Ends the training as the user's key would, in the epoch after the first."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_interrupted_training_leaves_the_detector_as_it_was(make_trained, textures):
    detector = make_trained().fit(textures[0].images[:6])
    before = dict(vars(detector.set_params(callbacks=[Interrupt()])))
    with pytest.raises(KeyboardInterrupt):
        detector.fit(textures[0].images[:6])
    assert vars(detector) == before
    assert detector.predict(textures[1].images[:2]).shape == (2,)


def test_interrupted_training_goes_on_to_the_same_bits(make_trained, textures, tmp_path):
    X, checkpoint = textures[0].images[:10], tmp_path / "training.pt"
    through = make_trained(max_epochs=3).fit(X)
    with pytest.raises(KeyboardInterrupt):
        make_trained(max_epochs=3, checkpoint=checkpoint, callbacks=[Interrupt()]).fit(X)
    assert list(tmp_path.iterdir())
    resumed = make_trained(max_epochs=3, checkpoint=checkpoint).fit(X)
    assert not list(tmp_path.iterdir())
    assert len(resumed.net_.history) == 3
    assert_array_equal(resumed.transform(X), through.transform(X))
    assert resumed.offset_ == through.offset_
