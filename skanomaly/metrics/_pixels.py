"""Metrics on pixel maps, exact, over all pixels of all images."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning

from .._validation import check_fpr_bounds, check_masks_and_maps, check_max_fpr
from ..images import Regions
from . import _counts
from ._counts import Counts, Ranked
from ._regions import shares_of_regions


def pixel_roc_auc_score(masks, maps, *, roi=None):
    r"""Area under the ROC curve over all pixels of all images.

    It is the share of pairs of a defective pixel d and a normal pixel n in which
    the defective one is higher, ties counting half,

    .. math:: \frac{1}{|D| |N|} \sum_{d \in D} \sum_{n \in N}
              \mathbb 1[f_d > f_n] + \tfrac12 \mathbb 1[f_d = f_n].

    Parameters
    ----------
    masks : array of bool, shape (n, H, W), or sequence of (H, W)
        True where the defect is; 0 and 1 are taken too.
    maps : array, shape (n, H, W), or sequence of (H, W)
        Higher = more anomalous. Each of its mask's shape; images may differ in
        size.
    roi : array of bool, sequence of such, or None, default=None
        Region of interest: pixels outside are not counted. (H, W) for all images or
        one such array for each; None is the whole image.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    Raises
    ------
    ValueError
        If shapes do not match, masks are not binary or maps are not finite.

    References
    ----------
    J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver
    operating characteristic (ROC) curve", Radiology 143, 1982.

    Examples
    --------
    >>> from skanomaly.metrics import pixel_roc_auc_score
    >>> masks = [[[False, True], [False, False]]]
    >>> maps = [[[0.1, 0.8], [0.9, 0.2]]]
    >>> round(pixel_roc_auc_score(masks, maps), 3)
    0.667
    """
    counts = _count(masks, maps, "pixel_roc_auc_score", roi=roi)
    return np.nan if counts is None else float(_counts.roc_auc(counts))


def pixel_average_precision_score(masks, maps, *, roi=None):
    r"""Average precision (AUPRC) over all pixels of all images.

    .. math:: \frac{1}{|D|} \sum_{d \in D} \mathrm{Precision}(f_d),

    the mean over defective pixels d of the precision at the threshold
    :math:`f_d`; a step function, without interpolation.

    Parameters
    ----------
    masks, maps, roi
        As for `pixel_roc_auc_score`.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    Raises
    ------
    ValueError
        As `pixel_roc_auc_score`.

    References
    ----------
    J. Davis, M. Goadrich, "The relationship between Precision-Recall and ROC
    curves", ICML 2006.
    """
    counts = _count(masks, maps, "pixel_average_precision_score", roi=roi)
    return np.nan if counts is None else float(_counts.average_precision(counts))


def pixel_f1_max_score(masks, maps, *, roi=None):
    r"""Highest F1 score that any one threshold reaches over all pixels.

    .. math:: \max_t \frac{2\,\mathrm{TP}(t)}
              {2\,\mathrm{TP}(t) + \mathrm{FP}(t) + \mathrm{FN}(t)}

    The threshold is chosen with knowledge of the masks, so this is what a map
    could do at best, not what a detector's own threshold does.

    Parameters
    ----------
    masks, maps, roi
        As for `pixel_roc_auc_score`.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    Raises
    ------
    ValueError
        As `pixel_roc_auc_score`.

    References
    ----------
    C. J. van Rijsbergen, "Information Retrieval", 2nd edition, 1979.
    """
    counts = _count(masks, maps, "pixel_f1_max_score", roi=roi)
    return np.nan if counts is None else float(_counts.f1_max(counts))


def aupro_score(masks, maps, *, max_fpr=0.3, roi=None):
    r"""Area under the per-region-overlap curve up to a false-positive rate.

    At a threshold t, the overlap is the share of a region's pixels whose map is
    at least t, averaged over all regions,

    .. math:: \mathrm{PRO}(t) = \frac1N \sum_{i=1}^N \frac{|P_t \cap R_i|}{|R_i|},

    where a region is an 8-connected component of one image's mask. The result
    is the area under PRO as a function of the false-positive rate over all
    normal pixels, up to `max_fpr`, divided by `max_fpr`; points are joined by
    straight lines.

    Parameters
    ----------
    masks, maps, roi
        As for `pixel_roc_auc_score`.
    max_fpr : float in (0, 1], default=0.3

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    Raises
    ------
    ValueError
        As `pixel_roc_auc_score`; also if `max_fpr` is out of its range.

    See Also
    --------
    pro_curve : The curve.

    References
    ----------
    P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec Anomaly
    Detection Dataset", International Journal of Computer Vision 129, 2021.
    """
    check_max_fpr(max_fpr)
    counts = _count(masks, maps, "aupro_score", by_region=True, roi=roi)
    return np.nan if counts is None else float(_counts.area_under_pro(counts, max_fpr))


def pro_curve(masks, maps, *, roi=None):
    """Per-region overlap against the false-positive rate.

    Parameters
    ----------
    masks, maps, roi
        As for `pixel_roc_auc_score`.

    Returns
    -------
    fpr : ndarray, shape (m,)
        Share of all normal pixels at or above each threshold, ascending from 0
        to 1.
    pro : ndarray, shape (m,)
        Mean over regions of the share of their pixels at or above each
        threshold, ascending from 0 to 1. Points that lie on the straight line
        between others are left out.
    thresholds : ndarray, shape (m,)
        Descending, the first infinite.
        All three hold one NaN, with an `UndefinedMetricWarning`, unless there
        are both defective and normal pixels.

    Raises
    ------
    ValueError
        As `pixel_roc_auc_score`.

    See Also
    --------
    aupro_score : The area under it, and the source.

    Examples
    --------
    >>> from skanomaly.metrics import pro_curve
    >>> fpr, pro, thresholds = pro_curve([[[True, False, False]]], [[[0.5, 0.9, 0.1]]])
    >>> fpr.tolist(), pro.tolist(), thresholds.tolist()
    ([0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0], [inf, 0.9, 0.5, 0.1])
    """
    pixels = ranked_pixels(masks, maps, by_region=True, roi=roi)
    missing = missing_pixels(pixels.defective, pixels.normal)
    if missing:
        warn_undefined("pro_curve", missing)
        return tuple(np.full(1, np.nan) for _ in range(3))
    return _counts.pro_curve(Counts.of(pixels.defective, pixels.normal), pixels.normal)


def aupimo_score(masks, maps, *, fpr_bounds=(1e-5, 1e-4), average=True, roi=None):
    r"""Area under the per-image overlap at very few false positives.

    Thresholds are set by normal images alone: :math:`F_\mathrm{sh}(t)` is the
    mean over them of the share of pixels at or above t. For each anomalous image
    i, the recall :math:`T_i` of its defective pixels :math:`D_i`, at the lowest
    threshold whose :math:`F_\mathrm{sh}` does not exceed z, is averaged over
    z between the bounds (L, U), on a logarithmic scale,

    .. math:: \mathrm{AUPIMO}_i = \frac{1}{\log(U/L)} \int_{\log L}^{\log U}
              T_i(z) \, d \log z
              = \frac{1}{|D_i|} \sum_{d \in D_i} \mathrm{clip}\Big(
              \frac{\log(U / F_\mathrm{sh}(f_d))}{\log(U/L)}, 0, 1\Big).

    The second form is exact, without thresholds to choose or to interpolate
    between.

    Parameters
    ----------
    masks, maps, roi
        As for `pixel_roc_auc_score`.
    fpr_bounds : (float, float), default=(1e-5, 1e-4)
        L and U, 0 < L < U <= 1. With fewer than 1 / L pixels in the normal
        images, the lower part is the recall at no false positive at all.
    average : bool, default=True
        Return the mean over anomalous images; if False, each image's own.

    Returns
    -------
    float, or ndarray of shape (n,)
        In [0, 1]; NaN for normal images. NaN throughout, with an
        `UndefinedMetricWarning`, unless there are both normal and anomalous
        images.

    Raises
    ------
    ValueError
        As `pixel_roc_auc_score`; also if the bounds are out of their range.

    References
    ----------
    J. P. C. Bertoldo, D. Ameln, A. Vaidya, S. Akcay, "AUPIMO: Redefining Visual
    Anomaly Detection Benchmarks with High Speed and Low Tolerance", BMVC 2024
    (arXiv:2401.01984).
    """
    check_fpr_bounds(fpr_bounds)
    masks, maps = check_masks_and_maps(masks, maps)
    masks, outside = masks_within(masks, roi)
    is_good = np.array([not mask.any() for mask in masks])
    scores = np.full(len(masks), np.nan)
    if is_good.all() or not is_good.any():
        warn_undefined("aupimo_score", "anomalous images" if is_good.all() else "normal images")
        return np.nan if average else scores
    good = [(maps[i], outside[i]) for i in np.flatnonzero(is_good)]
    normal = _of_normal_images([m.ravel() if o is None else m[~o] for m, o in good])
    for i in np.flatnonzero(~is_good):
        defective = np.sort(maps[i][masks[i]])
        shared_fpr = normal.at_least(defective) / normal.total
        scores[i] = _counts.pimo(shared_fpr, fpr_bounds).mean()
    return float(np.nanmean(scores)) if average else scores


def pixel_scores(masks, maps, *, max_fpr=0.3, fpr_bounds=(1e-5, 1e-4), roi=None):
    """All pixel metrics by the names of their scorers, sorting the pixels once.

    Undefined ones are NaN, without a warning.
    """
    pixels = ranked_pixels(masks, maps, by_region=True, roi=roi)
    if missing_pixels(pixels.defective, pixels.normal):
        scores = dict.fromkeys(PIXEL_SCORES, np.nan)
    else:
        by_region = Counts.of(pixels.defective, pixels.normal)
        _, positives = Ranked(pixels.defective.values).grouped()
        counts = by_region._replace(positives=positives, n_defective=positives.sum())
        scores = {
            "pixel_roc_auc": float(_counts.roc_auc(counts)),
            "pixel_average_precision": float(_counts.average_precision(counts)),
            "pixel_f1_max": float(_counts.f1_max(counts)),
            "aupro": float(_counts.area_under_pro(by_region, max_fpr)),
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        scores["aupimo"] = aupimo_score(masks, maps, fpr_bounds=fpr_bounds, roi=roi)
    return scores


PIXEL_SCORES = ("pixel_roc_auc", "pixel_average_precision", "pixel_f1_max", "aupro", "aupimo")


def _of_normal_images(maps):
    """All pixels of maps (m,); an image's weigh as much together as another image's."""
    values = np.concatenate(maps)
    sizes = np.array([m.size for m in maps])
    if np.all(sizes == sizes[0]):
        values.sort()
        return Ranked(values)
    order = np.argsort(values)
    return Ranked(values[order], np.repeat(1 / sizes, sizes)[order])


class _Pixels(NamedTuple):
    normal: Ranked
    defective: Ranked


def _count(masks, maps, metric, by_region=False, roi=None):
    pixels = ranked_pixels(masks, maps, by_region, roi)
    missing = missing_pixels(pixels.defective, pixels.normal)
    if missing:
        warn_undefined(metric, missing, stacklevel=4)
        return None
    return Counts.of(pixels.defective, pixels.normal)


def ranked_pixels(masks, maps, by_region=False, roi=None):
    """Normal and defective pixels, sorted; a region's pixels weigh 1 together if asked."""
    masks, maps = check_masks_and_maps(masks, maps)
    masks, outside = masks_within(masks, roi)
    n_defective = [np.count_nonzero(mask) for mask in masks]
    sizes = [m.size if o is None else np.count_nonzero(~o) for m, o in zip(masks, outside)]
    n_normal = sum(sizes) - sum(n_defective)
    normal = np.empty(n_normal, np.result_type(*{m.dtype for m in maps}))
    stop = 0
    for mask, o, anomaly_map, size, n in zip(masks, outside, maps, sizes, n_defective):
        start, stop = stop, stop + size - n
        others = mask if o is None else mask | o
        normal[start:stop] = anomaly_map[~others] if others.any() else anomaly_map.ravel()
    normal.sort()
    defective = [(m, mask) for m, mask, n in zip(maps, masks, n_defective) if n]
    values = np.concatenate([m[mask] for m, mask in defective] or [normal[:0]])
    if not by_region:
        values.sort()
        return _Pixels(Ranked(normal), Ranked(values))
    weights = np.concatenate([shares_of_regions(mask)[0] for _, mask in defective] or [[]])
    order = np.argsort(values)
    return _Pixels(Ranked(normal), Ranked(values[order], weights[order]))


def masks_within(masks, roi):
    """Masks of the regions of interest only, and which pixels are outside, None if none are."""
    regions = Regions(roi, len(masks))
    inside = [regions.of(i, mask.shape) for i, mask in enumerate(masks)]
    masks = [mask if r is None else mask & r for mask, r in zip(masks, inside)]
    return masks, [None if r is None else ~r for r in inside]


def missing_pixels(defective, *normals):
    """The kind of pixels there are none of, in words; None if there are both."""
    if not len(defective.values):
        return "defective pixels"
    return None if any(len(normal.values) for normal in normals) else "normal pixels"


def warn_undefined(metric, missing, stacklevel=3):
    """Say that a metric is NaN, by default of the public function that calls this."""
    message = f"{metric} is not defined without {missing}"
    warnings.warn(message, UndefinedMetricWarning, stacklevel=stacklevel)
