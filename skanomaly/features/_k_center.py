"""k-centre greedy: points that leave no other far from the nearest of them."""

from __future__ import annotations

import numpy as np

# Sizes of the matrices that k-centre greedy computes; only its speed depends on them.
BLOCK_ROWS, BLOCK_CENTERS, MAX_FRESH = 4096, 2048, 2048

UNIT_ROUNDOFF, UNDERFLOW = 2.0**-24, 2.0**-120  # of single precision; the latter with room

CHOSEN = -np.inf  # in place of the distance 0, so that no centre is chosen twice


def k_center_greedy(X, n_centers, *, start=0, gaps=None):
    """Choose points one by one, each the farthest from all chosen before.

    The points chosen, and their order, are exactly those of the plain loop that
    computes all distances to each new centre from float64 differences; of equally
    far points the one of the lowest index is taken, and a point only once. No
    point is farther from its nearest centre than twice the least possible radius.

    Parameters
    ----------
    X : ndarray, shape (n, d), float
        Finite.
    n_centers : int
        At most n.
    start : int, default=0
        Index of the first centre.
    gaps : ndarray, shape (n,), float64, or None, default=None
        Distance of each point from the nearest of centres chosen elsewhere, to which
        others are added; the first is then the farthest, whatever `start` is.

    Returns
    -------
    indices : ndarray, shape (n_centers,), int64
        In the order chosen.
    radius : float
        The largest Euclidean distance of a point from its nearest centre.

    Raises
    ------
    ValueError
        If ``X`` is not finite or ``n_centers`` not in [1, n].

    Notes
    -----
    Two observations save most of the time. A distance to the nearest centre only
    shrinks as centres are added, so one that is out of date is an upper bound,
    and a point needs bringing up to date only when its bound is among the
    largest (Minoux's lazy greedy). And single precision gives a lower bound of
    a distance by matrix multiplication, so that the exact distance is computed
    only where it may be the nearest.

    References
    ----------
    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
    Theoretical Computer Science 38, 1985.

    M. Minoux, "Accelerated greedy algorithms for maximizing submodular set
    functions", Optimization Techniques, 1978.
    """
    X = np.ascontiguousarray(X)
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.ndim != 2 or not X.size:
        raise ValueError(f"X has shape {X.shape}, expected (n, d) with n and d at least 1")
    if not np.isfinite(X).all():
        raise ValueError("X holds NaN or infinity; remove the rows that do")
    if not 1 <= n_centers <= len(X):
        raise ValueError(f"n_centers={n_centers}, expected 1 to the {len(X)} points of X")
    if not 0 <= start < len(X):
        raise ValueError(f"start={start}, expected 0 to {len(X) - 1}")
    greedy = _LazyGreedy(X, start, min(n_centers + 1, len(X)), gaps)  # one more tells the radius
    while greedy.n_chosen < len(greedy.centers):
        greedy.choose_some()
    radius = float(np.sqrt(greedy.gaps[n_centers])) if n_centers < len(X) else 0.0
    return greedy.centers[:n_centers], radius


