"""How much a search's figures would vary with other images and other defects."""

from __future__ import annotations

import numpy as np

MEASURES = ("score", "image_roc_auc", "aupro")


class Resampling:
    """Images and defects drawn anew with replacement, the same ones for every detector.

    Parameters
    ----------
    kinds : list of array of str, each (n_drawn,)
        Of each fold's drawn defects, which are drawn within their kinds.
    n_normal : list of int
        Images of good parts in each fold.
    n_resamples : int
    scoring : {"mean", "image_roc_auc", "aupro"}
        What "score" is.
    rng : numpy.random.Generator
    """

    def __init__(self, kinds, n_normal, n_resamples, scoring, rng):
        self.scoring = scoring
        self.weights = [
            (_drawn_within(of_fold, n_resamples, rng), _drawn_within(np.zeros(n), n_resamples, rng))
            for of_fold, n in zip(kinds, n_normal)
        ]

    def figures(self, found, chosen=None):
        """Each measure in each draw, fold by fold; the first draw is the images as they are.

        Parameters
        ----------
        found : list of Found
            A detector's, one a fold.
        chosen : list of array of bool, each (n_drawn,), or None, default=None
            Drawn defects that count; None means all.

        Returns
        -------
        dict of ndarray, shape (n_folds, 1 + n_resamples)
            By the names in `MEASURES`; NaN where none counts.
        """
        chosen = [np.ones(len(f.pro), bool) for f in found] if chosen is None else chosen
        folds = [
            self._of_fold(*weights, f, which)
            for weights, f, which in zip(self.weights, found, chosen)
        ]
        image, aupro = (np.array(values) for values in zip(*folds))
        score = {"mean": (image + aupro) / 2, "image_roc_auc": image, "aupro": aupro}
        return {"score": score[self.scoring], "image_roc_auc": image, "aupro": aupro}

    def _of_fold(self, of_drawn, of_normal, found, chosen):
        of_drawn = of_drawn * chosen
        with np.errstate(invalid="ignore"):
            of_drawn = of_drawn / of_drawn.sum(axis=1, keepdims=True)
        of_normal = of_normal / of_normal.sum(axis=1, keepdims=True)
        # What does not count is 0, not 0 times a NaN; where nothing counts all is NaN.
        return ((of_drawn @ found.wins) * of_normal).sum(axis=1), of_drawn @ found.pro


def _drawn_within(strata, n_resamples, rng):
    """How often each item is drawn, (1 + n_resamples, n); the first row is once each."""
    weights = np.ones((1 + n_resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        share = np.full(len(members), 1 / len(members))
        weights[1:, members] = rng.multinomial(len(members), share, size=n_resamples)
    return weights


def over_folds(figures):
    """The mean over folds in each draw, of the folds that have one."""
    known = np.isfinite(figures)
    total = np.where(known, figures, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / known.sum(axis=0)


def bounds(draws, confidence_level):
    """Bounds of a figure, by the draws after the first, which is the figure itself.

    NaN where no draw differs: images that show no error do not tell how others would vary.
    """
    tail = (1 - confidence_level) / 2
    known = draws[np.isfinite(draws)]
    if not len(known) or np.ptp(known) < 1e-12:
        return np.nan, np.nan
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
