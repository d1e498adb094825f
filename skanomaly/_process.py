"""What is one for the whole process: a lock for what must be done one at a time, and forks."""

from __future__ import annotations

import os
import platform
import sys
import threading
from contextlib import contextmanager

_exports = threading.local()


class _Lock:
    """A reentrant lock that is free again in a forked child, whoever held it in the parent."""

    def __init__(self):
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self):
        self._lock = threading.RLock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


#: PyTorch's exporter has global state, and what is built once must not be built twice at once.
ONE_AT_A_TIME = _Lock()


@contextmanager
def exporting():
    """Context in which this thread, and no other, exports a network."""
    with ONE_AT_A_TIME:
        _exports.depth = getattr(_exports, "depth", 0) + 1
        try:
            yield
        finally:
            _exports.depth -= 1


def is_exporting():
    """Whether this thread is exporting; PyTorch's own function says whether any thread is."""
    return getattr(_exports, "depth", 0) > 0


def this_process():
    """What tells this process from all others: host, number, and when it began.

    Returns
    -------
    (str, int, str)
    """
    return platform.node(), os.getpid(), _began(os.getpid())


def is_running(process):
    """Whether a process that `this_process` named is at work on this machine.

    Parameters
    ----------
    process : (str, int, str)

    Returns
    -------
    bool
    """
    host, number, began = process
    return host == platform.node() and began != "" and _began(int(number)) == began


def _began(number):
    """When a process began, in the kernel's own units; empty if it is not there or not known."""
    try:
        with open(f"/proc/{number}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _one_thread():
    """In a forked child, where the threads that PyTorch would wait for are gone."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)
