"""A summary of a stream of weighted values in bounded memory: who is above whom, nearly."""

from __future__ import annotations

import numpy as np

from ._counts import Ranked

_RATIO = 4  # values that one stands for, a level further on
_KEPT = 8  # an eighth of a level, its highest values, is never summarised
_DOUBLINGS = 3  # of the capacity, from level to level; then it stays


class RankSketch:
    r"""How much weight lies at or above a value, of values seen once.

    Values are kept as they are up to a capacity. Beyond, all but the highest
    eighth are sorted and cut into cells of :math:`r = 4` neighbours, of which the
    middle one, with the weight of all, goes on to the next level, where the same
    happens again: level :math:`l` holds at most :math:`c_l = 2^{\min(l, 3)} c` values,
    each for :math:`4^l` of the stream.

    Summarising values of weight w moves at most half a cell past any value, so it
    changes the weight at or above it by at most :math:`r w / 2`. A level is summarised
    once for each :math:`\tfrac78 c_l` values, so the error is at most
    :math:`\tfrac{4 r}{7 c_l}` of the stream's weight a level,
    which is :math:`\tfrac{16}{7 c}` in the first, half and a quarter of that in the
    next two and an eighth in each further one, and exactly 0 above the highest value
    that was ever summarised. What `error_at` returns is counted as it happens, not
    estimated: an upper bound for any stream, also of merged sketches.

    Values may have several weights (columns): cells then have equal shares of all
    of them together.

    Parameters
    ----------
    n_columns : int
    capacity : int
        Values of the first level, :math:`c`.

    References
    ----------
    G. S. Manku, S. Rajagopalan, B. G. Lindsay, "Approximate medians and other
    quantiles in one pass and with limited memory", SIGMOD 1998.
    P. K. Agarwal, G. Cormode, Z. Huang, J. M. Phillips, Z. Wei, K. Yi, "Mergeable
    summaries", ACM Transactions on Database Systems 38, 2013.
    G. Cormode, Z. Karnin, E. Liberty, J. Thaler, P. Vesely, "Relative error streaming
    quantiles", PODS 2021 (the kept highest values).
    """

    def __init__(self, n_columns, capacity):
        self.n_columns = n_columns
        self.capacity = capacity
        self.levels = [_Level(n_columns)]

    def add(self, values, weights):
        """Take values in.

        Parameters
        ----------
        values : ndarray, shape (n,)
            Is kept, not copied.
        weights : ndarray, shape (n_columns,) or (n, n_columns)
            Of each value, or the same for all.
        """
        self.levels[0].add(values, weights)
        self._summarise(0)

    def merge(self, other):
        """Take in what another sketch of as many columns has seen."""
        for i, level in enumerate(other.levels):
            self._level(i).merge(level)
        for i in range(len(other.levels)):
            self._summarise(i)

    @property
    def pieces(self):
        """All that is kept, as (values, weights) as they were added."""
        return [piece for level in self.levels for piece in level.pieces]

    def error_at(self, thresholds):
        """By how much the weight at or above each threshold may be wrong, (m, n_columns)."""
        error = np.zeros((len(thresholds), self.n_columns))
        for level in self.levels:
            if level.ceiling is not None:
                error += np.where((thresholds <= level.ceiling)[:, np.newaxis], level.error, 0)
        return error

    @property
    def error(self):
        """The largest error at any threshold, (n_columns,)."""
        return np.sum([level.error for level in self.levels], axis=0)

    def _level(self, i):
        if i == len(self.levels):
            self.levels.append(_Level(self.n_columns))
        return self.levels[i]

    def _summarise(self, i):
        level = self.levels[i]
        capacity = self.capacity << min(i, _DOUBLINGS)
        if level.n <= capacity:
            return
        values, weights = level.sorted()
        n = (len(values) - capacity // _KEPT) // _RATIO * _RATIO
        if weights.ndim == 1:
            summary = _cells_of_equal_count(values[:n], weights)
            level.pieces = [(values[n:].copy(), weights)]
        else:
            summary = _cells_of_equal_weight(values[:n], weights[:n])
            level.pieces = [(values[n:].copy(), weights[n:].copy())]
        level.n = len(values) - n
        *summarised, error = summary
        level.error = level.error + error
        highest = values[n - 1]
        level.ceiling = highest if level.ceiling is None else max(level.ceiling, highest)
        self._level(i + 1).add(*summarised)
        self._summarise(i + 1)


def ranked(pieces, column=0):
    """Pieces of sketches in ascending order, as one `Ranked` for each weight they share."""
    groups, weighted = {}, []
    for values, weights in pieces:
        weights = weights[..., column]
        first = weights.flat[0]
        if np.all(weights == first):
            groups.setdefault(float(first), []).append(values)
        else:
            weighted.append((values, weights))
    found = [Ranked(np.sort(np.concatenate(group)), weight) for weight, group in groups.items()]
    if weighted:
        found.append(_by_value(*(np.concatenate(parts) for parts in zip(*weighted))))
    return found


def together(parts):
    """Several `Ranked` as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Ranked(np.empty(0))
    values = np.concatenate([part.values for part in parts])
    weights = [np.broadcast_to(part.weights, len(part.values)) for part in parts]
    return _by_value(values, np.concatenate(weights))


def _by_value(values, weights):
    order = np.argsort(values)
    return Ranked(values[order], weights[order])


class _Level:
    def __init__(self, n_columns):
        self.pieces, self.n = [], 0
        self.error = np.zeros(n_columns)
        self.ceiling = None  # the highest value that was ever summarised

    def add(self, values, weights):
        if len(values):
            self.pieces.append((values, weights))
            self.n += len(values)

    def merge(self, other):
        self.pieces += other.pieces
        self.n += other.n
        self.error = self.error + other.error
        if other.ceiling is not None:
            known = self.ceiling is not None
            self.ceiling = max(self.ceiling, other.ceiling) if known else other.ceiling

    def sorted(self):
        values = np.concatenate([values for values, _ in self.pieces])
        first = self.pieces[0][1]
        if all(w.ndim == 1 and np.array_equal(w, first) for _, w in self.pieces):
            values.sort()
            return values, first
        weights = np.concatenate(
            [np.broadcast_to(w, (len(values), w.shape[-1])) for values, w in self.pieces]
        )
        order = np.argsort(values)
        return values[order], weights[order]


def _cells_of_equal_count(values, weights):
    """The middle of each cell, what it weighs, and how much weight moves past a value at most."""
    cells = values.reshape(-1, _RATIO)
    middle = _RATIO // 2
    middles = cells[:, middle].copy()
    differs = [_differ(cells[:, i], middles) for i in range(_RATIO)]
    n_moved = max(sum(differs[:middle]), sum(differs[middle:]))
    return middles, _RATIO * weights, n_moved * weights


def _differ(values, others):
    """Whether any do, which the first few mostly tell."""
    return bool(np.any(values[:256] != others[:256]) or np.any(values != others))


def _cells_of_equal_weight(values, weights):
    """As `_cells_of_equal_count`, for values of several weights each."""
    totals = weights.sum(axis=0)
    together = (weights / np.where(totals > 0, totals, 1)).sum(axis=1)
    n_cells = len(values) // _RATIO
    stops = np.cumsum(together)
    cell = ((stops - together / 2) * (n_cells / stops[-1])).astype(np.int64)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    ends = np.append(starts[1:], len(values))
    halves = (stops[starts] - together[starts] + stops[ends - 1]) / 2
    middles = np.clip(np.searchsorted(stops, halves), starts, ends - 1)
    summary = values[middles]
    sums = np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(weights, axis=0)])
    first_equal = np.maximum(np.searchsorted(values, summary, side="left"), starts)
    last_equal = np.minimum(np.searchsorted(values, summary, side="right"), ends)
    moved = np.maximum(sums[first_equal] - sums[starts], sums[ends] - sums[last_equal])
    return summary, sums[ends] - sums[starts], moved.max(axis=0)
