"""AnomalyNet: the one skorch net behind every detector with a trained part."""

from __future__ import annotations

import hashlib
import json
import math
import os
from numbers import Integral, Real
from pathlib import Path

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet
from skorch.callbacks import Callback, PassthroughScoring, PrintLog
from skorch.helper import predefined_split
from skorch.history import History
from skorch.utils import to_device

from .exceptions import TrainingError


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
        self.steps_an_epoch_ = -(-len(X) // net.batch_size)
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
            net.best = {key: value.clone() for key, value in net.module_.state_dict().items()}

    def on_train_end(self, net, **kwargs):
        """Restore it."""
        if not net.interrupted and net.best is not None:
            net.module_.load_state_dict(net.best)
            net.best = None


class Checkpoint(Callback):
    """Keep the state of a training in a file after each epoch, and go on from one.

    The file is removed once training has come to its end.

    Parameters
    ----------
    path : path
    settings : object, default=None
        What a fit must share to go on from the file, besides module, optimizer,
        batch size, epochs, number of images and random state; by its `repr`.
    followed : bool, default=False
        Whether another training follows in the same fit. The file is then kept, so
        that a fit interrupted in the other need not repeat this one.
    """

    def __init__(self, path, settings=None, followed=False):
        self.path = path
        self.settings = settings
        self.followed = followed

    def on_train_begin(self, net, X=None, **kwargs):
        """Go on from the file, if there is one."""
        self.fit_ = _fingerprint(net, len(X), self.settings)
        if not os.path.exists(self.path):
            return
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            fits = state["fit"] == self.fit_
            finished, best = state["finished"], state["best"]
        except Exception as error:
            raise TrainingError(
                f"{self.path} is no checkpoint, or is damaged ({error}); remove it to start anew"
            ) from error
        if not fits:
            raise TrainingError(
                f"{self.path} was left by a fit of other settings, another random_state or another "
                "number of images; remove it to start anew, or choose another checkpoint"
            )
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.history = type(net.history)(json.loads(state["history"]))
        torch.set_rng_state(state["random"])
        net.finished, net.best = finished, best

    def on_epoch_end(self, net, **kwargs):
        """Write the file, whole or not at all."""
        self._write(net, finished=False)

    def _write(self, net, finished):
        state = {
            "fit": self.fit_,
            "finished": finished,
            "module": net.module_.state_dict(),
            "best": net.best,
            "optimizer": net.optimizer_.state_dict(),
            "history": json.dumps(net.history.to_list(), default=lambda value: value.item()),
            "random": torch.get_rng_state(),
        }
        part = Path(f"{self.path}.part")
        torch.save(state, part)
        part.replace(self.path)

    def on_train_end(self, net, **kwargs):
        """Remove the file, unless training was cut short or is followed by another."""
        if self.followed and not net.interrupted:
            self._write(net, finished=True)
        elif not net.interrupted:
            Path(self.path).unlink(missing_ok=True)


def _fingerprint(net, n_images, settings):
    """What must be equal for one training to go on with another's state."""
    settings = net.module_, net.optimizer_, net.batch_size, net.max_epochs, n_images, settings
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


class AnomalyNet(NeuralNet):
    """skorch's `NeuralNet` with the conventions of this package.

    Batches are shuffled and are (input, target) pairs; the criterion gets the
    module's output and the target. An interrupt reaches the caller, and a loss
    that is not finite ends the fit with an error. Everything of skorch's
    works: ``callbacks``, ``history``, ``set_params(optimizer__momentum=...)``.

    Parameters
    ----------
    module, criterion, **kwargs
        As for `skorch.NeuralNet`.
    prepare_batch : callable or None, default=None
        What makes (input, target) of a batch of the data set, on the device,
        where the batch is not that pair already.
    mixed_precision : bool, default=False
        Run the module in bfloat16 where that is safe (PyTorch's autocast), and
        the loss in float32.
    verbose : int, default=0
        0 is silent, 1 shows a progress bar, 2 and more print skorch's table.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        prepare_batch=None,
        mixed_precision=False,
        iterator_train__shuffle=True,
        verbose=0,
        **kwargs,
    ):
        self.prepare_batch = prepare_batch
        self.mixed_precision = mixed_precision
        super().__init__(
            module,
            criterion,
            iterator_train__shuffle=iterator_train__shuffle,
            verbose=verbose,
            **kwargs,
        )

    @property
    def _default_callbacks(self):
        callbacks = [
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
        ]
        if self.verbose == 1:
            callbacks.append(("progress", EpochProgress()))
        elif self.verbose > 1:
            callbacks.append(("print_log", PrintLog()))
        return callbacks

    @classmethod
    def of_trained(cls, module, history):
        """A net whose module was trained elsewhere, which can score and show its history.

        Parameters
        ----------
        module : torch.nn.Module
        history : list of dict
            As of skorch's `History`, an entry an epoch.

        Returns
        -------
        AnomalyNet
        """
        net = cls(module, torch.nn.MSELoss, train_split=None).initialize()
        net.history_ = History(history)
        return net

    def fit_on(self, train, validation):
        """Fit on a dataset of normal images, watching another one.

        Parameters
        ----------
        train, validation : torch.utils.data.Dataset

        Returns
        -------
        self
        """
        return self.set_params(train_split=predefined_split(validation)).fit(train)

    def fit_loop(self, X, y=None, epochs=None, **kwargs):
        """As skorch's, for the epochs that are left, and remember whether it came to its end."""
        # skorch takes every KeyboardInterrupt for a wish to stop early; a detector
        # whose training the user cut short must not pass for a fitted one.
        self.interrupted = True
        if epochs is None:
            done = len(self.history) - self._n_epochs_before
            epochs = 0 if self.finished else self.max_epochs - done
        super().fit_loop(X, y, epochs=epochs, **kwargs)
        self.interrupted = False
        return self

    def train_step_single(self, batch, **fit_params):
        """As skorch's, on the batch as it has been prepared."""
        return super().train_step_single(self._prepared(batch), **fit_params)

    def validation_step(self, batch, **fit_params):
        """As skorch's, on the batch as it has been prepared."""
        return super().validation_step(self._prepared(batch), **fit_params)

    def _prepared(self, batch):
        if self.prepare_batch is None:
            return batch
        with torch.no_grad():
            return self.prepare_batch(*to_device(batch, self.device))

    def infer(self, x, **fit_params):
        """As skorch's, in bfloat16 where asked for."""
        device = torch.device(self.device).type
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            return super().infer(x, **fit_params)

    def notify(self, method_name, **cb_kwargs):
        """As skorch's, and tell a callback's wish to stop from the user's."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:  # how skorch's EarlyStopping asks for the end
            self.interrupted = method_name != "on_epoch_end"
            raise

    def partial_fit(self, *args, **kwargs):
        """As skorch's, but an interrupt reaches the caller and the net ends on the CPU."""
        self._n_epochs_before = len(self.history) if self.initialized_ else 0
        self.finished, self.best = False, None
        super().partial_fit(*args, **kwargs)
        if self.interrupted:
            raise KeyboardInterrupt
        # The data served the fit; a pickle must not carry them along, nor need
        # the device they were trained on.
        self.set_params(train_split=None)
        self.prepare_batch = None
        self.module_.cpu()
        self.optimizer_.load_state_dict(self.optimizer_.state_dict())  # follows its parameters
        self.device = "cpu"
        return self

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """As skorch's, but a loss that is not finite is an error."""
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
        if training:
            losses = self.history[-1, "batches", :, "train_loss"]
            if not math.isfinite(sum(losses)):
                raise TrainingError(
                    f"the loss is {losses[-1]} in epoch {len(self.history)}; "
                    f"try a learning rate below lr={self.lr}"
                )


# What values the parameters of training may have.
TRAINING_CONSTRAINTS = {
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions({"cosine", "constant"})],
    "train_batch_size": [Interval(Integral, 1, None, closed="left")],
    "callbacks": [list, None],
    "checkpoint": [str, os.PathLike, None],
}

