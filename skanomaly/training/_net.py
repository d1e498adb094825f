"""AnomalyNet: the one skorch net behind every detector with a trained part."""

from __future__ import annotations

import math

import torch
from skorch import NeuralNet
from skorch.callbacks import PassthroughScoring, PrintLog
from skorch.helper import predefined_split
from skorch.history import History
from skorch.utils import to_device

from .._site import DocumentedOnSite
from ..exceptions import TrainingError
from ._callbacks import EpochProgress
from ._checkpoint import Checkpoint
from ._interrupt import InterruptKey, is_within_own


class AnomalyNet(DocumentedOnSite, NeuralNet):
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

    Attributes
    ----------
    n_processes : int
        That share the batches of an epoch; one, unless a subclass has more.
    """

    n_processes = 1

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
        self.data_digests = None
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
            With a method ``digest``, which says by which images they are, if the
            training is to be kept in a `Checkpoint`.

        Returns
        -------
        self
        """
        if any(
            isinstance(callback, Checkpoint) for callback in map(_callback, self.callbacks or [])
        ):
            self.data_digests = [part.digest() for part in (train, validation)]
        return self.set_params(train_split=predefined_split(validation)).fit(train)

    def fit_loop(self, X, y=None, epochs=None, **kwargs):
        """As skorch's, for the epochs that are left, and remember whether it came to its end."""
        # skorch takes every KeyboardInterrupt for a wish to stop early; a detector
        # whose training the user cut short must not pass for a fitted one.
        self.interrupted = True
        if epochs is None:
            done = len(self.history) - self._n_epochs_before
            epochs = 0 if self.finished else self.max_epochs - done
        try:
            with InterruptKey() as self._key:
                super().fit_loop(X, y, epochs=epochs, **kwargs)
        finally:
            for _, callback in self.callbacks_:
                if isinstance(callback, Checkpoint):
                    callback.release()
        self.interrupted = False
        return self

    def train_step(self, batch, **fit_params):
        """As skorch's, on the batch as it has been prepared."""
        try:
            return super().train_step(self._prepared(batch), **fit_params)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                "a step of training holds one image whose features have one position, and so no "
                "spread to be normalised by; choose a larger image_size, or a train_batch_size "
                "that leaves no single image over"
            ) from error

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
        except KeyboardInterrupt as interrupt:  # how skorch's EarlyStopping asks for the end
            self.interrupted = (
                method_name != "on_epoch_end" or self._key.was_pressed or is_within_own(interrupt)
            )
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
        self.data_digests = self._key = None
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


def _callback(named):
    """A callback of a list whose items are callbacks, or pairs of a name and one."""
    return named[1] if isinstance(named, tuple) else named


def use_bfloat16(mixed_precision, device):
    """Whether a ``mixed_precision`` parameter means bfloat16 on a device."""
    if mixed_precision != "auto":
        return mixed_precision
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and _cpu_multiplies_bfloat16()


def _cpu_multiplies_bfloat16():
    """Whether the CPU has instructions for it; others take longer than for float32."""
    return any(
        getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile")
    )
