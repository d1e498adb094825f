"""Everything about a detector's results on a test set, from one pass over it."""

from __future__ import annotations

from functools import cached_property
from numbers import Integral

import numpy as np
from scipy.stats import binomtest
from sklearn.utils import check_random_state

from .._unwrap import detect, has_products, unwrap
from .._validation import (
    check_fpr_bounds,
    check_masks_and_maps,
    check_max_fpr,
    image_labels,
    product_names,
)
from ..images import Regions
from ._bootstrap import (
    Histograms,
    aupro_of_draws,
    draw_weights,
    image_scores_of_draws,
    interval,
    scores_of_draws,
)
from ._defects import Contrasts, describe_defects
from ._pixels import masks_within, pixel_scores
from ._report import Estimate, EvaluationReport, Row
from ._scorers import image_scores

_SIZES = ("small", "medium", "large")
_CONTRASTS = ("low", "medium", "high")


def evaluate(
    detector,
    X,
    masks=None,
    *,
    y=None,
    defect_types=None,
    roi=None,
    product=None,
    max_fpr=0.3,
    fpr_bounds=(1e-5, 1e-4),
    confidence_level=0.95,
    n_resamples=1000,
    random_state=None,
):
    """Evaluate a fitted detector on a test set, in one pass over the images.

    Each file is read once.

    Parameters
    ----------
    detector : fitted detector, OnnxDetector, MultiProductDetector, or a Pipeline or search \
            around one
    X : batch of images, length n
    masks : array of bool, shape (n, H, W), or sequence of (H, W), or None, default=None
        True where the defect is; for metrics of maps.
    y : array-like, shape (n,), or None, default=None
        +1 normal, -1 anomalous; None takes images as anomalous whose mask marks
        any pixel.
    defect_types : array-like of str, shape (n,), or None, default=None
        The kind of defect of each anomalous image; what stands at normal images is
        ignored. Adds a row for each kind, of its images and all normal ones.
    roi : array of bool, sequence of such, or None, default=None
        Region of interest, as for the detector, which gets it: pixels outside are not
        counted, and an image whose mask marks pixels outside only is normal.
    product : array-like of str or int, shape (n,), or one str or int, or None, default=None
        The product of each image, which a `MultiProductDetector` needs; of any detector the
        results are then found for each product apart, a row each and one for each of its
        defect types, and those of all are the mean over products.
    max_fpr : float in (0, 1], default=0.3
        Of `aupro_score`.
    fpr_bounds : (float, float), default=(1e-5, 1e-4)
        Of `aupimo_score`.
    confidence_level : float in (0, 1), default=0.95
        Of the intervals: for metrics by bootstrap, drawing images within normal
        ones and within each defect type; for shares of images or regions the
        exact binomial interval.
    n_resamples : int, default=1000
        Draws of the bootstrap.
    random_state : int, RandomState or None, default=None
        Of the bootstrap.

    Returns
    -------
    EvaluationReport
        Prints as a table.

    Raises
    ------
    ValueError
        If there are neither masks nor labels, if numbers or shapes do not match,
        or if labels and masks contradict each other.

    Notes
    -----
    ``false_alarm_rate`` and ``detection_rate`` are the shares of normal and of
    anomalous images that the detector's own threshold flags. Defects by size and
    contrast are regions (8-connected components of a mask), in thirds; ``aupro`` is
    then the mean of their parts in AUPRO, and ``found`` the share with some pixel
    above the detector's ``map_threshold_``, if it has one. Contrast is the difference
    between a region's mean colour and that of its surroundings, in units of the
    range from black to white.

    Maps and scores of different products are in units of their own, so that no ranking pools
    them; the shares at the threshold are of all images. Defects by size and contrast are left
    out if there are products: `evaluate` one product's detector with its images for these.

    A bootstrap of few images is too narrow, and where no error was seen at all it has
    nothing to draw from: the interval is then NaN.

    The maps of all images are held in memory; `MapMetrics` is for test sets for
    which that is too much.
    """
    check_max_fpr(max_fpr)
    check_fpr_bounds(fpr_bounds)
    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level must lie in (0, 1), got {confidence_level}")
    if not isinstance(n_resamples, Integral) or n_resamples < 1:
        raise ValueError(f"n_resamples must be an int of at least 1, got {n_resamples!r}")
    Regions(roi, len(X))  # which checks them
    labels, marked = _check_labels(X, masks, y, roi), masks
    masks, outside = (None, None) if marked is None else masks_within(_as_bool(marked), roi)
    types = _check_types(defect_types, labels)
    name = type(detector).__name__
    detector, X = unwrap(detector, X)
    routed = {} if roi is None else {"roi": roi}
    names = None
    if product is not None or has_products(detector):
        names = np.array(product_names(product, len(labels)), dtype=object)
        routed |= {"product": names.tolist()} if has_products(detector) else {}
    if masks is None or names is not None:
        found = detect(detector, X, with_maps=masks is not None, **routed)
    else:
        contrasts = Contrasts(X, masks, _as_bool(marked), getattr(detector, "value_range", None))
        found = contrasts.beside(lambda X: detect(detector, X, with_maps=True, **routed))

    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    strata = np.where(
        labels == 1, -1, 0 if types is None else np.unique(types, return_inverse=True)[1]
    )

    def scoring_of(at):
        weights = draw_weights(strata[at], n_resamples, rng)
        parts = [None if v is None else [v[i] for i in at] for v in (found.maps, masks, outside)]
        return _Scoring(
            labels[at],
            found.scores[at],
            found.labels[at],
            *parts,
            weights,
            max_fpr,
            fpr_bounds,
            confidence_level,
        )

    if names is not None:
        places = {str(own): np.flatnonzero(names == own) for own in dict.fromkeys(names)}
        scorings = {own: scoring_of(at) for own, at in places.items()}
        rows = [_mean_row(list(scorings.values()))]
        rows += [scoring.row("product", own) for own, scoring in scorings.items()]
        if types is not None:
            for own, scoring in scorings.items():
                rows += scoring.rows_of_types(types[places[own]], prefix=f"{own}, ")
        return EvaluationReport(rows, name, confidence_level)
    scoring = scoring_of(np.arange(len(labels)))
    rows = [scoring.row("all", "")]
    if types is not None:
        rows += scoring.rows_of_types(types)
    if masks is not None and scoring.has_both_kinds_of_pixels:
        threshold = getattr(detector, "map_threshold_", np.nan)
        rows += list(scoring.rows_of_regions(contrasts, threshold))
    return EvaluationReport(rows, name, confidence_level)


