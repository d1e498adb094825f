import sys

import pytest
from joblib import effective_n_jobs, parallel_config

from skanomaly.images import _threads
from skanomaly.images._threads import n_threads_of


@pytest.mark.parametrize("n_jobs", [None, 1, 3, -1, -2, -1000])
def test_the_same_with_and_without_joblib(n_jobs, monkeypatch):
    expected, n_cores = effective_n_jobs(n_jobs), effective_n_jobs(-1)
    assert n_threads_of(n_jobs) == expected
    monkeypatch.setitem(sys.modules, "joblib", None)
    monkeypatch.setattr(_threads.os, "cpu_count", lambda: n_cores)
    assert n_threads_of(n_jobs) == expected


def test_zero_means_nothing(monkeypatch):
    for _ in range(2):
        with pytest.raises(ValueError, match="0"):
            n_threads_of(0)
        monkeypatch.setitem(sys.modules, "joblib", None)


def test_joblibs_configuration_counts():
    with parallel_config(n_jobs=3, backend="threading"):
        assert n_threads_of(None) == 3
