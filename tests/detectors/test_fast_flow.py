from copy import copy

import numpy as np
import pytest
import torch
from conftest import split_of
from numpy.testing import assert_allclose
from scipy import ndimage, stats
from skorch.callbacks import Callback
from torch import nn

from skanomaly import FastFlow
from skanomaly.detectors.fast_flow import CLAMP, AffineCoupling, Flow, FlowLoss, PyramidFlow
from skanomaly.features import FeaturePyramid


def randomised(module, std=0.1, seed=0):
    """A flow as after training: its couplings are no identities."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
    return module


def random_flow(channels, kernel_sizes, n_steps=3):
    torch.manual_seed(0)
    mean, std = torch.randn(channels), 0.5 + torch.rand(channels)
    return randomised(Flow(mean, std, n_steps, 1.0, kernel_sizes))


def features(n=2, channels=5, size=(3, 4), seed=0):
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))


channels_and_kernels = pytest.mark.parametrize(
    ("channels", "kernel_size"), [(2, 1), (5, 1), (6, 1), (2, 3), (5, 3), (6, 3)]
)


@channels_and_kernels
def test_coupling_is_inverted(channels, kernel_size):
    coupling = randomised(AffineCoupling(channels, 1.0, kernel_size))
    x = features(channels=channels)
    with torch.no_grad():
        y, _ = coupling(x)
        assert_allclose(coupling.inverse(y), x, atol=1e-5)
    kept = channels - channels // 2
    assert torch.equal(y[:, :kept], x[:, :kept])
    assert (y[:, kept:] != x[:, kept:]).all()


@channels_and_kernels
def test_flow_is_inverted(channels, kernel_size):
    flow, f = random_flow(channels, (kernel_size,)), features(channels=channels)
    with torch.no_grad():
        z, log_det = flow(f)
        assert_allclose(flow.inverse(z), f, atol=1e-5)
    assert log_det.std() > 0.01


def jacobian(module, x):
    """Of all of one image's outputs by all of its inputs, (c, h, w, c, h, w)."""
    return torch.autograd.functional.jacobian(lambda x: module(x[None])[0][0], x)


@channels_and_kernels
@pytest.mark.parametrize("kind", ["coupling", "flow"])
def test_log_determinant_is_that_of_the_jacobian(channels, kernel_size, kind):
    if kind == "flow":
        module = random_flow(channels, (kernel_size, 1)).double()
    else:
        module = randomised(AffineCoupling(channels, 1.0, kernel_size)).double()
    f = features(channels=channels).double()
    _, log_det = module(f)
    for i in range(2):
        J = jacobian(module, f[i]).reshape(f[i].numel(), -1)
        expected = torch.linalg.slogdet(J).logabsdet.item()
        assert log_det[i].sum().item() == pytest.approx(expected, abs=1e-9)


def test_log_determinant_is_each_positions_own_where_kernels_see_one_position():
    flow, f = random_flow(5, (1,)).double(), features(n=1).double()
    J, log_det = jacobian(flow, f[0]), flow(f)[1][0]
    for row, column in np.ndindex(3, 4):
        own = torch.linalg.slogdet(J[:, row, column, :, row, column]).logabsdet
        assert log_det[row, column].item() == pytest.approx(own.item(), abs=1e-9)


def test_scale_factors_are_bounded():
    coupling = randomised(AffineCoupling(4, 1.0, 1), std=100.0)
    _, log_det = coupling(features(n=50, channels=4))
    assert 1.9 * CLAMP < float(log_det.abs().max().detach()) <= 2 * CLAMP


def test_couplings_have_the_kernel_sizes_in_turn():
    flow = random_flow(4, (3, 1, 5), n_steps=5)
    sizes = [[layer.kernel_size[0] for layer in c.subnet[::2]] for c in flow.couplings]
    assert sizes == [[3, 3], [1, 1], [5, 5], [3, 3], [1, 1]]


@pytest.mark.parametrize("hidden_ratio", [0.01, 0.5, 2.0])
def test_hidden_ratio_sizes_the_subnets(hidden_ratio):
    coupling = AffineCoupling(9, hidden_ratio, 1)
    assert coupling.subnet[0].out_channels == max(1, round(5 * hidden_ratio))


def offset_levels():
    """Features far from zero, other ones in each channel."""
    scale, offset = torch.linspace(0.1, 3, 5), torch.linspace(-100, 100, 5)
    return [
        features(n=20, size=size, seed=seed) * scale.view(-1, 1, 1) + offset.view(-1, 1, 1)
        for seed, size in enumerate([(8, 8), (4, 4)])
    ]


