"""Scorers, ``scorer(estimator, X, y)``, for scikit-learn's searches and cross-validation."""

from __future__ import annotations

import copy
import warnings

import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils.metadata_routing import UNCHANGED, MetadataRequest

from .._sklearn import safe_indexing
from .._unwrap import detect, has_products, unwrap
from .._validation import are_masks, check_are_masks, image_labels, product_names
from ..images import Regions
from ._image_scores import (
    detection_rate_at_false_alarm_rate,
    false_alarm_rate_at_detection_rate,
    image_f1_max_score,
)
from ._pixels import (
    aupimo_score,
    aupro_score,
    masks_within,
    pixel_average_precision_score,
    pixel_f1_max_score,
    pixel_roc_auc_score,
    pixel_scores,
    warn_undefined,
)


def make_map_scorer(metric, *, greater_is_better=True, **parameters):
    """Make a scorer from a metric on maps.

    Parameters
    ----------
    metric : callable
        ``metric(masks, maps, **parameters)``, such as `aupro_score`.
    greater_is_better : bool, default=True
        If False, the scorer returns minus the metric.
    **parameters
        Further arguments of `metric`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``, which returns a float: `X` are images as the
        estimator's `transform` takes them, `y` their masks.

    Examples
    --------
    >>> from skanomaly.metrics import aupro_score, make_map_scorer
    >>> make_map_scorer(aupro_score, max_fpr=0.05)
    make_map_scorer(aupro_score, max_fpr=0.05)
    """
    if not callable(metric):
        raise ValueError(f"metric is {metric!r}, expected a function of masks and maps")
    return _MapScorer(metric, greater_is_better, parameters)


class _Scorer:
    """Base of the scorers: which take regions and products, if scikit-learn routes such to them."""

    _roi_request, _product_request = None, True

    def set_score_request(self, *, roi=UNCHANGED, product=UNCHANGED):
        """Have metadata routing hand regions of interest, or products, to the scorer.

        Parameters
        ----------
        roi : bool, str or None, default=UNCHANGED
            True if they are passed as ``roi``, or the name that they are passed under.
        product : bool, str or None, default=UNCHANGED
            The same of each image's product; a scorer asks for ``product`` by default.

        Returns
        -------
        scorer
            A copy.
        """
        scorer = copy.copy(self)
        scorer._roi_request = self._roi_request if roi is UNCHANGED else roi
        scorer._product_request = self._product_request if product is UNCHANGED else product
        return scorer

    def get_metadata_routing(self):
        """What the scorer asks scikit-learn's metadata routing for."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="roi", alias=self._roi_request)
        request.score.add_request(param="product", alias=self._product_request)
        return request

    def __call__(self, estimator, X, y, roi=None, product=None):
        """Score an estimator's results on X against y.

        Parameters
        ----------
        estimator : fitted detector, or Pipeline that ends in one
        X : batch of images
        y : masks or, unless the score is of maps, labels, +1 normal and -1 anomalous
        roi : array of bool, sequence of such, or None, default=None
            Region of interest, as for the detector.
        product : array-like of str or int, shape (n,), or one str or int, or None, default=None
            The product of each image, as for a `MultiProductDetector`. The score is then the
            mean of those of each product, whatever the detector, as maps and scores of
            different products are not to be pooled.

        Returns
        -------
        float or dict of str to float
            NaN, with an `UndefinedMetricWarning`, for what is not defined, also of one product.
        """
        if product is None:
            return self._score(estimator, X, y, **_within(roi))
        names = np.array(product_names(product, len(X)), dtype=object)
        image_labels(y, len(names))
        of_each = has_products(estimator)
        detector, X = unwrap(estimator, X)
        regions, scores = Regions(roi, len(names)), []
        for name in dict.fromkeys(names):
            at = np.flatnonzero(names == name)
            routed = _within(regions.roi if regions.shared else _chosen(regions.roi, at))
            if of_each:
                routed["product"] = list(names[at])
            scores.append(self._score(detector, safe_indexing(X, at), _chosen(y, at), **routed))
        if isinstance(scores[0], dict):
            return {metric: float(np.mean([s[metric] for s in scores])) for metric in scores[0]}
        return float(np.mean(scores))


def _within(roi):
    """Arguments that hand a region of interest on, if there is one."""
    return {} if roi is None else {"roi": roi}


def _chosen(values, at):
    """Those at some places of a sequence, or None."""
    return None if values is None else [values[i] for i in at]


def _labels_within(y, roi):
    """Labels of images; where masks are given, by what they mark within the region."""
    if are_masks(y) and roi is not None:
        y, _ = masks_within([np.asarray(mask, bool) for mask in y], roi)
    return image_labels(y)


class _MapScorer(_Scorer):
    """Score a detector's maps: ``scorer(estimator, X, masks)``, higher is better."""

    def __init__(self, metric, greater_is_better, parameters):
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.parameters = parameters

    def _score(self, estimator, X, y, roi=None, **routed):
        check_are_masks(y, len(X), self.metric.__name__)
        maps = estimator.transform(X, **_within(roi), **routed)
        score = self.metric(y, maps, **self.parameters, **_within(roi))
        return score if self.greater_is_better else -score

    def __repr__(self):
        sign = "" if self.greater_is_better else ", greater_is_better=False"
        parameters = "".join(f", {name}={value!r}" for name, value in self.parameters.items())
        return f"make_map_scorer({self.metric.__name__}{sign}{parameters})"


