from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import metrics

from skanomaly import maps
from skanomaly.maps import (
    assemble_maps,
    gaussian_matrix,
    normalized_residual,
    reduce_maps,
    resize_matrix,
    structural_similarity,
)

property_test = settings(max_examples=40, deadline=None)
sizes = st.integers(1, 20)
# PyTorch's antialiasing goes wrong where a map is one pixel wide, so those are left out.
pairs = st.tuples(st.integers(2, 20), st.integers(2, 20))
sigmas = st.sampled_from([0, 0.4, 1, 2.5, 4.0])
seeds = st.integers(0, 1000)


def interpolate(maps, size):
    """Bilinear, one axis after the other, antialiased where the axis shrinks."""
    for axis in (1, 2):
        new_size = [*maps.shape[1:]]
        new_size[axis - 1] = size[axis - 1]
        maps = torch.nn.functional.interpolate(
            maps[:, None],
            new_size,
            mode="bilinear",
            align_corners=False,
            antialias=size[axis - 1] < maps.shape[axis],
        )[:, 0]
    return maps


def slow_assembly(maps, seen_size, own_size, sigma):
    total = sum(interpolate(phi.double(), seen_size) for phi in maps)
    smooth = [ndimage.gaussian_filter(phi.numpy(), sigma) if sigma else phi for phi in total]
    return interpolate(torch.stack([torch.as_tensor(phi) for phi in smooth]), own_size)


@property_test
@given(size=sizes, new_size=sizes)
def test_resize_matrix_is_torch_interpolation(size, new_size):
    columns = torch.eye(size, dtype=torch.float64)
    expected = interpolate(columns[None], (new_size, size))[0]
    np.testing.assert_allclose(resize_matrix(size, new_size), expected, rtol=0, atol=1e-9)


@property_test
@given(size=sizes, new_size=sizes)
def test_resize_matrix_has_rows_that_sum_to_1(size, new_size):
    np.testing.assert_allclose(resize_matrix(size, new_size).sum(axis=1), 1, rtol=1e-12)


def test_resizing_to_the_same_size_changes_nothing():
    np.testing.assert_array_equal(resize_matrix(7, 7), np.eye(7))


@property_test
@given(shape=pairs, sigma=sigmas, seed=seeds)
def test_gaussian_matrix_is_scipy_gaussian_filter(shape, sigma, seed):
    image = np.random.default_rng(seed).normal(size=shape)
    rows, columns = (gaussian_matrix(n, sigma).numpy() for n in shape)
    found = rows @ image @ columns.T
    expected = ndimage.gaussian_filter(image, sigma) if sigma else image
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@property_test
@given(size=sizes, sigma=sigmas)
def test_gaussian_matrix_has_rows_that_sum_to_1(size, sigma):
    np.testing.assert_allclose(gaussian_matrix(size, sigma).sum(axis=1), 1, rtol=1e-12)


def slow_residual(f_enc, f_dec):
    n, _, h, w = f_enc.shape
    residual = np.zeros((n, h, w))
    for i in range(n):
        for row in range(h):
            for column in range(w):
                a, b = f_enc[i, :, row, column], f_dec[i, :, row, column]
                a = a / np.sqrt((a**2).sum()) if a.any() else a
                b = b / np.sqrt((b**2).sum()) if b.any() else b
                residual[i, row, column] = 0.5 * ((a - b) ** 2).sum()
    return residual


features = st.tuples(*[st.integers(1, 4)] * 4).flatmap(
    lambda shape: st.tuples(
        *[arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))] * 2
    )
)