def test_a_flow_starts_as_standardisation():
    levels = offset_levels()
    for f, (z, log_det) in zip(levels, PyramidFlow(levels, n_steps=3)(levels), strict=True):
        mean, std = (s(f.numpy().astype(float), axis=(0, 2, 3)) for s in (np.mean, np.std))
        standardised = (f.numpy() - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        z = z.detach().numpy()
        order = [
            int(np.abs(standardised - z[:, [c]]).mean(axis=(0, 2, 3)).argmin()) for c in range(5)
        ]
        assert sorted(order) == list(range(5))
        assert_allclose(z, standardised[:, order], atol=1e-3)
        assert log_det.shape == (20, *f.shape[2:])
        assert_allclose(log_det.detach(), -np.log(std).sum(), rtol=1e-4)


def test_loss_is_the_mean_over_positions_channels_and_levels():
    levels = [features(n=2, channels=c, seed=c) for c in (4, 6)]
    found = randomised(PyramidFlow(levels, n_steps=2))(levels)
    expected = []
    for z, log_det in found:
        z, log_det = z.detach().numpy(), log_det.detach().numpy()
        n, c, h, w = z.shape
        total = 0.0
        for i, row, column in np.ndindex(n, h, w):
            total += 0.5 * (z[i, :, row, column] ** 2).sum() - log_det[i, row, column]
        expected.append(total / (n * h * w) / c)
    assert float(FlowLoss()(found, levels).detach()) == pytest.approx(np.mean(expected), rel=1e-5)


def test_loss_at_the_start_is_the_likelihood_under_a_gaussian():
    f = offset_levels()[0]
    flow = PyramidFlow([f])
    rows = f.permute(0, 2, 3, 1).reshape(-1, 5).numpy().astype(float)
    density = stats.norm(rows.mean(axis=0), rows.std(axis=0)).logpdf(rows)
    expected = -density.mean() - 0.5 * np.log(2 * np.pi)
    assert float(FlowLoss()(flow([f]), [f]).detach()) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("constant", [[2], [0, 1, 2, 3, 4]], ids=["one", "all"])
def test_constant_channels_leave_all_finite(constant):
    f = features(n=4)
    f[:, constant] = 7.3
    flow = PyramidFlow([f], n_steps=2)
    for x in (f, f + 1e-3):
        loss = FlowLoss()(flow([x]), [x])
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in flow.parameters())


def small(**parameters):
    return FastFlow(
        **{
            "n_steps": 2,
            "hidden_ratio": 1.0,
            "image_size": 64,
            "max_epochs": 2,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted(textures):
    """A flow that has learned a little; tests must not change it."""
    return small(max_epochs=6, lr_schedule="constant").fit(textures[0].images)


def test_map_is_one_minus_the_likelihood(fitted, textures):
    X = textures[1].images[:3]
    pixels = torch.from_numpy(X[:, None] / np.float32(255))
    levels = FeaturePyramid(n_channels=1, engine="torch")(pixels)
    expected = np.zeros(X.shape)
    for flow, f in zip(fitted.net_.module_.flows, levels, strict=True):
        with torch.no_grad():
            z = flow(f)[0].double()
        phi = 1 - torch.exp(-0.5 * z.pow(2).sum(dim=1, keepdim=True) / f.shape[1])
        expected += nn.functional.interpolate(phi, (64, 64), mode="bilinear")[:, 0].numpy()
    expected = [ndimage.gaussian_filter(m, 4.0) for m in expected]
    as_it_is = copy(fitted).set_params(standardize=None).calibrate(X)
    assert_allclose(as_it_is.transform(X), expected, rtol=1e-3)


def test_each_levels_map_lies_between_0_and_1(fitted, textures):
    pixels = torch.from_numpy(textures[1].images[:, None] / np.float32(255))
    with torch.no_grad():
        maps = fitted._compute_maps(pixels)
    assert [m.shape[1:] for m in maps] == [(16, 16), (8, 8), (4, 4)]
    assert all(0 <= m.min() < m.max() < 1 for m in maps)


def test_even_kernel_is_refused(textures):
    with pytest.raises(ValueError, match=r"kernel_sizes=\(3, 2\) holds 2; use odd"):
        small(kernel_sizes=(3, 2)).fit(textures[0].images[:4])


def test_shuffles_are_permutations_that_the_seed_decides(textures):
    flows = [
        small(max_epochs=1, random_state=seed).fit(textures[0].images[:4]).net_.module_.flows
        for seed in (0, 1)
    ]
    for one, other in zip(*flows, strict=True):
        channels = one.mean.shape[1]
        assert one.orders.shape == (2, channels)
        assert all(sorted(order.tolist()) == list(range(channels)) for order in one.orders)
        assert not torch.equal(one.orders[0], one.orders[1])
        assert not torch.equal(one.orders, other.orders)


def test_training_lowers_the_loss(fitted):
    losses = fitted.net_.history[:, "train_loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1


def validation_loss(detector, X):
    """That of the flows as they are now, on the images kept out of `X`."""
    _, held_out = split_of(detector, len(X))
    levels = detector.encoder_(torch.from_numpy(X[held_out, None] / np.float32(255)))
    with torch.no_grad():
        return float(FlowLoss()(detector.net_.module_(levels), levels))


def unsteady(**parameters):
    """A training whose first epoch is its best by far."""
    return small(max_epochs=4, lr=0.03, lr_schedule="constant", **parameters)


def test_training_ends_with_its_best_state(textures):
    X = textures[0].images[:10]
    detector = unsteady().fit(X)
    losses = detector.net_.history[:, "valid_loss"]
    assert min(losses) < losses[-1] - 0.1
    assert validation_loss(detector, X) == pytest.approx(min(losses), rel=1e-4)


class Stop(Callback):
    """Ends the training as skorch's EarlyStopping does, after the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_best_state_may_be_that_of_the_epoch_after_which_a_callback_stops(textures):
    X = textures[0].images
    detector = small(max_epochs=9, callbacks=[Stop()]).fit(X)
    losses = detector.net_.history[:, "valid_loss"]
    assert len(losses) == 2
    assert losses[1] < losses[0] - 0.01
    assert validation_loss(detector, X) == pytest.approx(losses[1], rel=1e-4)


class Interrupt(Callback):
    """Ends the training as the user's key would, in the third epoch."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


def test_interrupted_training_keeps_its_best_state(textures, tmp_path):
    X, checkpoint = textures[0].images[:10], tmp_path / "training.pt"
    through = unsteady().fit(X)
    with pytest.raises(KeyboardInterrupt):
        unsteady(checkpoint=checkpoint, callbacks=[Interrupt()]).fit(X)
    resumed = unsteady(checkpoint=checkpoint).fit(X)
    assert np.argmin(resumed.net_.history[:, "valid_loss"]) < 2
    expected = through.net_.module_.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.net_.module_.state_dict().items())
