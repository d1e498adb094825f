"""What a search has found, as columns, and whether it is worth anything."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import binomtest, rankdata

from .._unwrap import steps_of
from ..exceptions import SelectionWarning
from ._candidates import is_baseline, surfaces_learnt
from ._resampling import MEASURES, Resampling, bounds, over_folds

# Image AUROC up to which a detector does hardly better than chance.
CHANCE = 0.6


def tabulated(found, folds, search, rng):
    """`cv_results_` and `by_defect_` of a search.

    Parameters
    ----------
    found : list of Judged
    folds : list of Fold
    search : SyntheticDefectSearchCV
    rng : numpy.random.Generator

    Returns
    -------
    dict
    """
    kinds, n_normal = [f.kinds for f in folds], [len(f.held_out) for f in folds]
    resampling = Resampling(kinds, n_normal, search.n_resamples, search.scoring, rng)
    figures = [
        None if judged.outcomes is None else resampling.figures(founds_of(judged))
        for judged in found
    ]
    level = search.confidence_level
    results = {
        "detector": _objects([judged.name for judged in found]),
        "params": _objects([{"detector": judged.detector} for judged in found]),
        **_columns_of_measures(figures, len(folds), level),
    }
    failed = np.array([judged.has_failed for judged in found])
    if failed.any():
        results["mean_test_score"][failed] = search.error_score
    scores = results["mean_test_score"]
    results["rank_test_score"] = rankdata(np.nan_to_num(-scores, nan=np.inf), method="min").astype(
        int
    )
    results |= _columns_of_differences(figures, scores, level)
    results |= _columns_of_false_alarms(found, level)
    results |= _columns_of_costs(found)
    results["surfaces_learnt"] = _objects(
        [", ".join(sorted(surfaces_learnt(judged.detector))) for judged in found]
    )
    results["learnt_advantage"] = _learnt_advantages(found, folds, resampling)
    results["note"] = _objects([judged.note for judged in found])
    return {
        "cv_results_": results,
        "by_defect_": _by_defect(found, folds, resampling, level),
    }


def founds_of(judged):
    """What a detector made of each fold."""
    return [outcome.found for outcome in judged.outcomes]


def _objects(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _columns_of_measures(figures, n_folds, level):
    columns = {}
    for measure in MEASURES:
        own = np.array(
            [np.full(n_folds, np.nan) if f is None else f[measure][:, 0] for f in figures]
        )
        columns |= {f"split{i}_test_{measure}": own[:, i] for i in range(n_folds)}
        columns[f"mean_test_{measure}"] = own.mean(axis=1)
        columns[f"std_test_{measure}"] = own.std(axis=1)
        limits = [
            (np.nan, np.nan) if f is None else bounds(over_folds(f[measure]), level)
            for f in figures
        ]
        columns[f"low_test_{measure}"], columns[f"high_test_{measure}"] = np.array(limits).T
    return columns


def _columns_of_differences(figures, scores, level):
    """By how much each lags behind the one with the best score."""
    best = over_folds(figures[_best_judged(figures, scores)]["score"])
    draws = [
        np.full_like(best, np.nan) if f is None else best - over_folds(f["score"]) for f in figures
    ]
    low, high = np.array([bounds(d, level) for d in draws]).T
    behind = np.array([d[0] for d in draws])
    return {"behind_best": behind, "low_behind_best": low, "high_behind_best": high}


def _best_judged(figures, scores):
    judged = np.array([f is not None for f in figures])
    return int(np.argmax(np.where(judged, scores, -np.inf)))


def _columns_of_false_alarms(found, level):
    rows = []
    for judged in found:
        asked = getattr(steps_of(judged.detector)[1], "false_alarm_rate", np.nan)
        if judged.outcomes is None:
            rows.append((np.nan, np.nan, np.nan, asked))
            continue
        is_flagged = np.concatenate([f.is_flagged for f in founds_of(judged)])
        limits = binomtest(int(is_flagged.sum()), len(is_flagged)).proportion_ci(level)
        rows.append((is_flagged.mean(), limits.low, limits.high, asked))
    names = [f"{which}_test_false_alarm_rate" for which in ("mean", "low", "high")]
    return dict(zip([*names, "false_alarm_rate"], np.array(rows, float).T))


def _columns_of_costs(found):
    def column(of_outcome, summary=np.mean):
        return np.array(
            [
                np.nan if j.outcomes is None else summary([of_outcome(o) for o in j.outcomes])
                for j in found
            ]
        )

    return {
        "mean_fit_time": column(lambda outcome: outcome.fit_seconds),
        "std_fit_time": column(lambda outcome: outcome.fit_seconds, np.std),
        "mean_image_time": column(lambda outcome: outcome.found.seconds),
        "peak_bytes": column(lambda outcome: outcome.peak_bytes, np.max),
        "state_bytes": column(lambda outcome: outcome.state_bytes, np.max),
        "estimated_time": np.array([judged.estimated for judged in found]),
    }


def _learnt_advantages(found, folds, resampling):
    """How much more those that learn from drawn defects score on surfaces that they know."""
    surfaces = [_surfaces_of(fold) for fold in folds]
    advantages = np.full(len(found), np.nan)
    for i, judged in enumerate(found):
        learnt = surfaces_learnt(judged.detector)
        if judged.outcomes is None or not learnt:
            continue
        known = [np.isin(of_fold, sorted(learnt)) for of_fold in surfaces]
        own = _difference(judged, known, resampling)
        others = [
            _difference(other, known, resampling)
            for other in found
            if other.outcomes is not None and not surfaces_learnt(other.detector)
        ]
        if others:
            advantages[i] = own - np.median(others)
    return advantages


def _surfaces_of(fold):
    from ..synthesis import CORRUPTION_TYPES, DEFECT_TYPES

    known = {**CORRUPTION_TYPES, **DEFECT_TYPES}
    return np.array([known[kind].texture for kind in fold.kinds])


def _difference(judged, known, resampling):
    figures = [
        over_folds(resampling.figures(founds_of(judged), chosen)["score"][:, :1])[0]
        for chosen in (known, [~of_fold for of_fold in known])
    ]
    return figures[0] - figures[1]


def _by_defect(found, folds, resampling, level):
    """A row for each detector and group of defects."""
    rows = []
    for group in ("kind", "size", "contrast"):
        of_folds = [np.array([getattr(r, group) for r in f.drawn.recipes]) for f in folds]
        for name in np.unique(np.concatenate(of_folds)).tolist():
            chosen = [of_fold == name for of_fold in of_folds]
            for judged in found:
                if judged.outcomes is None:
                    continue
                figures = resampling.figures(founds_of(judged), chosen)
                row = {"detector": judged.name, "group": group, "name": name}
                row["n_drawn"] = int(sum(map(np.sum, chosen)))
                for measure in MEASURES:
                    draws = over_folds(figures[measure])
                    low, high = bounds(draws, level)
                    row |= {measure: draws[0], f"{measure}_low": low, f"{measure}_high": high}
                rows.append(row)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    texts = ("detector", "group", "name")
    return {k: _objects(v) if k in texts else np.array(v) for k, v in columns.items()}


def warn_of_doubts(results, found):
    """Warn where the best finds next to nothing, or no more than what learns nothing."""
    judged = np.array([one.outcomes is not None for one in found])
    best = int(np.argmax(np.where(judged, results["mean_test_score"], -np.inf)))
    name, auroc = results["detector"][best], results["mean_test_image_roc_auc"][best]
    low, high = (results[f"{which}_test_image_roc_auc"][best] for which in ("low", "high"))
    if auroc < CHANCE or low < CHANCE:
        warnings.warn(
            f"no detector clearly finds the drawn defects: the best, {name}, has an image AUROC of "
            f"{auroc:.2f} ({low:.2f} to {high:.2f}), and 0.5 is chance. Look at the images, "
            "their alignment and light, before choosing by this",
            SelectionWarning,
            stacklevel=3,
        )
    is_floor = np.array([is_baseline(one.detector) for one in found]) & judged
    if not is_floor.any() or is_floor.sum() == judged.sum():
        return
    simple = int(np.argmax(np.where(is_floor, results["mean_test_score"], -np.inf)))
    # NaN where no draw differs; then the difference itself decides.
    ahead = np.nan_to_num(results["low_behind_best"][simple], nan=results["behind_best"][simple])
    if ahead <= 0:
        floor, top = results["detector"][simple], results["mean_test_score"][best]
        others = "" if simple == best else f"; the best, {name}, scores {top:.3f}"
        warnings.warn(
            f"no detector is clearly ahead of {floor}, which learns next to nothing and scores "
            f"{results['mean_test_score'][simple]:.3f}{others}. Draw defects that are harder to "
            "see (contrasts, sizes), or take the simpler",
            SelectionWarning,
            stacklevel=3,
        )
