from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import as_if_trained, small
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import EnsembleDetector, LocalContrast, VAEGrad
from skanomaly.detectors.vae_grad import VariationalAutoencoder, shrunk


@pytest.fixture(scope="module")
def fitted(textures):
    """Tests must not change it."""
    return small("VAEGrad", max_epochs=3, n_steps=4).fit(textures[0].images)


def slow_steps(module, x_0, n_steps, step_size, l1_weight, decoder_std):
    """The descent, image by image, with a gradient by backward()."""
    with torch.no_grad():
        weights = step_size * (x_0 - module(x_0[None])[0][0]) ** 2
    x = x_0.clone()
    for _ in range(n_steps):
        x.requires_grad_()
        loss = ((x - module(x[None])[0][0]) ** 2).sum() / 2 / decoder_std**2
        x.grad = None
        loss.backward()
        with torch.no_grad():
            change = (x - weights * x.grad - x_0).numpy().copy()
        for place in np.ndindex(change.shape):
            least = float(weights[place]) * l1_weight
            change[place] = np.sign(change[place]) * max(0.0, abs(change[place]) - least)
        x = torch.from_numpy(np.clip(x_0.numpy() + change, 0, 1))
    return x


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"n_steps": 1},
        {"step_size": 0.5},
        {"l1_weight": 0.0},
        {"l1_weight": 0.3},
        {"decoder_std": 2.0},
    ],
    ids=str,
)
def test_steps_are_those_of_the_formula(textures, parameters):
    chosen = {"n_steps": 3, "step_size": 2.0, "l1_weight": 0.05, "decoder_std": 1.0, **parameters}
    detector = small("VAEGrad", max_epochs=1, **chosen).fit(textures[0].images[:6])
    detector.net_.module_.double()  # whose roundings the steps do not amplify to what is seen
    x_0 = torch.from_numpy(textures[1].images[:2, None] / 255)
    with torch.inference_mode():
        found = detector._compute_maps(x_0)
    expected = [(slow_steps(detector.net_.module_, x, **chosen) - x).abs().mean(dim=0) for x in x_0]
    assert_allclose(found, torch.stack(expected), rtol=1e-6, atol=1e-9)
    assert found.max() > 0.01


@given(st.floats(-10, 10), st.floats(0, 10))
def test_shrunk_minimises_distance_and_cost(v, by):
    """The soft threshold is the proximal operator of the absolute value."""

    def cost(u):
        return (u - v) ** 2 / 2 + by * abs(u)

    found = float(shrunk(torch.tensor(v, dtype=torch.float64), by))
    assert cost(found) <= min(cost(u) for u in np.linspace(-11, 11, 2201)) + 1e-9


def test_the_energy_falls(textures):
    detector = small("VAEGrad", max_epochs=5, step_size=0.5, l1_weight=0.02, decoder_std=1.0).fit(
        textures[0].images
    )
    x_0 = torch.from_numpy(textures[1].images[-4:, None] / np.float32(255))

    def energies(x):
        with torch.no_grad():
            loss = (x - detector.net_.module_(x)[0]).square().flatten(1).sum(1) / 2
        return loss + 0.02 * (x - x_0).abs().flatten(1).sum(1)

    found = [energies(x_0)]
    for n_steps in (1, 2, 4, 8):
        detector.n_steps = n_steps
        with torch.inference_mode():
            found.append(energies(detector._restored(x_0).float().clone()))
    assert all((b < a).all() for a, b in pairwise(found))


def test_pixels_stay_whose_derivative_costs_less(fitted, textures):
    costly = small("VAEGrad", max_epochs=1, l1_weight=1e6, standardize=None).fit(
        textures[0].images[:6]
    )
    assert not costly.transform(textures[1].images[:2]).any()
    X = textures[1].images[:2]
    assert_array_equal(costly.restore(X), X / np.float32(255))


def test_restore_gives_the_images_at_the_end(fitted, textures):
    X = textures[1].images[:3]
    x = torch.from_numpy(X[:, None] / np.float32(255))
    with torch.inference_mode():
        expected = fitted._restored(x).clamp(0, 1)[:, 0]
    assert_allclose(fitted.restore(X), expected, atol=1e-5)
    assert np.abs(fitted.restore(X) - X / 255).max() > 0.01


def test_latents_are_drawn_in_training_alone():
    torch.manual_seed(0)
    module = as_if_trained(VariationalAutoencoder(1, (32, 32), width=2, latent_dim=3))
    x = torch.rand(2, 1, 32, 32)
    y, mean, log_var = module(x)
    assert_array_equal(y.detach(), module(x)[0].detach())
    assert_array_equal(y.detach(), module.decode(mean, (32, 32)).detach())
    module.train()
    torch.manual_seed(1)
    drawn, *_ = module(x)
    torch.manual_seed(1)
    z = mean + (log_var / 2).exp() * torch.randn(2, 3)
    assert_allclose(drawn.detach(), module.decode(z, (32, 32)).detach(), atol=1e-6)


def test_a_larger_deviation_leaves_latents_nearer_to_their_prior(textures):
    divergences = []
    for decoder_std in (0.05, 5.0):
        detector = small("VAEGrad", decoder_std=decoder_std, max_epochs=15, lr=3e-3)
        detector.fit(textures[0].images)
        x = torch.from_numpy(textures[1].images[:6, None] / np.float32(255))
        with torch.no_grad():
            _, mean, log_var = detector.net_.module_(x)
        divergences.append(float((mean.square() + log_var.exp() - log_var - 1).sum()))
    assert divergences[1] < 0.5 * divergences[0]


def test_scoring_leaves_no_gradients(fitted, textures):
    for weights in fitted.net_.module_.parameters():
        weights.grad = None
    fitted.transform(textures[1].images[:2])
    assert all(weights.grad is None for weights in fitted.net_.module_.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_neither_the_batch_nor_threads_decide_on_which_side_of_a_bend_a_gradient_is(seed, textures):
    X = textures[0].images[:14]
    detector = small("VAEGrad", max_epochs=1, random_state=seed).fit(X[:10])
    maps, n_threads = detector.transform(X), torch.get_num_threads()
    one_by_one = np.concatenate([detector.transform(x[None]) for x in X])
    try:
        torch.set_num_threads(n_threads % 2 + 1)
        by_others = detector.transform(X)
    finally:
        torch.set_num_threads(n_threads)
    for found in (one_by_one, by_others):
        assert_allclose(found, maps, rtol=0, atol=1e-6 * np.ptp(maps))


def test_it_works_in_an_ensemble(textures):
    members = [("moved", small("VAEGrad")), ("contrast", LocalContrast(image_size=64))]
    detector = EnsembleDetector(members, random_state=0).fit(textures[0].images)
    assert np.ptp(detector.transform(textures[1].images[:2])) > 0


def test_it_says_why_there_is_no_file_of_it():
    assert "gradient" in VAEGrad._not_exportable
