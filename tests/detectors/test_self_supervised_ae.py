from copy import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from skimage import metrics
from torch import nn

from skanomaly import SelfSupervisedAE
from skanomaly.datasets import load_mvtec_ad
from skanomaly.detectors.self_supervised_ae import FilteringLoss, FilterNet, reflect_to_multiple
from skanomaly.exceptions import TrainingError
from skanomaly.images import ImageDataset
from skanomaly.synthesis import DefectGenerator

NO_DEFECTS = DefectGenerator(opacity=(0, 0))


def small(**parameters):
    return SelfSupervisedAE(
        **{
            "width": 16,
            "depth": 1,
            "image_size": 64,
            "max_epochs": 2,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted(textures):
    """A filter that has learned a little; tests must not change it."""
    return small(max_epochs=5).fit(textures[0].images)


def random_net(n_channels=3, **parameters):
    """A network as after training: its output layers are not zero."""
    torch.manual_seed(0)
    net = FilterNet(n_channels, **{"width": 8, "depth": 2, **parameters})
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net.eval()


def slow_loss(g, x, M, mask_weight):
    """The paper's loss, pixel by pixel."""
    losses = []
    for g_i, x_i, M_i in zip(g.numpy(), x.numpy(), M.numpy()):
        inside, outside = [], []
        for row, column in np.ndindex(M_i.shape):
            error = np.mean((g_i[:, row, column] - x_i[:, row, column]) ** 2)
            (inside if M_i[row, column] else outside).append(error)
        losses.append(
            mask_weight * (np.mean(inside) if inside else 0)
            + (1 - mask_weight) * (np.mean(outside) if outside else 0)
        )
    return np.mean(losses)


@pytest.mark.parametrize("mask_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("masked", [[], [0], [0, 1]], ids=["none", "some", "all"])
def test_loss_is_the_papers(mask_weight, masked):
    generator = torch.Generator().manual_seed(0)
    g, x = (torch.rand(2, 3, 6, 5, generator=generator) for _ in range(2))
    M = torch.rand(2, 6, 5, generator=generator) > 0.7
    if not masked:
        M[:] = False
    if masked == [0, 1]:
        M[1] = True
    loss = FilteringLoss(mask_weight)(g, (x, M))
    assert float(loss) == pytest.approx(slow_loss(g, x, M, mask_weight), rel=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (9, 31)])
def test_padding_reflects_and_is_cropped_back(stride, size):
    x = torch.rand(2, 3, *size)
    padded = reflect_to_multiple(x, stride)
    assert padded.shape[2] % stride == padded.shape[3] % stride == 0
    assert torch.equal(padded[:, :, : size[0], : size[1]], x)
    expected = np.pad(
        x.numpy(), [(0, 0), (0, 0), *((0, -n % stride) for n in size)], mode="reflect"
    )
    assert_array_equal(padded.numpy(), expected)
    assert random_net(downsampling=stride)(x).shape == x.shape


def test_what_is_padded_is_not_resized():
    """Cropping to a multiple of the stride far from the border changes nothing inside."""
    net = random_net(1, depth=1, dilations=(1, 2))
    x = torch.rand(1, 1, 66, 70)
    whole, part = net(x), net(x[:, :, :64, :64])
    assert_allclose(whole[:, :, :40, :40].detach(), part[:, :, :40, :40].detach(), atol=1e-6)


@pytest.mark.parametrize("skip", [True, False])
def test_training_starts_from_the_identity_with_a_skip(skip):
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(FilterNet(3, width=8, depth=1, skip=skip)(x), x) == skip


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (1, 2, 4, 8, 16, 32)], ids=str)
def test_reach_grows_with_the_dilations(dilations):
    """A pixel depends on what lies as far away as the widest branch, and no farther."""
    net = random_net(1, depth=1, dilations=dilations)
    x = torch.rand(1, 1, 321, 321, requires_grad=True)
    net(x)[0, 0, 160, 160].backward()
    rows = np.flatnonzero(x.grad[0, 0].abs().sum(1).numpy())
    reach = max(160 - rows.min(), rows.max() - 160)
    assert 4 * max(dilations) <= reach <= 4 * (max(dilations) + 3)


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (16, 1), (8, 3)])
def test_width_and_depth_size_the_network(width, depth, textures):
    net = small(width=width, depth=depth, max_epochs=1).fit(textures[0].images[:6]).net_.module_
    assert len(net.blocks) == depth
    assert net.stem.out_channels == width


def test_map_is_the_smoothed_squared_residual(fitted, textures):
    X = textures[1].images[:3]
    x = X / 255
    with torch.no_grad():
        g = fitted.net_.module_(torch.from_numpy(x[:, None].astype(np.float32)))[:, 0].numpy()
    expected = [ndimage.gaussian_filter(r, 4.0) for r in (g - x) ** 2]
    squared = copy(fitted).set_params(error="squared").calibrate(X)
    assert_allclose(squared.transform(X), expected, rtol=1e-3, atol=1e-9)


