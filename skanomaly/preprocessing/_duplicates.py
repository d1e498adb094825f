"""Images that are nearly the same, and what belongs together because of it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Distances that are held at a time, and images whose distances tell what is usual.
MAX_ELEMENTS, N_USUAL = 2**22, 512


def near_duplicates(thumbnails, share):
    """Which images hardly differ from an earlier one.

    Parameters
    ----------
    thumbnails : ndarray, shape (n, n_pixels), float32
        Small grey images.
    share : float
        Of the usual distance, the median of that of any two images: the largest that
        near-duplicates have.

    Returns
    -------
    duplicate_of : ndarray, shape (n,), int64
        The nearest earlier image that is so near; -1 where there is none.
    group : ndarray, shape (n,), int32
        Images that are near, or have a near one in common, are in one group.
    """
    n = len(thumbnails)
    x = thumbnails - thumbnails.mean(axis=0)  # what all share would cost precision
    some = x[np.unique(np.linspace(0, n - 1, N_USUAL).astype(int))]
    pairs = _squared_distances(some, some)[np.triu_indices(len(some), 1)]
    # The root first: an even number of pairs has its median between two.
    limit = (share * np.median(np.sqrt(pairs))) ** 2 if len(pairs) else 0.0

    duplicate_of, group = np.full(n, -1), np.arange(n)
    n_rows = max(1, MAX_ELEMENTS // n)
    for start in range(0, n, n_rows):
        rows = np.arange(start, min(n, start + n_rows))
        squared = _squared_distances(x[rows], x[: rows[-1] + 1])
        squared[np.arange(squared.shape[1]) >= rows[:, None]] = np.inf
        nearest = squared.argmin(axis=1)
        is_near = squared <= limit
        duplicate_of[rows] = np.where(is_near.any(axis=1), nearest, -1)
        at, others = np.nonzero(is_near)
        group = joined_groups(group, (rows[at], others))
    return duplicate_of, group


def joined_groups(group, *edges):
    """Groups of images, once pairs of images are joined too.

    Parameters
    ----------
    group : array-like, shape (n,)
    *edges : (array of int, array of int)
        Positions of the two images of each pair.

    Returns
    -------
    ndarray, shape (n,), int32
        Numbered from 0 on.
    """
    _, first, group = np.unique(np.asarray(group), return_index=True, return_inverse=True)
    n = len(group)
    a, b = (np.concatenate(ends) for ends in zip((np.arange(n), first[group]), *edges))
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def _squared_distances(a, b):
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    # What rounding leaves of two equal images is no distance.
    noise = 1e-5 * np.square(a).sum(axis=1)[:, None]
    return np.where(squared <= noise, 0, squared)
