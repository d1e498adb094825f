import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import as_if_trained, small
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import CAVGA, EnsembleDetector, LocalContrast
from skanomaly.detectors.cavga import AttentionLoss, AttentiveVAE


@pytest.fixture(scope="module")
def fitted(textures):
    """Tests must not change it."""
    return small("CAVGA", max_epochs=3).fit(textures[0].images)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return as_if_trained(AttentiveVAE(2, (32, 32), width=4, latent_dim=3))


def slow_attention(module, x):
    """Grad-CAM of one image, channel by channel, with a gradient by backward()."""
    f = module.features(x[None]).detach().requires_grad_()
    mean = module.latent(module.last(f))[:, :3]
    score = sum(mean[0, :, i, j].sum() for i, j in np.ndindex(*mean.shape[2:]))
    score.backward()
    logits = sum(f.grad[0, k].mean() * f[0, k] for k in range(f.shape[1]))
    return 1 / (1 + torch.exp(-logits))


def test_attention_is_grad_cam(module):
    x = torch.rand(3, 2, 32, 32) - 0.5
    *_, a = module.attend(x)
    expected = torch.stack([slow_attention(module, image) for image in x])
    assert_allclose(torch.sigmoid(a).detach(), expected.detach(), rtol=1e-4)
    assert float(expected.detach().std()) > 0


def test_attention_is_on_a_grid_twice_as_fine_as_the_latents(module):
    mean, log_var, a = module.attend(torch.rand(3, 2, 32, 32))
    assert mean.shape == log_var.shape == (3, 3, 8, 8)
    assert a.shape == (3, 16, 16)


def test_map_is_what_attention_leaves_out(fitted, textures):
    x = torch.from_numpy(textures[1].images[:2, None] / np.float32(255))
    *_, a = fitted.net_.module_.attend(x - 0.5)
    with torch.inference_mode():
        found = fitted._compute_maps(x)
    left_out = 1 - torch.sigmoid(a.detach())
    expected = F.interpolate(left_out[:, None], (64, 64), mode="bilinear")[:, 0]
    assert_allclose(found, expected, atol=1e-6)


def test_map_is_the_images_where_that_is_continued(textures):
    X = textures[0].images[:6, :61, :53]
    detector = small("CAVGA", image_size=None, max_epochs=1).fit(X)
    x = torch.from_numpy(X[:1, None] / np.float32(255))
    module = detector.net_.module_
    *_, a = module.attend(
        torch.from_numpy(np.pad(x, [(0, 0), (0, 0), (0, 3), (0, 3)], "edge")) - 0.5
    )
    whole = F.interpolate(torch.sigmoid(-a.detach())[:, None], (64, 56), mode="bilinear")
    with torch.inference_mode():
        assert_allclose(detector._compute_maps(x), whole[:, 0, :61, :53], atol=1e-6)


def test_loss_is_the_sum_of_its_parts():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 4, 1, 8, 8, generator=generator)
    mean, log_var = torch.randn(2, 4, 3, 2, 2, generator=generator)
    a, (real, fake) = (
        torch.randn(4, 4, 4, generator=generator),
        torch.randn(2, 4, generator=generator),
    )
    loss = AttentionLoss(decoder_std=0.5, adversarial_weight=0.3, attention_weight=0.2)
    of_image = [
        (
            ((x[i] - y[i]) ** 2).sum() / 0.5
            + 0.5 * (mean[i] ** 2 + log_var[i].exp() - log_var[i] - 1).sum()
        )
        / 64
        - 0.3
        * (torch.log(1 / (1 + torch.exp(-real[i]))) + torch.log(1 - 1 / (1 + torch.exp(-fake[i]))))
        + 0.2 * (1 - 1 / (1 + torch.exp(-a[i]))).mean()
        for i in range(4)
    ]
    found = loss((y, mean, log_var, a, real, fake), x)
    assert float(found) == pytest.approx(float(sum(of_image)) / 4, rel=1e-5)


def test_the_discriminator_descends_what_the_auto_encoder_ascends(module):
    """The gradients of one step are those of two optimisers, one a player."""
    module.train()
    x = torch.rand(4, 2, 32, 32)

    def gradients(loss, of):
        return [g for g in torch.autograd.grad(loss, of, allow_unused=True) if g is not None]

    torch.manual_seed(1)
    y, *_, real, fake = module(x)
    adversarial = F.softplus(-real).mean() + F.softplus(fake).mean()
    decoder, discriminator = (
        list(part.parameters()) for part in (module.decoder, module.discriminator)
    )
    found = gradients(adversarial, decoder + discriminator)

    torch.manual_seed(1)
    y, *_ = module(x)
    of_truth, of_made = (module.discriminator(image - 0.5) for image in (x, y))
    log_likelihood = F.logsigmoid(of_truth).mean() + F.logsigmoid(-of_made).mean()
    of_autoencoder = gradients(log_likelihood, decoder)  # it descends it, as it is its opponent's
    torch.manual_seed(1)
    y = module(x)[0].detach()
    of_truth, of_made = (module.discriminator(image - 0.5) for image in (x, y))
    of_discriminator = gradients(
        -F.logsigmoid(of_truth).mean() - F.logsigmoid(-of_made).mean(), discriminator
    )
    for a, b in zip(found, of_autoencoder + of_discriminator, strict=True):
        assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert any(g.abs().max() > 1e-4 for g in of_autoencoder)


def test_attention_expands_while_it_is_asked_to(textures):
    attended = []
    for attention_weight in (0.0, 10.0):
        parameters = {"attention_weight": attention_weight, "max_epochs": 15, "lr": 2e-3}
        detector = small("CAVGA", standardize=None, **parameters).fit(textures[0].images)
        attended.append(1 - detector.transform(textures[1].images[:6]).mean())
    assert attended[1] > attended[0] + 0.1
    assert attended[1] > 0.6


def test_an_adversary_changes_what_is_learnt(textures):
    alone, opposed = (
        small("CAVGA", adversarial_weight=weight).fit(textures[0].images) for weight in (0.0, 1.0)
    )
    assert not np.array_equal(
        alone.transform(textures[1].images), opposed.transform(textures[1].images)
    )


def test_the_discriminator_learns(textures):
    """Against an auto-encoder of few epochs it tells images from reconstructions."""
    detector = small("CAVGA", max_epochs=8, adversarial_weight=1.0, lr=2e-3).fit(textures[0].images)
    x = torch.from_numpy(textures[1].images[:6, None] / np.float32(255))
    *_, real, fake = detector.net_.module_(x)
    assert float(real.detach().mean()) > float(fake.detach().mean())


def test_latents_are_drawn_in_training_alone(module):
    x = torch.rand(2, 2, 32, 32)
    assert_array_equal(module(x)[0].detach(), module(x)[0].detach())
    module.train()
    assert not torch.equal(module(x)[0], module(x)[0])


def test_scoring_leaves_no_gradients(fitted, textures):
    for weights in fitted.net_.module_.parameters():
        weights.grad = None
    fitted.transform(textures[1].images[:2])
    assert all(weights.grad is None for weights in fitted.net_.module_.parameters())


def test_it_works_in_an_ensemble(textures):
    members = [("attention", small("CAVGA")), ("contrast", LocalContrast(image_size=64))]
    detector = EnsembleDetector(members, random_state=0).fit(textures[0].images)
    assert np.ptp(detector.transform(textures[1].images[:2])) > 0


def test_it_says_why_there_is_no_file_of_it():
    assert "gradient" in CAVGA._not_exportable
