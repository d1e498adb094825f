"""What happens during a training: progress, learning rate, the best epoch."""

from __future__ import annotations

import math

from skorch.callbacks import Callback
from torch.nn.parallel import DistributedDataParallel


class EpochProgress(Callback):
    """A progress bar over the epochs of a fit, with the losses beside it."""

    def on_train_begin(self, net, **kwargs):
        """Show the bar."""
        from tqdm.auto import tqdm

        self.bar_ = tqdm(total=net.max_epochs, desc="training", unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Advance it by one epoch."""
        last = net.history[-1]
        losses = (key for key in ("train_loss", "valid_loss") if key in last)
        self.bar_.set_postfix({key: f"{last[key]:.4f}" for key in losses})
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close it."""
        self.bar_.close()
        del self.bar_


class LearningRate(Callback):
    """Set the learning rate of each step to a share of the one training starts from.

    A function of the step alone, so that a resumed training goes on where it was.

    Parameters
    ----------
    schedule : {"cosine", "constant"}
        "cosine" falls to zero over all epochs.
    warmup : float, default=0.0
        Share of the steps over which the rate rises to its start.
    """

    def __init__(self, schedule, warmup=0.0):
        self.schedule = schedule
        self.warmup = warmup

    def on_train_begin(self, net, X=None, **kwargs):
        """Count the steps."""
        self.steps_an_epoch_ = -(-len(X) // (net.batch_size * net.n_processes))
        self.n_steps_ = net.max_epochs * self.steps_an_epoch_
        for group in net.optimizer_.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate."""
        if not training:
            return
        epoch = len(net.history) - 1
        step = epoch * self.steps_an_epoch_ + len(net.history[-1, "batches"]) - 1
        share = min(1.0, (step + 1) / (self.warmup * self.n_steps_ + 1))
        if self.schedule == "cosine":
            share *= 0.5 * (1 + math.cos(math.pi * step / self.n_steps_))
        for group in net.optimizer_.param_groups:
            group["lr"] = share * group["initial_lr"]


class KeepBest(Callback):
    """At the end, take the module back to the epoch of the lowest validation loss."""

    def on_train_begin(self, net, **kwargs):
        """Forget what another training has left."""
        net.best = None

    def on_epoch_end(self, net, **kwargs):
        """Copy the state of the module if it is the best so far."""
        losses = net.history[:, "valid_loss"]
        if losses[-1] <= min(losses):
            state = bare(net.module_).state_dict()
            net.best = {key: value.clone() for key, value in state.items()}

    def on_train_end(self, net, **kwargs):
        """Restore it."""
        if not net.interrupted and net.best is not None:
            bare(net.module_).load_state_dict(net.best)
            net.best = None


def bare(module):
    """A module itself, where several processes share its training."""
    return module.module if isinstance(module, DistributedDataParallel) else module
