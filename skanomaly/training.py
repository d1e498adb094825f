"""AnomalyNet: the one skorch net behind every detector with a trained part."""

from __future__ import annotations

import math

from skorch import NeuralNet
from skorch.callbacks import Callback, PassthroughScoring, PrintLog
from skorch.helper import predefined_split

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
    verbose : int, default=0
        0 is silent, 1 shows a progress bar, 2 and more print skorch's table.
    """

    def __init__(self, module, criterion, *, iterator_train__shuffle=True, verbose=0, **kwargs):
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

    def fit_loop(self, *args, **kwargs):
        """As skorch's, and remember whether it came to its end."""
        # skorch takes every KeyboardInterrupt for a wish to stop early; a detector
        # whose training the user cut short must not pass for a fitted one.
        self._interrupted = True
        super().fit_loop(*args, **kwargs)
        self._interrupted = False
        return self

    def notify(self, method_name, **cb_kwargs):
        """As skorch's, and tell a callback's wish to stop from the user's."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt:  # how skorch's EarlyStopping asks for the end
            self._interrupted = method_name != "on_epoch_end"
            raise

    def partial_fit(self, *args, **kwargs):
        """As skorch's, but an interrupt reaches the caller and the net ends on the CPU."""
        super().partial_fit(*args, **kwargs)
        if self._interrupted:
            raise KeyboardInterrupt
        # The data served the fit; a pickle must not carry them along, nor need
        # the device they were trained on.
        self.set_params(train_split=None)
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