def test_map_of_the_structural_similarity(fitted, textures):
    x = torch.from_numpy(textures[1].images[:2, None] / np.float32(255))
    by_similarity = copy(fitted).set_params(error="ssim")
    with torch.inference_mode():
        found, g = by_similarity._compute_maps(x), fitted.net_.module_(x)
    for values, *pair in zip(found, x, g):
        _, similarity = metrics.structural_similarity(
            *(np.pad(image[0].double().numpy(), 5, mode="reflect") for image in pair),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )
        assert_allclose(values, 1 - similarity[5:-5, 5:-5], atol=1e-4)


@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
def test_score_reductions(fitted, textures, reduction):
    X = textures[1].images[:3]
    maps = fitted.transform(X)
    scores = copy(fitted).set_params(score_reduction=reduction).calibrate(X).score_samples(X)
    assert_allclose(scores, [-getattr(np, reduction)(m, axis=(0, 1)) for m in maps], rtol=1e-4)


def test_reconstruct_gives_the_filtered_images(fitted, textures):
    X = textures[1].images[:3]
    filtered = fitted.reconstruct(X)
    assert (filtered.shape, filtered.dtype) == (X.shape, np.float32)
    with torch.no_grad():
        g = fitted.net_.module_(torch.from_numpy((X[:, None] / 255).astype(np.float32)))
    assert_allclose(filtered, g[:, 0].clamp(0, 1), atol=1e-5)
    assert not np.array_equal(filtered, X / np.float32(255))


def test_reconstruct_has_each_images_own_size_and_channels():
    X = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    detector = small(max_epochs=1).fit(X)
    mixed = detector.reconstruct([X[0], np.zeros((80, 50, 3), np.uint8)])
    assert [image.shape for image in mixed] == [(64, 64, 3), (80, 50, 3)]
    assert detector.reconstruct(X).shape == X.shape


def psnr(image, clean, where):
    return -10 * np.log10(np.mean((image - clean)[where] ** 2))


def test_filter_moves_defects_towards_the_clean_image():
    """The theory's claim, on stripes: projected inside the defect, kept outside it."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (44, 1, 1))
    stripes = 0.5 + 0.3 * np.sin(np.arange(48) * 2 * np.pi / 8 + phase)
    X = np.broadcast_to(stripes, (44, 48, 48)).astype(np.float32)
    training = {"max_epochs": 30, "lr": 5e-3, "train_batch_size": 4}
    detector = small(image_size=48, width=16, depth=2, **training).fit(X[:24])
    clean = ImageDataset(X[24:])
    clean = torch.stack([clean[i] for i in range(20)])
    defects = DefectGenerator(opacity=(1, 1)).draw(clean, seeds=range(20))
    filtered = detector.reconstruct(defects.images[:, 0].numpy())
    clean, inside = clean[:, 0].numpy(), defects.masks.numpy()
    drawn = psnr(defects.images[:, 0].numpy(), clean, inside)
    assert psnr(filtered, clean, inside) > drawn + 6
    assert psnr(filtered, clean, ~inside) > 30


def test_without_defects_a_skip_leaves_nothing_to_learn(textures):
    detector = small(defects=NO_DEFECTS).fit(textures[0].images)
    assert not detector.transform(textures[1].images).any()
    assert detector.offset_ == 0


def test_crops_let_sizes_differ(textures):
    X = [*textures[0].images[:6], np.zeros((80, 70), np.uint8)]
    detector = small(image_size=None, crop_size=48, max_epochs=1).fit(X)
    assert [m.shape for m in detector.transform(X[-2:])] == [(64, 64), (80, 70)]


def test_bfloat16_trains_to_about_the_same(textures):
    losses = [
        small(mixed_precision=m, max_epochs=3).fit(textures[0].images).net_.history[:, "valid_loss"]
        for m in (False, True)
    ]
    assert losses[0] != losses[1]
    assert_allclose(losses[1], losses[0], rtol=0.1)


def test_checkpoint_needs_a_seed(textures, tmp_path):
    with pytest.raises(ValueError, match="checkpoint needs an int as random_state.*None"):
        small(checkpoint=tmp_path / "c.pt", random_state=None).fit(textures[0].images[:4])


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_damaged_checkpoint_is_refused(textures, tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(TrainingError, match=r"c\.pt is no checkpoint, or is damaged"):
        small(checkpoint=tmp_path / "c.pt").fit(textures[0].images[:4])


# Slow: the other detectors need a tenth of the time for theirs, and drawn defects on textures
# are found by all of them in test_common.py.
@pytest.mark.slow
def test_grid_separates_after_a_short_training(mvtec_root):
    """Real parts: a small filter of a minute's training finds defects of the wire mesh."""
    from sklearn.metrics import roc_auc_score

    train = load_mvtec_ad(mvtec_root, "grid", split="train")
    test = load_mvtec_ad(mvtec_root, "grid", split="test")
    detector = SelfSupervisedAE(
        width=32, depth=2, image_size=128, max_epochs=8, lr=2e-3, random_state=0
    )
    scores = detector.fit(train.images[:120]).score_samples(test.images)
    assert roc_auc_score(test.target, scores) > 0.8