class _LazyGreedy:
    """Squared distances of all points to the nearest of the first ``seen`` centres."""

    def __init__(self, X, start, n_centers, gaps=None):
        self.X = X
        self.lifted, self.unit = _lift(X)
        self.centers = np.full(n_centers, start)
        self.gaps = np.full(n_centers, np.inf)  # of each centre from those before
        if gaps is not None:
            self.n_chosen, self.bounds = 0, np.square(gaps)
            self.seen = np.zeros(len(X), np.int64)
            return
        self.n_chosen = 1
        self.bounds = _squared_distances(X, np.arange(len(X)), start)
        self.bounds[start] = CHOSEN
        self.seen = np.ones(len(X), np.int64)

    def choose_some(self):
        n = len(self.X)
        rows, best_of_rest = _largest(self.bounds, np.arange(n), max(MAX_FRESH, n // 8))
        rows = self._bring_up_to_date(rows, best_of_rest)
        rows, best_of_dropped = _largest(self.bounds, rows, MAX_FRESH)
        self._choose_among(rows, max(best_of_rest, best_of_dropped))

    def _bring_up_to_date(self, rows, best_of_rest):
        """Compare rows with the centres they have not seen, and keep those still ahead."""
        rows = rows[np.argsort(self.seen[rows], kind="stable")]
        for first in range(0, len(rows), BLOCK_ROWS):
            block = rows[first : first + BLOCK_ROWS]
            for start in range(self.seen[block[0]], self.n_chosen, BLOCK_CENTERS):
                stop = min(start + BLOCK_CENTERS, self.n_chosen)
                block = block[self.bounds[block] >= best_of_rest[0]]
                self._compare(block, self.centers[start:stop])
                self.seen[block] = np.maximum(self.seen[block], stop)
        rows = np.sort(rows[self.seen[rows] == self.n_chosen])
        return rows[self.bounds[rows] >= best_of_rest[0]]

    def _compare(self, rows, centers):
        lower = self._lower_bounds(rows, centers)
        nearest = lower.argmin(axis=1)
        squared = np.minimum(self.bounds[rows], _squared_distances(self.X, rows, centers[nearest]))
        lower[np.arange(len(rows)), nearest] = np.inf
        nearer = lower < (squared / self.unit).astype(np.float32)[:, np.newaxis]
        i, j = np.divmod(np.flatnonzero(nearer), len(centers))
        np.minimum.at(squared, i, _squared_distances(self.X, rows[i], centers[j]))
        self.bounds[rows] = squared

    def _choose_among(self, rows, best_of_rest):
        """Plain greedy on rows that are up to date, while none of the rest can be farther."""
        squared = self.bounds[rows]
        lower = self._lower_bounds(rows, rows)
        while len(rows) and self.n_chosen < len(self.centers):
            farthest = squared.argmax()
            if (squared[farthest], -rows[farthest]) < best_of_rest:
                break
            self.centers[self.n_chosen] = rows[farthest]
            self.gaps[self.n_chosen] = squared[farthest]
            self.n_chosen += 1
            near = np.flatnonzero(lower[farthest] < squared / self.unit)
            from_new = _squared_distances(self.X, rows[near], rows[farthest])
            squared[near] = np.minimum(squared[near], from_new)
            squared[farthest] = CHOSEN
        self.bounds[rows] = squared
        self.seen[rows] = self.n_chosen

    def _lower_bounds(self, rows, columns):
        """No more than the squared distances, in units of ``self.unit``: (rows, columns)."""
        dual = self.lifted[columns]
        dual[:, :-2] *= -2
        dual[:, [-2, -1]] = dual[:, [-1, -2]]
        return self.lifted[rows] @ dual.T


def _largest(values, rows, n):
    """The n rows of largest value, lowest rows first on ties, and the best of the rest."""
    of_rows = values[rows]
    if len(rows) <= n:
        return rows, (-np.inf, 0)
    threshold = np.partition(of_rows, len(rows) - n - 1)[len(rows) - n - 1]
    above, level = rows[of_rows > threshold], rows[of_rows == threshold]
    n_level = n - len(above)
    return np.sort(np.append(above, level[:n_level])), (threshold, -level[n_level])


def _lift(X):
    r"""Vectors whose products with each other's dual bound squared distances from below.

    With z the point, centred and scaled to [-1, 1], and s its squared norm, shrunk
    by what single precision can add up to, (z, s, 1) (-2 z', 1, s') is
    :math:`|z - z'|^2` or less: a sum of d + 2 products is off by no more than
    (d + 2) u times the sum of their magnitudes, which is at most 2 (s + s').
    """
    n, d = X.shape
    mean = X.mean(axis=0, dtype=np.float64)
    scale = max(np.max(X.max(axis=0) - mean), np.max(mean - X.min(axis=0))) or 1.0
    lifted = np.ones((n, d + 2), np.float32)
    for part in _slices(n, d):
        z = ((X[part] - mean) / scale).astype(np.float32)
        s = np.square(z, dtype=np.float64).sum(axis=1)
        lifted[part, :d] = z
        lifted[part, d] = s * (1 - (4 * d + 40) * UNIT_ROUNDOFF) - UNDERFLOW * d
    return lifted, scale**2


def _squared_distances(X, i, j):
    """Of the rows i from the rows j, or from the one row j, by float64 differences."""
    squared, j = np.empty(len(i)), np.broadcast_to(j, len(i))
    for part in _slices(len(i), X.shape[1]):
        squared[part] = np.square(X[i[part]].astype(np.float64) - X[j[part]]).sum(axis=1)
    return squared


def _slices(n, d):
    """Rows in portions whose float64 copy takes 32 MiB at most."""
    step = max(1, 2**22 // d)
    return [slice(start, start + step) for start in range(0, n, step)]
