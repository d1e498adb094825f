import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from skanomaly import ARAE
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors._whole_image_detector import ImageDecoder, ImageEncoder
from skanomaly.detectors.arae import AdversarialAE, RobustLoss

X = make_texture_defects("brick", n_normal=30, image_size=32, random_state=0).images
X_NEW = make_texture_defects("gravel", n_normal=6, image_size=32, random_state=1).images


def small(**parameters):
    return ARAE(
        **{
            "channels": (4, 8),
            "latent_dim": 8,
            "max_epochs": 5,
            "lr": 1e-2,
            "n_steps": 3,
            "train_batch_size": 8,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    """Tests must not change it."""
    return small().fit(X)


def network(epsilon, n_steps=5):
    torch.manual_seed(0)
    encoder = ImageEncoder(1, (16, 16), (4, 8), 6)
    return AdversarialAE(encoder, ImageDecoder(1, encoder.sizes, (4, 8), 6), epsilon, n_steps)


def images(n=8):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("epsilon", [0.0, 0.03, 0.3, 1.0])
def test_images_are_changed_by_no_more_than_epsilon(epsilon):
    x = images()
    x[0], x[1] = 0, 1
    changed = network(epsilon).perturbed(x)
    assert (changed - x).abs().max() <= epsilon + 1e-6
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert not changed.requires_grad


def test_changes_move_latents_farther_than_random_ones_and_more_steps_farther_still():
    x, moved = images(), {}
    for n_steps in (1, 10):
        net = network(0.05, n_steps)
        changed = net.perturbed(x)
        encode = net.encoder.eval()
        moved[n_steps] = (encode(changed) - encode(x)).square().sum()
    by_chance = x + 0.05 * torch.rand_like(x).sub(0.5).sign()
    by_chance = (encode(by_chance.clamp(0, 1)) - encode(x)).square().sum()
    assert moved[10] > moved[1] > 1.5 * by_chance


def test_of_a_linear_encoder_the_change_is_known():
    """One coordinate w . x is moved most by epsilon times the signs of w, or their opposite."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.randn(5, generator=torch.Generator().manual_seed(0))

        def forward(self, x):
            return (x.flatten(1) * self.w).sum(dim=1, keepdim=True)

    encoder = Linear()
    x = torch.full((6, 1, 1, 5), 0.5)
    changed = AdversarialAE(encoder, nn.Identity(), 0.1, 4).perturbed(x)
    moved = (encoder(changed) - encoder(x)).abs()
    assert_allclose(moved, 0.1 * float(encoder.w.abs().sum()) * torch.ones(6, 1), rtol=1e-5)


def test_search_leaves_norms_and_gradients_as_they_were():
    net = network(0.1).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.perturbed(images())
    assert net.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_images_are_changed_in_training_alone():
    net, x = network(0.3), images()
    y, z, z_adv = net.train()(x)
    assert (z - z_adv).abs().max() > 0.01
    y, z, z_adv = net.eval()(x)
    assert torch.equal(z, z_adv)
    assert torch.equal(y, net.decoder(net.encoder(x)))


def test_loss_is_the_papers():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, 2, 4, 5, generator=generator) for _ in range(2))
    z, z_adv = (torch.rand(3, 6, generator=generator) for _ in range(2))
    error = np.mean([(float(a) - float(b)) ** 2 for a, b in zip(x.flatten(), y.flatten())])
    moved = np.mean([(float(a) - float(b)) ** 2 for a, b in zip(z.flatten(), z_adv.flatten())])
    found = float(RobustLoss(0.7)((y, z, z_adv), x))
    assert found == pytest.approx(error + 0.7 * moved, rel=1e-5)


def test_score_is_the_mean_squared_error(fitted):
    x = X_NEW / np.float32(255)
    expected = np.square(fitted.reconstruct(X_NEW) - x).mean(axis=(1, 2))
    assert_allclose(-fitted.score_samples(X_NEW), expected, rtol=1e-4)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (17, 31)])
def test_network_follows_the_size_of_images(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, *size), np.uint8)
    detector = small(image_size=None, max_epochs=1).fit(images)
    assert detector.reconstruct(images).shape == images.shape


@pytest.mark.parametrize(
    "parameters", [{"epsilon": 0.0}, {"n_steps": 1}, {"latent_weight": 10.0}], ids=str
)
def test_parameters_change_the_scores(fitted, parameters):
    other = small(**parameters).fit(X)
    assert np.abs(other.score_samples(X_NEW) / fitted.score_samples(X_NEW) - 1).max() > 1e-3


def test_adversary_makes_latents_harder_to_move():
    """What the training is for: the same network, trained without it, is moved farther."""
    moved = {}
    for epsilon in (0.0, 0.1):
        detector = small(epsilon=epsilon, max_epochs=30).fit(X)
        net = detector.net_.module_.eval().requires_grad_(False)
        x = torch.from_numpy(X[:, None] / np.float32(255))
        torch.manual_seed(0)
        changed = AdversarialAE(net.encoder, net.decoder, 0.1, 5).perturbed(x)
        net.eval()
        z, z_adv = net.encoder(x), net.encoder(changed)
        moved[epsilon] = float((z_adv - z).square().mean() / z.var(dim=0).mean())
    assert moved[0.1] < 0.7 * moved[0.0]
