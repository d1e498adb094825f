"""Scores of images."""

from __future__ import annotations

import numpy as np

from .._validation import image_labels
from ._common import GREEN, RED, one_axes, require_matplotlib, unwrap_fitted


class ScoreHistogramDisplay:
    """How the scores of normal and of anomalous images are distributed.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Higher = more normal.
    labels : ndarray of int, shape (n,), or None, default=None
        +1 normal, -1 anomalous; None if that is not known.
    threshold : float or None, default=None
        Score below which an image is flagged.

    Attributes
    ----------
    bars_ : list of matplotlib BarContainer
        One for each kind of image there is.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skanomaly.plotting import ScoreHistogramDisplay
    >>> y, scores = [1, 1, 1, -1, -1], [-0.1, -0.4, -0.2, -2.0, -0.3]
    >>> display = ScoreHistogramDisplay.from_predictions(y, scores, threshold=-0.5)
    >>> for text in display.ax_.get_legend().get_texts():
    ...     print(text.get_text())
    normal (3, 0.0% flagged)
    anomalous (2, 50.0% flagged)
    threshold -0.5
    """

    def __init__(self, *, scores, labels=None, threshold=None):
        self.scores = scores
        self.labels = labels
        self.threshold = threshold

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, bins=30, ax=None, **bar_kwargs):
        """Draw the histogram of a detector's scores, and its threshold.

        Parameters
        ----------
        estimator : detector, or Pipeline or search that ends in one
            Fitted.
        X : batch of images
            As `estimator` takes it.
        y : array of int, shape (n,), masks, or None, default=None
            Labels, +1 normal and -1 anomalous, or masks, True where the defect is.
            None draws all images as one group.
        bins, ax, **bar_kwargs
            As for `plot`.

        Returns
        -------
        ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If `y` is neither labels nor masks, or not one for each image.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        detector, X = unwrap_fitted(estimator, X)
        scores, threshold = detector.score_samples(X), detector.offset_
        return cls.from_predictions(y, scores, threshold=threshold, bins=bins, ax=ax, **bar_kwargs)

    @classmethod
    def from_predictions(cls, y, scores, *, threshold=None, bins=30, ax=None, **bar_kwargs):
        """Draw the histogram of scores that have been computed.

        Parameters
        ----------
        y : array of int, shape (n,), masks, or None
            Labels, +1 normal and -1 anomalous, or masks, True where the defect is.
            None draws all images as one group.
        scores : array-like, shape (n,)
            Higher = more normal, as of ``score_samples``.
        threshold : float or None, default=None
            Score below which an image is flagged, such as a detector's ``offset_``.
        bins, ax, **bar_kwargs
            As for `plot`.

        Returns
        -------
        ScoreHistogramDisplay

        Raises
        ------
        ValueError
            If `y` is neither labels nor masks, or not one for each score, or a score
            is not finite.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        scores = np.asarray(scores, dtype=float)
        if scores.ndim != 1 or len(scores) == 0:
            raise ValueError(f"scores have shape {scores.shape}, expected (n,), one an image")
        if not np.isfinite(scores).all():
            i = int(np.argmin(np.isfinite(scores)))
            raise ValueError(f"scores[{i}] is {scores[i]}, expected finite numbers")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number or None")
        labels = None if y is None else image_labels(y)
        if labels is not None and len(labels) != len(scores):
            raise ValueError(
                f"there are {len(labels)} y and {len(scores)} scores, expected as many"
            )
        display = cls(scores=scores, labels=labels, threshold=threshold)
        return display.plot(ax, bins=bins, **bar_kwargs)

    def plot(self, ax=None, *, bins=30, **bar_kwargs):
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        bins : int, default=30
            Bars over the range of all scores, of one width; where the threshold
            lies in it, it lies between two bars, which takes one bar more.
        **bar_kwargs
            For matplotlib's `Axes.hist`.

        Returns
        -------
        ScoreHistogramDisplay
            Itself.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_, self.figure_ = one_axes(ax)
        edges = _bin_edges(self.scores, self.threshold, bins)
        self.bars_ = []
        for name, scores, colour in self._groups():
            style = {"color": colour, "alpha": 0.6, "label": self._label(name, scores)}
            *_, bars = self.ax_.hist(scores, edges, **{**style, **bar_kwargs})
            self.bars_.append(bars)
        if self.threshold is not None:
            label = f"threshold {self.threshold:.3g}"
            self.ax_.axvline(self.threshold, color="black", linestyle="--", label=label)
        self.ax_.set(xlabel="Score (higher = more normal)", ylabel="Images")
        self.ax_.yaxis.get_major_locator().set_params(integer=True)
        self.ax_.legend()
        return self

    def _groups(self):
        if self.labels is None:
            return [("all images", self.scores, "tab:blue")]
        groups = [("normal", 1, GREEN), ("anomalous", -1, RED)]
        return [
            (name, self.scores[self.labels == label], colour)
            for name, label, colour in groups
            if np.any(self.labels == label)
        ]

    def _label(self, name, scores):
        if self.threshold is None:
            return f"{name} ({len(scores)})"
        return f"{name} ({len(scores)}, {np.mean(scores < self.threshold):.1%} flagged)"


def _bin_edges(scores, threshold, n_bins):
    """Edges of one width over the scores; the threshold is one, if it lies among them."""
    edges = np.histogram_bin_edges(scores, n_bins)
    if threshold is None or not edges[0] <= threshold <= edges[-1]:
        return edges
    low, high, width = scores.min(), scores.max(), edges[1] - edges[0]
    first = np.floor((low - threshold) / width)
    last = np.floor((high - threshold) / width) + 1
    edges = threshold + width * np.arange(first, last + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)  # against rounding
    return edges
