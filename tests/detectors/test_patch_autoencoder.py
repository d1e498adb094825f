import copy
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import as_if_trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skanomaly.detectors._patch_autoencoder import Axis, ConvAutoEncoder, Phase
from skanomaly.detectors._patches import (
    patch_places,
)

property_test = settings(max_examples=40, deadline=None)
# The smallest patches whose latents determine any pixel, for each step between latents.
SMALLEST = {
    1: {"patch_size": 21, "strides": (1, 1, 1, 1)},
    2: {"patch_size": 31, "strides": (2, 1, 1, 1)},
    3: {"patch_size": 27, "strides": (1, 1, 3, 1)},
    6: {"patch_size": 35, "strides": (1, 2, 3, 1)},
}
place_strides = st.sampled_from([1, 2, 3, 4, 7])


def smallest(step, n_channels=1):
    return as_if_trained(ConvAutoEncoder(n_channels, **SMALLEST[step]))


def images(n=1, channels=1, height=1, width=1):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def test_sizes_are_the_papers():
    net = ConvAutoEncoder(3)
    z = net.encode(images(2, 3, 63, 63))
    assert z.shape == (2, 16, 17, 17)
    assert (net.latent_size, net.step, net.margin) == (17, 3, 12)
    assert net.decode(z).shape == (2, 3, 39, 39)
    assert sum(p.numel() for p in net.parameters()) < 20_000


@pytest.mark.parametrize(
    ("parameters", "step"),
    [
        ({"patch_size": 33}, 3),
        ({"patch_size": 64, "strides": (2, 1, 1, 1), "kernel_sizes": (4, 3, 3, 3)}, 2),
        ({"patch_size": 63, "strides": (2, 1, 1, 1)}, 2),
        ({"patch_size": 65, "strides": (1, 2, 3, 1)}, 6),
        ({"patch_size": 20, "strides": (2, 2), "kernel_sizes": (2, 2), "channels": (5, 7)}, 4),
        ({"patch_size": 9, "strides": (1,), "kernel_sizes": (3,), "channels": (2,)}, 1),
    ],
    ids=str,
)
def test_other_sizes_follow(parameters, step):
    net = ConvAutoEncoder(2, **parameters)
    p = net.patch_size
    z = net.encode(images(3, 2, p, p))
    assert z.shape == (3, parameters.get("channels", (16,))[-1], net.latent_size, net.latent_size)
    assert net.step == step
    x = images(3, 2, p, p)
    assert (
        net(x).shape == net.without_rim(x).shape == (3, 2, p - 2 * net.margin, p - 2 * net.margin)
    )
    assert torch.equal(
        net.without_rim(x)[0, 0, 0], x[0, 0, net.margin, net.margin : p - net.margin]
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"channels": (3, 4)}, "a number for each convolution; got 2, 4 and 4 numbers"),
        ({"strides": (1, 1, 3)}, "got 4, 4 and 3 numbers"),
        ({"channels": (), "kernel_sizes": (), "strides": ()}, "got 0, 0 and 0 numbers"),
        ({"strides": (1, 0, 3, 1)}, r"strides=\(1, 0, 3, 1\) holds 0; use whole numbers from 1 on"),
        (
            {"channels": (3, 4, 12, -1)},
            r"channels=\(3, 4, 12, -1\) holds -1; use whole numbers",
        ),
        ({"strides": (1, 1, 4, 1)}, "holds 4 for a kernel of 3, .*no stride may exceed its kernel"),
        ({"kernel_sizes": (5, 3, 0, 3)}, "holds 0; use whole numbers"),
        ({"kernel_sizes": (5, 3, 3.0, 3)}, r"holds 3\.0; use whole numbers"),
        ({"patch_size": 64}, "patch_size=64 leaves pixels over with .* that fits them is 66"),
        ({"patch_size": 24}, "patch_size=24 leaves no pixel to reconstruct .* is 27"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_together(parameters, message):
    with pytest.raises(ValueError, match=message):
        ConvAutoEncoder(3, **parameters)


@property_test
@given(
    patch_size=st.integers(1, 80),
    layers=st.lists(
        st.integers(1, 5).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k))),
        min_size=1,
        max_size=4,
    ),
)
def test_the_size_suggested_is_the_next_accepted(patch_size, layers):
    kernel_sizes, strides = zip(*layers)

    def make(patch_size):
        return ConvAutoEncoder(1, patch_size, (1,) * len(layers), kernel_sizes, strides)

    try:
        make(patch_size)
    except ValueError as error:
        suggested = int(str(error).split()[-1])
        make(suggested)
        for between in range(patch_size + 1, suggested):
            with pytest.raises(ValueError, match="patch_size"):
                make(between)


def decode_all(net, z):
    """The decoder with every transposed convolution in full, latents outside being 0."""
    layers = iter(zip(reversed(net.strides), net.decoder[::3], strict=True))
    for layer in net.decoder:
        if not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            z = layer(z)
            continue
        stride, _ = next(layers)
        weight = layer.weight
        if isinstance(layer, nn.Conv2d):
            weight = weight.flip(2, 3).transpose(0, 1)
        z = F.conv_transpose2d(z, weight, layer.bias, stride)
    return 0.5 + z


