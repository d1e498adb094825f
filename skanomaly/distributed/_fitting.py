"""Detectors fitted in parts, each at another worker."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import clone

from ..growing import GrowingDetector, merge_detectors
from ._inputs import as_files, check_positive
from ._workers import Workers


def fit_partitions(detector, files, client, *, n_partitions=None, retries=3):
    """Fit a detector whose state can be merged, each part of the files at another worker.

    Parameters
    ----------
    detector : detector
        Of a class that has `partial_fit`, with an int as `random_state`, so that all parts
        draw the same. It is not changed.
    files : ImageFiles, or sequence of paths or addresses
        Images of good parts, which workers can read; a part is a run of them in order.
    client : distributed.Client
    n_partitions : int or None, default=None
        None is as many as the cluster has workers.
    retries : int, default=3
        How often a part is tried again when its task fails.

    Returns
    -------
    detector
        Fitted, as of `merge_detectors`: the same as of one fit for Gaussians and subspaces,
        one choice of patches from all for memories.

    Raises
    ------
    ValueError
        If the detector cannot be merged, or there are fewer than two images for a part.

    Examples
    --------
    >>> from skanomaly import SubspaceAD
    >>> from skanomaly.distributed import fit_partitions
    >>> detector = SubspaceAD(random_state=0)
    >>> fit_partitions(detector, files, client)  # doctest: +SKIP
    SubspaceAD(random_state=0)
    """
    files = as_files(files)
    if not isinstance(detector, GrowingDetector):
        raise ValueError(
            f"a {type(detector).__name__} cannot be fitted in parts, as its state cannot be "
            "merged; those can that have partial_fit"
        )
    if not isinstance(detector.random_state, Integral):
        raise ValueError(
            "parts that are fitted apart have to draw the same numbers: set random_state to an "
            f"int; it is {detector.random_state!r}"
        )
    n = len(client.scheduler_info()["workers"]) if n_partitions is None else n_partitions
    check_positive(n_partitions=n)
    if len(files) < 2 * n:
        raise ValueError(
            f"{len(files)} images are too few for {n} partitions, each of which needs two or more"
        )
    tasks = enumerate((files[part],) for part in np.array_split(np.arange(len(files)), n))
    with Workers(client, clone(detector), retries) as workers:
        parts = dict(workers.results(_fit, tasks))
    return merge_detectors([parts[i] for i in range(n)])


def _fit(detector, files):
    return clone(detector).fit(files)
