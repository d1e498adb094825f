from copy import copy

import numpy as np
import pytest
import torch
from conftest import as_if_trained
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage
from torch import nn

from skanomaly import ReverseDistillation
from skanomaly.detectors.reverse_distillation import (
    Bottleneck,
    ResidualBlock,
    ReverseStudent,
    WholeMapCosineLoss,
)

CHANNELS, STRIDES = (4, 6, 10), (4, 8, 16)


def levels(height=64, width=64, seed=0, n=2, channels=CHANNELS, strides=STRIDES):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, c, -(-height // s), -(-width // s), generator=generator)
        for c, s in zip(channels, strides)
    ]


def test_loss_is_one_minus_the_cosine_of_whole_levels_summed():
    f_d, f_e = levels(seed=0), levels(seed=1)
    expected = 0.0
    for d, e in zip(f_d, f_e):
        a, b = d.flatten(1).double().numpy(), e.flatten(1).double().numpy()
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        expected += np.mean(1 - (a * b).sum(axis=1) / lengths)
    assert float(WholeMapCosineLoss()(f_d, f_e)) == pytest.approx(expected, rel=1e-5)


def test_loss_of_half_precision_is_computed_in_single():
    f_d, f_e = levels(seed=0), levels(seed=1)
    rounded = [f.bfloat16() for f in f_d]
    found = WholeMapCosineLoss()(rounded, f_e)
    assert found.dtype == torch.float32
    assert float(found) == float(WholeMapCosineLoss()([f.float() for f in rounded], f_e))


@given(
    st.integers(16, 90),
    st.integers(16, 90),
    st.sampled_from([(4, 8, 16), (2, 4), (4, 16), (8,), (14, 14), (4, 8, 16, 32)]),
)
@settings(max_examples=25, deadline=None)
def test_levels_come_back_in_their_own_shapes(height, width, strides):
    channels = range(3, 3 + len(strides))
    f_e = levels(height, width, channels=channels, strides=strides)
    student = ReverseStudent(channels, strides, n_blocks=1).eval()
    with torch.no_grad():
        assert [f.shape for f in student(f_e)] == [f.shape for f in f_e]


def test_a_code_has_half_the_coarsest_grid_and_no_way_past_it():
    bottleneck = Bottleneck(CHANNELS, STRIDES, 2, 1.0)
    code = bottleneck(levels())
    assert code.shape == (2, 2 * CHANNELS[-1], 2, 2)
    student = as_if_trained(ReverseStudent(CHANNELS, STRIDES))
    f_e = levels()
    with torch.no_grad():
        code = student.bottleneck(f_e)
        found = student.decoder(code, [torch.full_like(f, torch.nan) for f in f_e])
        assert all(torch.equal(a, b) for a, b in zip(found, student(f_e)))


def test_every_level_reaches_the_code():
    bottleneck, f_e = as_if_trained(Bottleneck(CHANNELS, STRIDES, 1, 1.0)), levels()
    with torch.no_grad():
        code = bottleneck(f_e)
        for k in range(3):
            others = [f if i != k else f + 1 for i, f in enumerate(f_e)]
            assert not torch.allclose(bottleneck(others), code)


def test_halving_convolutions_widen_by_one_ratio():
    fusion = Bottleneck((64, 128, 256), STRIDES, 2, 1.0).fusion
    widths = [[m.out_channels for m in part if isinstance(m, nn.Conv2d)] for part in fusion]
    assert widths == [[128, 256], [256], []]


@pytest.mark.parametrize(("n_blocks", "hidden_ratio", "hidden"), [(1, 0.25, 5), (3, 1.5, 30)])
def test_stages_have_as_many_blocks_as_asked_for(n_blocks, hidden_ratio, hidden):
    student = ReverseStudent(CHANNELS, STRIDES, n_blocks, hidden_ratio)
    blocks = [m for m in student.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 4 * n_blocks  # the bottleneck's stage and one a level
    assert blocks[0].convolutions[0].out_channels == hidden


def test_levels_may_be_negative():
    student = as_if_trained(ReverseStudent(CHANNELS, STRIDES))
    with torch.no_grad():
        assert all(f.min() < 0 < f.max() for f in student(levels()))


def small(**parameters):
    return ReverseDistillation(
        **{"image_size": 64, "max_epochs": 2, "random_state": 0, **parameters}
    )


@pytest.fixture(scope="module")
def fitted(textures):
    """A student that has learnt a little; tests must not change it."""
    return small(max_epochs=6).fit(textures[0].images)


@pytest.mark.parametrize(("level_reduction", "joined"), [("product", np.prod), ("sum", np.sum)])
def test_map_is_of_one_minus_the_cosine_at_each_position(fitted, textures, level_reduction, joined):
    X = textures[1].images[:3]
    with torch.no_grad():
        f_e = fitted.encoder_(torch.from_numpy(X[:, None] / np.float32(255)))
        f_d = fitted.net_.module_(f_e)
    levels_of_size = []
    for e, d in zip(f_e, f_d):
        phi = np.empty((3, *e.shape[2:]))
        for i, y, x in np.ndindex(phi.shape):
            a, b = (f[i, :, y, x].double().numpy() for f in (e, d))
            phi[i, y, x] = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        whole = nn.functional.interpolate(torch.from_numpy(phi)[:, None], (64, 64), mode="bilinear")
        levels_of_size.append(whole[:, 0].numpy())
    expected = [ndimage.gaussian_filter(m, 4.0) for m in joined(levels_of_size, axis=0)]
    as_it_is = copy(fitted).set_params(standardize=None, level_reduction=level_reduction)
    as_it_is.calibrate(X)
    assert_allclose(as_it_is.transform(X), expected, rtol=1e-3)


def test_training_lowers_the_loss(fitted):
    losses = fitted.net_.history[:, "valid_loss"]
    assert min(losses) < 0.8 * losses[0]


def test_training_ends_with_its_best_state(textures):
    X = textures[0].images[:10]
    detector = small(max_epochs=4, lr=0.05, lr_schedule="constant", mixed_precision=False)
    detector.fit(X[2:], X_val=X[:2])
    losses = detector.net_.history[:, "valid_loss"]
    f_e = detector.encoder_(torch.from_numpy(X[:2, None] / np.float32(255)))
    with torch.no_grad():
        found = float(WholeMapCosineLoss()(detector.net_.module_(f_e), f_e))
    assert found == pytest.approx(min(losses), rel=1e-3)
