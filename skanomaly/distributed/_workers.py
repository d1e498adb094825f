"""A detector at each worker of a cluster, and tasks that use it."""

from __future__ import annotations

import secrets
from itertools import islice

from distributed import WorkerPlugin, as_completed

# Tasks that are under way or wait at a worker, for each thread of the cluster.
_AHEAD = 2
# Detectors that this process, a worker, holds for runs that go on, by their token.
_held = {}


class _Holder(WorkerPlugin):
    """Has each worker hold a detector, whenever it comes to the cluster."""

    def __init__(self, token, detector):
        self.name = f"skanomaly-{token}"
        self.token, self.detector = token, detector

    def setup(self, worker):
        _held[self.token] = self.detector

    def teardown(self, worker):
        _held.pop(self.token, None)


class Workers:
    """The workers of a cluster, each with a detector, also those that come later.

    What is under way when the context is left is cancelled, and the detector is let go of.

    Parameters
    ----------
    client : distributed.Client
    detector : detector
    retries : int
        How often a task that fails is tried again.
    """

    def __init__(self, client, detector, retries):
        self.client, self.retries = client, retries
        self._holder = _Holder(secrets.token_hex(8), detector)
        self._numbers = {}

    def __enter__(self):
        self.client.register_plugin(self._holder)
        return self

    def __exit__(self, *_):
        self.client.cancel(list(self._numbers))
        self.client.unregister_worker_plugin(self._holder.name)

    def results(self, function, tasks):
        """Yield what tasks give as they end; few are under way, however many there are.

        Parameters
        ----------
        function : callable
            Of the detector and a task's arguments.
        tasks : iterable of (int, tuple)
            A number, and arguments.

        Yields
        ------
        number : int
        result : object
        """
        tasks = iter(tasks)
        n_threads = sum(self.client.nthreads().values())
        running = as_completed(self._submitted(function, tasks, max(1, _AHEAD * n_threads)))
        for future in running:
            yield self._numbers.pop(future), future.result()
            running.update(self._submitted(function, tasks, 1))

    def _submitted(self, function, tasks, n):
        for i, arguments in islice(tasks, n):
            future = self.client.submit(
                _with_held,
                self._holder.token,
                function,
                *arguments,
                retries=self.retries,
                pure=False,
            )
            self._numbers[future] = i
            yield future


def _with_held(token, function, *arguments):
    return function(_held[token], *arguments)
