import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skanomaly import InvalidImageError, SuperSimpleNet
from skanomaly.datasets import make_texture_defects
from skanomaly.detectors._perlin_noise import perlin_noise
from skanomaly.detectors.super_simple_net import (
    DrawnFeatures,
    SuperSimpleHeads,
    SuperSimpleLoss,
    focal_loss,
)
from skanomaly.features import FeatureDataset

QUICK = {"max_epochs": 15, "lr": 5e-3}


def test_perlin_noise_is_that_of_its_formula():
    size, cells = (12, 10), (3, 2)
    found = perlin_noise(size, cells, torch.Generator().manual_seed(0))
    angles = 2 * np.pi * torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).numpy()
    gradients = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    for i, j in np.ndindex(*size):
        y, x = (i + 0.5) * cells[0] / size[0], (j + 0.5) * cells[1] / size[1]
        row, column = int(y), int(x)

        def weight(t):
            return 6 * t**5 - 15 * t**4 + 10 * t**3

        total = 0.0
        for a in (0, 1):
            for b in (0, 1):
                away = np.array([y - row - a, x - column - b])
                wy, wx = weight(y - row), weight(x - column)
                w = (wy if a else 1 - wy) * (wx if b else 1 - wx)
                total += w * away @ gradients[row + a, column + b]
        assert found[i, j] == pytest.approx(np.sqrt(2) * total, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cells=st.tuples(st.integers(1, 32), st.integers(1, 32)),
    seed=st.integers(0, 10**6),
)
def test_perlin_noise_is_bounded_on_any_grid(size, cells, seed):
    found = perlin_noise(size, cells, torch.Generator().manual_seed(seed))
    assert found.shape == size
    assert found.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_the_weighted_cross_entropy(gamma):
    logits, target = torch.tensor([-3.0, 0.5, 2.0, 4.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    p = torch.sigmoid(logits)
    p = torch.where(target == 1, p, 1 - p)
    assert_allclose(focal_loss(logits, target, gamma), -((1 - p) ** gamma) * p.log(), rtol=1e-5)
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    assert_allclose(focal_loss(logits, target, 0.0), plain, rtol=1e-5)


def target_of():
    """Masks of which the last is not known, and labels."""
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(3, 4, 5, generator=generator) > 0.7).float()
    masks[-1] = -1
    return masks, torch.tensor([1.0, 0.0, 1.0])


def test_loss_is_the_slow_sum():
    m, s = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1)), torch.randn(3)
    masks, labels = target_of()
    normal, defect, focal = [], [], []
    for value, mask in zip(m.flatten().tolist(), masks.flatten().tolist()):
        if mask < 0:
            continue
        (defect if mask else normal).append(max(0.0, 0.5 - value if mask else 0.5 + value))
        p = 1 / (1 + np.exp(-value if mask else value))
        focal.append(-((1 - p) ** 4) * np.log(p))
    of_images = focal_loss(s, labels, 4.0).mean()
    expected = np.mean(normal) + np.mean(defect) + np.mean(focal) + float(of_images)
    found = SuperSimpleLoss(0.5, 4.0)((m, s), (masks, labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_positions_of_an_image_without_a_mask_are_in_no_loss():
    masks, labels = target_of()
    m = torch.zeros(3, 4, 5, requires_grad=True)
    SuperSimpleLoss(0.5, 4.0)((m, torch.zeros(3)), (masks, labels)).backward()
    assert (m.grad[:2] != 0).all()
    assert (m.grad[2] == 0).all()


def test_loss_of_a_batch_without_masks_is_that_of_the_images():
    masks, labels = torch.full((2, 4, 5), -1.0), torch.ones(2)
    found = SuperSimpleLoss(0.5, 4.0)((torch.randn(2, 4, 5), torch.zeros(2)), (masks, labels))
    assert float(found) == pytest.approx(0.5**4 * np.log(2))


def test_heads_are_those_of_the_paper():
    c, head = 6, 7
    torch.manual_seed(0)
    heads = SuperSimpleHeads(torch.rand(c), 1 + torch.rand(c), 0.5, head).eval()
    f = torch.randn(2, c, 5, 4)
    with torch.no_grad():
        a = heads.adapt(f)
        weight, bias = heads.adaptor.weight[:, :, 0, 0], heads.adaptor.bias
        slow = torch.einsum("oc,nchw->nohw", weight, (f - heads.mean) / heads.std)
        assert_allclose(a, slow + bias.view(1, -1, 1, 1), atol=1e-5)
        m, s = heads.judge(a)
        assert (m.shape, s.shape) == ((2, 5, 4), (2,))
        g = heads.look(torch.cat([a, m[:, None]], dim=1))
        for i in range(2):
            pooled = [g[i].amax((1, 2)), m[i].amax()[None], g[i].mean((1, 2)), m[i].mean()[None]]
            assert_allclose(s[i], heads.classify(torch.cat(pooled))[0], atol=1e-5)


def test_noise_is_added_to_adapted_features_of_the_second_half():
    torch.manual_seed(0)
    heads = SuperSimpleHeads(torch.zeros(4), torch.ones(4), 0.5, 3).eval()
    f, noise = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        m, s = heads((f, noise))
        for part, a in enumerate((heads.adapt(f), heads.adapt(f) + 0.5 * noise)):
            expected_m, expected_s = heads.judge(a)
            assert_allclose(m[2 * part : 2 * part + 2], expected_m, atol=1e-6)
            assert_allclose(s[2 * part : 2 * part + 2], expected_s, atol=1e-6)


def features(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randn(n, 4, 8, 8, generator=generator), torch.randn(n, 6, 4, 4)
    return FeatureDataset(levels, [(64, 64)] * n)


class OnGrid:
    """Marked images of which nothing but the masks is asked."""

    def __init__(self, masks):
        self.masks = masks

    def masks_on(self, grid):
        assert grid == self.masks.shape[1:]
        return self.masks

    def digest(self):
        return ""


def drawn(detector, data, indices):
    (_, noise), (masks, labels) = detector._drawn(*data.__getitems__(indices))
    return noise, masks, labels


def test_what_is_drawn_is_marked_and_leaves_real_defects_alone():
    real = torch.zeros(3, 8, 8)
    real[:, 2:4, 1:5] = 1
    real[2] = -1
    data = DrawnFeatures(features(12), (8, 8), fixed=True)
    data.add(features(3, seed=1), OnGrid(real))
    assert len(data) == 12 + 3
    detector, n = SuperSimpleNet(noise_threshold=0.0), len(data)
    noise, masks, labels = drawn(detector, data, list(range(n)))
    where = (noise != 0).any(dim=1)
    assert 0.2 < where.float().mean() < 0.8
    assert_array_equal(masks[:n], torch.cat([torch.zeros(12, 8, 8), real]))
    assert_array_equal(labels[:n], [0] * 12 + [1] * 3)
    assert_array_equal(masks[n : n + 12], where[:12])
    assert_array_equal(labels[n:], torch.maximum(labels[:n], where.flatten(1).any(1).float()))
    assert not (where[12:14] & (real[:2] == 1)).any()
    assert_array_equal(masks[n + 12 : n + 14], where[12:14] | (real[:2] == 1))
    assert (masks[n + 14] == -1).all()  # where its own defect is, is not known
    assert_allclose(noise[noise != 0].std(), 1, atol=0.05)


def test_an_image_s_noise_is_its_own():
    data = DrawnFeatures(features(6), (8, 8), fixed=True)
    detector = SuperSimpleNet()
    together, alone = drawn(detector, data, [4, 2, 0])[0], drawn(detector, data, [2])[0]
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize(("n", "n_marked", "expected"), [(40, 2, 10), (40, 10, 10), (4, 10, 10)])
def test_real_defects_are_repeated_to_a_quarter(n, n_marked, expected):
    data, marked = DrawnFeatures(features(n), (8, 8)), features(n_marked)
    data.add(marked, OnGrid(torch.ones(n_marked, 8, 8)))
    assert len(data) == n + expected
    seen = [data._sample(i)[0][0] for i in range(n, len(data))]
    assert all(any(torch.equal(x, own) for x in seen) for own in marked.levels[0])


@pytest.fixture(scope="module")
def scenes():
    """Good images, and two sets of defective ones beside further good ones."""
    train = make_texture_defects("brick", n_normal=24, image_size=64, random_state=0)
    sets = [
        make_texture_defects(
            "brick", split="test", n_normal=8, n_defective=8, image_size=64, random_state=seed
        )
        for seed in (1, 2)
    ]
    return train, *sets


@pytest.fixture(scope="module")
def trained(scenes):
    return small("SuperSimpleNet", **QUICK).fit(scenes[0].images)


def test_training_lowers_the_loss_and_changes_the_maps(scenes, trained):
    losses = trained.net_.history[:, "valid_loss"]
    assert losses[-1] < 0.9 * losses[0]
    untrained = small("SuperSimpleNet", max_epochs=1, lr=1e-30).fit(scenes[0].images)
    X = scenes[1].images[:2]
    assert np.abs(trained.transform(X) - untrained.transform(X)).max() > 0.5


def test_the_logit_of_the_image_is_added_to_the_map(scenes, trained):
    X = scenes[1].images[:3]
    levels = trained.encoder_(torch.stack([trained._open(X)[i] for i in range(3)]))
    with torch.no_grad():
        m, s = trained.net_.module_.judge(trained.net_.module_.adapt(trained._joined(levels)))
        found_m, found_s = trained._maps_of_features(levels)
    assert_array_equal(found_m, m)
    assert_allclose(found_s, trained.classification_weight * s[:, None, None])


def test_weight_of_the_image_s_logit_may_change_with_a_calibration(scenes, trained):
    from sklearn.base import clone

    X = scenes[0].images
    detector = clone(trained).set_params(max_epochs=1).fit(X)
    with pytest.raises(ValueError, match="classification_weight.*call calibrate"):
        detector.set_params(classification_weight=0.5).transform(X)
    detector.calibrate(X[:5]).transform(X[:1])


def test_upsampling_makes_a_finer_map(scenes):
    X = scenes[0].images
    found = [small("SuperSimpleNet", max_epochs=1, upsampling=k).fit(X) for k in (1, 2)]
    sizes = [d._maps_of_features(d.encoder_(d._open(X[:1])[0][None]))[0].shape[1:] for d in found]
    assert sizes == [(16, 16), (32, 32)]


@pytest.mark.parametrize("as_masks", [True, False])
def test_real_defects_help(scenes, trained, as_masks):
    """Of the same kinds as those it is then judged by, on other images."""
    train, known, new = scenes
    X = np.concatenate([train.images, known.images])
    y = [*np.ones(24, int), *known.target]
    if as_masks:
        y = [*np.zeros((24, 64, 64), bool), *known.masks]
    found = small("SuperSimpleNet", **QUICK).fit(X, y)
    assert (found.n_defects_, found.n_left_out_) == (8, 0)
    before, after = (
        roc_auc_score(new.target, d.score_samples(new.images)) for d in (trained, found)
    )
    assert after > before
    assert after > 0.8


def test_a_checkpoint_is_of_its_masks(scenes, tmp_path):
    from skorch.callbacks import Callback

    from skanomaly.exceptions import TrainingError

    class Interrupt(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    train, known, _ = scenes
    X = np.concatenate([train.images[:10], known.images])
    y = np.concatenate([np.zeros((10, 64, 64), bool), known.masks])
    settings_ = {"max_epochs": 3, "checkpoint": tmp_path / "training.pt"}
    with pytest.raises(KeyboardInterrupt):
        small("SuperSimpleNet", callbacks=[Interrupt()], **settings_).fit(X, y)
    others = y.copy()
    others[-1] = np.roll(others[-1], 5, axis=0)
    with pytest.raises(TrainingError, match="fit of other images"):
        small("SuperSimpleNet", **settings_).fit(X, others)
    resumed = small("SuperSimpleNet", **settings_).fit(X, y)
    through = small("SuperSimpleNet", max_epochs=3).fit(X, y)
    assert_array_equal(resumed.transform(X[:2]), through.transform(X[:2]))


@pytest.mark.parametrize("what", ["defective", "validation"])
def test_images_of_another_size_are_refused_by_name(scenes, what):
    train, known, _ = scenes
    others = [np.pad(image, ((0, 8), (0, 0)), mode="edge") for image in known.images]
    if what == "defective":
        given = {"X": [*train.images, *others], "y": [1] * 24 + [-1] * 16}
    else:
        given = {"X": train.images, "X_val": others}
    with pytest.raises(InvalidImageError, match="is 72 x 64 pixels.*set image_size"):
        small("SuperSimpleNet", image_size=None).fit(**given)
