import math
import pickle
import platform
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import small
from sklearn.model_selection import cross_validate
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from skanomaly import _process
from skanomaly.exceptions import TrainingError
from skanomaly.model_selection import NormalKFold
from skanomaly.training import (
    AnomalyNet,
    Checkpoint,
    KeepBest,
    LearningRate,
    _checkpoint,
    use_bfloat16,
)


def linear_net(**parameters):
    return AnomalyNet(
        nn.Linear,
        nn.MSELoss,
        module__in_features=3,
        module__out_features=3,
        max_epochs=parameters.pop("max_epochs", 3),
        **parameters,
    )


class Data(TensorDataset):
    def digest(self):
        return self.tensors[0].tolist()


def identity_data(n=32, scale=1.0):
    x = scale * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return Data(x, x)


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


@pytest.mark.parametrize(
    ("has_bf16", "has_amx"), [(False, False), (True, False), (False, True)], ids=str
)
def test_auto_uses_bfloat16_on_cpus_with_instructions_for_it(has_bf16, has_amx, monkeypatch):
    for name, has in (("avx512_bf16", has_bf16), ("amx_tile", has_amx)):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda has=has: has)
    assert use_bfloat16("auto", torch.device("cpu")) is (has_bf16 or has_amx)
    assert use_bfloat16("auto", torch.device("meta")) is False


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


def test_fits_at_the_same_time_have_files_of_their_own(left_behind, monkeypatch):
    monkeypatch.setattr(_checkpoint, "_is_under_way", lambda writer: True)
    before = left_behind.read_bytes()
    data = identity_data(31), identity_data(8)
    with pytest.raises(KeyboardInterrupt):
        checkpointed(left_behind, callbacks=[InterruptInSecondEpoch()]).fit_on(*data)
    beside = [path for path in left_behind.parent.iterdir() if path != left_behind]
    assert len(beside) == 1
    resumed = checkpointed(left_behind).fit_on(*data)
    torch.manual_seed(0)
    through = linear_net(lr=0.1).fit_on(*data)
    assert torch.equal(resumed.module_.weight, through.module_.weight)
    assert list(left_behind.parent.iterdir()) == [left_behind]
    assert left_behind.read_bytes() == before


@pytest.mark.parametrize("change", [{"batch_size": 7}, {"module__bias": False}], ids=str)
def test_checkpoint_of_another_fit_is_refused(left_behind, change):
    with pytest.raises(TrainingError, match="fit of other parameters.*remove it"):
        checkpointed(left_behind, **change).fit_on(identity_data(), identity_data(8))
    assert left_behind.exists()


@pytest.mark.parametrize("data", [(31, 1.0, 8), (32, 1.01, 8), (32, 1.0, 7)])
def test_checkpoint_of_other_images_is_refused(left_behind, data):
    n, scale, n_validation = data
    with pytest.raises(TrainingError, match="fit of other images"):
        checkpointed(left_behind).fit_on(identity_data(n, scale), identity_data(n_validation))


def test_checkpoint_of_another_seed_is_refused(left_behind):
    net = checkpointed(left_behind)
    torch.manual_seed(1)
    with pytest.raises(TrainingError, match="fit of other random_state"):
        net.fit_on(identity_data(), identity_data(8))


def test_training_may_go_on_for_more_epochs(left_behind):
    data = identity_data(), identity_data(8)
    torch.manual_seed(0)
    through = linear_net(lr=0.1, max_epochs=7).fit_on(*data)
    resumed = checkpointed(left_behind, max_epochs=7).fit_on(*data)
    assert torch.equal(resumed.module_.weight, through.module_.weight)
    assert len(resumed.history) == 7


def spoil(path, change):
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["module"]["weight"].fill_(torch.nan),
        lambda state: state["module"]["bias"].fill_(torch.inf),
        lambda state: state.update(finished=True) or state["module"]["bias"].fill_(torch.nan),
        lambda state: state.pop("random"),
        lambda state: state.update(fit="anything"),
        lambda state: state["module"].pop("bias"),
        lambda state: state.update(history="[}"),
        lambda state: state.update(random=torch.zeros(3, dtype=torch.uint8)),
    ],
)
def test_damaged_checkpoint_is_refused(left_behind, change):
    spoil(left_behind, change)
    before = left_behind.read_bytes()
    with pytest.raises(TrainingError, match="(?s)is no checkpoint, or is damaged.*remove it"):
        checkpointed(left_behind).fit_on(identity_data(), identity_data(8))
    assert left_behind.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(3000)])
