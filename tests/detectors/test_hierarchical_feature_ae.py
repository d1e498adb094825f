from copy import copy

import joblib
import numpy as np
import pytest
import torch
from conftest import small_detector, split_of
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch import nn

from skanomaly import HierarchicalFeatureAE
from skanomaly.calibration import quantile_of_new
from skanomaly.detectors.hierarchical_feature_ae import (
    HierarchicalDecoder,
    HierarchicalFeatureLoss,
)
from skanomaly.features import FeaturePyramid
from skanomaly.metrics import pixel_roc_auc_score


def pyramid(n=2, channels=(4, 6, 8), size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, c, size // 2**k, size // 2**k, generator=generator)
        for k, c in enumerate(channels)
    ]


def slow_residual(f_enc, f_dec):
    """Eqs. 5-6, position by position, summed over channels."""
    n, _, height, width = f_enc.shape
    phi = np.zeros((n, height, width))
    for b in range(n):
        for i in range(height):
            for j in range(width):
                enc, dec = f_enc[b, :, i, j], f_dec[b, :, i, j]
                difference = enc / np.sqrt((enc**2).sum()) - dec / np.sqrt((dec**2).sum())
                phi[b, i, j] = 0.5 * (difference**2).sum()
    return phi


def test_loss_is_eqs_5_to_8():
    f_enc, f_dec = pyramid(), pyramid(seed=1)
    L_k = [
        slow_residual(e.numpy().astype(float), d.numpy().astype(float)).mean()
        for e, d in zip(f_enc, f_dec, strict=True)
    ]
    assert float(HierarchicalFeatureLoss()(f_dec, f_enc)) == pytest.approx(np.mean(L_k), rel=1e-5)


@pytest.mark.parametrize("level_weights", ["similarity", "area", "equal"])
@pytest.mark.parametrize("smoothing", [4.0, 0.0])
def test_map_is_eqs_9_to_11(fitted, textures, level_weights, smoothing):
    X = textures[1].images[:3]
    settings = {"level_weights": level_weights, "smoothing": smoothing, "standardize": None}
    detector = copy(fitted).set_params(**settings).calibrate(X)
    f_a = np.zeros(X.shape)
    for k, phi in enumerate(slow_residuals(fitted, X)):
        h_k, w_k = phi.shape[1:]
        similarity = fitted.level_similarities_[k] ** 8
        weight = {"similarity": similarity, "area": 1 / (w_k * h_k), "equal": 1}[level_weights]
        f_a += resized_to(weight * phi, (64, 64))
    if smoothing:
        f_a = np.stack([ndimage.gaussian_filter(m, smoothing) for m in f_a])

    assert_allclose(detector.transform(X), f_a, rtol=1e-3)
    assert_allclose(-detector.score_samples(X), f_a.max(axis=(1, 2)), rtol=1e-3)


def slow_residuals(detector, X):
    """phi_k of each level, of grey images of bytes."""
    f_enc = FeaturePyramid(n_channels=1, engine="torch")(
        torch.from_numpy(X[:, None] / np.float32(255))
    )
    with torch.no_grad():
        f_dec = detector.net_.module_(f_enc)
    pairs = zip(f_enc, f_dec, strict=True)
    return [slow_residual(e.numpy().astype(float), d.numpy().astype(float)) for e, d in pairs]


def resized_to(phi, size):
    phi = torch.from_numpy(phi)[:, None]
    return nn.functional.interpolate(phi, size, mode="bilinear")[:, 0].numpy()


def test_similarities_are_cosines_of_what_was_kept_out(fitted, textures):
    X = textures[0].images
    _, held_out = split_of(small_detector(), len(X))
    expected = [1 - phi.mean() for phi in slow_residuals(fitted, X[held_out])]
    assert_allclose(fitted.level_similarities_, expected, rtol=1e-4)


def test_residual_maps_are_each_levels(fitted, textures):
    X = textures[1].images[:3]
    found = fitted.residual_maps(X)
    assert [maps.shape for maps in found] == [(3, 64, 64)] * 3
    for maps, phi in zip(found, slow_residuals(fitted, X), strict=True):
        assert_allclose(maps, resized_to(phi, (64, 64)), rtol=1e-3, atol=1e-5)


def test_residual_maps_are_of_each_images_own_size(fitted, textures):
    X = [textures[1].images[0], textures[1].images[1][:, :48]]
    for maps in fitted.residual_maps(X):
        assert [phi.shape for phi in maps] == [(64, 64), (64, 48)]


def test_level_that_is_not_reconstructed_counts_nothing(fitted):
    detector = copy(fitted)
    detector.level_similarities_ = [-0.1, 0.5, 1.0]
    assert detector._weights() == [0.0, 0.5**8, 1.0]


