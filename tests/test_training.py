import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from skanomaly.exceptions import TrainingError
from skanomaly.training import AnomalyNet


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


def test_pickle_does_not_carry_the_data():
    net = linear_net(batch_size=50_000).fit_on(identity_data(100_000), identity_data(8))
    pickled = pickle.dumps(net)
    assert len(pickled) < 100_000
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
