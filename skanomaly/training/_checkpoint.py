"""Trainings that survive an interruption."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path

import torch
from skorch.callbacks import Callback

from .._atomic import replaced
from .._process import is_running, this_process
from .._random import current_generator
from ..exceptions import TrainingError
from ._callbacks import bare


class Checkpoint(Callback):
    """Keep the state of a training in a file after each epoch, and go on from one.

    A file belongs to its images, parameters and seed; a fit of others refuses it, or, where
    the fit that writes it is still running (another fold of a cross-validation), writes one
    of its own beside it. More epochs may be asked for than those of the fit that left it.
    The file is removed once training has come to its end.

    Parameters
    ----------
    path : path
    settings : object, default=None
        What a fit must share to go on from the file, besides module, optimizer,
        batch size, data and the state of the random generator; by its `repr`.
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
        self.token_ = secrets.token_hex(8)
        _under_way.add(self.token_)
        self.fit_ = self._fingerprint(net)
        self.place_, self.is_settled_ = self._place()
        if not os.path.exists(self.place_):
            return
        state = self._read(self.place_)
        try:
            bare(net.module_).load_state_dict(state["module"])
            net.optimizer_.load_state_dict(state["optimizer"])
            net.history = type(net.history)(json.loads(state["history"]))
            current_generator().set_state(state["random"])
        except Exception as error:
            raise _damaged(self.place_, error) from error
        stopped_early = state["finished"] and len(net.history) < state["max_epochs"]
        net.finished = stopped_early or len(net.history) >= net.max_epochs
        net.best = state["best"]

    def on_epoch_end(self, net, **kwargs):
        """Write the file, whole or not at all."""
        self._write(net, finished=False)

    def on_train_end(self, net, **kwargs):
        """Remove the file, unless training was cut short or is followed by another."""
        if self.followed and not net.interrupted:
            self._write(net, finished=True)
        elif not net.interrupted:
            self.remove()

    def release(self):
        """Let other fits know that this training is over, however it ended."""
        _under_way.discard(getattr(self, "token_", None))

    def remove(self):
        """Remove the file, if it is there."""
        Path(self.place_).unlink(missing_ok=True)

    def _place(self):
        """Where this fit's state is or is to be, and whether a file there is this fit's."""
        name = "".join(self.fit_.values()).encode()
        beside = f"{os.fspath(self.path)}.{hashlib.sha256(name).hexdigest()[:12]}"
        if os.path.exists(beside):
            return beside, True
        if not os.path.exists(self.path):
            return self.path, False
        state = self._read(self.path)
        differing = [name for name, value in self.fit_.items() if state["fit"].get(name) != value]
        if not differing:
            return self.path, True
        if _is_under_way(state["writer"]):
            return beside, True
        raise TrainingError(
            f"{self.path} was left by a fit of other {' and '.join(differing)}; remove it to "
            "start anew, or choose another checkpoint"
        )

    def _read(self, path):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if sorted(state) != sorted(_ENTRIES) or not isinstance(state["fit"], dict):
                raise ValueError("its entries are others")
            if not _all_finite(state):
                raise ValueError("it holds numbers that are not finite")
        except Exception as error:
            raise _damaged(path, error) from error
        return state

    def _write(self, net, finished):
        if not self.is_settled_:  # another fit may have begun since
            self.place_, self.is_settled_ = self._place()[0], True
        state = {
            "writer": [*this_process(), self.token_],
            "fit": self.fit_,
            "max_epochs": net.max_epochs,
            "finished": finished,
            "module": bare(net.module_).state_dict(),
            "best": net.best,
            "optimizer": net.optimizer_.state_dict(),
            "history": json.dumps(net.history.to_list(), default=lambda value: value.item()),
            "random": current_generator().get_state(),
        }
        with replaced(self.place_) as file:
            torch.save(state, file)

    def _fingerprint(self, net):
        """What must be equal for one training to go on with another's state."""
        module = bare(net.module_)
        parts = {
            "parameters or networks": [module, net.optimizer_, net.batch_size, self.settings],
            "images": net.data_digests,
            "random_state": current_generator().get_state().tolist(),
        }
        return {
            name: hashlib.sha256(repr(part).encode()).hexdigest() for name, part in parts.items()
        }


_ENTRIES = (
    *("best", "finished", "fit", "history", "max_epochs", "module", "optimizer", "random"),
    "writer",
)
# Trainings of this process that are under way.
_under_way = set()


def _is_under_way(writer):
    """Whether the training that wrote a file is still going on, here or in another process."""
    *process, token = writer
    return token in _under_way if process == [*this_process()] else is_running(process)


def _damaged(path, error):
    return TrainingError(
        f"{path} is no checkpoint, or is damaged ({error}); remove it to start anew"
    )


def _all_finite(value):
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        value = value.values()
    return not isinstance(value, (list, tuple, type({}.values()))) or all(map(_all_finite, value))
