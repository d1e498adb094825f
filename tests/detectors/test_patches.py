import copy
import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import as_if_trained, interpolated
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skanomaly.detectors._patch_autoencoder import Axis, ConvAutoEncoder, Phase
from skanomaly.detectors._patches import (
    PatchDataset,
    PatchMean,
    continued,
    interpolate_places,
    patch_places,
)
from skanomaly.images import ImageDataset

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


@property_test
@given(size=st.integers(1, 200), stride=st.integers(1, 40))
def test_patches_are_one_for_every_stride_of_pixels(size, stride):
    places = patch_places(size, stride)
    assert len(places) == math.ceil(size / stride)
    assert places[0] >= 0
    assert places[-1] < size
    assert (np.diff(places) > 0).all()
    distances = np.abs(np.arange(size)[:, np.newaxis] - places)
    assert distances.min(axis=1).max() <= stride // 2


@property_test
@given(patch_size=st.integers(1, 12), height=st.integers(7, 15), width=st.integers(7, 15))
def test_images_are_continued_so_that_each_pixel_is_a_patchs_centre(patch_size, height, width):
    x = images(2, 3, height, width)
    y = continued(x, patch_size)
    before, after = patch_size // 2, patch_size - 1 - patch_size // 2
    widths = [(0, 0), (0, 0), (before, after), (before, after)]
    np.testing.assert_array_equal(y.numpy(), np.pad(x.numpy(), widths, mode="reflect"))
    patches = y.unfold(2, patch_size, 1).unfold(3, patch_size, 1)
    assert torch.equal(patches[..., patch_size // 2, patch_size // 2], x)


def dataset(*sizes, patch_size=5, n_patches=20, **parameters):
    """Patches of images whose pixels all differ, and those images."""
    pixels, first = [], 0
    for height, width in sizes:
        pixels.append(np.arange(first, first + height * width).reshape(height, width))
        first += height * width
    pixels = [(image / first).astype(np.float32) for image in pixels]
    data = PatchDataset(ImageDataset(pixels), patch_size, n_patches, **parameters)
    return data, [torch.from_numpy(image)[None, None] for image in pixels]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("patch_size", [4, 5])
def test_patches_are_parts_of_their_images(patch_size, fixed):
    data, x = dataset((8, 11), (6, 9), (7, 7), patch_size=patch_size, fixed=fixed)
    assert len(data) == 3
    drawn = data.__getitems__([2, 0])
    assert drawn.shape == (40, 1, patch_size, patch_size)
    for image, patches in ((x[2], drawn[:20]), (x[0], drawn[20:])):
        parts = continued(image, patch_size)[0, 0].unfold(0, patch_size, 1).unfold(1, patch_size, 1)
        parts = parts.flatten(0, 1)
        for patch in patches:
            assert (parts == patch[0]).all(dim=(1, 2)).any()


def test_fixed_patches_are_equal_each_time():
    data, _ = dataset((8, 11), (8, 11), fixed=True)
    first = data.__getitems__([0, 1])
    torch.manual_seed(5)
    assert torch.equal(data.__getitems__([1, 0]), torch.cat([first[20:], first[:20]]))
    assert not torch.equal(first[:20], first[20:])


def test_other_patches_follow_the_random_state():
    data, _ = dataset((8, 11), (8, 11))
    torch.manual_seed(5)
    first, second = data.__getitems__([0]), data.__getitems__([0])
    torch.manual_seed(5)
    assert torch.equal(data.__getitems__([0]), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("fixed", [True, False])
def test_every_pixel_is_as_likely_a_patchs_centre(fixed):
    torch.manual_seed(0)
    data, x = dataset((4, 5), n_patches=4000, fixed=fixed)
    centres = Counter(data.__getitems__([0])[:, 0, 2, 2].tolist())
    counts = np.array([centres[value] for value in x[0].flatten().tolist()])
    assert counts.sum() == 4000  # no other value was in the middle
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_patches_serve_as_input_and_target():
    patches = images(3, 1, 5, 5)
    x, y = PatchDataset.collate(patches)
    assert x is patches
    assert y is patches


def slow_mean(shape, patches, patch_size, rim):
    """Mean of what patches (values, row, column) say of each pixel."""
    said = {}
    for values, row, column in patches:
        for i, j in np.ndindex(values.shape[-2:]):
            pixel = row - patch_size // 2 + rim + i, column - patch_size // 2 + rim + j
            said.setdefault(pixel, []).append(values[..., i, j])
    mean = torch.full(shape, torch.nan)
    for i, j in np.ndindex(shape[-2:]):
        if (i, j) in said:
            mean[..., i, j] = torch.stack(said[i, j]).mean(dim=0)
    return mean


@property_test
@given(
    patch_size=st.integers(5, 8),
    rim=st.integers(0, 2),
    places=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), min_size=1, max_size=20),
)
def test_mean_of_patches(patch_size, rim, places):
    side = patch_size - 2 * rim
    patches = [(images(3, 1, side, side)[:, 0] + i * j, i, j) for i, j in places]
    mean = PatchMean(torch.empty(3, 9, 7), patch_size, rim)
    for patch, row, column in patches:
        mean.add(patch, row, column)
    expected = slow_mean((3, 9, 7), patches, patch_size, rim)
    torch.testing.assert_close(mean.result(), expected, equal_nan=True)


@property_test
@given(
    patch_size=st.integers(5, 8),
    rim=st.integers(0, 2),
    stride=st.integers(1, 4),
    step=st.integers(1, 3),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
)
def test_mean_of_phases(patch_size, rim, stride, step, height, width):
    """Patches of different phases overlap, and only those of one phase agree."""
    side = patch_size - 2 * rim
    places = patch_places(height, stride), patch_places(width, stride)
    mean, patches = PatchMean(torch.empty(2, height, width), patch_size, rim), []
    for number, starts in enumerate(product(range(step), repeat=2)):
        axes = [Axis(s, None, p[(p - s) % step == 0]) for p, s in zip(places, starts)]
        if not all(len(axis.places) for axis in axes):
            continue
        values = number + images(2, 1, height + patch_size, width + patch_size)[:, 0]
        mean.add_phase(values, Phase(None, step, *axes))
        for row, column in product(*(axis.places for axis in axes)):
            i, j = row - axes[0].start, column - axes[1].start
            patches.append((values[:, i : i + side, j : j + side], row, column))
    expected = slow_mean((2, height, width), patches, patch_size, rim)
    torch.testing.assert_close(mean.result(), expected, equal_nan=True)


@property_test
@given(side=st.integers(1, 9), rim=st.integers(0, 3), size=st.integers(1, 60), data=st.data())
def test_patches_cover_an_image_up_to_a_stride_of_their_side(side, rim, size, data):
    stride = data.draw(st.integers(1, side))
    mean = PatchMean(torch.empty(size, 1), side + 2 * rim, rim)
    for place in patch_places(size, stride):
        mean.add(torch.ones(side, side), place, 0)
    assert (mean.n_covering > 0).all()


@property_test
@given(stride=st.integers(1, 9), height=st.integers(1, 30), width=st.integers(1, 30))
def test_interpolation_between_places(stride, height, width):
    places = patch_places(height, stride), patch_places(width, stride)
    values = torch.rand(2, *map(len, places), generator=torch.Generator().manual_seed(0))
    found = interpolate_places(values, places, (height, width))
    expected = interpolated(values, places, (height, width))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@property_test
@given(stride=st.integers(1, 40), size=st.integers(1, 200))
def test_places_are_of_one_phase_and_centred(stride, size):
    places = patch_places(size, stride)
    assert len(set(places % stride)) == 1
    assert abs(places[0] - (size - 1 - places[-1])) <= 1
