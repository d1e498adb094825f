import numpy as np
import pytest
import torch

from skanomaly.images import grey_of, sharpness_of


def test_grey_is_the_mean_of_colours_without_transparency():
    pixels = torch.rand(4, 5, 6)
    for n in (1, 3, 4):
        expected = pixels[: min(n, 3)].double().mean(dim=0).numpy()
        found = grey_of(pixels[:n])
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(grey_of(pixels[:2]), pixels[:2].mean(dim=0).numpy(), atol=1e-6)


def test_sharpness_does_not_depend_on_the_light():
    grey = np.random.default_rng(0).uniform(0.2, 1, (20, 30))
    assert sharpness_of(0.5 * grey) == pytest.approx(sharpness_of(grey))
    smooth = (grey + np.roll(grey, 1, axis=0) + np.roll(grey, 1, axis=1)) / 3
    assert sharpness_of(smooth) < 0.7 * sharpness_of(grey)


def test_sharpness_is_the_laplacians_variance():
    grey = np.random.default_rng(0).uniform(0, 1, (8, 9))
    edges = np.pad(grey, 1, mode="symmetric")
    laplacian = -4 * grey + edges[:-2, 1:-1] + edges[2:, 1:-1] + edges[1:-1, :-2] + edges[1:-1, 2:]
    assert sharpness_of(grey) == pytest.approx(laplacian.var() / np.mean(grey**2))


def test_a_black_image_has_none():
    assert sharpness_of(np.zeros((4, 4))) == 0
