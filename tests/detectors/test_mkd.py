import threading
from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import MKD
from skanomaly.detectors.mkd import DistillationLoss, SmallStudent


def levels(seed, n=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *size, generator=generator) for size in ((4, 6, 5), (7, 3, 2))]


def slow_loss(s, t, mean_squares, direction_weight):
    """Of one image's levels, each (c, h, w)."""
    total = 0.0
    for s_k, t_k, v_k in zip(s, t, mean_squares):
        a, b = s_k.double().numpy().ravel(), t_k.double().numpy().ravel()
        total += np.mean((a - b) ** 2) / v_k
        total += direction_weight * (1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return total


@pytest.mark.parametrize("direction_weight", [0, 0.5, 3.0])
def test_loss_is_of_values_and_directions(direction_weight):
    s, t, v = levels(0), levels(1), (0.5, 2.0)
    loss = DistillationLoss(v, direction_weight)
    expected = [slow_loss(a, b, v, direction_weight) for a, b in zip(zip(*s), zip(*t))]
    assert_allclose(loss.of_images(s, t), expected, rtol=1e-5)
    assert float(loss(s, t)) == pytest.approx(np.mean(expected), rel=1e-5)


@given(st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_directions_do_not_depend_on_lengths(scale):
    s, t = levels(0), levels(1)
    one, both = (DistillationLoss((1, 1), weight).of_images for weight in (0, 1))
    scaled = [scale * f for f in s]
    assert_allclose(both(scaled, t) - one(scaled, t), both(s, t) - one(s, t), atol=1e-3)


@given(
    st.integers(16, 70), st.integers(16, 70), st.sampled_from([(4, 8, 16), (2,), (14, 14), (1, 4)])
)
@settings(max_examples=25, deadline=None)
def test_student_has_the_teachers_levels(height, width, strides):
    channels = range(3, 3 + len(strides))
    student = SmallStudent(2, channels, strides).eval()
    with torch.no_grad():
        found = [f.shape for f in student(torch.rand(1, 2, height, width))]
    assert found == [(1, c, -(-height // s), -(-width // s)) for c, s in zip(channels, strides)]


def test_hidden_ratio_sizes_the_student():
    small, large = (SmallStudent(3, (8, 16), (4, 8), ratio) for ratio in (0.25, 2))
    assert [head.in_channels for head in small.heads] == [2, 4]
    assert [head.in_channels for head in large.heads] == [16, 32]


def small(**parameters):
    return MKD(**{"image_size": 64, "max_epochs": 2, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted(textures):
    """A student that has learnt a little; tests must not change it."""
    return small(max_epochs=8).fit(textures[0].images)


def losses_of(detector, pixels):
    """Of images one by one, (n,)."""
    s, t = detector.net_.module_(pixels), detector.encoder_.network(pixels)
    v, weight = detector.mean_squares_, detector.direction_weight
    with torch.no_grad():
        return np.array([slow_loss(a, b, v, weight) for a, b in zip(zip(*s), zip(*t))])


def pixels_of(X):
    return torch.from_numpy(X[:, None] / np.float32(255))


def test_score_is_the_loss(fitted, textures):
    X = textures[1].images
    with torch.no_grad():
        expected = losses_of(fitted, pixels_of(X))
    assert_allclose(-fitted.score_samples(X), expected, rtol=1e-4)


def test_score_is_nearly_the_loss_of_images_that_are_resized(fitted, textures):
    X = textures[1].images.repeat(2, axis=1).repeat(2, axis=2)
    with torch.no_grad():
        expected = losses_of(fitted, torch.stack([fitted._open([x])[0] for x in X]))
    assert_allclose(-fitted.score_samples(X), expected, rtol=0.02)


def without_noise(detector):
    return copy(detector).set_params(n_noisy=0)


def test_map_follows_the_gradient(fitted, textures):
    """By differences of the loss, in double precision, at some pixels."""
    x = pixels_of(textures[1].images[:1]).double()
    plain, teacher = without_noise(fitted), fitted.encoder_.network.private().double()
    module = SmallStudent(1, fitted.encoder_.channels, fitted.encoder_.strides).double().eval()
    module.load_state_dict(fitted.net_.module_.state_dict())
    loss = DistillationLoss(fitted.mean_squares_, fitted.direction_weight)
    _, gradients = plain._losses_and_gradients(x.float())
    n_compared = 0
    for row, column in [(3, 60), (20, 33), (32, 32), (50, 7)]:
        step = torch.zeros_like(x)
        step[0, 0, row, column] = 1e-6
        with torch.no_grad():
            after, before = (
                _double_loss(loss, module(y), teacher(y)) for y in (x + step, x - step)
            )
        slope = float(after - before) / 2e-6
        assert float(gradients[0, 0, row, column]) == pytest.approx(slope, rel=0.02, abs=1e-7)
        n_compared += abs(slope) > 1e-6
    assert n_compared >= 3


def test_gradient_is_the_mean_of_noisy_copies(fitted, textures):
    pixels = pixels_of(textures[1].images[:2])
    losses, found = fitted._losses_and_gradients(pixels)
    noise = 0.02 * torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = without_noise(fitted)
    copies = [plain._losses_and_gradients(pixels + one) for one in noise]
    expected = torch.stack([gradients for _, gradients in copies]).mean(dim=0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(losses, plain._losses_and_gradients(pixels)[0])


def test_noise_of_no_deviation_is_none(fitted, textures):
    pixels = pixels_of(textures[1].images[:2])
    still = copy(fitted).set_params(noise=0.0)
    found, expected = (d._losses_and_gradients(pixels)[1] for d in (still, without_noise(fitted)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(fitted._losses_and_gradients(pixels)[1], expected, rtol=1e-2)


def _double_loss(loss, s, t):
    return sum(
        (b - a).square().mean() / v
        + loss.direction_weight * (1 - torch.cosine_similarity(a.flatten(1), b.flatten(1))[0])
        for a, b, v in zip(s, t, loss.mean_squares)
    )


def test_an_images_map_is_the_gradients_magnitude(fitted, textures):
    pixels = pixels_of(textures[1].images[:3])
    losses, gradients = fitted._losses_and_gradients(pixels)
    found = fitted._compute_maps(pixels)
    for phi, loss, gradient in zip(found, losses, gradients):
        magnitude = gradient.abs().sum(dim=0)
        assert_allclose(phi, loss * magnitude / magnitude.mean(), rtol=1e-3, atol=1e-6)


def test_colours_are_summed(textures):
    X = np.stack([textures[0].images[:6]] * 3, axis=-1)
    X[..., 1] //= 2
    detector = small().fit(X)
    pixels = torch.from_numpy(X[:2]).permute(0, 3, 1, 2) / 255
    losses, gradients = detector._losses_and_gradients(pixels)
    magnitude = gradients.abs().numpy().sum(axis=1)
    shares = magnitude / magnitude.mean(axis=(1, 2), keepdims=True)
    found = detector._compute_maps(pixels)
    assert_allclose(found, losses[:, None, None].numpy() * shares, rtol=1e-3, atol=1e-6)


def test_an_image_without_gradients_has_an_even_map(fitted, monkeypatch):
    def nothing(self, pixels):
        return torch.full((len(pixels),), 0.5), torch.zeros_like(pixels)

    monkeypatch.setattr(MKD, "_losses_and_gradients", nothing)
    found = fitted._compute_maps(torch.zeros(2, 1, 64, 64))
    assert_allclose(found, np.full((2, 64, 64), 0.5), rtol=1e-6)


def test_threads_do_not_meet_each_others_gradients(fitted, textures):
    X = textures[1].images
    alone, found = fitted.transform(X), {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: fitted.transform(X)}))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], alone) for i in range(3))


@pytest.mark.parametrize("size", [28, 32])
def test_small_images_are_scored(size):
    X = np.random.default_rng(0).integers(0, 256, (12, size, size), np.uint8)
    detector = small(image_size=32).fit(X)
    assert detector.score_samples(X).shape == (12,)
    assert detector.transform(X[:2]).shape == (2, size, size)


def test_training_lowers_the_loss(fitted):
    losses = fitted.net_.history[:, "valid_loss"]
    assert min(losses) < 0.9 * losses[0]


def test_direction_weight_counts_in_training(textures):
    X = textures[0].images[:8]
    maps = [small(direction_weight=w).fit(X).transform(X[:2]) for w in (0.0, 2.0)]
    assert not np.array_equal(*maps)
    assert_array_equal(small(direction_weight=2.0).fit(X).transform(X[:2]), maps[1])
