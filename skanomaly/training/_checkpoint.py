"""Trainings that survive an interruption."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from skorch.callbacks import Callback

from .._random import current_generator
from ..exceptions import TrainingError


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
        current_generator().set_state(state["random"])
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
            "random": current_generator().get_state(),
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
    digest.update(current_generator().get_state().numpy().tobytes())
    return digest.hexdigest()