def test_file_that_is_no_checkpoint_is_left_alone(tmp_path, content):
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="is no checkpoint"):
        checkpointed(path).fit_on(identity_data(), identity_data(8))
    assert path.read_bytes() == content


def test_who_is_under_way(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = _process._began(other.pid)
    assert _process.is_running((platform.node(), other.pid, began)) == (began != "")
    assert not _process.is_running((platform.node(), other.pid, "0"))
    assert not _process.is_running(("elsewhere", other.pid, began))
    other.communicate(b"\n")
    assert not _process.is_running((platform.node(), other.pid, began))
    assert not _checkpoint._is_under_way([*_process.this_process(), "a training of before"])


class PressTheKey(Callback):
    """Interrupts as the key does, at the end of an epoch, when callbacks may ask for the end."""

    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


class AskForTheEnd(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="the key is ignored here"
)
def test_the_key_at_the_end_of_an_epoch_is_no_early_stopping(tmp_path):
    path, handler = tmp_path / "c.pt", signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        checkpointed(path, callbacks=[PressTheKey()]).fit_on(identity_data(), identity_data(8))
    assert signal.getsignal(signal.SIGINT) is handler
    net = linear_net(callbacks=[AskForTheEnd()]).fit_on(identity_data(), identity_data(8))
    assert len(net.history) == 1


def test_an_interrupt_while_the_checkpoint_is_written_keeps_the_one_before(
    left_behind, monkeypatch
):
    before = left_behind.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpointed(left_behind).fit_on(identity_data(), identity_data(8))
    assert left_behind.read_bytes() == before
    assert list(left_behind.parent.iterdir()) == [left_behind]


def test_fits_in_threads_hear_no_key():
    with ThreadPoolExecutor(2) as pool:
        fits = [
            pool.submit(linear_net().fit_on, identity_data(), identity_data(8)) for _ in range(4)
        ]
    assert all(len(fit.result().history) == 3 for fit in fits)


def test_diverged_training_keeps_the_last_good_epoch(tmp_path):
    net = checkpointed(tmp_path / "c.pt", max_epochs=200)
    net.set_params(lr=30.0)
    with pytest.raises(TrainingError):
        net.fit_on(identity_data(), identity_data(8))
    assert (tmp_path / "c.pt").exists()


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_folds_may_name_one_checkpoint(n_jobs, textures, tmp_path):
    X, y = textures[1].images, textures[1].target
    settings = {"cv": NormalKFold(3), "scoring": "roc_auc", "error_score": "raise"}
    found, expected = (
        cross_validate(
            small("HierarchicalFeatureAE", max_epochs=3, checkpoint=checkpoint),
            *(X, y),
            n_jobs=n_jobs,
            **settings,
        )["test_score"]
        for checkpoint in (tmp_path / "c.pt", None)
    )
    np.testing.assert_array_equal(found, expected)
    assert not list(tmp_path.iterdir())


def test_a_fit_of_other_images_refuses_a_detectors_checkpoint(textures, tmp_path):
    X, checkpoint = textures[0].images, tmp_path / "c.pt"
    stop = [InterruptInSecondEpoch()]
    with pytest.raises(KeyboardInterrupt):
        small("FastFlow", checkpoint=checkpoint, callbacks=stop).fit(X[:12])
    for images, parameters, what in (
        (X[12:], {}, "images"),
        (X[:12], {"n_steps": 3}, "parameters"),
        (X[:12], {"random_state": 1}, "images and random_state"),
    ):
        with pytest.raises(TrainingError, match=f"fit of other .*{what}"):
            small("FastFlow", checkpoint=checkpoint, **parameters).fit(images)
    small("FastFlow", checkpoint=checkpoint).fit(X[:12])
    assert not checkpoint.exists()


@pytest.mark.parametrize("name", ["missing/c.pt", "."])
def test_a_checkpoint_that_cannot_be_written_is_refused_before_work_begins(
    name, textures, tmp_path
):
    def images():
        raise AssertionError("was read")

    class Unread(list):
        def __getitem__(self, index):
            images()

    with pytest.raises(ValueError, match="checkpoint=.* cannot be written: .*name a file"):
        small("FastFlow", checkpoint=tmp_path / name).fit(Unread([1, 2, 3]))
