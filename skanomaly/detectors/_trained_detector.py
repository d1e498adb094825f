"""What the detectors with a network of their own share: the parameters of its training."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import ClassVar

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..base import BaseImageDetector
from ..training import AnomalyNet, Checkpoint, KeepBest, LearningRate, use_bfloat16


class TrainedDetector(BaseImageDetector):
    """Base of the detectors that train a network.

    Parameters
    ----------
    validation_fraction : float in (0, 1)
        Share of the images that is kept out of training, for the threshold and to
        watch the training.
    max_epochs : int
        Passes over the training images.
    lr : float
        Learning rate at the start.
    lr_schedule : {"cosine", "constant"}
        "cosine" lets the rate fall to zero over the epochs.
    train_batch_size : int
        Images a step of training.
    callbacks : list of skorch callbacks or None
        Further ones, such as `skorch.callbacks.EarlyStopping`.
    checkpoint : path or None
        File that keeps the state of the training after each epoch. A fit of the same
        images, parameters and `random_state`, an int, that finds it there goes on
        from it, to the same result as without the interruption, and removes it at
        the end; `max_epochs` may be larger than before. Any other fit refuses it.
    random_state : int, RandomState or None
        Decides the images kept out of training, the networks' start, the batches and
        all else that is drawn.
    verbose : int
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    net_ : AnomalyNet
        The trained network (`net_.module_`) and its history (`net_.history`).
    """

    #: What trains: a subclass may name another net, such as one of several processes.
    net_class: ClassVar[type] = AnomalyNet

    max_epochs: int = parameter(20, Interval(Integral, 1, None, closed="left"), affects="training")
    lr: float = parameter(1e-3, Interval(Real, 0, None, closed="neither"), affects="training")
    lr_schedule: str = parameter("cosine", StrOptions({"cosine", "constant"}), affects="training")
    train_batch_size: int = parameter(
        8, Interval(Integral, 1, None, closed="left"), affects="training"
    )
    callbacks: list[Callable] | None = parameter(None, list, None, affects="nothing")
    checkpoint: str | os.PathLike | None = parameter(
        None, str, os.PathLike, None, affects="nothing"
    )
    verbose: int = parameter(0, "verbose", affects="nothing")

    _small_parameters = {"max_epochs": 2}

    def _make_net(
        self, module, criterion, dataset, *, keep_best=False, warmup=0.0, stage=None, **settings
    ):
        """The net to be trained as the parameters ask for.

        Parameters
        ----------
        module, criterion : torch.nn.Module, instance or class
        dataset : class
            Of the data sets; its ``collate`` makes a batch of what they give.
        keep_best : bool, default=False
            End with the state of the lowest validation loss rather than the last.
        warmup : float, default=0.0
            As of `LearningRate`.
        stage : {1, 2} or None, default=None
            Which of two trainings in one fit it is for; None if it has one.
        **settings
            Further arguments of `AnomalyNet`, such as its optimizer; they go before
            what the parameters say. ``callbacks`` join those of the parameters.

        Returns
        -------
        AnomalyNet
        """
        callbacks = [
            # Before the user's, one of which may end the training with this epoch.
            *([("keep_best", KeepBest())] if keep_best else []),
            *settings.pop("callbacks", []),
            *(self.callbacks or []),
            ("lr_schedule", LearningRate(self.lr_schedule, warmup)),
            *([("checkpoint", self._checkpoint(stage))] if self.checkpoint is not None else []),
        ]
        from_parameters = {
            "lr": self.lr,
            "max_epochs": self.max_epochs,
            "batch_size": self.train_batch_size,
            "iterator_valid__batch_size": self.batch_size,
            "iterator_train__collate_fn": dataset.collate,
            "iterator_valid__collate_fn": dataset.collate,
            "callbacks": callbacks,
            "device": self._device,
            "verbose": self.verbose,
        }
        return self.net_class(module, criterion, **(from_parameters | settings))

    def _validate_params(self):
        super()._validate_params()
        if self.checkpoint is None:
            return
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint needs an int as random_state, by which a later fit draws the same; "
                f"got random_state={self.random_state!r}"
            )
        folder = Path(self.checkpoint).parent
        if not folder.is_dir() or Path(self.checkpoint).is_dir():
            problem = "is a folder" if folder.is_dir() else f"there is no folder {folder}"
            raise ValueError(
                f"checkpoint={str(self.checkpoint)!r} cannot be written: {problem}; name a file in "
                "a folder that exists"
            )

    def _checkpoint(self, stage):
        path = self._first_checkpoint if stage == 1 else self.checkpoint
        settings = self._parameters_that_affect("maps", "scores", "training")
        del settings["max_epochs"]  # more of them may follow
        return Checkpoint(path, (type(self).__name__, settings), followed=stage == 1)

    @property
    def _first_checkpoint(self):
        """File beside `checkpoint` that keeps the first of two trainings until the fit is done."""
        return Path(f"{self.checkpoint}.first")


class MixedPrecisionDetector(TrainedDetector):
    """Base of those whose training takes long enough to be worth bfloat16.

    Parameters
    ----------
    mixed_precision : "auto" or bool
        Train in bfloat16 where that is safe. "auto" does on CUDA devices and CPUs
        that have instructions for it.
    """

    mixed_precision: bool | str = parameter(
        "auto", "boolean", StrOptions({"auto"}), affects="training"
    )

    def _make_net(self, *args, **settings):
        in_bfloat16 = use_bfloat16(self.mixed_precision, self._device)
        return super()._make_net(*args, mixed_precision=in_bfloat16, **settings)
