"""The same metrics in one pass and constant memory."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from .._validation import check_fpr_bounds, check_masks_and_maps, check_max_fpr
from . import _counts
from ._counts import Counts
from ._pixels import missing_pixels, warn_undefined
from ._rank_sketch import RankSketch, ranked, together
from ._regions import shares_of_regions

_PIXEL, _REGION, _IMAGE = range(3)  # columns of defective pixels' weights
_ONE = np.ones(1)


class MapMetrics:
    r"""Pixel metrics of any number of images, in constant memory.

    Feed it masks and maps as they come; each result is that of the function of
    the same name, to within a bound. Up to `capacity` pixels nothing is lost and the
    results are exact. Beyond, pixels of similar value are taken together, and
    `error_bounds` says how far each result can be off for the very data seen. With
    the default capacity and images of one size it is below 1e-4, whatever the data,
    up to :math:`10^9` pixels for `pixel_roc_auc_score` and, at a `max_fpr` of at
    least 0.3, `aupro_score`. Average precision, F1 and AUPIMO depend on the few
    highest normal pixels, which are kept as they are, and on the share of defective
    ones, so no bound holds for all data: read theirs, and raise `capacity` if it is
    too large.

    States merge: parts of a data set may be seen by several objects, in other
    processes or on other machines (they pickle), in any order. Where something was
    summarised, the result of the parts and that of the whole are each within their
    bound, not equal to the last digit.

    Parameters
    ----------
    capacity : int, default=2**19
        Normal pixels that are kept as they are; of defective ones twice as many.
        Memory is bounded by up to 8 times that many values for each fourfold of
        pixels (16, of 4 numbers each, for the defective), so it hardly grows with the
        number of images.

    Attributes
    ----------
    n_images_, n_normal_images_, n_regions_ : int
        What was seen so far.

    See Also
    --------
    pixel_roc_auc_score, pixel_average_precision_score, pixel_f1_max_score
    aupro_score, pro_curve, aupimo_score : The same from all pixels at once, exact.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import MapMetrics, aupro_score
    >>> rng = np.random.default_rng(0)
    >>> masks = np.zeros((4, 32, 32), bool)
    >>> masks[2:, 10:15, 8:20] = True
    >>> maps = masks + rng.normal(size=masks.shape)
    >>> first = MapMetrics().update(masks[:3], maps[:3])
    >>> second = MapMetrics().update(masks[3:], maps[3:])
    >>> found = first.merge(second).aupro_score()
    >>> bool(abs(found - aupro_score(masks, maps)) < 1e-12)
    True
    """

    def __init__(self, *, capacity=2**19):
        if not isinstance(capacity, Integral) or capacity < 64:
            raise ValueError(f"capacity must be an int of at least 64, got {capacity!r}")
        self.capacity = capacity
        self._good = RankSketch(2, capacity)  # pixels of normal images: 1, 1 / image's pixels
        self._rest = RankSketch(1, capacity)  # normal pixels of anomalous images: 1
        self._defective = RankSketch(3, 2 * capacity)  # 1, 1 / region's pixels, 1 / image's
        self.n_images_ = self.n_normal_images_ = self.n_regions_ = 0

    def update(self, masks, maps):
        """Take in images.

        Parameters
        ----------
        masks : array of bool, shape (n, H, W), or sequence of (H, W)
            True where the defect is; 0 and 1 are taken too.
        maps : array, shape (n, H, W), or sequence of (H, W)
            Higher = more anomalous. Each of its mask's shape.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If shapes do not match, masks are not binary or maps are not finite;
            nothing is taken in then.
        """
        for mask, anomaly_map in zip(*check_masks_and_maps(masks, maps)):
            self._update_one(mask, anomaly_map)
        return self

    def merge(self, other):
        """Take in what another object has seen.

        Parameters
        ----------
        other : MapMetrics
            Is left as it was.

        Returns
        -------
        self
        """
        if not isinstance(other, MapMetrics):
            raise TypeError(f"can merge MapMetrics only, got {type(other).__name__}")
        for name in ("_good", "_rest", "_defective"):
            getattr(self, name).merge(getattr(other, name))
        for name in ("n_images_", "n_normal_images_", "n_regions_"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def compute(self, *, max_fpr=0.3, fpr_bounds=(1e-5, 1e-4)):
        """All metrics by name.

        Parameters
        ----------
        max_fpr : float in (0, 1], default=0.3
            Of `aupro_score`.
        fpr_bounds : (float, float), default=(1e-5, 1e-4)
            Of `aupimo_score`.

        Returns
        -------
        dict of str to float
        """
        return {
            "pixel_roc_auc_score": self.pixel_roc_auc_score(),
            "pixel_average_precision_score": self.pixel_average_precision_score(),
            "pixel_f1_max_score": self.pixel_f1_max_score(),
            "aupro_score": self.aupro_score(max_fpr=max_fpr),
            "aupimo_score": self.aupimo_score(fpr_bounds=fpr_bounds),
        }

    def pixel_roc_auc_score(self):
        """See :func:`pixel_roc_auc_score`."""
        counts = self._count(_PIXEL, "pixel_roc_auc_score")
        return np.nan if counts is None else float(_counts.roc_auc(counts))

    def pixel_average_precision_score(self):
        """See :func:`pixel_average_precision_score`."""
        counts = self._count(_PIXEL, "pixel_average_precision_score")
        return np.nan if counts is None else float(_counts.average_precision(counts))

    def pixel_f1_max_score(self):
        """See :func:`pixel_f1_max_score`."""
        counts = self._count(_PIXEL, "pixel_f1_max_score")
        return np.nan if counts is None else float(_counts.f1_max(counts))

    def aupro_score(self, *, max_fpr=0.3):
        """See :func:`aupro_score`."""
        check_max_fpr(max_fpr)
        counts = self._count(_REGION, "aupro_score")
        return np.nan if counts is None else float(_counts.area_under_pro(counts, max_fpr))

    def pro_curve(self):
        """See :func:`pro_curve`."""
        counts = self._count(_REGION, "pro_curve")
        if counts is None:
            return tuple(np.full(1, np.nan) for _ in range(3))
        return _counts.pro_curve(counts, *self._normals())

    def aupimo_score(self, *, fpr_bounds=(1e-5, 1e-4)):
        """See :func:`aupimo_score`; the mean over images."""
        check_fpr_bounds(fpr_bounds)
        missing = self._missing_images()
        if missing:
            warn_undefined("aupimo_score", missing)
            return np.nan
        normals, defective = ranked(self._good.pieces, 1), self._ranked_defective(_IMAGE)
        weight = sum(normal.at_least(defective.values) for normal in normals)
        of_images = _counts.pimo(weight / self.n_normal_images_, fpr_bounds)
        return float((of_images * defective.weights).sum() / defective.total)

    def error_bounds(self, *, max_fpr=0.3, fpr_bounds=(1e-5, 1e-4)):
        """How far each metric can be from its exact value, for the data seen.

        Parameters
        ----------
        max_fpr, fpr_bounds
            As of `compute`.

        Returns
        -------
        dict of str to float
            Upper bounds of the absolute error, 0 where nothing was summarised.
            NaN for what is not defined.
        """
        check_max_fpr(max_fpr)
        check_fpr_bounds(fpr_bounds)
        return {
            **self._pixel_bounds(max_fpr),
            "aupimo_score": self._aupimo_bound(fpr_bounds),
        }

    def _update_one(self, mask, anomaly_map):
        self.n_images_ += 1
        if not mask.any():
            self.n_normal_images_ += 1
            self._good.add(anomaly_map.flatten(), np.array([1, 1 / anomaly_map.size]))
            return
        self._rest.add(anomaly_map[~mask], _ONE)
        defective = anomaly_map[mask]
        shares, n_regions = shares_of_regions(mask)
        self.n_regions_ += n_regions
        ones = np.ones(len(defective))
        self._defective.add(defective, np.stack([ones, shares, ones / len(defective)], axis=1))

    def _ranked_defective(self, column):
        return together(ranked(self._defective.pieces, column))

    def _normals(self):
        return ranked(self._good.pieces + self._rest.pieces)

    def _count(self, column, metric):
        defective, normals = self._ranked_defective(column), self._normals()
        missing = missing_pixels(defective, *normals)
        if missing:
            warn_undefined(metric, missing, stacklevel=4)
            return None
        return Counts.of(defective, *normals)

    def _missing_images(self):
        if self.n_normal_images_ == self.n_images_:
            return "anomalous images"
        return None if self.n_normal_images_ else "normal images"

    def _pixel_bounds(self, max_fpr):
        defective, normals = self._ranked_defective(_PIXEL), self._normals()
        n_normal = sum(normal.total for normal in normals)
        names = ("pixel_roc_auc_score", "pixel_average_precision_score", "pixel_f1_max_score")
        if not n_normal or not len(defective.values):
            return dict.fromkeys((*names, "aupro_score"), np.nan)
        error_of_fpr = (self._good.error[0] + self._rest.error[0]) / n_normal
        error = self._defective.error
        counts = Counts.of(defective, *normals)
        bounds = (
            error_of_fpr + error[_PIXEL] / counts.n_defective,
            *self._precision_bounds(counts),
        )
        return {
            **dict(zip(names, map(float, bounds))),
            "aupro_score": float(error_of_fpr / max_fpr + error[_REGION] / self.n_regions_),
        }

    def _precision_bounds(self, counts):
        """Bounds of average precision and of the highest F1.

        Both depend on TP(v) and FP(v) at v, the value of the r-th highest defective
        pixel. Among the values of the sketch, v lies between the highest at which at
        least r pixels are certain, and the lowest at which fewer than r are.
        """
        if not any(sketch.error.any() for sketch in (self._good, self._rest, self._defective)):
            return 0, 0
        v = counts.thresholds[::-1]
        tp, fp, positives = (
            x[::-1].astype(float) for x in (counts.tp, counts.fp, counts.positives)
        )
        tp_error = self._defective.error_at(v)[:, _PIXEL]
        fp_error = (self._good.error_at(v) + self._rest.error_at(v))[:, 0]
        before = tp - positives
        is_exact = tp_error == 0  # then v is the very threshold, for each of its pixels
        certain = np.searchsorted(np.maximum.accumulate(tp - tp_error), tp)
        fewer = np.searchsorted(tp + tp_error, before, side="right")
        fewer = np.where(is_exact, np.arange(len(v)) + 1, fewer)
        lowest_start = np.where(is_exact, tp, before)
        most_fp = np.append(np.minimum(fp + fp_error, counts.n_normal), counts.n_normal)[certain]
        most_tp = np.append(np.minimum(tp + tp_error, counts.n_defective), counts.n_defective)[
            certain
        ]
        least_fp = np.append(0, np.maximum(fp - fp_error, 0))[fewer]

        def precision(tp, fp):
            return tp / np.maximum(tp + fp, 1)

        lower = (precision(lowest_start, most_fp) + precision(tp, most_fp)) / 2
        upper = precision(most_tp, least_fp)
        low, high = (positives @ p / counts.n_defective for p in (lower, upper))
        average = _counts.average_precision(counts)
        f1_low = np.max(2 * tp / (tp + most_fp + counts.n_defective))
        f1_high = np.max(2 * most_tp / (most_tp + least_fp + counts.n_defective))
        f1 = _counts.f1_max(counts)
        return max(high - average, average - low, 0), max(f1_high - f1, f1 - f1_low, 0)

    def _aupimo_bound(self, fpr_bounds):
        if self._missing_images():
            return np.nan
        normals, defective = ranked(self._good.pieces, 1), self._ranked_defective(_IMAGE)
        weight = sum(normal.at_least(defective.values) for normal in normals)
        error = self._good.error_at(defective.values)[:, 1]
        least, most = (
            _counts.pimo(w / self.n_normal_images_, fpr_bounds)
            for w in (weight + error, np.maximum(weight - error, 0))
        )
        n_anomalous = self.n_images_ - self.n_normal_images_
        error_of_recall = self._defective.error[_IMAGE] / n_anomalous
        return float((defective.weights * (most - least)).sum() / defective.total + error_of_recall)
