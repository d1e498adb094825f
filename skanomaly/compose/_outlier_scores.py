"""How any outlier detector for tables is fitted, and how anomalous it calls each row.

scikit-learn's score higher what is more normal, PyOD's what is more anomalous; these keep the
scores of what they were fitted on in ``decision_scores_``, as PyOD documents.
"""

from __future__ import annotations

import copy
from operator import itemgetter

import numpy as np
from sklearn.pipeline import Pipeline

# Rows that are scored at once, as some estimators hold a matrix of these by those they keep.
MAX_ROWS = 2**14


def require_scores(estimator):
    """Raise ValueError if an estimator, not yet fitted, could not score new rows.

    Parameters
    ----------
    estimator : estimator or Pipeline
    """
    name = _name_of(estimator)
    if getattr(_last(estimator), "novelty", True) is False:
        raise ValueError(
            f"{name} with novelty=False scores only the rows that it was fitted on; set "
            "novelty=True"
        )
    if not (hasattr(estimator, "score_samples") or hasattr(estimator, "decision_function")):
        raise ValueError(
            f"{name} has neither score_samples nor decision_function, which say how anomalous a "
            "row is; use an outlier detector of scikit-learn or PyOD, or an estimator of densities"
        )


def decide_random_states(estimator, random_state):
    """Give every ``random_state`` that is None, of an estimator and of those it holds, a seed.

    Parameters
    ----------
    estimator : estimator
    random_state : RandomState
    """
    for _, part in sorted({"": estimator, **estimator.get_params()}.items(), key=itemgetter(0)):
        # Not by `get_params` alone, as OneClassSVM draws by one that is no parameter of it.
        if not isinstance(part, type) and getattr(part, "random_state", 0) is None:
            part.random_state = random_state.randint(np.iinfo(np.int32).max)


def fit_on_rows(estimator, rows):
    """Fit an estimator; an error says on what.

    Parameters
    ----------
    estimator : estimator
    rows : ndarray, shape (n, d)

    Raises
    ------
    ValueError
        If it cannot be fitted.
    """
    try:
        estimator.fit(rows)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{_name_of(estimator)} cannot be fitted on {len(rows)} rows of {rows.shape[1]} "
            f"features: {error}"
        ) from error


def anomaly_of_rows(estimator, rows):
    """How anomalous each row is: PyOD's score, or minus scikit-learn's.

    Parameters
    ----------
    estimator : fitted estimator
        Not changed, whatever its methods set; PyOD's `ECOD` sets what it computes.
    rows : ndarray, shape (n, d)

    Returns
    -------
    ndarray, shape (n,), float64
        Higher = more anomalous.

    Raises
    ------
    ValueError
        If it does not give one score for each row.
    """
    estimator = _private(estimator)
    parts = (rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS))
    return np.concatenate([_anomaly(estimator, part) for part in parts])


def _anomaly(estimator, rows):
    if hasattr(_last(estimator), "decision_scores_"):
        found = np.asarray(estimator.decision_function(rows), dtype=float)
    elif hasattr(estimator, "score_samples"):
        found = -np.asarray(estimator.score_samples(rows), dtype=float)
    else:
        found = -np.asarray(estimator.decision_function(rows), dtype=float)
    if found.size != len(rows):
        raise ValueError(
            f"{_name_of(estimator)} gives scores of shape {found.shape} for {len(rows)} rows; use "
            "an estimator that gives one for each"
        )
    return found.ravel()


def _private(estimator):
    """One with the same state whose attributes can be set without others seeing it."""
    private = copy.copy(estimator)
    if isinstance(estimator, Pipeline):
        private.steps = [(name, _private(step)) for name, step in estimator.steps]
    return private


def _last(estimator):
    return _last(estimator[-1]) if isinstance(estimator, Pipeline) else estimator


def _name_of(estimator):
    return type(_last(estimator)).__name__
