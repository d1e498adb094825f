"""Metrics on pixel maps, exact, over all pixels of all images."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import ndimage
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score

_EIGHT_CONNECTED = np.ones((3, 3), bool)


def pixel_roc_auc_score(masks, maps):
    """Area under the ROC curve over all pixels of all images.

    Parameters
    ----------
    masks : array of bool, shape (n, H, W), or sequence of (H, W)
        True where the defect is; 0 and 1 are taken too.
    maps : array, shape (n, H, W), or sequence of (H, W)
        Higher = more anomalous. Each of its mask's shape.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    Raises
    ------
    ValueError
        If shapes do not match, masks are not binary or maps are not finite.
    """
    y_true, y_score = _pixels(*_check(masks, maps))
    if not _is_defined(y_true, "pixel_roc_auc_score"):
        return np.nan
    return float(roc_auc_score(y_true, y_score))


def pixel_average_precision_score(masks, maps):
    """Average precision (AUPRC) over all pixels of all images.

    Parameters
    ----------
    masks, maps
        As for `pixel_roc_auc_score`.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.
    """
    y_true, y_score = _pixels(*_check(masks, maps))
    if not _is_defined(y_true, "pixel_average_precision_score"):
        return np.nan
    return float(average_precision_score(y_true, y_score))


def aupro_score(masks, maps, *, max_fpr=0.3):
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
    masks, maps
        As for `pixel_roc_auc_score`.
    max_fpr : float in (0, 1], default=0.3

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        defective and normal pixels.

    References
    ----------
    P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec Anomaly
    Detection Dataset", International Journal of Computer Vision 129, 2021.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], got {max_fpr}")
    masks, maps = _check(masks, maps)
    y_true, y_score = _pixels(masks, maps)
    if not _is_defined(y_true, "aupro_score"):
        return np.nan
    overlap = np.concatenate([_share_of_region(mask).ravel() for mask in masks])
    n_regions = overlap.sum()  # the shares of a region sum to 1

    order = np.argsort(y_score)[::-1]
    descending = y_score[order]
    last_of_tie = np.append(descending[1:] != descending[:-1], True)
    fpr = np.cumsum(~y_true[order])[last_of_tie] / np.count_nonzero(~y_true)
    pro = np.cumsum(overlap[order])[last_of_tie] / n_regions
    fpr, pro = np.append(0.0, fpr), np.append(0.0, pro)

    stop = np.searchsorted(fpr, max_fpr, side="right")
    pro_at_max = np.interp(max_fpr, fpr, pro)
    fpr, pro = np.append(fpr[:stop], max_fpr), np.append(pro[:stop], pro_at_max)
    return float(np.clip(np.trapezoid(pro, fpr) / max_fpr, 0, 1))


def _share_of_region(mask):
    """For each pixel of a region 1 / the region's size, 0 elsewhere."""
    labels, _ = ndimage.label(mask, structure=_EIGHT_CONNECTED)
    sizes = np.bincount(labels.ravel())
    return np.where(mask, 1 / np.maximum(sizes, 1)[labels], 0.0)


def _check(masks, maps):
    if len(masks) != len(maps):
        raise ValueError(f"there are {len(masks)} masks and {len(maps)} maps, expected as many")
    if len(masks) == 0:
        raise ValueError("there are no masks and maps, expected at least one")
    pairs = [_check_pair(i, *pair) for i, pair in enumerate(zip(masks, maps))]
    return zip(*pairs)


def _check_pair(i, mask, anomaly_map):
    mask, anomaly_map = np.asarray(mask), np.asarray(anomaly_map)
    if mask.ndim != 2 or mask.shape != anomaly_map.shape:
        raise ValueError(
            f"mask {i} has shape {mask.shape} and map {i} {anomaly_map.shape}, "
            "expected the same (H, W)"
        )
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"mask {i} holds other values than 0 and 1; pass mask > 0")
        mask = mask.astype(bool)
    if not np.isfinite(anomaly_map).all():
        raise ValueError(f"map {i} holds NaN or infinity, expected finite numbers")
    return mask, anomaly_map


def _pixels(masks, maps):
    return (np.concatenate([image.ravel() for image in images]) for images in (masks, maps))


def _is_defined(y_true, metric):
    if y_true.any() and not y_true.all():
        return True
    missing = "normal" if y_true.any() else "defective"
    message = f"{metric} is not defined without {missing} pixels"
    warnings.warn(message, UndefinedMetricWarning, stacklevel=3)
    return False
