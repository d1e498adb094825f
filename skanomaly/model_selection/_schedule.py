"""Which detectors are judged, in which order, and how long that may take."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.exceptions import FitFailedWarning

from ._folds import Outcome, estimated_seconds, judged, seconds_on_few


class Judged(NamedTuple):
    """What came of a detector."""

    name: str
    detector: object  #: unfitted
    outcomes: list[Outcome] | None = None  #: one a fold; None if it was not judged
    note: str = ""  #: why it was not
    has_failed: bool = False
    estimated: float = np.nan  #: seconds of the search that it was to take


class Clock:
    """How much is left of a budget of seconds, or of None.

    Parameters
    ----------
    began : float
        As `time.perf_counter` gave it.
    budget : float or None
    """

    def __init__(self, began, budget):
        self._end = np.inf if budget is None else began + budget

    @property
    def left(self):
        """Seconds, infinite if there is no budget."""
        return self._end - time.perf_counter()


def judge_all(pairs, folds, clock, refit_share, search):
    """Judge detectors in every fold, as far as there is time.

    Parameters
    ----------
    pairs : list of (str, detector)
    folds : list of Fold
    clock : Clock
    refit_share : float
        What the last fit takes, in fits of a fold; 0 if there is none.
    search : SyntheticDefectSearchCV
        Whose parameters say the rest.

    Returns
    -------
    list of Judged, in the order of `pairs`

    Raises
    ------
    ValueError
        If none could be judged.
    """
    found, detectors = {}, dict(pairs)
    last_fit = 0.0  # of the dearest so far
    for name in _cheapest_first(pairs, folds, clock):
        judgement, fit = _judged_in_time(
            name, detectors[name], folds, clock, last_fit, refit_share, search
        )
        found[name], last_fit = judgement, max(last_fit, refit_share * fit)
        _say(judgement, search.verbose)
    found = [found[name] for name, _ in pairs]
    if all(judgement.outcomes is None for judgement in found):
        notes = "; ".join(f"{judgement.name}: {judgement.note}" for judgement in found)
        raise ValueError(f"none of the detectors could be judged. {notes}")
    return found


def _cheapest_first(pairs, folds, clock):
    """Names in the order of what a fit on a few images takes, if there is a budget.

    No more than a quarter of it goes into that; who is not reached by then comes last.
    """
    if np.isinf(clock.left):
        return [name for name, _ in pairs]
    costs, most = {}, 0.75 * clock.left
    for name, detector in pairs:
        costs[name] = np.inf
        if clock.left > most:
            with suppress(Exception):  # it is raised, or said, when its turn comes
                costs[name] = seconds_on_few(detector, folds[0])
    return sorted(costs, key=costs.get)


def _judged_in_time(name, detector, folds, clock, last_fit, refit_share, search):
    """What comes of a detector, and the seconds that a fit was to take; 0 if it is left out."""
    if np.isinf(clock.left):
        return _judged(name, detector, folds, np.nan, search), 0.0
    if clock.left <= 0:
        return _left_out(name, detector, np.inf, clock), 0.0
    try:
        fit, judgement = estimated_seconds(detector, folds[0], clock.left / len(folds))
    except Exception as error:
        if search.error_score == "raise":
            raise
        return _failed(name, detector, f"{type(error).__name__}: {error}", np.nan), 0.0
    rounds = -(-len(folds) // min(effective_n_jobs(search.n_jobs), len(folds)))
    needed = rounds * (fit + judgement)
    with_last = needed + max(last_fit, refit_share * fit)
    if with_last > clock.left:
        return _left_out(name, detector, with_last, clock), 0.0
    return _judged(name, detector, folds, needed, search), fit


def _judged(name, detector, folds, needed, search):
    may_fail = search.error_score != "raise"
    outcomes = Parallel(search.n_jobs)(
        delayed(judged)(detector, fold, search.max_fpr, may_fail) for fold in folds
    )
    errors = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if errors:
        return _failed(name, detector, errors[0], needed)
    return Judged(name, detector, outcomes, estimated=needed)


def _failed(name, detector, error, needed):
    last_line = error.strip().splitlines()[-1]
    warnings.warn(
        f"{name} could not be judged, and is ranked by error_score. Its error:\n{error}",
        FitFailedWarning,
        stacklevel=5,
    )
    return Judged(name, detector, None, f"failed: {last_line}", True, needed)


def _left_out(name, detector, needed, clock):
    if clock.left <= 0:
        note = "left out: the budget was spent before its turn"
    elif np.isinf(needed):
        note = f"left out: it needs more than the {clock.left:.0f} s that were left"
    else:
        note = f"left out: it needs about {needed:.0f} s, and {clock.left:.0f} s were left"
    return Judged(name, detector, None, note, False, needed)


def _say(judgement, verbose):
    if verbose:
        print(f"{judgement.name}: {judgement.note or 'judged'}", flush=True)
