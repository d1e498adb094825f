from copy import copy
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import as_if_trained, interpolated, split_of
from numpy.testing import assert_allclose
from scipy import ndimage
from skorch.callbacks import Callback

from skanomaly import PatchReconstruction
from skanomaly.detectors._patch_autoencoder import ConvAutoEncoder
from skanomaly.detectors._patches import continued, patch_places
from skanomaly.maps import structural_similarity
from skanomaly.metrics import pixel_roc_auc_score


def small(**parameters):
    return PatchReconstruction(
        **{"patch_size": 33, "n_patches": 40, "max_epochs": 2, "random_state": 0, **parameters}
    )


def slow_maps(detector, pixels):
    """Each patch by itself through the network, and the errors put where they belong."""
    if detector.error == "ssim":
        return of_each_patch(detector, pixels, lambda x, y: 1 - structural_similarity(x, y), 5)
    return of_each_patch(detector, pixels, lambda x, y: (y - x).square().mean(dim=1))


def slow_residuals(detector, pixels, k):
    return of_each_patch(detector, pixels, lambda x, y: (y - x)[:, k])


def of_each_patch(detector, pixels, compare, lost=0):
    net, stride, p = detector.net_.module_, detector.stride, detector.patch_size
    n, _, height, width = pixels.shape
    x = continued(pixels, p)
    rim = net.margin + lost
    rows, columns = patch_places(height, stride), patch_places(width, stride)
    central = np.empty((n, len(rows), len(columns)))
    total, n_covering = np.zeros((2, n, height + p, width + p))
    for (a, i), (b, j) in product(enumerate(rows), enumerate(columns)):
        patch = x[:, :, i : i + p, j : j + p]
        error = compare(net.without_rim(patch), net(patch))
        central[:, a, b] = error[:, p // 2 - rim, p // 2 - rim]
        total[:, i + rim : i + p - rim, j + rim : j + p - rim] += error.numpy()
        n_covering[:, i + rim : i + p - rim, j + rim : j + p - rim] += 1
    if detector.aggregation == "center":
        return interpolated(central, (rows, columns), (height, width))
    image = np.s_[:, p // 2 : p // 2 + height, p // 2 : p // 2 + width]
    return total[image] / n_covering[image]


@pytest.mark.parametrize("aggregation", ["mean", "center"])
@pytest.mark.parametrize("error", ["squared", "ssim"])
@pytest.mark.parametrize("stride", [1, 3, 4, 7])
@pytest.mark.parametrize("patch_size", [42, 45])
@torch.inference_mode()
def test_maps_are_those_of_each_patch_by_itself(patch_size, stride, error, aggregation):
    detector = small(patch_size=patch_size, stride=stride, error=error, aggregation=aggregation)
    detector.net_ = SimpleNamespace(module_=as_if_trained(ConvAutoEncoder(2, patch_size)))
    pixels = torch.rand(2, 2, 23, 26, generator=torch.Generator().manual_seed(0))
    found = detector._compute_maps(pixels)
    assert_allclose(found, slow_maps(detector, pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["mean", "center"])
@pytest.mark.parametrize("stride", [1, 3, 4])
@torch.inference_mode()
def test_residuals_are_those_of_each_patch_by_itself(stride, aggregation):
    """Of each channel in turn, as the mean over channels of what is squared cannot tell."""
    detector = small(patch_size=42, stride=stride, aggregation=aggregation)
    network = as_if_trained(ConvAutoEncoder(2, 42))
    detector.net_ = SimpleNamespace(module_=network)
    pixels = torch.rand(2, 2, 23, 26, generator=torch.Generator().manual_seed(0))
    found = detector._residuals(pixels)
    for k in range(2):
        assert_allclose(found[:, k], slow_residuals(detector, pixels, k), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["mean", "center"])
def test_reconstruction_is_the_image_and_its_residuals(textures, aggregation):
    detector = small(max_epochs=1, aggregation=aggregation).fit(textures[0].images[:8])
    X = textures[1].images[:3]
    with torch.inference_mode():
        residuals = detector._residuals(torch.from_numpy(X[:, None] / np.float32(255)))[:, 0]
    expected = np.clip(X / 255 + residuals.numpy(), 0, 1)
    detector.set_params(error="squared")  # concerns the map alone
    assert_allclose(detector.reconstruct(X), expected, atol=1e-6)


@pytest.mark.parametrize(("error", "side"), [("squared", 18), ("ssim", 8)])
def test_stride_of_the_mean_is_at_most_what_a_patch_covers(error, side):
    X = np.random.default_rng(0).random((4, 48, 40), np.float32)
    parameters = {"patch_size": 42, "error": error, "n_patches": 4, "max_epochs": 1}
    with pytest.raises(
        ValueError,
        match=f"stride={side + 1} leaves pixels that no patch covers.* at most {side}",
    ):
        small(**parameters, stride=side + 1).fit(X)
    assert np.isfinite(small(**parameters, stride=side).fit(X).transform(X)).all()
    central = small(**parameters, stride=side + 1, aggregation="center").fit(X)
    assert central.transform(X).shape == X.shape


def test_patch_too_small_for_the_window_of_ssim():
    X = np.zeros((4, 40, 40), np.uint8)
    message = "patch_size=33 is too small for error='ssim'.*9 pixels of a patch.*larger"
    with pytest.raises(ValueError, match=message):
        small(error="ssim").fit(X)
    small(error="ssim", patch_size=36, stride=2, max_epochs=1).fit(X)


def test_images_smaller_than_half_a_patch():
    message = r"image_size=\(16, 40\) of PatchReconstruction is smaller than the 17 pixels"
    with pytest.raises(ValueError, match=message):
        small(image_size=(16, 40)).fit(np.zeros((4, 40, 40), np.uint8))


class Watch(Callback):
    """The windows that were learnt from, and the state after each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.windows, self.states = [], []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.windows += [batch[0]] if training else []

    def on_epoch_end(self, net, **kwargs):
        self.states.append({k: v.clone() for k, v in net.module_.state_dict().items()})


@pytest.mark.parametrize(
    ("n_patches", "max_epochs", "side"),
    [(12, 3, 66), (13, 3, 72), (2, 4, 33), (3000, 3, 87)],
    ids=str,
)
def test_windows_hold_the_pixels_of_so_many_patches(textures, n_patches, max_epochs, side):
    """33 and the steps of 3 that fit into the pixels, or the image of 64 and its two rims of 12."""
    watch = Watch()
    detector = small(n_patches=n_patches, max_epochs=max_epochs, callbacks=[watch])
    detector.fit(textures[0].images[:10])
    assert len(watch.windows) == 8 * max_epochs  # two images are held out
    assert {tuple(window.shape) for window in watch.windows} == {(1, 1, side, side)}


def test_batch_size_changes_no_training_on_sizes_that_differ(textures):
    X = [x[: 40 + 2 * i] for i, x in enumerate(textures[0].images[:12])]
    losses = [
        small(batch_size=b, validation_fraction=0.4).fit(X).net_.history[:, "valid_loss"]
        for b in (1, 4)
    ]
    assert losses[0] == losses[1]


class Spoil(Callback):
    """Spoils what was learned, in the last epoch."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == net.max_epochs:
            with torch.no_grad():
                for parameter in net.module_.decoder.parameters():
                    parameter.mul_(10)


def test_ends_with_the_best_validation_state(textures):
    watch = Watch()
    detector = small(max_epochs=3, callbacks=[Spoil(), watch], stride=9).fit(textures[0].images)
    losses = detector.net_.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert losses[-1] > 2 * losses[best]
    final = detector.net_.module_.state_dict()
    assert all(torch.equal(final[key], value) for key, value in watch.states[best].items())


@pytest.mark.parametrize("error", ["mahalanobis", "squared", "ssim"])
def test_learns_and_finds_drawn_defects(textures, error):
    train, test = textures
    detector = small(
        patch_size=39, error=error, stride=3, smoothing=1, n_patches=500, max_epochs=10, lr=1e-2
    )
    losses = detector.fit(train.images).net_.history[:, "valid_loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert pixel_roc_auc_score(test.masks, detector.transform(test.images)) > 0.8


@pytest.mark.parametrize("two_sided", [True, False])
def test_units_are_of_the_errors_logarithm(textures, two_sided):
    train, test = textures
    parameters = {"error": "squared", "two_sided": two_sided, "smoothing": 0.0}
    detector = small(standardize="global", **parameters).fit(train.images)
    held_out = train.images[split_of(detector, len(train.images))[1]]
    raw = copy(detector).set_params(standardize=None).calibrate(held_out)
    normal, new = (
        np.log(ndimage.gaussian_filter(raw.transform(X), (0, 2, 2), mode="nearest") + 1e-6)
        for X in (held_out, test.images)
    )
    deviations = (new - normal.mean()) / normal.std()
    assert deviations.min() < 0
    expected = np.abs(deviations) if two_sided else deviations
    assert_allclose(detector.transform(test.images), expected, rtol=1e-3, atol=1e-3)


def test_what_is_too_smooth_is_found_from_both_sides_alone():
    X = np.random.default_rng(0).integers(0, 256, (24, 48, 48), dtype=np.uint8)
    smooth = X[:1].copy()
    smooth[0, 8:40, 8:40] = 128
    for two_sided, is_found in ((True, True), (False, False)):
        detector = small(error="squared", two_sided=two_sided, n_patches=100, max_epochs=4)
        detector.fit(X[2:])
        maps = detector.transform([X[1], smooth[0]])[:, 16:32, 16:32].mean(axis=(1, 2))
        assert (maps[1] > maps[0] + 1) == is_found
