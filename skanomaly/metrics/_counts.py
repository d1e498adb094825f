"""What every pixel metric is a function of, and those functions.

Only the values of defective pixels matter as thresholds: between two of them the true
positives stay, and a curve over the false positives is flat. So each metric is a sum over
defective pixels, and all it needs from the normal ones is how many lie above a value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TINY = np.finfo(float).tiny  # keeps 0 / 0 at 0


class Ranked(NamedTuple):
    """Values in ascending order and what they weigh: one number for all, or each its own."""

    values: np.ndarray  #: (n,)
    weights: float | np.ndarray = 1  #: () or (n,)

    @property
    def total(self):
        """Weight of all values."""
        return self._weight_above(0)

    def at_least(self, thresholds):
        """Weight of the values that are at least each threshold."""
        return self._weight_above(np.searchsorted(self.values, thresholds, side="left"))

    def around(self, thresholds):
        """Weight of the values that are at least, and that are above, each threshold."""
        below = np.searchsorted(self.values, thresholds, side="left")
        # Most thresholds meet no equal value; a second search is for those that do.
        equal = np.flatnonzero(below < len(self.values))
        equal = equal[self.values[below[equal]] == thresholds[equal]]
        not_above = below.copy()
        not_above[equal] = np.searchsorted(self.values, thresholds[equal], side="right")
        return self._weight_above(below), self._weight_above(not_above)

    def _weight_above(self, n_below):
        if np.ndim(self.weights) == 0:
            return self.weights * (len(self.values) - n_below)
        suffix_sums = np.append(np.cumsum(self.weights[::-1])[::-1], 0)
        return suffix_sums[n_below]

    def grouped(self):
        """The distinct values, ascending, and the weight of each."""
        is_first = np.ones(len(self.values), bool)
        np.not_equal(self.values[1:], self.values[:-1], out=is_first[1:])
        starts = np.flatnonzero(is_first)
        if np.ndim(self.weights) == 0:
            return self.values[starts], self.weights * np.diff(starts, append=len(self.values))
        return self.values[starts], np.add.reduceat(self.weights, starts)


class Counts(NamedTuple):
    """Pixels around the distinct values of defective ones, which ascend."""

    thresholds: np.ndarray  #: (m,)
    positives: np.ndarray  #: (m,) weight of defective pixels at the threshold
    fp: np.ndarray  #: (m,) normal pixels at or above it
    fp_above: np.ndarray  #: (m,) normal pixels above it
    n_normal: float
    n_defective: float  #: sum of `positives`

    @classmethod
    def of(cls, defective, *normals):
        """Count the pixels of several `Ranked` together."""
        thresholds, positives = defective.grouped()
        around = [normal.around(thresholds) for normal in normals]
        return cls(
            thresholds,
            positives,
            fp=sum(at_least for at_least, _ in around),
            fp_above=sum(above for _, above in around),
            n_normal=sum(normal.total for normal in normals),
            n_defective=defective.total,
        )

    @property
    def tp(self):
        """Weight of the defective pixels at or above each threshold."""
        return np.cumsum(self.positives[..., ::-1], axis=-1)[..., ::-1]


# Each formula takes one `Counts` or a stack of them: arrays (..., m), totals (..., 1) or scalar.


def roc_auc(counts):
    """Share of pairs in which the defective pixel is the higher one; ties count half."""
    normal_below = 1 - (counts.fp + counts.fp_above) / (2 * counts.n_normal)
    return _mean_over_positives(counts, normal_below)


def average_precision(counts):
    """Mean over defective pixels of the precision at their values."""
    tp = counts.tp
    return _mean_over_positives(counts, tp / np.maximum(tp + counts.fp, _TINY))


def f1_max(counts):
    """Highest F1 over the thresholds."""
    tp = counts.tp
    return np.max(2 * tp / (tp + counts.fp + counts.n_defective), axis=-1)


def false_alarm_rate(counts, detection_rate):
    """Lowest share of normal ones flagged where at least that share of the others is."""
    suffices = counts.tp / counts.n_defective >= detection_rate
    return np.min(np.where(suffices, counts.fp / counts.n_normal, 1), axis=-1)


def detection_rate(counts, false_alarm_rate):
    """Highest share of defective ones flagged where at most that share of the others is."""
    is_allowed = counts.fp / counts.n_normal <= false_alarm_rate
    return np.max(np.where(is_allowed, counts.tp / counts.n_defective, 0), axis=-1)


def area_under_pro(counts, max_fpr):
    """`counts.positives` are to be the shares of regions, which sum to the regions' number."""
    area = _mean_over_positives(counts, area_right_of(counts, max_fpr))
    return np.clip(area / max_fpr, 0, 1)


def area_right_of(counts, max_fpr):
    """The area, up to a false-positive rate, under the step that one pixel puts into the curve.

    A defective pixel raises the curve from the false-positive rate just above its
    value, linearly, to that at its value.
    """
    x0, x1 = counts.fp_above / counts.n_normal, counts.fp / counts.n_normal
    inside = np.clip(max_fpr - x0, 0, None)
    width = np.maximum(x1 - x0, _TINY)
    return np.where(x1 > max_fpr, inside**2 / (2 * width), inside - width / 2)


def _mean_over_positives(counts, values):
    return (counts.positives * values).sum(axis=-1) / counts.positives.sum(axis=-1)


def pimo(shared_fpr, fpr_bounds):
    """What a defective pixel adds to its image's AUPIMO, before division by the image's pixels."""
    low, high = fpr_bounds
    with np.errstate(divide="ignore"):
        return np.clip(np.log(high / shared_fpr) / np.log(high / low), 0, 1)


def pro_curve(counts, *normals):
    """The corners of the curve, from high to low thresholds, and those thresholds."""
    fpr = np.stack([counts.fp_above, counts.fp]) / counts.n_normal
    overlap = counts.tp / counts.n_defective
    pro = np.stack([np.append(overlap[1:], 0), overlap])
    thresholds = np.stack([_next_above(counts.thresholds, normals), counts.thresholds])
    fpr, pro, thresholds = (points.T[::-1].ravel() for points in (fpr, pro, thresholds))
    fpr, pro = np.append(0.0, fpr), np.append(0.0, pro)
    lowest = min(normal.values[0] for normal in normals if len(normal.values))
    thresholds = np.append(np.inf, thresholds)
    if fpr[-1] < 1:
        fpr, pro, thresholds = np.append(fpr, 1), np.append(pro, 1), np.append(thresholds, lowest)
    is_new = np.append(True, (np.diff(fpr) > 0) | (np.diff(pro) > 0))
    return fpr[is_new], pro[is_new], thresholds[is_new]


def _next_above(thresholds, normals):
    """The smallest normal value above each threshold, infinity where there is none."""
    found = np.full(len(thresholds), np.inf)
    for normal in normals:
        if len(normal.values):
            n_below = np.searchsorted(normal.values, thresholds, side="right")
            exists = n_below < len(normal.values)
            above = np.where(exists, normal.values[np.where(exists, n_below, 0)], np.inf)
            found = np.minimum(found, above)
    return found
