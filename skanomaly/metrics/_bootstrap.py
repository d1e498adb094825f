"""How much scores would vary with other images of the same kinds.

Images are drawn anew, with replacement, within each stratum. Sorting all pixels for each
of a thousand draws would take hours, so pixels are put into a few hundred bins once, an image
a row; a draw is then a weighted sum of rows. The bins cost a score up to 2e-3, so only its
spread about the value in bins is taken from them, never the value itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _counts
from ._counts import Counts
from ._regions import label_regions, shares_of_regions

_N_BINS = 256  # of each kind: by defective pixels, by normal ones, by the highest normal ones


def draw_weights(strata, n_resamples, rng):
    """How often each image is drawn, (n_resamples, n); the first row is the images as they are."""
    weights = np.empty((n_resamples + 1, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        share = np.full(len(members), 1 / len(members))
        weights[1:, members] = rng.multinomial(len(members), share, size=n_resamples)
    weights[0] = 1
    return weights


class Histograms(NamedTuple):
    """Per image and bin, bins ascending: (n, b)."""

    normal: np.ndarray  #: normal pixels
    defective: np.ndarray  #: defective pixels
    region: np.ndarray  #: the same, each as its share of its region
    image: np.ndarray  #: the same, each as its share of its image's defects
    good: np.ndarray  #: pixels of normal images, each as its share of its image
    edges: np.ndarray  #: (b - 1,) what separates the bins

    @classmethod
    def of_maps(cls, masks, maps, outside=None):
        """Of the pixels of masks and maps, lists of (H, W), less those outside a region."""
        outside = [None] * len(masks) if outside is None else outside
        edges = _edges(masks, maps, outside)
        n_bins = len(edges) + 1
        found = np.zeros((5, len(masks), n_bins))
        for i, (mask, anomaly_map, o) in enumerate(zip(masks, maps, outside)):
            counted = np.ones(mask.shape, bool) if o is None else ~o
            bins = np.searchsorted(edges, anomaly_map[counted], side="right")
            is_defective = mask[counted]
            found[0, i] = np.bincount(bins[~is_defective], minlength=n_bins)
            if not is_defective.any():
                found[4, i] = found[0, i] / len(bins)
                continue
            defective = bins[is_defective]
            found[1, i] = np.bincount(defective, minlength=n_bins)
            found[2, i] = np.bincount(defective, shares_of_regions(mask)[0], minlength=n_bins)
            found[3, i] = found[1, i] / len(defective)
        return cls(*found, edges)

    @classmethod
    def of_scores(cls, labels, scores):
        """Of images, each taken as one pixel."""
        anomaly = -np.asarray(scores)
        edges = np.unique(np.quantile(anomaly, np.linspace(0, 1, 4 * _N_BINS), method="lower"))
        one_hot = np.searchsorted(edges, anomaly, side="right")[:, np.newaxis] == np.arange(
            len(edges) + 1
        )
        normal, defective = (one_hot * (labels == label)[:, np.newaxis] for label in (1, -1))
        return cls(normal, defective, defective, defective, normal, edges)


def _edges(masks, maps, outside):
    defective = np.concatenate([m[mask] for mask, m in zip(masks, maps)])
    others = [mask if o is None else mask | o for mask, o in zip(masks, outside)]
    normal = np.sort(np.concatenate([m[~other] for other, m in zip(others, maps)]))
    shares = np.linspace(0, 1, _N_BINS)
    from_top = np.geomspace(1, max(len(normal), 1), _N_BINS).astype(int)
    return np.unique(
        np.concatenate(
            [
                np.quantile(defective, shares) if len(defective) else [],
                normal[(shares * (len(normal) - 1)).astype(int)] if len(normal) else [],
                normal[len(normal) - from_top] if len(normal) else [],
            ]
        )
    )


def scores_of_draws(histograms, weights, max_fpr, fpr_bounds):
    """Each pixel metric in each draw, by the name of its scorer: (n_draws,)."""
    normal, defective, region = (weights @ h for h in histograms[:3])
    counts = _stack(normal, defective)
    with np.errstate(invalid="ignore", divide="ignore"):
        fpr = _above(weights @ histograms.good)
        recall = weights @ histograms.image
        pimo = _counts.pimo(fpr / fpr[:, :1], fpr_bounds)
        return {
            "pixel_roc_auc": _counts.roc_auc(counts),
            "pixel_average_precision": _counts.average_precision(counts),
            "pixel_f1_max": _counts.f1_max(counts),
            "aupro": _counts.area_under_pro(_stack(normal, region), max_fpr),
            "aupimo": (recall * pimo).sum(axis=1) / recall.sum(axis=1),
        }


def aupro_of_draws(histograms, is_chosen, masks, maps, weights, max_fpr):
    """AUPRO of some of the regions, counted over all masks in order, in each draw."""
    region = np.zeros_like(histograms.region)
    stop = 0
    for i in np.flatnonzero([mask.any() for mask in masks]):
        labels, n_regions = label_regions(masks[i])
        start, stop = stop, stop + n_regions
        shares = (is_chosen[start:stop] / np.bincount(labels))[labels]
        bins = np.searchsorted(histograms.edges, maps[i][masks[i]], side="right")
        region[i] = np.bincount(bins, shares, minlength=region.shape[1])
    counts = _stack(weights @ histograms.normal, weights @ region)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _counts.area_under_pro(counts, max_fpr)


def image_scores_of_draws(histograms, weights):
    """Each image metric in each draw, by the name of its scorer: (n_draws,)."""
    counts = _stack(weights @ histograms.normal, weights @ histograms.defective)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "image_roc_auc": _counts.roc_auc(counts),
            "image_average_precision": _counts.average_precision(counts),
            "image_f1_max": _counts.f1_max(counts),
            "false_alarm_rate_at_detection_rate": _counts.false_alarm_rate(counts, 0.95),
            "detection_rate_at_false_alarm_rate": _counts.detection_rate(counts, 0.01),
        }


def interval(value, draws, confidence_level):
    """Bounds around a value, from the spread of draws about the first, in [0, 1].

    NaN where hardly a draw differs, as for a perfect score: such a sample does not tell
    how far from perfect other images are.
    """
    if np.isnan(value) or np.isnan(draws[0]):
        return np.nan, np.nan
    tail = (1 - confidence_level) / 2
    low, high = np.nanquantile(draws[1:] - draws[0], [tail, 1 - tail])
    if high - low < 1e-12:
        return np.nan, np.nan
    return float(np.clip(value + low, 0, 1)), float(np.clip(value + high, 0, 1))


def _stack(normal, positives):
    fp = _above(normal)
    return Counts(
        thresholds=None,
        positives=positives,
        fp=fp,
        fp_above=fp - normal,
        n_normal=fp[:, :1],
        n_defective=positives.sum(axis=1, keepdims=True),
    )


def _above(histogram):
    return np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1]
