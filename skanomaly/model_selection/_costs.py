"""What a fit takes: seconds, memory, and how long a larger one would take."""

from __future__ import annotations

import math
import pickle
import threading
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")
_PAUSE = 0.02  # seconds between two looks at the process's memory


class Cost:
    """Context that takes the time of what is done in it, and by how much memory grows.

    Attributes
    ----------
    seconds : float
    peak_bytes : float
        By how much the process's resident memory was above that at the start, at most, looked at
        50 times a second; NaN where the system does not tell (other than Linux). What other
        threads take meanwhile counts, and what was free already does not.
    """

    def __enter__(self):
        self._start = self._highest = resident_bytes()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._began
        self._ended.set()
        self._watch.join()
        self.peak_bytes = max(self._highest, resident_bytes()) - self._start

    def _look(self):
        while not self._ended.wait(_PAUSE):
            self._highest = max(self._highest, resident_bytes())


def resident_bytes():
    """Memory that this process holds, NaN where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * _page_bytes()
    except (OSError, IndexError, ValueError):
        return math.nan


def _page_bytes():
    import resource

    return resource.getpagesize()


def state_bytes(estimator):
    """Size of an estimator's pickle, NaN if it has none, as one with a lambda."""
    try:
        return len(pickle.dumps(estimator))
    except (pickle.PicklingError, AttributeError, TypeError):
        return math.nan


def seconds_at(n, n_small, seconds_small, n_large, seconds_large):
    """How long a fit on n images takes, by two on fewer.

    Parameters
    ----------
    n, n_small, n_large : int
        Numbers of images.
    seconds_small, seconds_large : float

    Returns
    -------
    float
        The straight line through both or, where time grows faster than the number of images,
        the power law through both.
    """
    slope = (seconds_large - seconds_small) / (n_large - n_small)
    line = seconds_large + max(slope, 0) * (n - n_large)
    exponent = math.log(seconds_large / seconds_small) / math.log(n_large / n_small)
    return max(line, seconds_large * (n / n_large) ** exponent) if exponent > 1 else line