def test_decoder_is_eqs_3_and_4():
    """Each level starts from the *reconstructed feature* of the coarser one, upsampled."""
    decoder = HierarchicalDecoder((4, 6, 8)).eval()
    f_enc = pyramid()
    f_3 = decoder.levels[0](f_enc[2])
    f_2 = decoder.levels[1](f_3.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    f_1 = decoder.levels[2](f_2.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    for found, expected in zip(decoder(f_enc), (f_1, f_2, f_3), strict=True):
        assert torch.equal(found, expected)


def test_decoder_sees_only_the_coarsest_level():
    decoder = HierarchicalDecoder((4, 6, 8)).eval()
    f_enc = pyramid()
    changed = [torch.zeros_like(f_enc[0]), torch.zeros_like(f_enc[1]), f_enc[2]]
    for a, b in zip(decoder(f_enc), decoder(changed), strict=True):
        assert torch.equal(a, b)


def test_decoder_level_is_the_papers():
    layers = list(HierarchicalDecoder((4, 6, 8)).levels[1])
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 3 + [
        nn.Conv2d
    ]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [c.kernel_size for c in convolutions] == [(1, 1), (3, 3), (1, 1), (1, 1)]
    assert [c.out_channels for c in convolutions] == [6, 6, 6, 6]
    assert layers[2].negative_slope == 0.1


def test_optimiser_is_the_papers():
    detector = HierarchicalFeatureAE()
    assert (detector.lr, detector.momentum, detector.weight_decay) == (0.4, 0.9, 1e-4)
    assert (detector.smoothing, detector.score_reduction) == (4.0, "max")
    papers = detector.set_params(level_weights="area", standardize=None)
    assert (papers.level_weights, papers.standardize) == ("area", None)


def test_settings_reach_the_optimiser(fitted):
    group = fitted.net_.optimizer_.param_groups[0]
    assert isinstance(fitted.net_.optimizer_, torch.optim.SGD)
    assert (group["initial_lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.9, 1e-4)
    last = (1 + np.cos(np.pi * 19 / 20)) / 2  # 19 images, 2 a step, 2 epochs
    assert group["lr"] == pytest.approx(0.4 * last)


def test_constant_learning_rate(textures):
    detector = small_detector(lr_schedule="constant", lr=0.1).fit(textures[0].images)
    assert detector.net_.optimizer_.param_groups[0]["lr"] == 0.1


def count_images(monkeypatch):
    counted = []
    compute = FeaturePyramid._compute
    monkeypatch.setattr(
        FeaturePyramid, "_compute", lambda self, x: counted.append(len(x)) or compute(self, x)
    )
    return counted


def test_frozen_features_are_computed_once_per_fit(textures, monkeypatch):
    counted = count_images(monkeypatch)
    small_detector(max_epochs=3).fit(textures[0].images)
    assert sum(counted) == 24


def test_threshold_is_that_of_a_second_pass(fitted, textures):
    """The maps that `_fit_images` returns are those of the validation images."""
    X = textures[0].images
    _, held_out = split_of(small_detector(), len(X))
    plain = small_detector(standardize=None).fit(X)
    scores = plain.score_samples(X[held_out])
    assert plain.offset_ == pytest.approx(quantile_of_new(scores, 0.05), rel=1e-5)


def test_memory_spares_the_second_fit_the_backbone(textures, monkeypatch, tmp_path):
    counted = count_images(monkeypatch)
    X = textures[0].images
    memory = joblib.Memory(str(tmp_path), verbose=0)
    first = small_detector(memory=memory).fit(X)
    again = small_detector(memory=tmp_path).fit(X)
    wider = small_detector(memory=memory, hidden_ratio=2.0, random_state=1).fit(X[::-1])
    wider.score_samples(X)
    assert sum(counted) == 24
    assert_array_equal(first.offset_, again.offset_)


def test_engines_give_the_same_scores(textures):
    train, test = textures
    onnx, in_pytorch = (small_detector(engine=e).fit(train.images) for e in ("onnx", "torch"))
    # Training amplifies rounding, so what it leads to is shared.
    for name in ("net_", "level_similarities_", "map_mean_", "map_deviation_"):
        setattr(in_pytorch, name, getattr(onnx, name))
    assert_allclose(
        in_pytorch.score_samples(test.images), onnx.score_samples(test.images), rtol=1e-3
    )


def test_pickle_is_small(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model")
    assert (tmp_path / "model").stat().st_size < 20e6


def test_bottle(mvtec_root):
    """Real parts: a short training already separates good from broken bottles."""
    from skanomaly.datasets import load_mvtec_ad

    train = load_mvtec_ad(mvtec_root, "bottle", split="train")
    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    detector = HierarchicalFeatureAE(image_size=128, max_epochs=8, random_state=0)
    found = detector.fit(train.images[:80]).detect(test.images)
    assert roc_auc_score(test.target, found.scores) > 0.95
    assert pixel_roc_auc_score(test.masks, found.maps) > 0.9


def test_scores_of_other_sizes_compare(textures):
    """Four times the area, of the same scene: the scores do not fall to a quarter."""
    X = textures[0].images
    settings = {"level_weights": "area", "standardize": None}
    detector = small_detector(image_size=None, max_epochs=5, **settings).fit(X)
    left, right = (
        np.concatenate([X[a : a + 8], X[b : b + 8]], axis=1) for a, b in ((0, 8), (16, 0))
    )
    larger = np.concatenate([left, right], axis=2)
    expected = detector.transform(X[:8])[:, 16:48, 16:48].max(axis=(1, 2))
    found = detector.transform(larger)[:, 16:48, 16:48].max(axis=(1, 2))
    assert (0.6 * expected < found).all()
    assert (found < 3 * expected).all()
    assert np.median(detector.score_samples(larger)) < 0.7 * np.median(detector.score_samples(X))