# Parameters of detectors that do not change what is trained.
_WITHOUT_EFFECT = {
    "batch_size",
    "callbacks",
    "checkpoint",
    "device",
    "engine",
    "memory",
    "n_jobs",
    "verbose",
}


def net_settings(detector, dataset, *, warmup=0.0, stage=None, keep_best=False):
    """The settings of an `AnomalyNet` that a detector's parameters ask for.

    Parameters
    ----------
    detector : BaseImageDetector
        With the parameters of `TRAINING_CONSTRAINTS`.
    dataset : class
        Of the data sets; its ``collate`` makes a batch of what they give.
    warmup : float, default=0.0
        As of `LearningRate`.
    stage : {1, 2} or None, default=None
        Which of two trainings in one fit the callbacks are for; None if it has one.
    keep_best : bool, default=False
        End with the state of the lowest validation loss rather than the last.

    Returns
    -------
    dict
        Keyword arguments.
    """
    return {
        "lr": detector.lr,
        "max_epochs": detector.max_epochs,
        "batch_size": detector.train_batch_size,
        "iterator_valid__batch_size": detector.batch_size,
        "iterator_train__collate_fn": dataset.collate,
        "iterator_valid__collate_fn": dataset.collate,
        "callbacks": _callbacks(detector, warmup, stage, keep_best),
        "device": detector._device,
        "verbose": detector.verbose,
    }


def _callbacks(detector, warmup, stage, keep_best):
    """Those that a detector's parameters ask for, and the user's own."""
    callbacks = [
        *(detector.callbacks or []),
        ("lr_schedule", LearningRate(detector.lr_schedule, warmup)),
    ]
    if keep_best:  # before the user's, one of which may end the training with this epoch
        callbacks.insert(0, ("keep_best", KeepBest()))
    if detector.checkpoint is not None:
        if not isinstance(detector.random_state, Integral):
            raise ValueError(
                "checkpoint needs an int as random_state, by which a later fit draws the same; "
                f"got random_state={detector.random_state!r}"
            )
        path = first_checkpoint(detector) if stage == 1 else detector.checkpoint
        settings = {
            name: value
            for name, value in detector.get_params(deep=False).items()
            if name not in _WITHOUT_EFFECT
        }
        callbacks.append(("checkpoint", Checkpoint(path, settings, followed=stage == 1)))
    return callbacks


def first_checkpoint(detector):
    """File beside `checkpoint` that keeps the first of two trainings until the fit is done."""
    return Path(f"{detector.checkpoint}.first")


def use_bfloat16(mixed_precision, device):
    """Whether a ``mixed_precision`` parameter means bfloat16 on a device."""
    if mixed_precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return mixed_precision
