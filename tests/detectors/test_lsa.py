import numpy as np
import pytest
import torch
from conftest import split_of
from numpy.testing import assert_allclose

from skanomaly import LSA
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors.lsa import AutoregressiveDensity, MaskedLinear, SurpriseLoss

X = make_texture_defects("brick", n_normal=30, image_size=32, random_state=0).images
X_NEW = make_texture_defects("gravel", n_normal=6, image_size=32, random_state=1).images


def small(**parameters):
    return LSA(
        **{
            "channels": (4, 8),
            "latent_dim": 6,
            "n_bins": 10,
            "density_width": 3,
            "max_epochs": 6,
            "lr": 1e-2,
            "train_batch_size": 8,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    """Tests must not change it."""
    return small().fit(X)


def density(d=4, n_bins=5, width=3, depth=2):
    torch.manual_seed(0)
    return AutoregressiveDensity(d, n_bins, width, depth)


def logits(model, z):
    return model.layers(z).unflatten(1, (model.d, model.n_bins))


def test_a_coordinate_depends_on_those_before_it_alone():
    model = density()
    z = torch.rand(1, 4).requires_grad_()
    for i in range(4):
        (gradient,) = torch.autograd.grad(
            logits(model, z)[0, i].square().sum(), z, allow_unused=True
        )
        seen = gradient[0] != 0
        assert not seen[i:].any()
        assert seen[:i].all()


@pytest.mark.parametrize("strict", [True, False])
def test_masked_map_by_hand(strict):
    torch.manual_seed(0)
    layer, h = MaskedLinear(3, 2, 4, strict), torch.rand(1, 6)
    weight, bias, found = (t.detach() for t in (layer.weight, layer.bias, layer(h)))
    for i in range(3):
        for k in range(4):
            row = 4 * i + k
            seen = range(2 * (i if strict else i + 1))
            expected = bias[row] + sum(weight[row, j] * h[0, j] for j in seen)
            assert float(found[0, row]) == pytest.approx(float(expected), abs=1e-6)


def test_likelihood_is_the_product_of_the_histograms_bins():
    """In the middles of bins; between two of them its logarithm is interpolated."""
    model = density().requires_grad_(False)
    z = torch.tensor([[0.1, 0.3, 0.5, 0.9], [0.0, 0.35, 0.4, 1.0]])
    log_p = logits(model, z).double().log_softmax(dim=2)
    bins = [
        [{0: 1}, {1: 1}, {2: 1}, {4: 1}],
        [{0: 1}, {1: 0.75, 2: 0.25}, {1: 0.5, 2: 0.5}, {4: 1}],
    ]
    expected = [
        -sum(share * float(of_row[i, b]) for i, of_z in enumerate(row) for b, share in of_z.items())
        for row, of_row in zip(bins, log_p)
    ]
    assert_allclose(model(z), expected, rtol=1e-5)


def test_likelihood_does_not_jump():
    model = density().requires_grad_(False)
    z = torch.linspace(0, 1, 4001)[:, None].repeat(1, 4)
    assert model(z).diff().abs().max() < 0.02 * (model(z).max() - model(z).min())


def test_a_latent_that_is_no_number_has_no_likelihood():
    z = torch.tensor([[0.5, float("nan"), 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    assert density()(z).isnan().tolist() == [True, False]


def test_probabilities_of_all_latents_sum_to_one():
    model = density(d=3, n_bins=3)
    centers = (torch.arange(3) + 0.5) / 3
    z = torch.cartesian_prod(centers, centers, centers)
    # Given the coordinates before it, here at the bins' centres, each bin is one of three.
    assert float((-model(z)).exp().sum().detach()) == pytest.approx(1, rel=1e-5)


def test_loss_is_the_papers():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, 2, 4, 5, generator=generator) for _ in range(2))
    nll = torch.rand(3, generator=generator)
    errors = [
        sum((float(p) - float(q)) ** 2 for p, q in zip(a.flatten(), b.flatten()))
        for a, b in zip(x, y)
    ]
    expected = np.mean(errors) + 0.3 * np.mean([float(value) for value in nll])
    assert float(SurpriseLoss(0.3)((y, nll), x)) == pytest.approx(expected, rel=1e-5)


def parts(detector, images):
    """Mean squared error and -log p of each image, each by itself."""
    net, found = detector.net_.module_.eval(), []
    for image in images:
        x = torch.from_numpy(image[None, None] / np.float32(255))
        with torch.inference_mode():
            y, nll = net(x)
        found.append([float((y - x).square().mean()), float(nll)])
    return np.array(found)


def test_score_is_the_sum_of_both_in_the_units_of_held_out_images(fitted):
    _, held_out = split_of(fitted, len(X))
    normal = parts(fitted, X[held_out])
    expected = ((parts(fitted, X_NEW) - normal.mean(axis=0)) / normal.std(axis=0)).sum(axis=1)
    assert_allclose(-fitted.score_samples(X_NEW), expected, rtol=1e-3, atol=1e-3)


def test_map_is_the_squared_error_and_the_latents_surprise_everywhere(fitted):
    x = X_NEW / np.float32(255)
    errors = np.square(fitted.reconstruct(X_NEW) - x)
    rough = small(smoothing=0.0).fit(X).transform(X_NEW)
    (mean, deviation), (mean_nll, deviation_nll) = fitted.units_.tolist()
    surprise = (parts(fitted, X_NEW)[:, 1] - mean_nll) / deviation_nll
    expected = (errors - mean) / deviation + surprise[:, None, None]
    assert_allclose(rough, expected, rtol=1e-3, atol=1e-3)


def test_one_held_out_image_gives_finite_units():
    detector = small(max_epochs=1).fit(X[:6], X_val=X[6:7])
    assert torch.isfinite(detector.units_).all()
    assert (detector.units_[:, 1] > 0).all()


def test_training_makes_latents_of_held_out_images_likelier():
    _, held_out = split_of(small(), len(X))
    found = [small(lr=lr, max_epochs=30).fit(X) for lr in (1e-30, 1e-2)]
    before, after = (parts(detector, X[held_out]).mean(axis=0) for detector in found)
    assert (after < 0.9 * before).all()


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (17, 31)])
def test_network_follows_the_size_of_images(size):
    images = np.random.default_rng(0).integers(0, 256, (8, *size), np.uint8)
    detector = small(image_size=None, max_epochs=1).fit(images)
    assert detector.reconstruct(images).shape == images.shape


@pytest.mark.parametrize(
    "parameters",
    [{"n_bins": 20}, {"density_weight": 20.0}, {"density_width": 6}, {"density_depth": 0}],
    ids=str,
)
def test_parameters_change_the_scores(fitted, parameters):
    other = small(**parameters).fit(X)
    assert np.abs(other.score_samples(X_NEW) - fitted.score_samples(X_NEW)).max() > 1e-2