class _ImageScorer(_Scorer):
    """Score a detector's scores of images: ``scorer(estimator, X, y)``, higher is better.

    `y` is labels, +1 normal and -1 anomalous, or masks.
    """

    def __init__(self, metric, name):
        self.metric = metric
        self.name = name

    def _score(self, estimator, X, y, roi=None, **routed):
        image_labels(y, len(X))
        labels = _labels_within(y, roi)
        scores = estimator.score_samples(X, **_within(roi), **routed)
        return _image_score(self.metric, labels, scores, self.name)

    def __repr__(self):
        return self.name


def _image_score(metric, labels, scores, name):
    for label, kind in ((1, "normal"), (-1, "anomalous")):
        if not np.any(labels == label):
            warn_undefined(name, f"{kind} images", stacklevel=4)
            return np.nan
    return float(metric(labels, scores))


def _average_precision(labels, scores):
    return average_precision_score(labels == -1, -np.asarray(scores))


_IMAGE_METRICS = {
    "image_roc_auc": roc_auc_score,
    "image_average_precision": _average_precision,
    "image_f1_max": image_f1_max_score,
}


def image_scores(labels, scores):
    """All image metrics by name; NaN, without a warning, if undefined."""
    metrics = _IMAGE_METRICS | {
        "false_alarm_rate_at_detection_rate": false_alarm_rate_at_detection_rate,
        "detection_rate_at_false_alarm_rate": detection_rate_at_false_alarm_rate,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return {
            name: _image_score(metric, labels, scores, name) for name, metric in metrics.items()
        }


class _AllMetrics(_Scorer):
    """Every metric from one pass over X, as a dict: the scorer for multi-metric searches.

    Those of maps only where y holds masks. Higher is better, so the false-alarm rate is negative,
    as ``neg_false_alarm_rate_at_detection_rate``.
    """

    def _score(self, estimator, X, y, roi=None, **routed):
        image_labels(y, len(X))
        labels = _labels_within(y, roi)
        found = detect(estimator, X, with_maps=are_masks(y), **_within(roi), **routed)
        scores = image_scores(labels, found.scores)
        lower_is_better = "false_alarm_rate_at_detection_rate"
        scores[f"neg_{lower_is_better}"] = -scores.pop(lower_is_better)
        if are_masks(y):
            scores |= pixel_scores(y, found.maps, roi=roi)
        undefined = [name for name, score in scores.items() if np.isnan(score)]
        if undefined:
            kind = "anomalous" if np.all(labels == 1) else "normal"
            warn_undefined(", ".join(undefined), f"{kind} images or pixels")
        return scores

    def __repr__(self):
        return "all_metrics"


image_roc_auc, image_average_precision, image_f1_max = (
    _ImageScorer(metric, name) for name, metric in _IMAGE_METRICS.items()
)
pixel_roc_auc, pixel_average_precision, pixel_f1_max, aupro, aupimo = (
    make_map_scorer(metric)
    for metric in (
        pixel_roc_auc_score,
        pixel_average_precision_score,
        pixel_f1_max_score,
        aupro_score,
        aupimo_score,
    )
)
all_metrics = _AllMetrics()
