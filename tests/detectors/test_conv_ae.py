import numpy as np
import pytest
import torch
from conftest import small
from numpy.testing import assert_allclose
from scipy import ndimage
from skimage import metrics

from skanomaly.detectors.conv_ae import SimilarityLoss

LOSSES = "l2", "ssim"


@pytest.fixture(scope="module")
def fitted(textures):
    """One detector a loss, with the paper's maps; tests must not change them."""
    parameters = {"standardize": None, "max_epochs": 3}
    return {
        loss: small("ConvAE", loss=loss, **parameters).fit(textures[0].images) for loss in LOSSES
    }


def similarity(x, y):
    """Of each pixel whose window lies in the image; by another library."""
    _, values = metrics.structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, full=True
    )
    return values[5:-5, 5:-5]


def test_similarity_loss_is_of_whole_windows():
    x, y = np.random.default_rng(0).random((2, 3, 2, 20, 17))
    loss = SimilarityLoss()(torch.from_numpy(y).requires_grad_(), torch.from_numpy(x))
    expected = np.mean([1 - similarity(x[i, c], y[i, c]) for i in range(3) for c in range(2)])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


def test_map_is_the_smoothed_squared_difference(fitted, textures):
    X = textures[1].images[:3]
    y = fitted["l2"].reconstruct(X)
    expected = [ndimage.gaussian_filter((a - b / 255) ** 2, 4.0) for a, b in zip(y, X)]
    assert_allclose(fitted["l2"].transform(X), expected, rtol=1e-3, atol=1e-6)


def test_map_of_the_similarity_goes_to_the_border(fitted, textures):
    x = torch.from_numpy(textures[1].images[:2, None] / np.float32(255))
    with torch.inference_mode():
        found = fitted["ssim"]._compute_maps(x)
        y = fitted["ssim"].net_.module_(x)
    for values, *pair in zip(found, x, y):
        padded = [np.pad(image[0].double().numpy(), 5, mode="reflect") for image in pair]
        assert_allclose(values, 1 - similarity(*padded), atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_lowers_the_loss_that_is_chosen(fitted, textures, loss):
    history = fitted[loss].net_.history
    assert history[-1, "valid_loss"] < history[0, "valid_loss"]
    untrained = small("ConvAE", loss=loss, max_epochs=1, lr=1e-30).fit(textures[0].images)
    x = torch.from_numpy(textures[1].images[:6, None] / np.float32(255))
    with torch.no_grad():
        losses = [
            float(detector._criterion()()(detector.net_.module_(x), x))
            for detector in (fitted[loss], untrained)
        ]
    assert losses[0] < 0.9 * losses[1]


def test_each_loss_reconstructs_best_by_its_own_measure(textures):
    x = torch.from_numpy(textures[1].images[:6, None] / np.float32(255))
    criteria = [small("ConvAE", loss=loss)._criterion()() for loss in LOSSES]
    found = []
    for loss in LOSSES:
        detector = small("ConvAE", loss=loss, max_epochs=20, lr=3e-3).fit(textures[0].images)
        with torch.no_grad():
            found.append([float(of(detector.net_.module_(x), x)) for of in criteria])
    assert found[0][0] < found[1][0]
    assert found[1][1] < found[0][1]


def test_reconstruct_gives_images_of_their_own_size_and_channels():
    X = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    detector = small("ConvAE", max_epochs=1).fit(X)
    mixed = detector.reconstruct([X[0], np.zeros((80, 50, 3), np.uint8)])
    assert [image.shape for image in mixed] == [(64, 64, 3), (80, 50, 3)]
    with torch.no_grad():
        x = torch.from_numpy(X[:1].transpose(0, 3, 1, 2) / np.float32(255))
        y = detector.net_.module_(x)[0].clamp(0, 1).permute(1, 2, 0)
    assert_allclose(mixed[0], y, atol=1e-5)


def test_what_was_never_seen_is_not_reconstructed():
    """Bright discs on a grey ground: where a disc is square, the map is brighter."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]

    def disc():
        y, x = rng.integers(8, 24, 2)
        return np.where(np.hypot(rows - y, columns - x) < 6, 0.9, 0.3).astype(np.float32)

    X, new = np.stack([disc() for _ in range(60)]), np.stack([disc() for _ in range(10)])
    raw = {"smoothing": 0, "standardize": None}
    detector = small("ConvAE", loss="l2", image_size=32, max_epochs=25, lr=3e-3, **raw)
    detector.fit(X)
    cut = new.copy()
    cut[:, 14:18] = 0.0
    good, bad = detector.transform(new), detector.transform(cut)
    assert bad[:, 14:18].mean() > 3 * good.mean()
    assert detector.score_samples(cut).mean() < detector.score_samples(new).mean()
