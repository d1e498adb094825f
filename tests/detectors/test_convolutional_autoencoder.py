import math

import numpy as np
import pytest
import torch
from conftest import small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skanomaly import OnnxDetector, export_onnx
from skanomaly.detectors._convolutional_autoencoder import (
    MAX_PLACES,
    ConvAutoencoder,
    EvidenceLoss,
    Halvings,
    ImageCrops,
    continued,
    initialized,
    places,
)
from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset

NAMES = "ConvAE", "VAEGrad", "CAVGA"


@pytest.mark.parametrize(
    ("side", "grid", "widths"),
    [
        (28, 7, [(2, 2), (4, 2, 1)]),
        (32, 8, [(2, 2), (4, 2, 1)]),
        (64, 8, [(1, 1), (2, 2), (4, 2, 1)]),
        (128, 8, [(1,), (1, 1), (2, 2), (4, 2, 1)]),
        (256, 8, [(1,), (1,), (1, 1), (2, 2), (4, 2, 1)]),
    ],
)
def test_an_image_is_halved_as_often_as_its_size_asks_for(side, grid, widths):
    halvings = Halvings((side, side))
    assert halvings.grid == (grid, grid)
    assert halvings.widths == widths


sides = st.integers(6, 1200)


@given(sides, sides)
def test_there_are_few_places_and_no_fewer_than_need_be(height, width):
    halvings = Halvings((height, width))
    assert math.prod(halvings.grid) <= MAX_PLACES
    assert (
        halvings.stride == 4
        or math.prod(-(-n * 2 // halvings.stride) for n in (height, width)) > MAX_PLACES
    )
    assert all(
        0 <= g * halvings.stride - n < halvings.stride
        for g, n in zip(halvings.grid, (height, width))
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(6, 70), st.integers(6, 70), st.integers(1, 4))
def test_reconstructions_are_of_the_images_shape(height, width, n_channels):
    x = torch.rand(2, n_channels, height, width)
    network = ConvAutoencoder(n_channels, (height, width), width=2, latent_dim=3)
    assert network(x).shape == x.shape
    assert network.encode(x).shape == (2, 3)


def test_images_go_on_with_their_last_pixels():
    x = torch.rand(1, 2, 9, 14)
    whole = continued(x, 4)
    assert_array_equal(whole, np.pad(x, [(0, 0), (0, 0), (0, 3), (0, 2)], mode="edge"))


def test_all_passes_through_the_latent():
    network = ConvAutoencoder(1, (32, 32), width=2, latent_dim=3)
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    directions = [
        torch.autograd.grad(network(x)[0, 0, i, i], x)[0].flatten() for i in range(0, 32, 3)
    ]
    assert torch.linalg.matrix_rank(torch.stack(directions), rtol=1e-4) == 3


def test_signals_keep_their_size_through_the_layers():
    torch.manual_seed(0)
    network = initialized(ConvAutoencoder(1, (256, 256), width=8, latent_dim=100))
    y = network(torch.rand(4, 1, 256, 256))
    assert 0.03 < float(y.detach().std()) < 3
    y.square().mean().backward()
    norms = [float(p.grad.norm()) for p in network.parameters() if p.ndim > 1]
    assert min(norms) > 0.01 * max(norms)


@given(st.integers(1, 300), st.integers(1, 80), st.data())
def test_patches_cover_all_pixels_and_no_others(size, stride, data):
    patch_size = data.draw(st.integers(1, size))
    found = places(size, patch_size, stride)
    assert found[0] == 0
    assert found[-1] == size - patch_size
    assert max(np.diff(found), default=0) <= stride


def test_crops_are_squares_of_the_images_at_any_place():
    X = np.random.default_rng(0).random((1, 9, 12)).astype(np.float32)
    crops = ImageCrops(ImageDataset(X), 5)
    windows = np.lib.stride_tricks.sliding_window_view(X[0], (5, 5)).reshape(-1, 25)
    drawn = [ImageCrops.collate(crops.__getitems__([0]))[0].numpy().ravel() for _ in range(1000)]
    seen = {int((windows == crop).all(1).argmax()) for crop in drawn}
    assert seen == set(range(5 * 8))
    fixed = ImageCrops(ImageDataset(X), 5, fixed=True)
    assert torch.equal(fixed.__getitems__([0])[0], fixed.__getitems__([0])[0])
    whole, target = ImageCrops.collate(ImageCrops(ImageDataset(X), None).__getitems__([0]))
    assert_array_equal(whole[0], X)
    assert whole is target


@pytest.mark.parametrize("decoder_std", [0.1, 1.0])
def test_evidence_is_that_of_normal_distributions(decoder_std):
    """Against PyTorch's distributions: the expected log-density, and the divergence."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 2, 4, 5, generator=generator, dtype=torch.float64)
    mean, log_var = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    q = torch.distributions.Normal(mean, (log_var / 2).exp())
    prior = torch.distributions.Normal(torch.zeros(6).double(), 1)
    of_pixels = torch.distributions.Normal(y, decoder_std)
    losses = -of_pixels.log_prob(x).flatten(1).sum(1) + torch.distributions.kl_divergence(
        q, prior
    ).sum(1)
    constant = math.log(decoder_std * math.sqrt(2 * math.pi))
    expected = losses.mean() / 40 - constant
    assert float(EvidenceLoss(decoder_std)((y, mean, log_var), x)) == pytest.approx(float(expected))


def test_patches_are_in_an_onnx_file_too(textures, tmp_path):
    X = textures[1].images[:4]
    detector = small("ConvAE", patch_size=32, stride=20, max_epochs=1).fit(textures[0].images)
    export_onnx(detector, tmp_path / "model.onnx", X)
    assert_allclose(
        OnnxDetector(tmp_path / "model.onnx").transform(X),
        detector.transform(X),
        rtol=1e-3,
        atol=1e-3,
    )


class PatchMarks(nn.Module):
    """Gives each patch its first pixel, everywhere."""

    def forward(self, x):
        return x[:, :, :1, :1].expand_as(x)


@pytest.mark.parametrize(("size", "patch_size", "stride"), [((20, 31), 8, 5), ((16, 16), 16, 9)])
def test_what_patches_say_of_a_pixel_is_averaged(size, patch_size, stride):
    x = torch.rand(2, 3, *size)
    detector = small("ConvAE", patch_size=patch_size, stride=stride)
    detector.patch_size_ = patch_size
    found = detector._over_patches(PatchMarks(), x)
    for row, column in [(0, 0), (7, 9), (15, 15), (size[0] - 1, size[1] - 1)]:
        tops = [t for t in places(size[0], patch_size, stride) if t <= row < t + patch_size]
        lefts = [t for t in places(size[1], patch_size, stride) if t <= column < t + patch_size]
        expected = torch.stack([x[..., t, s] for t in tops for s in lefts]).mean(dim=0)
        assert_allclose(found[..., row, column], expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
class TestDetectors:
    @pytest.mark.parametrize("side", [28, 32])
    def test_small_images_are_seen_as_they_are(self, name, side):
        X = np.random.default_rng(0).random((8, side, side), np.float32)
        detector = small(name, image_size=None, max_epochs=1).fit(X)
        assert detector.transform(X[:2]).shape == (2, side, side)
        assert detector.net_.module_.stride == 4

    def test_patches_let_sizes_differ(self, name, textures):
        X = [*textures[0].images[:6], np.zeros((80, 70), np.uint8)]
        detector = small(name, image_size=None, patch_size=32, stride=16, max_epochs=1).fit(X)
        assert [m.shape for m in detector.transform(X[-2:])] == [(64, 64), (80, 70)]

    def test_whole_images_are_of_one_size(self, name, textures):
        X = [*textures[0].images[:6], np.zeros((80, 70), np.uint8)]
        with pytest.raises(InvalidImageError, match="image 6: is 80 x 70 pixels"):
            small(name, image_size=None, validation_fraction=0.01, random_state=1).fit(X)

    def test_images_smaller_than_a_patch_are_taken_whole(self, name, textures):
        by_patches, whole, none = (
            small(name, patch_size=p, max_epochs=1).fit(textures[0].images[:6])
            for p in (64, 65, None)
        )
        assert (by_patches.patch_size_, whole.patch_size_) == (64, None)
        assert_array_equal(whole.transform(X := textures[1].images[:2]), none.transform(X))

    def test_all_images_hold_a_patch_if_the_first_does(self, name, textures):
        X = [*textures[0].images[:6], np.zeros((80, 31), np.uint8)]
        with pytest.raises(InvalidImageError, match="image 6: .*31"):
            small(name, image_size=None, patch_size=32, stride=16).fit(X)

    def test_a_stride_leaves_no_pixel_out(self, name, textures):
        with pytest.raises(ValueError, match="stride=33 leaves pixels.*patch_size=32"):
            small(name, patch_size=32, stride=33).fit(textures[0].images)

    def test_weight_decay_is_the_optimizers(self, name, textures):
        detector = small(name, weight_decay=0.5, max_epochs=1).fit(textures[0].images[:6])
        assert detector.net_.optimizer_.param_groups[0]["weight_decay"] == 0.5

    @pytest.mark.parametrize(("width", "latent_dim"), [(4, 3), (6, 3), (4, 5)])
    def test_width_and_latent_size_the_network(self, name, width, latent_dim, textures):
        parameters = {"width": width, "latent_dim": latent_dim, "max_epochs": 1}
        module = small(name, **parameters).fit(textures[0].images[:6]).net_.module_
        convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        assert convolutions[0].out_channels == width
        shapes = {p.shape[0] for p in module.parameters()} | {
            p.shape[1] for p in module.parameters() if p.ndim > 1
        }
        assert latent_dim in shapes
