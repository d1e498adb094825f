"""How many threads read images."""

from __future__ import annotations

import os


def n_threads_of(n_jobs):
    """Threads that a number of jobs means, by joblib where it is installed.

    Parameters
    ----------
    n_jobs : int or None
        None is one, or what joblib's `parallel_config` says; negative ones count from the
        number of cores, -1 being all.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is 0.
    """
    try:
        from joblib import effective_n_jobs
    except ImportError:
        return _n_threads_of(1 if n_jobs is None else n_jobs)
    return effective_n_jobs(n_jobs)


def _n_threads_of(n_jobs):
    if n_jobs == 0:
        raise ValueError("n_jobs is 0, expected a number of threads, or a negative one")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)
