from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage
from torch import nn

from skanomaly import PatchSVDD
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors._crops import CropDataset
from skanomaly.detectors._patch_pairs import DIRECTIONS, STEP, draw_pairs, spread
from skanomaly.detectors.patch_svdd import PatchEncoder, PatchTasks, PatchTasksLoss
from skanomaly.images import ImageDataset


def encoder(patch_size=16, channels=2):
    torch.manual_seed(0)
    mean, std = torch.rand(channels), 0.5 + torch.rand(channels)
    return PatchEncoder(mean, std, patch_size, 5)


@pytest.mark.parametrize("patch_size", [8, 12, 16, 20, 32, 64, 72])
def test_codes_within_an_image_are_those_of_patches_by_themselves(patch_size):
    encode, x = encoder(patch_size), torch.rand(2, 2, patch_size + 5, patch_size + 9)
    with torch.no_grad():
        large, small_ = encode(x)
        for codes, side, k in ((large, patch_size, 0), (small_, patch_size // 2, 1)):
            n = [(m - side) // STEP + 1 for m in x.shape[2:]]
            assert codes.shape == (2, 5, *n)
            for row, column in ((0, 0), (n[0] - 1, n[1] - 1), (0, n[1] - 1)):
                top, left = STEP * row, STEP * column
                if k:  # a smaller patch has no code of a larger one
                    patch = x[:, :, top : top + side, left : left + side] - encode.mean
                    h = patch / encode.std
                    for layer in encode.small[:-1]:
                        h = nn.functional.leaky_relu(layer(h), 0.1)
                    alone = torch.tanh(encode.small[-1](h))
                else:
                    alone = encode(x[:, :, top : top + side, left : left + side])[0]
                assert alone.shape == (2, 5, 1, 1)
                assert_allclose(codes[:, :, row, column], alone[:, :, 0, 0], atol=1e-5)


def test_a_large_patch_is_coded_by_its_four_quarters():
    encode, x = encoder(16), torch.rand(1, 2, 16, 16)
    with torch.no_grad():
        large, small_ = encode(x)
        quarters = small_[:, :, ::4, ::4]  # of 8 pixels each
        assert quarters.shape[2:] == (2, 2)
        h = torch.einsum("oiyx,niyx->no", encode.large[0].weight, quarters)
        h = nn.functional.leaky_relu(h + encode.large[0].bias, 0.1)
        h = torch.tanh(h @ encode.large[1].weight[:, :, 0, 0].T + encode.large[1].bias)
    assert_allclose(large[:, :, 0, 0], h, atol=1e-5)


def test_the_papers_encoder():
    encode = PatchEncoder(*torch.ones(2, 3), 64, 64)
    shapes = [tuple(layer.weight.shape) for layer in encode.small]
    widths = [3, 32, 64, 128, 128, 64, 32, 32, 64]
    assert shapes == [(o, i, 3, 3) for i, o in pairwise(widths)]


@settings(max_examples=60, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    patch_size=st.sampled_from([4, 8, 16, 32, 64]),
    seed=st.integers(0, 10**6),
)
def test_pairs_lie_where_they_are_said_to(grid, patch_size, seed):
    places, directions = draw_pairs(grid, patch_size, 20, torch.Generator().manual_seed(seed))
    assert places.shape == (20, 4, 2)
    assert (places >= 0).all()
    assert (places < torch.tensor(grid)).all()
    for (first, near, one, other), direction in zip(places.tolist(), directions.tolist()):
        assert max(abs(a - b) for a, b in zip(first, near)) <= 1
        for a, b, sign, n in zip(one, other, DIRECTIONS[direction], grid):
            away = (b - a) * sign
            if sign == 0:
                assert b == a
            elif n > patch_size // STEP:
                assert 3 * patch_size // 4 // STEP <= away < patch_size // STEP
            else:
                assert away == 0 if n == 1 else away > 0


def test_pairs_lie_in_all_directions_and_everywhere():
    places, directions = draw_pairs((20, 30), 16, 3000, torch.Generator().manual_seed(0))
    assert (np.bincount(directions, minlength=8) > 250).all()
    for k, n in enumerate((20, 30)):
        for which in range(4):
            assert set(places[:, which, k].tolist()) == set(range(n))


def test_tasks_are_on_the_codes_of_the_pairs():
    encode = encoder(8)
    tasks, x = PatchTasks(encode, 5), torch.rand(2, 2, 20, 24)
    grids = [(7, 9), (9, 11)]
    drawn = [
        [draw_pairs(g, p, 6, torch.Generator().manual_seed(i)) for i in range(2)]
        for g, p in zip(grids, (8, 4))
    ]
    pairs = [torch.stack([places for places, _ in d]) for d in drawn]
    with torch.no_grad():
        found = tasks((x, pairs))
        for k, codes in enumerate(encode(x)):
            for i in range(2):
                for j, places in enumerate(pairs[k][i].tolist()):
                    first, near, one, other = (codes[i, :, y, z] for y, z in places)
                    distances, logits = (part[6 * i + j] for part in found[k])
                    assert_allclose(distances, (first - near).square().sum().sqrt(), atol=1e-6)
                    assert_allclose(logits, tasks.classifiers[k](one - other), atol=1e-6)


def test_loss_is_the_weighted_distance_and_the_cross_entropy_of_both_sizes():
    torch.manual_seed(0)
    found = [(torch.rand(5), torch.randn(5, 8)) for _ in range(2)]
    directions = [torch.randint(8, (5,)) for _ in range(2)]
    expected = 0.0
    for (distances, logits), true in zip(found, directions):
        for distance, z, y in zip(distances, logits, true):
            expected += (0.3 * distance - z[y] + z.exp().sum().log()) / 5
    assert_allclose(PatchTasksLoss(0.3)(found, directions), expected, rtol=1e-5)


@pytest.mark.parametrize(("patch_size", "stride"), [(4, 2), (5, 3), (6, 6)])
def test_a_pixel_has_the_mean_of_the_patches_over_it(patch_size, stride):
    size = 15, 20
    n = [(m - patch_size) // stride + 1 for m in size]
    scores = torch.rand(2, *n)
    total, count = np.zeros((2, *size)), np.zeros(size)
    for row, column in np.ndindex(*n):
        part = np.s_[
            stride * row : stride * row + patch_size, stride * column : stride * column + patch_size
        ]
        total[(slice(None), *part)] += scores[:, row, column, None, None].numpy()
        count[part] += 1
    rows, columns = (
        np.minimum(np.arange(m), (k - 1) * stride + patch_size - 1) for m, k in zip(size, n)
    )
    with np.errstate(invalid="ignore"):
        expected = (total / count)[:, rows][:, :, columns]
    assert_allclose(spread(scores, patch_size, stride, size), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def train():
    return make_texture_defects("brick", n_normal=16, image_size=48, random_state=0).images


@pytest.fixture(scope="module")
def detector(train):
    """Whose banks hold all patches, but for rounding."""
    return small("PatchSVDD", image_size=None, standardize=None, smoothing=0, stride=4).fit(train)


def test_map_is_the_product_of_the_distances_to_the_nearest_codes(detector, train):
    pixels = detector._open(train[:1])[0][None]
    encode, expected = detector.net_.module_.encoder, 1.0
    with torch.no_grad():
        codes = encode(pixels)
        for h, bank, side, stride in zip(
            codes, (detector.large_bank_, detector.small_bank_), (16, 8), (16, 4)
        ):
            h = h[:, :, :: stride // STEP, :: stride // STEP]
            scores = torch.empty(h.shape[2:])
            for row, column in np.ndindex(*h.shape[2:]):
                gaps = bank.patches - h[0, :, row, column]
                scores[row, column] = gaps.square().sum(dim=1).sqrt().min()
            expected = expected * spread(scores[None], side, stride, (48, 48))
    assert_allclose(detector.transform(train[:1]), expected, rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def parts():
    """Images of one part, noisy, in which each place looks like no other."""
    rng = np.random.default_rng(0)
    part = ndimage.gaussian_filter(rng.normal(size=(48, 48)), 3)
    part = 128 + 60 * part / part.std() + rng.normal(0, 5, (24, 48, 48))
    return part.clip(0, 255).astype(np.uint8)


def test_training_teaches_directions_and_changes_the_maps(parts):
    train = parts
    trained = small("PatchSVDD", max_epochs=15, lr=3e-3).fit(train)
    untrained = small("PatchSVDD", max_epochs=1, lr=1e-30).fit(train)
    losses = trained.net_.history[:, "train_loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[0] == pytest.approx(2 * np.log(8), rel=0.1)
    assert not np.allclose(trained.transform(train[:2]), untrained.transform(train[:2]), rtol=0.05)


def test_weight_of_distances_brings_near_codes_nearer(parts):
    def mean_gap(svdd_weight):
        found = small("PatchSVDD", max_epochs=8, lr=3e-3, svdd_weight=svdd_weight).fit(parts)
        with torch.no_grad():
            h, _ = found.net_.module_.encoder(found._open(parts[:4])[0][None])
        return float((h[..., 1:] - h[..., :-1]).norm(dim=1).mean())

    assert mean_gap(1.0) < 0.5 * mean_gap(0.0)


@pytest.mark.parametrize("side", [28, 32])
def test_small_images_are_not_enlarged(side):
    X = np.random.default_rng(0).integers(0, 256, (10, side, side), np.uint8)
    found = PatchSVDD(patch_size=16, image_size=None, max_epochs=1, max_patches=50).fit(X)
    assert found._seen_size is None
    assert found.transform(X).shape == X.shape


def test_an_image_smaller_than_a_patch_is_refused():
    X = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    with pytest.raises(ValueError, match="image 0: is 28 x 28 pixels"):
        PatchSVDD(image_size=None, random_state=0).fit(X)
    with pytest.raises(ValueError, match="image_size=28 of PatchSVDD is smaller than the 64"):
        PatchSVDD(image_size=28).fit(X)


@pytest.mark.parametrize(("name", "value"), [("patch_size", 30), ("stride", 3)])
def test_sides_that_do_not_come_out_even_are_refused(train, name, value):
    with pytest.raises(ValueError, match=f"{name}={value} is no multiple of"):
        small("PatchSVDD", **{name: value}).fit(train)


def test_crops_are_squares_or_all_of_a_small_image():
    X = [np.random.default_rng(0).integers(0, 256, (40, 21), np.uint8)] * 2
    data = CropDataset(ImageDataset(X), 24, fixed=True)
    crops, seeds = data.__getitems__([0, 1])
    assert crops.shape == (2, 1, 24, 21)
    assert not torch.equal(crops[0], crops[1])
    assert torch.equal(crops, data.__getitems__([0, 1])[0])
    assert seeds.tolist() == [0, 1]
    assert_allclose(crops[0, 0, 0] * 255, X[0][np.isclose(X[0] / 255, crops[0, 0, 0]).all(1)][0])
