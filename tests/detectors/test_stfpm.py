from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from torch import nn

from skanomaly import STFPM
from skanomaly.detectors.stfpm import PyramidMatchingLoss, Student
from skanomaly.features import FeaturePyramid


def levels(seed, n=2):
    generator = torch.Generator().manual_seed(seed)
    sizes = (5, 8, 6), (7, 4, 3)
    return [torch.randn(n, *size, generator=generator) for size in sizes]


def slow_residual(t, s):
    """Of features of one image (c, h, w), position by position."""
    phi = np.empty(t.shape[1:])
    for y, x in np.ndindex(phi.shape):
        a, b = t[:, y, x], s[:, y, x]
        phi[y, x] = 0.5 * np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2)
    return phi


def test_loss_is_the_mean_over_positions_summed_over_levels():
    f_s, f_t = levels(0), levels(1)
    expected = 0.0
    for s, t in zip(f_s, f_t):
        expected += np.mean([slow_residual(a.numpy(), b.numpy()) for a, b in zip(t, s)])
    assert float(PyramidMatchingLoss()(f_s, f_t)) == pytest.approx(expected, rel=1e-5)


def test_loss_of_half_precision_is_computed_in_single():
    f_s, f_t = levels(0), levels(1)
    rounded = [f.bfloat16() for f in f_s]
    found = PyramidMatchingLoss()(rounded, f_t)
    assert found.dtype == torch.float32
    assert float(found) == float(PyramidMatchingLoss()([f.float() for f in rounded], f_t))


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=2))
@settings(max_examples=20, deadline=None)
def test_loss_does_not_depend_on_the_length_of_features(scales):
    f_s, f_t = levels(0), levels(1)
    scaled = [scale * f for scale, f in zip(scales, f_s)]
    found, expected = (float(PyramidMatchingLoss()(f, f_t)) for f in (scaled, f_s))
    assert found == pytest.approx(expected, rel=1e-4)


def student(**parameters):
    return Student(FeaturePyramid(weights=None, **parameters))


def test_student_is_the_teachers_network_untrained():
    torch.manual_seed(0)
    ours, teacher = student().pyramid.network, FeaturePyramid().network
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in teacher.state_dict().items()
    }
    assert not torch.equal(ours.body.conv_stem.weight, teacher.body.conv_stem.weight)


def test_student_normalises_by_its_batch_while_it_learns():
    torch.manual_seed(0)
    learning, x = student().train(), torch.rand(2, 3, 64, 64)
    before = learning.pyramid.network.body.bn1.running_mean.clone()
    learning(x)
    statistics = learning.pyramid.network.body.bn1.running_mean
    assert not torch.equal(statistics, before)
    before = statistics.clone()
    learning.eval()(x)
    assert torch.equal(statistics, before)


def small(**parameters):
    return STFPM(**{"image_size": 64, "max_epochs": 2, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted(textures):
    """A student that has learnt a little; tests must not change it."""
    return small(max_epochs=6).fit(textures[0].images)


def residuals_of(detector, X):
    """phi_k of images (n, H, W), position by position."""
    pixels = torch.from_numpy(X[:, None] / np.float32(255))
    with torch.no_grad():
        f_t, f_s = (
            network.body((pixels - network.mean) / network.std)
            for network in (detector.encoder_.network, detector.net_.module_.pyramid.network)
        )
    return [
        np.stack([slow_residual(a.numpy(), b.numpy()) for a, b in zip(t, s)])
        for t, s in zip(f_t, f_s, strict=True)
    ]


def enlarged(phi, size):
    return nn.functional.interpolate(torch.from_numpy(phi)[:, None], size, mode="bilinear")[:, 0]


@pytest.mark.parametrize(("level_reduction", "joined"), [("product", np.prod), ("sum", np.sum)])
def test_map_is_the_product_or_the_sum_of_the_levels(fitted, textures, level_reduction, joined):
    X = textures[1].images[:3]
    whole = [enlarged(phi, (64, 64)).numpy() for phi in residuals_of(fitted, X)]
    expected = [ndimage.gaussian_filter(m, 4.0) for m in joined(whole, axis=0)]
    as_it_is = copy(fitted).set_params(standardize=None, level_reduction=level_reduction)
    found = as_it_is.calibrate(X).transform(X)
    assert_allclose(found, expected, rtol=2e-3, atol=1e-5 * found.max())


def test_training_lowers_the_loss(fitted):
    losses = fitted.net_.history[:, "valid_loss"]
    assert min(losses) < 0.8 * losses[0]


def test_training_ends_with_its_best_state(textures):
    X = textures[0].images[:10]
    detector = small(max_epochs=4, lr=2.0, lr_schedule="constant", mixed_precision=False)
    detector.fit(X[2:], X_val=X[:2])
    residuals = residuals_of(detector, X[:2])
    losses = detector.net_.history[:, "valid_loss"]
    assert sum(phi.mean() for phi in residuals) == pytest.approx(min(losses), rel=1e-3)


def test_student_is_frozen_and_runs_as_the_teacher_does(fitted):
    network = fitted.net_.module_.pyramid.network
    assert network.is_shared
    assert not any(p.requires_grad for p in network.parameters())
    assert network.digest != fitted.encoder_.network.digest


def test_two_fits_share_a_teacher_and_no_student(fitted, textures):
    other = small(random_state=1).fit(textures[0].images)
    assert other.encoder_.network is fitted.encoder_.network
    students = [d.net_.module_.pyramid.network for d in (fitted, other)]
    assert students[0].digest != students[1].digest


def test_precision_is_of_the_training_alone(textures):
    X = textures[0].images[:8]
    found = [small(mixed_precision=p).fit(X).transform(X[:2]) for p in (True, False)]
    assert all(maps.dtype == np.float32 for maps in found)
    assert not np.array_equal(*found)
    again = small(mixed_precision=True).fit(X).transform(X[:2])
    assert_array_equal(again, found[0])
