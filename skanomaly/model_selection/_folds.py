"""One fit and one judgement: a detector in a fold."""

from __future__ import annotations

import time
import traceback
import warnings
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, check_cv
from sklearn.pipeline import Pipeline

from .._holdout import ENOUGH
from .._sklearn import safe_indexing
from .._unwrap import detect, steps_of
from ..exceptions import ThresholdWarning
from ..images import Regions
from ._candidates import fit_parameters
from ._costs import Cost, seconds_at, state_bytes
from ._drawing import DrawnDefects, recipes_for
from ._measuring import Found, measure


class Fold(NamedTuple):
    """What all detectors see in a fold."""

    X: object  #: images of good parts that are learnt from
    fit_params: dict
    held_out: object  #: images of good parts
    regions: Regions  #: of these
    drawn: DrawnDefects
    regions_drawn: Regions

    @property
    def kinds(self):
        """Kind of each drawn defect, (n_drawn,) of str."""
        return np.array([recipe.kind for recipe in self.drawn.recipes])


class Outcome(NamedTuple):
    """What came of a detector in a fold."""

    found: Found
    fit_seconds: float
    peak_bytes: float
    state_bytes: int


def splits_of(cv, labels, groups, random_state):
    """Positions of images of good parts that each fold learns from, and holds out.

    Parameters
    ----------
    cv : int, splitter or iterable
        As of `SyntheticDefectSearchCV`.
    labels : ndarray of int, shape (n,)
    groups : ndarray, shape (n,), or None
    random_state : RandomState

    Returns
    -------
    list of (ndarray of int, ndarray of int), sorted

    Raises
    ------
    ValueError
        If there are too few images of good parts.
    """
    normal = np.flatnonzero(labels == 1)
    if not len(normal):
        raise ValueError("y holds no normal image (+1, or an empty mask) to learn from")
    if isinstance(cv, Integral):
        kind = KFold if groups is None else GroupKFold
        seed = random_state.randint(2**31 - 1)
        of_normal = None if groups is None else groups[normal]
        try:
            splitter = kind(cv, shuffle=True, random_state=seed)
            splits = list(splitter.split(normal, groups=of_normal))
        except ValueError as error:
            raise ValueError(
                f"the {len(normal)} normal images cannot be split into cv={cv} folds: {error}"
            ) from error
        return [(normal[np.sort(train)], normal[np.sort(test)]) for train, test in splits]
    splits = [
        tuple(np.intersect1d(part, normal) for part in split)
        for split in check_cv(cv).split(labels, labels, groups)
    ]
    for i, (train, test) in enumerate(splits):
        if not len(train) or not len(test):
            raise ValueError(f"fold {i} of cv has no normal image to learn from or to hold out")
    return splits


def make_fold(X, train, test, regions, groups, value_range, n_drawn, design, rng):
    """Draw defects onto the images that a fold holds out.

    Parameters
    ----------
    X : sequence of images
    train, test : ndarray of int
        Positions of images of good parts.
    regions : Regions
        Of X.
    groups : ndarray, shape (n,), or None
    value_range : (float, float) or None
    n_drawn : int
    design : tuple of sequences
        Kinds, sizes and contrasts.
    rng : numpy.random.Generator

    Returns
    -------
    Fold
    """
    recipes = recipes_for(len(test), n_drawn, *design, rng)
    held_out, of_held_out = safe_indexing(X, test), regions.subset(test)
    drawn = DrawnDefects(held_out, recipes, value_range, of_held_out)
    of_drawn = of_held_out.subset([recipe.image for recipe in recipes])
    fit_params = fold_parameters(train, regions, groups)
    return Fold(safe_indexing(X, train), fit_params, held_out, of_held_out, drawn, of_drawn)


def fold_parameters(chosen, regions, groups):
    """Parameters of a fit on some of the images."""
    if regions.roi is None or regions.shared:
        roi = regions.roi
    else:
        roi = [regions.roi[int(regions.indices[i])] for i in chosen]
    return {"roi": roi, "groups": None if groups is None else groups[chosen]}


def judged(estimator, fold, max_fpr, may_fail):
    """Fit a clone on a fold and judge it.

    Returns
    -------
    Outcome, or str
        The error and where it was raised, if it fails and may.
    """
    try:
        with warnings.catch_warnings():
            # What threshold few images make is seen in the false alarms.
            warnings.simplefilter("ignore", ThresholdWarning)
            fitted = clone(estimator)
            with Cost() as cost:
                fitted.fit(fold.X, **fit_parameters(fitted, fold.fit_params))
            found = measure(
                fitted, fold.held_out, fold.regions, fold.drawn, fold.regions_drawn, max_fpr
            )
        return Outcome(found, cost.seconds, cost.peak_bytes, state_bytes(fitted))
    except Exception:
        if not may_fail:
            raise
        return traceback.format_exc()


def seconds_on_few(estimator, fold):
    """How long a fit takes on a sixteenth of a fold's images, with what is loaded once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about so few images
        return _fit_on(estimator, fold, _few(fold)[0])[1]


def estimated_seconds(estimator, fold, most):
    """How long `judged` takes of a detector, (fit, judgement), by fits on few images.

    The fit is infinite where a sixteenth of the images takes more than `most` seconds.
    """
    n, (small, large) = len(fold.X), _few(fold)
    few = safe_indexing(fold.held_out, np.arange(min(4, len(fold.held_out))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted, seconds_small = _fit_on(estimator, fold, small)
        detect(fitted, few, with_maps=True)  # what is loaded once is loaded
        began = time.perf_counter()
        detect(fitted, few, with_maps=True)
        an_image = (time.perf_counter() - began) / len(few)
        judgement = an_image * (len(fold.held_out) + len(fold.drawn))
        if seconds_small + judgement > most:
            return np.inf, judgement
        seconds_small = min(seconds_small, _fit_on(estimator, fold, small)[1])
        if large == small:
            return seconds_small, judgement
        _, seconds_large = _fit_on(estimator, fold, large)
    return seconds_at(n, small, seconds_small, large, seconds_large), judgement


def _few(fold):
    """Two numbers of images of a fold, by which the cost of all is estimated."""
    n = len(fold.X)
    small = min(n, max(2, n // 16))
    return small, min(n, max(small + 2, n // 6))


def _fit_on(estimator, fold, n):
    """A clone that is fitted on n images, and how long that took."""
    fitted = clone(estimator)
    more = {}
    shared = fold.fit_params["roi"]
    is_shared = isinstance(shared, np.ndarray)
    roi = shared if shared is None or is_shared else shared[:n]
    last = steps_of(fitted)[1]
    held_out_once = getattr(last, "validation_fraction", 0.2) * len(fold.X) >= ENOUGH
    if held_out_once and not isinstance(fitted, Pipeline) and hasattr(last, "validation_fraction"):
        # Of so few a method whose fit is cheap would hold out in turn, which of all it does not.
        more["X_val"] = safe_indexing(fold.held_out, np.arange(min(2, len(fold.held_out))))
    began = time.perf_counter()
    given = {"roi": roi, **more}
    fitted.fit(safe_indexing(fold.X, np.arange(n)), **fit_parameters(fitted, given))
    return fitted, time.perf_counter() - began