@property_test
@given(pair=features)
def test_normalized_residual_is_its_formula(pair):
    found = normalized_residual(*(torch.from_numpy(f).float() for f in pair)).numpy()
    np.testing.assert_allclose(found, slow_residual(*pair), rtol=0, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 2 + 1e-6


@pytest.mark.parametrize(
    ("enc", "dec", "residual"),
    [
        ([3, 4], [6, 8], 0),
        ([3, 4], [-3, -4], 2),
        ([1, 0], [0, 5], 1),
        ([0, 0], [3, 4], 0.5),
        ([0, 0], [0, 0], 0),
        ([1e-6, 0], [0, 1e6], 1),
    ],
)
def test_normalized_residual_of_known_directions(enc, dec, residual):
    enc, dec = (torch.tensor(f, dtype=torch.float32).reshape(1, 2, 1, 1) for f in (enc, dec))
    assert normalized_residual(enc, dec).item() == pytest.approx(residual, abs=1e-6)


def slow_similarity(x, y, window=11, sigma=1.5):
    """The formula, window by window, of one image of one channel."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets**2 + offsets[:, np.newaxis] ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    similarity = np.empty([n - window + 1 for n in x.shape])
    for row, column in np.ndindex(similarity.shape):
        a, b = (z[row : row + window, column : column + window] for z in (x, y))
        mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
        var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
        cov = (weights * (a - mean_a) * (b - mean_b)).sum()
        similarity[row, column] = (2 * mean_a * mean_b + 0.01**2) * (2 * cov + 0.03**2)
        similarity[row, column] /= mean_a**2 + mean_b**2 + 0.01**2
        similarity[row, column] /= var_a + var_b + 0.03**2
    return similarity


def image_pair(kind, n=1, channels=1, height=17, width=14):
    """Images in [0, 1] that are alike, opposite, unrelated, or hard for single precision."""
    rng = np.random.default_rng(0)
    x, z = rng.random((2, n, channels, height, width))
    pairs = {
        "alike": (x, np.clip(x + 0.1 * (z - 0.5), 0, 1)),
        "opposite": (x, 1 - x),
        "unrelated": (x, z),
        "black and white": (np.zeros_like(x), np.ones_like(x)),
        "binary": (np.round(x), np.round(z)),
        "nearly white": (1 - 0.01 * x, 1 - 0.01 * z),
    }
    return [torch.from_numpy(image).float() for image in pairs[kind]]


image_pairs = pytest.mark.parametrize(
    "kind", ["alike", "opposite", "unrelated", "black and white", "binary", "nearly white"]
)


@image_pairs
@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, 1.5), (5, 0.8)])
def test_structural_similarity_is_its_formula(kind, window, sigma):
    x, y = image_pair(kind, n=2)
    found = structural_similarity(x, y, window, sigma)
    expected = [
        slow_similarity(*pair, window, sigma)
        for pair in zip(*(z[:, 0].double().numpy() for z in (x, y)))
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@image_pairs
def test_structural_similarity_is_scikit_images(kind):
    x, y = image_pair(kind, channels=3)
    _, expected = metrics.structural_similarity(
        *(z[0].double().numpy() for z in (x, y)),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=0,
        full=True,
    )
    found = structural_similarity(x, y)[0]
    np.testing.assert_allclose(found, expected.mean(axis=0)[5:-5, 5:-5], rtol=0, atol=1e-4)


@image_pairs
def test_structural_similarity_is_symmetric_and_bounded(kind):
    x, y = image_pair(kind, n=2, channels=2)
    found = structural_similarity(x, y)
    assert found.shape == (2, 7, 4)
    torch.testing.assert_close(structural_similarity(y, x), found, rtol=0, atol=1e-6)
    assert found.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(structural_similarity(x, x), torch.ones_like(found))


def test_structural_similarity_averages_channels():
    x, y = image_pair("unrelated", n=2, channels=3)
    alone = [structural_similarity(x[:, [c]], y[:, [c]]) for c in range(3)]
    torch.testing.assert_close(structural_similarity(x, y), torch.stack(alone).mean(dim=0))


@property_test
@given(
    map_sizes=st.lists(pairs, min_size=1, max_size=3),
    seen_size=pairs,
    own_size=pairs,
    sigma=sigmas,
    seed=seeds,
)
def test_assemble_maps_is_its_slow_version(map_sizes, seen_size, own_size, sigma, seed):
    rng = np.random.default_rng(seed)
    maps = [torch.from_numpy(rng.random((2, *size))) for size in map_sizes]
    found = assemble_maps(maps, seen_size, own_size, sigma)
    assert found.dtype == torch.float32
    expected = slow_assembly(maps, seen_size, own_size, sigma).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@property_test
@given(map_size=pairs, size=pairs, sigma=sigmas, seed=seeds)
def test_assemble_maps_where_the_network_sees_the_own_size(map_size, size, sigma, seed):
    maps = [torch.from_numpy(np.random.default_rng(seed).random((1, *map_size)))]
    found = assemble_maps(maps, size, size, sigma)
    torch.testing.assert_close(
        found, slow_assembly(maps, size, size, sigma).float(), rtol=0, atol=2e-6
    )


@property_test
@given(map_size=pairs, seen_size=pairs, own_size=pairs, sigma=sigmas, seed=seeds)
def test_large_maps_go_without_matrices(map_size, seen_size, own_size, sigma, seed):
    """What is too large for a matrix comes out as with one."""
    phi = torch.from_numpy(np.random.default_rng(seed).random((2, *map_size)))
    expected = assemble_maps(phi, seen_size, own_size, sigma)
    for largest in (0, 4 * map_size[0]):  # no axis, or one of them
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(maps, "_MAX_MATRIX", largest)
            found = assemble_maps(phi, seen_size, own_size, sigma)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_matrices_kept_are_bounded(monkeypatch):
    """64 of at most 1 MiB, whatever the sizes."""
    maps._axis_matrix.cache_clear()
    made, make = [], maps._axis_matrix.__wrapped__
    cached = lru_cache(maxsize=64)(lambda *args: made.append(make(*args)) or made[-1])
    monkeypatch.setattr(maps, "_axis_matrix", cached)
    for size in (100, 700, 1500):
        assemble_maps(torch.rand(1, size // 8, size), (size, size), (size, size), 2.0)
    assert max(matrix.nbytes for matrix in made) <= 2**20
    assert maps._axis_matrix.cache_info().currsize == len(made) == 3


def test_few_finished_maps_are_held_at_once(monkeypatch):
    phi, sizes, shapes = torch.rand(7, 3, 4), [(8, 9)] * 5 + [(20, 30)] * 2, []
    expected = list(maps.assemble_maps_by_size(phi, (6, 8), sizes, 1.0, [None] * 7))
    assemble = maps.assemble_maps
    monkeypatch.setattr(maps, "_MAX_FINISHED", 2 * 8 * 9)
    monkeypatch.setattr(
        maps, "assemble_maps", lambda *a: shapes.append(len(found := assemble(*a))) or found
    )
    found = list(maps.assemble_maps_by_size(phi, (6, 8), sizes, 1.0, [None] * 7))
    assert shapes == [2, 2, 1, 1, 1]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_long_strip_needs_the_memory_of_its_map():
    size = (200_000, 3)
    found = assemble_maps(torch.rand(1, 8, 8), (64, 64), size, 2.0)
    assert found.shape == (1, *size)


def test_a_finished_map_is_left_alone():
    maps = torch.rand(2, 5, 7)
    torch.testing.assert_close(assemble_maps(maps, (5, 7), (5, 7), 0), maps)


def test_one_tensor_is_one_map():
    maps = torch.rand(2, 5, 7)
    args = ((10, 14), (20, 9), 1.0)
    torch.testing.assert_close(assemble_maps(maps, *args), assemble_maps([maps], *args))


def test_maps_are_not_changed():
    maps = [torch.ones(1, 4, 4), torch.ones(1, 8, 8)]
    assemble_maps(maps, (8, 8), (8, 8), 1.0)
    assert all((phi == 1).all() for phi in maps)


@pytest.mark.parametrize(("reduction", "score"), [("max", 7.0), ("mean", 2.5), ("sum", 15.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reduce_maps(reduction, score, dtype):
    found = float(reduce_maps(torch.tensor([[[-1, 2, 3], [0, 7, 4]]], dtype=dtype), reduction))
    assert found == score


@pytest.mark.parametrize(("reduction", "n"), [("mean", 1), ("sum", 2**18)])
def test_reduction_adds_in_double_precision(reduction, n):
    value = np.float32(0.1)
    found = float(reduce_maps(torch.full((1, 512, 512), float(value)), reduction))
    assert found == pytest.approx(n * float(value), rel=1e-12)


def slow_share(pixels, share):
    """Mean of the highest share of the pixels, at least one."""
    pixels = sorted((float(value) for value in np.ravel(pixels)), reverse=True)
    highest = pixels[: max(1, round(share * len(pixels)))]
    return sum(highest) / len(highest)


shares = st.floats(1e-4, 1) | st.sampled_from([1e-9, 0.01, 0.5, 1.0, 1])


@property_test
@given(
    maps=arrays(
        np.float32, st.tuples(st.integers(1, 3), sizes, sizes), elements=st.floats(-9, 9, width=32)
    ),
    share=shares,
)
def test_a_share_is_the_mean_of_the_highest_pixels(maps, share):
    found = reduce_maps(torch.from_numpy(maps), share)
    assert found.dtype == torch.float64
    expected = [slow_share(phi, share) for phi in maps]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("share", "n_highest"),
    [(1e-6, 1), (0.0014, 1), (0.01, 10), (0.0105, 10), (0.5, 500), (0.9999, 1000), (1, 1000)],
)
def test_number_of_pixels_of_a_share(share, n_highest):
    ranks = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).reshape(1, 20, 50)
    expected = 999 - (n_highest - 1) / 2
    assert reduce_maps(ranks.float(), share).item() == expected


def test_shares_lie_between_mean_and_maximum():
    maps = torch.rand(2, 30, 30, generator=torch.Generator().manual_seed(0))
    found = torch.stack([reduce_maps(maps, share) for share in ("max", 1e-9, 0.1, 0.5, 1, "mean")])
    assert torch.equal(found[0], found[1])
    assert (found[1:4] > found[2:5]).all()
    torch.testing.assert_close(found[4], found[5])


@pytest.mark.parametrize("shape", [(2, 3, 11, 14), (1, 1, 40, 23)])
def test_structural_similarity_is_the_same_where_gradients_are_asked_for(shape):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    asked = y.clone().requires_grad_()
    found = structural_similarity(x, asked)
    torch.testing.assert_close(found.detach(), structural_similarity(x, y))
    (gradient,) = torch.autograd.grad(found.sum(), asked)
    place, step = (0, 0, 5, 7), torch.zeros_like(y)
    step[place] = 1e-6
    ends = [structural_similarity(x, y + sign * step).sum() for sign in (1, -1)]
    assert float(gradient[place]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=1e-5)
