import numpy as np
import pytest
import torch
from conftest import split_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from skanomaly import LocalContrast


def maps_of(x, **parameters):
    """Maps, before they are smoothed, of images (n, H, W, C) of the size that the method sees."""
    pixels = torch.from_numpy(x).permute(0, 3, 1, 2)
    return LocalContrast(image_size=x.shape[1:3], **parameters)._compute_maps(pixels).numpy()


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 4),
    scales=st.lists(st.sampled_from([0.5, 1.0, 3.0, 9.0]), min_size=1, max_size=3, unique=True),
)
def test_the_largest_difference_from_a_blur(height, width, channels, scales):
    x = np.random.default_rng(0).random((2, height, width, channels), np.float32)
    expected = np.zeros((2, height, width))
    for c in range(channels):
        for scale in scales:
            for i in range(2):
                contrast = np.abs(x[i, ..., c] - gaussian_filter(x[i, ..., c], scale))
                expected[i] = np.maximum(expected[i], contrast)
    assert_allclose(maps_of(x, scales=tuple(sorted(scales))), expected, atol=2e-6)


def test_an_even_image_has_no_contrast():
    assert_allclose(maps_of(np.full((1, 30, 50, 3), 0.7, np.float32)), 0, atol=1e-6)


def test_brighter_spots_are_as_anomalous_as_darker_ones():
    x = np.full((2, 64, 64, 1), 0.5, np.float32)
    x[0, 30:33, 40:43] += 0.3
    x[1, 30:33, 40:43] -= 0.3
    bright, dark = maps_of(x)
    assert_allclose(bright, dark, atol=1e-6)
    assert np.unravel_index(bright.argmax(), bright.shape) in {
        (i, j) for i in range(30, 33) for j in range(40, 43)
    }


def test_good_images_set_the_threshold_and_nothing_else(textures):
    X = textures[0].images
    some, others = (
        LocalContrast(image_size=64, random_state=0).fit(part) for part in (X[:12], X[12:])
    )
    assert_array_equal(some.transform(X[:2]), others.transform(X[:2]))
    assert some.offset_ != others.offset_


def test_nearly_all_images_set_the_threshold(textures):
    X = textures[0].images
    detector = LocalContrast(image_size=64, random_state=0).fit(X)
    _, held_out = split_of(detector, len(X))
    assert len(held_out) == round(0.9 * len(X))
    assert_allclose(detector.validation_scores_, detector.score_samples(X[held_out]))


@pytest.mark.parametrize("scales", [(), (0.0,), (8.0, 4.0), (4.0, 4.0), 4.0, ("8",)])
def test_scales_must_be_ascending_numbers(scales, textures):
    with pytest.raises(ValueError, match=r"'scales' parameter of LocalContrast"):
        LocalContrast(scales=scales).fit(textures[0].images)
