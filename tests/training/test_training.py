import math
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from skanomaly.exceptions import TrainingError
from skanomaly.training import AnomalyNet, Checkpoint, KeepBest, LearningRate, use_bfloat16


def linear_net(**parameters):
    return AnomalyNet(
        nn.Linear,
        nn.MSELoss,
        module__in_features=3,
        module__out_features=3,
        max_epochs=parameters.pop("max_epochs", 3),
        **parameters,
    )


def identity_data(n=32, scale=1.0):
    x = scale * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, x)


def test_learns_and_keeps_both_losses():
    net = linear_net(max_epochs=30, lr=0.1).fit_on(identity_data(), identity_data(8))
    losses = np.array(net.history[:, ("train_loss", "valid_loss")])
    assert (losses[-1] < 0.2 * losses[0]).all()


def test_diverging_loss_names_the_epoch_and_the_learning_rate():
    net = linear_net(lr=1e20, max_epochs=20)
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch \d+; .* lr=1e\+20"):
        net.fit_on(identity_data(), identity_data(8))


class InterruptInSecondEpoch(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


def test_interrupt_reaches_the_caller():
    with pytest.raises(KeyboardInterrupt):
        linear_net(callbacks=[InterruptInSecondEpoch()]).fit_on(identity_data(), identity_data(8))


class Spoil(Callback):
    """From the third epoch on the module gets worse."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > 2:
            net.module_.weight.data += 1


def test_keep_best_ends_with_the_lowest_validation_loss():
    data = identity_data(), identity_data(8)
    net = linear_net(max_epochs=6, lr=0.1, callbacks=[Spoil(), KeepBest()]).fit_on(*data)
    losses = net.history[:, "valid_loss"]
    x = data[1].tensors[0]
    assert min(losses) == losses[1] < losses[-1]
    assert float(nn.MSELoss()(net.module_(x), x)) == pytest.approx(losses[1])


def test_pickle_does_not_carry_the_data():
    net = linear_net(batch_size=10_000).fit_on(identity_data(20_000), identity_data(8))
    pickled = pickle.dumps(net)
    assert len(pickled) < 30_000  # of 240,000 bytes of data
    again = pickle.loads(pickled)
    assert torch.equal(again.module_.weight, net.module_.weight)
    assert again.history[:, "train_loss"] == net.history[:, "train_loss"]


def test_batches_are_shuffled():
    seen = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch, training, **kwargs):
            if training:
                seen.append(batch[0][:, 0])

    data = identity_data()
    linear_net(max_epochs=1, callbacks=[Watch()], batch_size=8).fit_on(data, data)
    assert not torch.equal(torch.cat(seen), data.tensors[0][:, 0])
    assert torch.equal(torch.cat(seen).sort().values, data.tensors[0][:, 0].sort().values)


@pytest.mark.parametrize(("verbose", "expected"), [(0, ""), (1, "training"), (2, "train_loss")])
def test_verbosity(verbose, expected, capsys):
    linear_net(verbose=verbose).fit_on(identity_data(), identity_data(8))
    shown = "".join(capsys.readouterr())
    assert (expected in shown) if expected else not shown


class Rates(Callback):
    """What the learning rate was in each step."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_grad_computed(self, net, training=False, **kwargs):
        self.seen.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rate_of_each_step(schedule, warmup):
    rates = Rates()
    callbacks = [LearningRate(schedule, warmup), rates]
    linear_net(lr=0.1, batch_size=10, callbacks=callbacks).fit_on(identity_data(), identity_data(8))
    expected = []
    for step in range(12):  # 3 epochs of 32 images, 10 a step
        rate = 0.1 * min(1, (step + 1) / (12 * warmup + 1))
        if schedule == "cosine":
            rate *= (1 + math.cos(math.pi * step / 12)) / 2
        expected.append(rate)
    np.testing.assert_allclose(rates.seen, expected)


def test_learning_rates_of_groups_keep_their_ratio():
    net = linear_net(
        lr=0.1,
        callbacks=[LearningRate("cosine")],
        optimizer__param_groups=[("bias", {"lr": 0.01})],
    ).fit_on(identity_data(), identity_data(8))
    rates = [group["lr"] for group in net.optimizer_.param_groups]
    assert sorted(rates)[1] == pytest.approx(10 * sorted(rates)[0])


def test_batches_are_prepared_for_training_and_validation():
    def prepare_batch(x, y):
        seen.append(len(x))
        return 2 * x, 3 * y

    seen, data = [], identity_data()
    net = linear_net(max_epochs=60, lr=0.1, prepare_batch=prepare_batch, batch_size=8)
    net.fit_on(data, identity_data(8))
    assert len(seen) == 60 * (4 + 1)
    assert net.prepare_batch is None  # it served the fit, as the data did
    np.testing.assert_allclose(net.module_.weight.detach(), 1.5 * np.eye(3), atol=0.05)


def test_mixed_precision_runs_the_module_in_bfloat16():
    seen = []

    class Watched(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    for mixed_precision, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        seen.clear()
        AnomalyNet(
            Watched,
            nn.MSELoss,
            module__in_features=3,
            module__out_features=3,
            max_epochs=1,
            mixed_precision=mixed_precision,
        ).fit_on(identity_data(), identity_data(8))
        assert set(seen) == {dtype}


@pytest.mark.parametrize("wanted", [True, False])
def test_use_bfloat16(wanted):
    assert use_bfloat16(wanted, torch.device("cpu")) is wanted
    assert use_bfloat16("auto", torch.device("cpu")) is False


def checkpointed(path, **parameters):
    torch.manual_seed(0)
    parameters.setdefault("callbacks", []).append(("checkpoint", Checkpoint(path)))
    return linear_net(lr=0.1, **parameters)


@pytest.fixture
def left_behind(tmp_path):
    """The checkpoint of a training that was interrupted in its second epoch."""
    path = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        checkpointed(path, callbacks=[InterruptInSecondEpoch()]).fit_on(
            identity_data(), identity_data(8)
        )
    return path


def test_resumed_training_is_the_uninterrupted_one(left_behind):
    data = identity_data(), identity_data(8)
    torch.manual_seed(0)
    through = linear_net(lr=0.1).fit_on(*data)
    resumed = checkpointed(left_behind).fit_on(*data)
    assert torch.equal(resumed.module_.weight, through.module_.weight)
    assert resumed.history[:, "train_loss"] == through.history[:, "train_loss"]
    assert not left_behind.exists()


def test_finished_training_that_another_follows_is_not_repeated(tmp_path):
    path, data = tmp_path / "c.pt", (identity_data(), identity_data(8))

    def fit():
        torch.manual_seed(0)
        checkpoint = Checkpoint(path, followed=True)
        return linear_net(lr=0.1, callbacks=[("checkpoint", checkpoint)]).fit_on(*data)

    first, random = fit(), torch.get_rng_state()
    assert path.exists()
    again = fit()
    assert torch.equal(again.module_.weight, first.module_.weight)
    assert again.history.to_list() == first.history.to_list()
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    "change", [{"max_epochs": 9}, {"batch_size": 7}, {"module__bias": False}], ids=str
)
def test_checkpoint_of_another_fit_is_refused(left_behind, change):
    with pytest.raises(TrainingError, match="fit of other settings.*remove it"):
        checkpointed(left_behind, **change).fit_on(identity_data(), identity_data(8))
    assert left_behind.exists()


def test_checkpoint_of_another_seed_or_other_images_is_refused(left_behind):
    net = checkpointed(left_behind)
    torch.manual_seed(1)
    with pytest.raises(TrainingError, match="fit of other settings"):
        net.fit_on(identity_data(), identity_data(8))
    with pytest.raises(TrainingError, match="number of images"):
        checkpointed(left_behind).fit_on(identity_data(31), identity_data(8))


def test_diverged_training_keeps_the_last_good_epoch(tmp_path):
    net = checkpointed(tmp_path / "c.pt", max_epochs=200)
    net.set_params(lr=30.0)
    with pytest.raises(TrainingError):
        net.fit_on(identity_data(), identity_data(8))
    assert (tmp_path / "c.pt").exists()
