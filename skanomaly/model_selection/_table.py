"""A search's results as text."""

from __future__ import annotations

import numpy as np

_HEADER = (
    "rank",
    "detector",
    "score",
    "interval",
    "behind the best",
    "image AUROC",
    "AUPRO",
    "false alarms",
    "fit",
    "an image",
    "state",
)


class SearchTable:
    """The detectors of a search in the order of their ranks; prints as text.

    Parameters
    ----------
    cv_results, by_defect : dict of str to ndarray
        Of a `SyntheticDefectSearchCV`.
    caption : str
    confidence_level : float
    """

    def __init__(self, cv_results, by_defect, caption, confidence_level):
        self._results, self._by_defect = cv_results, by_defect
        self._caption, self._confidence_level = caption, confidence_level
        self._order = np.lexsort(
            (np.arange(len(cv_results["note"])), cv_results["rank_test_score"])
        )

    def __str__(self):
        parts = [self._caption, "\n".join(_aligned(self._overall())), *self._remarks()]
        parts.append("image AUROC by kind, size (factor) and contrast (factor) of drawn defects")
        parts.append("\n".join(_aligned(self._of_groups())))
        return "\n\n".join(parts)

    __repr__ = __str__

    def _judged(self):
        return [i for i in self._order if np.isfinite(self._results["mean_image_time"][i])]

    def _overall(self):
        header = list(_HEADER)
        header[3] = f"{100 * self._confidence_level:g} % interval"
        return [header, *(self._row(i) for i in self._judged())]

    def _row(self, i):
        r = {name: column[i] for name, column in self._results.items()}
        asked = "" if np.isnan(r["false_alarm_rate"]) else f" of {r['false_alarm_rate']:g}"
        return [
            str(r["rank_test_score"]),
            r["detector"] + ("*" if r["surfaces_learnt"] else ""),
            f"{r['mean_test_score']:.3f}",
            _interval(r["low_test_score"], r["high_test_score"]),
            _behind(r["behind_best"], r["low_behind_best"], r["high_behind_best"]),
            f"{r['mean_test_image_roc_auc']:.3f}",
            f"{r['mean_test_aupro']:.3f}",
            f"{r['mean_test_false_alarm_rate']:.3f}{asked}",
            f"{r['mean_fit_time']:.1f} s",
            f"{1000 * r['mean_image_time']:.0f} ms",
            f"{r['state_bytes'] / 2**20:.1f} MiB",
        ]

    def _remarks(self):
        r = self._results
        missing = [i for i in self._order if r["note"][i]]
        if missing:
            yield "\n".join(f"{r['detector'][i]}: {r['note'][i]}" for i in missing)
        learnt = [i for i in self._judged() if r["surfaces_learnt"][i]]
        if learnt:
            yield "\n".join(map(self._remark_on_learnt, learnt))

    def _remark_on_learnt(self, i):
        r = {name: column[i] for name, column in self._results.items()}
        remark = f"* {r['detector']} is trained with drawn defects ({r['surfaces_learnt']})"
        if np.isnan(r["learnt_advantage"]):
            return remark
        return f"{remark}, on which it gains {r['learnt_advantage']:+.3f} more than others do"

    def _of_groups(self):
        found = self._by_defect
        groups = list(dict.fromkeys(zip(found["group"], found["name"])))
        header = ["detector", *(_name(group, name) for group, name in groups)]
        values = {
            (d, g, n): v
            for d, g, n, v in zip(
                found["detector"], found["group"], found["name"], found["image_roc_auc"]
            )
        }
        names = [self._results["detector"][i] for i in self._judged()]
        rows = [[name, *(f"{values[name, *group]:.3f}" for group in groups)] for name in names]
        return [header, *rows]


def _name(group, name):
    return name if group == "kind" else f"{group} {name:g}"


def _interval(low, high):
    return "no errors" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def _behind(value, low, high):
    if value == 0:
        return ""
    if np.isnan(low):
        return f"{value:.3f}"
    level = " (level)" if low <= 0 else ""
    return f"{value:.3f}, {low:.3f} to {high:.3f}{level}"


def _aligned(table):
    widths = [max(map(len, column)) for column in zip(*table)]
    is_text = [1 if table[0][0] == "rank" else 0]
    return [
        "  ".join(
            cell.ljust(width) if i in is_text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in table
    ]