class _Scoring:
    """All that the rows of one report share."""

    def __init__(
        self,
        labels,
        scores,
        verdicts,
        maps,
        masks,
        outside,
        weights,
        max_fpr,
        fpr_bounds,
        confidence_level,
    ):
        self.labels, self.scores, self.flagged = labels, scores, verdicts == -1
        self.weights = weights
        self.max_fpr, self.fpr_bounds = max_fpr, fpr_bounds
        self.confidence_level = confidence_level
        self.of_images = Histograms.of_scores(labels, scores)
        self.masks = None
        if masks is not None:
            self.masks, self.maps = check_masks_and_maps(masks, maps)
            self.roi = [None if o is None else ~o for o in outside]
            self.of_pixels = Histograms.of_maps(self.masks, self.maps, outside)
            self.n_regions = np.rint(self.of_pixels.region.sum(axis=1)).astype(int)

    @property
    def has_both_kinds_of_pixels(self):
        return bool(self.of_pixels.normal.any() and self.of_pixels.defective.any())

    def row(self, group, name, is_member=None):
        values = self.overall if is_member is None else self.values(is_member)
        is_member = slice(None) if is_member is None else is_member
        labels, flagged = self.labels[is_member], self.flagged[is_member]
        n_regions = None if self.masks is None else int(self.n_regions[is_member].sum())
        return _row(group, name, values, labels, flagged, n_regions, self.confidence_level)

    def rows_of_types(self, types, prefix=""):
        return [
            self.row("defect type", f"{prefix}{kind}", (self.labels == 1) | (types == kind))
            for kind in np.unique(types[self.labels == -1]).tolist()
        ]

    @cached_property
    def overall(self):
        return self.values(np.ones(len(self.labels), bool))

    def values(self, is_member):
        """The value of each metric, and those of the draws."""
        weights = self.weights * is_member
        values = image_scores(self.labels[is_member], self.scores[is_member])
        draws = image_scores_of_draws(self.of_images, weights)
        if self.masks is not None:
            members = np.flatnonzero(is_member)
            values |= pixel_scores(
                [self.masks[i] for i in members],
                [self.maps[i] for i in members],
                roi=[self.roi[i] for i in members],
                max_fpr=self.max_fpr,
                fpr_bounds=self.fpr_bounds,
            )
            draws |= scores_of_draws(self.of_pixels, weights, self.max_fpr, self.fpr_bounds)
        return {metric: (value, draws[metric]) for metric, value in values.items()}

    def rows_of_regions(self, contrasts, threshold):
        defects = describe_defects(
            self.masks, self.maps, contrasts, threshold, self.max_fpr, self.roi
        )
        for group, values, names, extent in (
            ("defect size", defects.size, _SIZES, "{:.0f} to {:.0f} px"),
            ("defect contrast", defects.contrast, _CONTRASTS, "{:.2f} to {:.2f}"),
        ):
            for name, is_chosen in _thirds(values, names):
                chosen = values[is_chosen]
                scores = self._scores_of_regions(defects, is_chosen)
                if np.isnan(threshold):
                    del scores["found"]
                yield Row(
                    group,
                    name,
                    extent.format(chosen.min(), chosen.max()),
                    int(np.count_nonzero(self.labels == 1)),
                    len(np.unique(defects.image[is_chosen])),
                    int(np.count_nonzero(is_chosen)),
                    scores,
                )

    def _scores_of_regions(self, defects, is_chosen):
        draws = aupro_of_draws(
            self.of_pixels, is_chosen, self.masks, self.maps, self.weights, self.max_fpr
        )
        value = float(defects.aupro[is_chosen].mean())
        return {
            "aupro": Estimate(value, *interval(value, draws, self.confidence_level)),
            "found": _share(defects.is_found[is_chosen], self.confidence_level),
        }


