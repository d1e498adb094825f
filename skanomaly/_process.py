"""What is one for the whole process: a lock for what must be done one at a time, and forks."""

from __future__ import annotations

import os
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