@pytest.mark.parametrize("step", SMALLEST)
def test_decoding_is_the_inner_part_of_the_transposed_encoder(step):
    net = smallest(step, n_channels=2)
    z = images(3, 16, net.latent_size, net.latent_size) - 0.5
    full = decode_all(net, z)
    assert full.shape == (3, 2, net.patch_size, net.patch_size)
    torch.testing.assert_close(net.decode(z), net.without_rim(full), rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", SMALLEST)
def test_the_rim_is_what_depends_on_latents_outside_the_patch(step):
    net, around = smallest(step).double(), 8
    size, p, m = net.latent_size, net.patch_size, net.margin
    z = images(2, 16, size + 2 * around, size + 2 * around).double() - 0.5
    inside = slice(around, around + size)
    z[1, :, inside, inside] = z[0, :, inside, inside]
    patch = slice(around * net.step, around * net.step + p)
    a, b = decode_all(net, z)[:, 0, patch, patch]
    rim = torch.ones(p, p, dtype=bool)
    rim[m : p - m, m : p - m] = False
    assert ((a - b).abs()[rim] > 1e-12).all()
    assert ((a - b).abs()[~rim] < 1e-12).all()


@pytest.mark.parametrize("step", SMALLEST)
def test_a_folded_network_gives_the_same(step):
    net = smallest(step, n_channels=2)
    before = copy.deepcopy(net.state_dict())
    folded = net.folded()
    x = images(3, 2, net.patch_size, net.patch_size)
    z = net.encode(x)
    torch.testing.assert_close(folded.encode(x), z, rtol=0, atol=1e-5)
    torch.testing.assert_close(folded.decode(z), net.decode(z), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_batch_norms_before_convolutions_are_folded():
    """All but that of the latents and that before the decoder's transposed convolution."""
    kept = [
        name
        for name, part in ConvAutoEncoder(3).folded().named_modules()
        if isinstance(part, nn.BatchNorm2d)
    ]
    assert kept == ["encoder.3.2", "decoder.2"]


@property_test
@given(
    step=st.sampled_from(list(SMALLEST)),
    rows=st.builds(patch_places, st.integers(1, 14), place_strides),
    columns=st.builds(patch_places, st.integers(1, 14), place_strides),
    after=st.integers(0, 3),
)
def test_phases_hold_the_latents_of_each_patch(step, rows, columns, after):
    net = smallest(step)
    p, size = net.patch_size, net.latent_size
    x = images(2, 1, rows[-1] + p + after, columns[-1] + p + after)
    found = torch.full((2, len(rows), len(columns), size, size, 16), torch.nan)
    with torch.inference_mode():
        for phase in net.phases(x, rows, columns):
            assert phase.step == step
            windows = phase.windows(size)
            phase.put(found, windows)
            z, (down, across) = phase.of_patches(size)
            unfolded = z.unfold(2, size, down).unfold(3, size, across)
            assert torch.equal(unfolded.permute(0, 2, 3, 4, 5, 1), windows)
        for (a, i), (b, j) in product(enumerate(rows), enumerate(columns)):
            alone = net.encode(x[:, :, i : i + p, j : j + p]).permute(0, 2, 3, 1)
            torch.testing.assert_close(found[:, a, b], alone, rtol=0, atol=1e-5)


@property_test
@given(
    step=st.sampled_from(list(SMALLEST)),
    stride=place_strides,
    height=st.integers(7, 14),
    width=st.integers(7, 14),
)
def test_only_needed_phases_are_encoded(step, stride, height, width):
    """As many as places differ from each other in their remainders; each layer likewise."""
    net, calls = smallest(step), Counter()
    for depth, layer in enumerate(net.encoder):
        layer.register_forward_hook(lambda *_, depth=depth: calls.update([depth]))
    rows, columns = patch_places(height, stride), patch_places(width, stride)
    p = net.patch_size - 1
    phases = list(net.phases(images(1, 1, height + p, width + p), rows, columns))
    expected = [
        len(set(rows % s)) * len(set(columns % s)) for s in np.cumprod(net.strides).tolist()
    ]
    assert [calls[depth] for depth in range(4)] == expected
    assert len(phases) == expected[-1]


@pytest.mark.parametrize(("stride", "n_phases"), [(1, 9), (3, 1), (4, 9), (6, 1)])
def test_a_stride_that_the_step_divides_takes_one_pass(stride, n_phases):
    net = smallest(3)
    places = patch_places(24, stride)
    assert len(list(net.phases(images(1, 1, 50, 50), places, places))) == n_phases


def test_values_at_an_offset_in_each_patch():
    values = torch.arange(400.0).view(1, 20, 20)
    phase = Phase(None, 3, Axis(2, None, np.array([2, 8])), Axis(1, None, np.array([4, 7, 10])))
    found = phase.at(values, 5)
    expected = [[values[0, i - 2 + 5, j - 1 + 5] for j in (4, 7, 10)] for i in (2, 8)]
    assert found[0].tolist() == expected
