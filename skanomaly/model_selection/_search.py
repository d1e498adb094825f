"""A search over detectors that needs no defect: they are judged by drawn ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, OutlierMixin, clone
from sklearn.utils import check_random_state

from .._parameters import DeclaredParameters, parameter
from .._sklearn import Interval, Numbers, StrOptions, safe_indexing
from .._validation import image_labels
from ..images import Regions, check_images
from ._acting import ActsAsTheBest
from ._candidates import (
    default_detectors,
    fit_parameters,
    named,
    seeded,
    value_range_of,
    with_baselines,
)
from ._folds import fold_parameters, make_fold, splits_of
from ._results import tabulated, warn_of_doubts
from ._schedule import Clock, judge_all
from ._table import SearchTable

_SCORES = {
    "mean": "mean of image AUROC and AUPRO",
    "image_roc_auc": "image AUROC",
    "aupro": "AUPRO",
}


class SyntheticDefectSearchCV(
    ActsAsTheBest, OutlierMixin, MetaEstimatorMixin, DeclaredParameters, BaseEstimator
):
    """Choose a detector by defects that are drawn onto images of good parts.

    Of the good images, folds are held out in turn. Each detector is fitted on the others, and has
    to tell those that are held out from the same ones with a drawn defect, and to show where that
    is. All detectors see the same images and the same defects.

    Parameters
    ----------
    detectors : sequence of detectors, or of (str, detector), or None
        What is compared: detectors of images or pipelines around them, by names of their own or
        by their classes'. None takes `LocalContrast`, `MedianDifference`, `SubspaceAD`, `PaDiM`,
        `PatchCore`, ``make_ensemble()``, `PatchAE`, `FastFlow` and `HierarchicalFeatureAE`, at
        their defaults.
    baselines : bool
        Also compare `LocalContrast` and `MedianDifference`, unless they are there already: who
        does no better has learnt nothing.
    cv : int or splitter
        Number of folds, which are random, by `groups` where there are any; or a splitter, or
        pairs of indices. Images that `y` calls anomalous are in no fold.
    budget : float or None
        Seconds for all of it. Each detector's cost is estimated by fits on a few images; the
        cheapest come first, and what does not fit into the time left is left out, with a row
        that says so. An estimate is no limit: nothing is interrupted. None compares all.
    n_drawn : int
        Images with a drawn defect in each fold. 36 is each kind in each size and contrast once.
    kinds : sequence of str or None
        Kinds of defects, out of `skanomaly.synthesis.DEFECT_TYPES` and `CORRUPTION_TYPES`. None
        means "scratch", "crack", "spot", "stain", "missing" and "foreign".
    sizes : sequence of float
        Factors on the kinds' lengths.
    contrasts : sequence of float
        Factors on the kinds' opacities, in (0, 1]. What could not be seen is drawn with more.
    scoring : {"aupro", "image_roc_auc", "mean"}
        What decides the order: AUPRO, image AUROC, or the mean of both. AUPRO of small defects
        has come closest to the order on real ones, that by image AUROC included.
    max_fpr : float in (0, 1]
        Of AUPRO, as of `skanomaly.metrics.aupro_score`.
    confidence_level : float in (0, 1)
        Of the intervals.
    n_resamples : int
        Draws of the bootstrap that the intervals come from.
    refit : bool or callable
        Fit the best on all good images; a callable is given `cv_results_` and returns the
        position of the one to choose.
    error_score : "raise" or float
        What a detector scores whose fit fails, with a `FitFailedWarning`; or raise its error.
    n_jobs : int or None
        Folds at once, each in a process. Times are then of processes that share the machine.
    verbose : int
        From 1 on, print a line for each detector.
    random_state : int, RandomState or None
        Decides folds, defects, bootstrap, and each ``random_state`` of detectors that is None.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray, each (n_detectors,)
        A column a figure, see Notes; ``table_`` shows most of them.
    by_defect_ : dict of str to ndarray
        A row for each detector and each group of defects: ``detector``, ``group`` ("kind",
        "size" or "contrast"), ``name``, ``n_drawn``, and ``score``, ``image_roc_auc`` and
        ``aupro``, each also with ``_low`` and ``_high``.
    table_ : SearchTable
        Prints as text, in the order of ranks; so does the fitted search.
    best_estimator_ : detector
        Fitted on all good images, if `refit`.
    best_index_ : int
        Row of `cv_results_`.
    best_name_ : str
    best_params_ : dict
        The best detector, unfitted, as ``{"detector": ...}``.
    best_score_ : float
        Its mean score over folds.
    n_splits_ : int
    n_left_out_ : int
        Images that `y` calls anomalous.
    refit_time_ : float
        Seconds; if `refit`.
    search_time_ : float
        Seconds that all of it took, the last fit included.

    See Also
    --------
    recommend : The same in one line.
    skanomaly.synthesis.DefectGenerator : What is drawn.
    sklearn.model_selection.GridSearchCV : For settings, where there are real defects.

    Notes
    -----
    Columns of `cv_results_` are ``detector`` (its name), ``params``; for each measure
    (``score``, ``image_roc_auc``, ``aupro``) ``split{i}_test_{measure}``,
    ``mean_test_{measure}``, ``std_test_{measure}``, ``low_test_{measure}`` and
    ``high_test_{measure}``; ``rank_test_score``; ``behind_best`` with ``low_behind_best`` and
    ``high_behind_best``; ``mean_test_false_alarm_rate`` with ``low_`` and ``high_`` (exact
    binomial), beside ``false_alarm_rate``, which was asked; ``mean_fit_time``,
    ``std_fit_time``, ``mean_image_time`` (seconds for an image that is scored alone among 16),
    ``peak_bytes`` (growth of the process's resident memory during a fit; an order of magnitude,
    and little of it where memory was free already), ``state_bytes`` (of the pickle),
    ``estimated_time`` (of the search; NaN without `budget`); ``surfaces_learnt`` (of drawn
    defects that the detector itself is trained with), ``learnt_advantage``; and ``note``, which
    says why a row is empty.

    Intervals are by bootstrap, of images of good parts and of drawn defects within their kinds,
    the same draws for all detectors, so that differences (``behind_best``) are told more exactly
    than figures. They hold the fits, and the curve of false positives over pixels, for given, and
    are too narrow by what other training images would change. AUPRO takes each defect as one
    region and, of images above 256 pixels, every second (third, ...) normal pixel.

    Detectors that are trained with drawn defects (`PatchAE`, `SelfSupervisedAE`) have seen some
    of the surfaces that are drawn here. ``learnt_advantage`` is by how much more they score on
    defects with these surfaces than on the others, less the same difference of the median
    detector that is not so trained; it is NaN for others, and where defects of one sort are
    missing.

    Drawn defects are not real ones: the order is a guess where there is nothing better. With a
    budget, what is left out depends on the machine; all else is decided by `random_state`.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> from skanomaly.model_selection import SyntheticDefectSearchCV
    >>> X = make_texture_defects("brick", n_normal=60, image_size=64, random_state=0).images
    >>> detectors = [PaDiM(image_size=64, n_features=10, false_alarm_rate=0.2)]
    >>> search = SyntheticDefectSearchCV(
    ...     detectors, cv=2, contrasts=(1.0,), n_drawn=24, random_state=0
    ... ).fit(X)
    >>> search.best_name_
    'PaDiM'
    >>> sorted(search.cv_results_["detector"].tolist())
    ['LocalContrast', 'MedianDifference', 'PaDiM']
    >>> search.predict(X[:2]).shape
    (2,)
    """

    detectors: Sequence | None = parameter(None, list, tuple, None, kw_only=False)
    baselines: bool = parameter(True, "boolean")
    cv: object = parameter(3, "cv_object")
    budget: float | None = parameter(None, Interval(Real, 0, None, closed="neither"), None)
    n_drawn: int = parameter(36, Interval(Integral, 1, None, closed="left"))
    kinds: Sequence[str] | None = parameter(None, list, tuple, None)
    sizes: Sequence[float] = parameter((0.5, 1.0), Numbers(Real, 1e-3))
    contrasts: Sequence[float] = parameter((0.25, 0.5, 1.0), Numbers(Real, 1e-3))
    scoring: str = parameter("aupro", StrOptions({"aupro", "image_roc_auc", "mean"}))
    max_fpr: float = parameter(0.3, Interval(Real, 0, 1, closed="right"))
    confidence_level: float = parameter(0.95, Interval(Real, 0, 1, closed="neither"))
    n_resamples: int = parameter(1000, Interval(Integral, 1, None, closed="left"))
    refit: object = parameter(True, "boolean", callable)
    error_score: object = parameter(np.nan, StrOptions({"raise"}), Real)
    n_jobs: int | None = parameter(None, Integral, None)
    verbose: int = parameter(0, "verbose")
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")

    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def fit(self, X, y=None, *, roi=None, groups=None):
        """Compare the detectors, and fit the best on all images of good parts.

        If it fails or is interrupted, the search stays as it was.

        Parameters
        ----------
        X : batch of images
            Of good parts, as for a detector's `fit`.
        y : None, labels (n,), or masks (n, H, W), default=None
            Images that it calls anomalous are left out: nothing is learnt from them, and nothing
            measured on them.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest, as for a detector's `fit`. Defects are drawn there.
        groups : array-like (n,) or None, default=None
            What each image belongs to, such as its part, lot or camera; kept on one side of
            each fold, and handed on to the detectors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is nothing to compare, not enough images for the folds, or no detector that
            could be judged.

        Warns
        -----
        SelectionWarning
            If no detector finds the drawn defects, or none does better than what learns nothing.
        FitFailedWarning
            For each detector whose fit fails.
        """
        self._validate_params()
        began = time.perf_counter()
        random_state = check_random_state(self.random_state)
        rng = np.random.default_rng(random_state.randint(2**31 - 1))
        pairs = self._candidates(random_state.randint(2**31 - 1))
        X = check_images(X)
        regions = Regions(roi, len(X))
        labels = np.ones(len(X), int) if y is None else image_labels(y, len(X))
        groups = self._checked_groups(groups, len(X))
        splits = splits_of(self.cv, labels, groups, random_state)
        value_range, design = value_range_of(pairs), self._design()
        folds = [
            make_fold(X, *split, regions, groups, value_range, self.n_drawn, design, rng)
            for split in splits
        ]
        normal = np.flatnonzero(labels == 1)
        refit_share = len(normal) / len(folds[0].X) if self.refit else 0.0
        found = judge_all(pairs, folds, Clock(began, self.budget), refit_share, self)
        fitted = tabulated(found, folds, self, rng)
        fitted |= {"n_splits_": len(folds), "n_left_out_": len(X) - len(normal)}
        best = self._chosen(fitted["cv_results_"], found)
        fitted |= {
            "best_index_": best,
            "best_name_": found[best].name,
            "best_params_": {"detector": found[best].detector},
            "best_score_": float(fitted["cv_results_"]["mean_test_score"][best]),
        }
        if self.refit:
            given = fold_parameters(normal, regions, groups)
            fitted |= self._refitted(found[best].detector, safe_indexing(X, normal), given)
        caption = (
            f"{len(found)} detectors by {self.n_drawn} drawn defects in each of {len(folds)} folds "
            f"of {len(normal)} images; score: {_SCORES[self.scoring]}"
        )
        fitted["table_"] = SearchTable(
            fitted["cv_results_"], fitted["by_defect_"], caption, self.confidence_level
        )
        fitted["search_time_"] = time.perf_counter() - began
        warn_of_doubts(fitted["cv_results_"], found)
        parameters = {name: value for name, value in vars(self).items() if name[-1] != "_"}
        self.__dict__ = parameters | fitted
        return self

    def _candidates(self, seed):
        """Pairs (name, detector); all get one seed, so that company changes no figure."""
        pairs = default_detectors() if self.detectors is None else named(self.detectors)
        if self.baselines:
            pairs = with_baselines(pairs)
        return [(name, seeded(detector, seed)) for name, detector in pairs]

    def _checked_groups(self, groups, n_images):
        if groups is None:
            return None
        groups = np.asarray(groups)
        if groups.shape != (n_images,):
            raise ValueError(
                f"groups has shape {groups.shape}, expected ({n_images},), one an image"
            )
        return groups

    def _design(self):
        from ..synthesis import CORRUPTION_TYPES, DEFECT_TYPES

        known = {**DEFECT_TYPES, **CORRUPTION_TYPES}
        kinds = list(DEFECT_TYPES) if self.kinds is None else list(self.kinds)
        unknown = [kind for kind in kinds if kind not in known]
        if unknown or not kinds:
            raise ValueError(f"kinds must be out of {list(known)}, got {self.kinds!r}")
        if max(self.contrasts) > 1:
            raise ValueError(f"contrasts must lie in (0, 1], got {self.contrasts!r}")
        return kinds, self.sizes, self.contrasts

    def _chosen(self, results, found):
        if not callable(self.refit):
            return int(np.nanargmax(results["mean_test_score"]))
        best = self.refit(results)
        if not isinstance(best, Integral) or not 0 <= best < len(found):
            raise ValueError(
                f"refit gave {best!r}, expected the position of a detector, 0 to {len(found) - 1}"
            )
        return int(best)

    def _refitted(self, detector, X, given):
        began = time.perf_counter()
        fitted = clone(detector)
        fitted.fit(X, **fit_parameters(fitted, given))
        return {"best_estimator_": fitted, "refit_time_": time.perf_counter() - began}

    def __str__(self):
        return str(self.table_) if hasattr(self, "table_") else repr(self)
