"""The networks that encode small images as a whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from skanomaly.detectors._whole_image_detector import ImageDecoder, ImageEncoder, WholeImages
from skanomaly.images import ImageDataset

SIZES = st.integers(1, 40)


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5))
def test_decoder_gives_back_the_size_that_was_encoded(height, width, channels, latent_dim):
    encoder = ImageEncoder(3, (height, width), channels, latent_dim).eval()
    decoder = ImageDecoder(3, encoder.sizes, channels, latent_dim).eval()
    z = encoder(torch.rand(2, 3, height, width))
    assert z.shape == (2, latent_dim)
    y = decoder(z)
    assert y.shape == (2, 3, height, width)
    assert 0 <= float(y.min()) <= float(y.max()) <= 1


def test_each_convolution_halves_the_image():
    encoder = ImageEncoder(1, (28, 31), (4, 8, 3), 5)
    assert encoder.sizes == [(28, 31), (14, 16), (7, 8), (4, 4)]
    assert encoder.blocks(torch.rand(2, 1, 28, 31)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("make", [ImageEncoder, ImageDecoder])
def test_without_biases_there_are_none(make):
    sizes = (8, 8) if make is ImageEncoder else [(8, 8), (4, 4)]
    network = make(1, sizes, (3,), 2, bias=False) if make is ImageEncoder else None
    network = network or make(1, sizes, (3,), 2, bias=False)
    assert all("bias" not in name for name, _ in network.named_parameters())


def test_data_set_gives_images_as_input_and_target():
    X = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
    data = WholeImages(ImageDataset(X))
    (pixels, target), (last, _) = DataLoader(data, 3, collate_fn=data.collate)
    assert pixels is target or torch.equal(pixels, target)
    found = torch.cat([pixels, last])[:, 0] * 255
    assert torch.equal(found.round().to(torch.uint8), torch.from_numpy(X))
