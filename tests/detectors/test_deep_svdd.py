import numpy as np
import pytest
import torch
from conftest import split_of
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from torch import nn

from skanomaly import DeepSVDD
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors._whole_image_detector import ImageEncoder
from skanomaly.detectors.deep_svdd import Representation, SphereLoss, away_from_zero

X = make_texture_defects("brick", n_normal=40, image_size=32, random_state=0).images
X_NEW = make_texture_defects("gravel", n_normal=6, image_size=32, random_state=1).images


def small(**parameters):
    return DeepSVDD(
        **{
            "channels": (4, 8),
            "latent_dim": 8,
            "pretrain_epochs": 3,
            "max_epochs": 3,
            "train_batch_size": 8,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    """Tests must not change it."""
    return small().fit(X)


def representations(detector, images):
    pixels = torch.from_numpy(images[:, None] / np.float32(255))
    with torch.inference_mode():
        return detector.net_.module_.eval()(pixels)


def test_map_is_how_the_papers_score_comes_about(fitted):
    z = representations(fitted, X_NEW)
    distances = (z - fitted.center_).square().sum(dim=1).numpy()
    with torch.inference_mode():
        maps = fitted._compute_maps(torch.from_numpy(X_NEW[:, None] / np.float32(255)))
    assert_allclose(maps.sum(dim=(1, 2)), distances, rtol=1e-4)
    assert_allclose(-fitted.score_samples(X_NEW), distances / maps[0].numel(), rtol=1e-4)


def test_share_of_a_position_is_what_its_features_bring(fitted):
    """By the linear map of each position alone, in the order of the formula."""
    phi = fitted.net_.module_.eval()
    pixels = torch.from_numpy(X_NEW[:1, None] / np.float32(255))
    with torch.inference_mode():
        (f,), (found,) = phi.features(pixels), fitted._compute_maps(pixels)
        W = phi.encoder.head.weight.view(-1, *f.shape)
        whole = sum(W[..., i, j] @ f[:, i, j] for i, j in np.ndindex(*f.shape[1:]))
        of_mean = torch.einsum("dchw,chw->d", W, fitted.mean_features_)
        expected = torch.empty_like(found)
        for i, j in np.ndindex(*f.shape[1:]):
            share = W[..., i, j] @ (f[:, i, j] - fitted.mean_features_[:, i, j])
            share += (of_mean - fitted.center_) / found.numel()
            expected[i, j] = share @ (whole - fitted.center_)
    assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * float(found.abs().max()))


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (17, 31)])
def test_network_follows_the_size_of_images(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, *size), np.uint8)
    detector = small(image_size=None, pretrain_epochs=1, max_epochs=1).fit(images)
    assert detector.transform(images).shape == images.shape
    assert detector.net_.module_.encoder.sizes[0] == size


def test_nothing_of_the_network_is_the_same_whatever_the_image():
    """No biases: with zero weights, or of an image without any contrast, it gives zero."""
    phi = Representation(ImageEncoder(1, (32, 32), (4, 8), 8, bias=False), True).train()
    assert not [name for name, _ in phi.named_parameters() if "bias" in name]
    assert not any(part.affine for part in phi.modules() if isinstance(part, nn.BatchNorm2d))
    assert phi(torch.full((3, 1, 32, 32), 0.5)).abs().max() == 0


def test_normalised_contrast_forgets_brightness_and_contrast():
    phi = Representation(ImageEncoder(1, (32, 32), (4, 8), 8, bias=False), True).eval()
    raw = Representation(phi.encoder, False).eval()
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert_allclose(phi(0.2 + 0.5 * x).detach(), phi(x).detach(), rtol=1e-3, atol=1e-5)
    assert (raw(0.2 + 0.5 * x) - raw(x)).abs().max() > 0.01


def test_center_is_the_mean_before_the_second_training(monkeypatch):
    seen = {}
    make_net = DeepSVDD._make_net

    def spy(self, module, *args, stage, **settings):
        if stage == 2:
            images = X[sorted(set(range(len(X))) - held_out)]
            pixels = torch.from_numpy(images[:, None] / np.float32(255))
            with torch.inference_mode():
                seen["mean"] = module.eval()(pixels).mean(dim=0)
        return make_net(self, module, *args, stage=stage, **settings)

    monkeypatch.setattr(DeepSVDD, "_make_net", spy)
    held_out = set(split_of(small(), len(X))[1].tolist())
    c = small().fit(X).center_
    for found, mean in zip(c.tolist(), seen["mean"].tolist()):
        if abs(mean) >= 0.1:
            assert found == pytest.approx(mean, rel=1e-3)
        else:
            assert found == pytest.approx(-0.1 if mean < 0 else 0.1)


def test_no_coordinate_of_a_center_is_near_zero():
    c = torch.tensor([0.0, -0.0, 0.02, -0.02, 0.1, -0.1, 3.0, -3.0])
    found = away_from_zero(c).tolist()
    assert found == pytest.approx([0.1, 0.1, 0.1, -0.1, 0.1, -0.1, 3.0, -3.0])


def test_images_are_brought_nearer_to_the_center_and_not_onto_it(fitted):
    """And what is no such image lies farther: nothing has collapsed."""
    unmoved = small(lr=1e-30).fit(X)
    relative = []
    for detector in (unmoved, fitted):
        assert detector.center_.abs().min() >= 0.1 - 1e-6
        distances = (representations(detector, X) - detector.center_).square().sum(dim=1)
        relative.append(float(distances.mean() / detector.center_.square().sum()))
    assert relative[1] < 0.8 * relative[0]
    z = representations(fitted, np.concatenate([X, X_NEW]))
    assert z.std(dim=0).norm() > 0.05 * fitted.center_.norm()
    scores = fitted.score_samples(np.concatenate([X, X_NEW]))
    assert roc_auc_score(np.arange(len(scores)) < len(X), scores) > 0.8


def slow_loss(z, c, nu):
    """The paper's objectives; R is sought among the images' distances, where its minimum lies."""
    distances = [float(((z_i - c) ** 2).sum()) for z_i in z]
    if nu is None:
        return np.mean(distances)
    return min(
        R2 + np.mean([max(0, distance - R2) for distance in distances]) / nu for R2 in distances
    )


@pytest.mark.parametrize("nu", [None, 0.1, 0.3, 0.77])
def test_loss_is_the_papers(nu):
    generator = torch.Generator().manual_seed(0)
    z, c = torch.randn(13, 4, generator=generator), torch.randn(4, generator=generator)
    assert float(SphereLoss(c, nu)(z, None)) == pytest.approx(slow_loss(z, c, nu), rel=1e-5)


def test_soft_boundary_moves_those_outside_alone():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10, 4, generator=generator).requires_grad_()
    SphereLoss(torch.zeros(4), 0.25)(z, None).backward()
    moved = z.grad.abs().sum(dim=1) > 0
    farthest = z.detach().square().sum(dim=1).argsort()[-2:]
    assert set(moved.nonzero().flatten().tolist()) <= set(farthest.tolist())
    assert moved.any()


@pytest.mark.parametrize(
    "parameters",
    [{"nu": 0.1}, {"normalize_contrast": False}, {"pretrain_epochs": 6}, {"weight_decay": 10.0}],
    ids=str,
)
def test_parameters_change_the_scores(fitted, parameters):
    other = small(**parameters).fit(X)
    assert np.abs(other.score_samples(X_NEW) / fitted.score_samples(X_NEW) - 1).max() > 0.01