def _mean_row(scorings):
    """The row of all images of several products, whose metrics are means over these."""
    of_each = [s.overall for s in scorings]
    values = {
        metric: tuple(np.mean(found, axis=0) for found in zip(*(v[metric] for v in of_each)))
        for metric in of_each[0]
    }
    labels, flagged = (np.concatenate(v) for v in zip(*((s.labels, s.flagged) for s in scorings)))
    first = scorings[0]
    n_regions = None if first.masks is None else int(sum(s.n_regions.sum() for s in scorings))
    return _row("all", "", values, labels, flagged, n_regions, first.confidence_level)


def _row(group, name, values, labels, flagged, n_regions, confidence_level):
    scores = {
        metric: Estimate(value, *interval(value, draws, confidence_level))
        for metric, (value, draws) in values.items()
    }
    scores["false_alarm_rate"] = _share(flagged[labels == 1], confidence_level)
    scores["detection_rate"] = _share(flagged[labels == -1], confidence_level)
    n_normal, n_anomalous = (int(np.count_nonzero(labels == label)) for label in (1, -1))
    return Row(group, name, "", n_normal, n_anomalous, n_regions, scores)


def _share(is_so, confidence_level):
    if not len(is_so):
        return Estimate(np.nan, np.nan, np.nan)
    found = binomtest(int(np.count_nonzero(is_so)), len(is_so))
    bounds = found.proportion_ci(confidence_level=confidence_level)
    return Estimate(float(np.mean(is_so)), float(bounds.low), float(bounds.high))


def _thirds(values, names):
    """(name, which regions) of the values' thirds; fewer where values coincide."""
    known = np.isfinite(values)
    if not known.any():
        return
    limits = np.quantile(values[known], [1 / 3, 2 / 3], method="lower")
    third = np.searchsorted(limits, values, side="left")
    for i, name in enumerate(names):
        is_chosen = known & (third == i)
        if is_chosen.any():
            yield name, is_chosen


def _as_bool(masks):
    return [np.asarray(mask).astype(bool) for mask in masks]


def _check_labels(X, masks, y, roi):
    if masks is None and y is None:
        raise ValueError("evaluate needs masks or y, and was given neither")
    if masks is None:
        return image_labels(y, len(X))
    marked = image_labels(masks, len(X), name="masks")
    if roi is not None:
        marked = image_labels(masks_within(_as_bool(masks), roi)[0])
    if y is None:
        return marked
    labels = image_labels(y, len(X))
    contradicting = np.flatnonzero((labels == 1) & (marked == -1))
    if len(contradicting):
        i = contradicting[0]
        raise ValueError(f"y[{i}] is +1, normal, but masks[{i}] marks a defect; correct one")
    unmarked = np.flatnonzero((labels == -1) & (marked == 1))
    if len(unmarked):
        i = unmarked[0]
        raise ValueError(
            f"y[{i}] is -1, anomalous, but masks[{i}] marks nothing"
            f"{'' if roi is None else ' in the region'}, so metrics of maps would take "
            "its pixels as normal; mark the defect, leave the image out, or pass y without masks"
        )
    return labels


def _check_types(defect_types, labels):
    if defect_types is None:
        return None
    types = np.asarray(defect_types).astype(str)
    if types.shape != labels.shape:
        raise ValueError(
            f"defect_types has shape {types.shape}, expected {labels.shape}, one an image"
        )
    return types
