"""Curves of metrics on maps."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import auc

from .._validation import check_max_fpr
from ..metrics import pro_curve
from ._common import one_axes, require_matplotlib, unwrap_fitted


class PROCurveDisplay:
    """Per-region overlap against the false-positive rate, and the area below it.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    fpr, pro : ndarray, shape (m,)
        The curve, both ascending.
    aupro : float or None, default=None
        Area up to `max_fpr`, divided by `max_fpr`, for the legend.
    max_fpr : float in (0, 1], default=0.3
    name : str or None, default=None
        For the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
    area_ : matplotlib PolyCollection
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skanomaly.metrics.pro_curve : The curve.
    skanomaly.metrics.aupro_score : The area.

    Examples
    --------
    >>> from skanomaly.plotting import PROCurveDisplay
    >>> masks, maps = [[[True, False, False]]], [[[0.5, 0.9, 0.1]]]
    >>> display = PROCurveDisplay.from_predictions(masks, maps, max_fpr=1.0, name="a")
    >>> display.line_.get_label()
    'a (AUPRO = 0.50 up to FPR 1)'
    """

    def __init__(self, *, fpr, pro, aupro=None, max_fpr=0.3, name=None):
        self.fpr = fpr
        self.pro = pro
        self.aupro = aupro
        self.max_fpr = max_fpr
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, X, masks, *, max_fpr=0.3, name=None, ax=None, **line_kwargs):
        """Draw the curve of a detector's maps.

        Parameters
        ----------
        estimator : detector, or Pipeline or search that ends in one
            Fitted.
        X : batch of images
            As `estimator` takes it.
        masks : array of bool, shape (n, H, W), or sequence of (H, W)
            True where the defect is; 0 and 1 are taken too.
        max_fpr : float in (0, 1], default=0.3
            Up to where the area is taken.
        name : str or None, default=None
            For the legend; None takes the detector's class.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        **line_kwargs
            For matplotlib's `Axes.plot`.

        Returns
        -------
        PROCurveDisplay

        Raises
        ------
        ValueError
            As `skanomaly.metrics.aupro_score`.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_max_fpr(max_fpr)
        detector, X = unwrap_fitted(estimator, X)
        name = type(detector).__name__ if name is None else name
        maps = detector.transform(X)
        return cls.from_predictions(masks, maps, max_fpr=max_fpr, name=name, ax=ax, **line_kwargs)

    @classmethod
    def from_predictions(cls, masks, maps, *, max_fpr=0.3, name=None, ax=None, **line_kwargs):
        """Draw the curve of maps that have been computed.

        Parameters
        ----------
        masks : array of bool, shape (n, H, W), or sequence of (H, W)
            True where the defect is; 0 and 1 are taken too.
        maps : array, shape (n, H, W), or sequence of (H, W)
            Higher = more anomalous. Each of its mask's shape.
        max_fpr : float in (0, 1], default=0.3
            Up to where the area is taken.
        name : str or None, default=None
            For the legend.
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        **line_kwargs
            For matplotlib's `Axes.plot`.

        Returns
        -------
        PROCurveDisplay
            Its area is NaN and its curve empty, with an `UndefinedMetricWarning`,
            unless there are both defective and normal pixels.

        Raises
        ------
        ValueError
            As `skanomaly.metrics.aupro_score`.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        check_max_fpr(max_fpr)
        fpr, pro, _ = pro_curve(masks, maps)
        aupro = float(auc(*_up_to(max_fpr, fpr, pro)) / max_fpr) if len(fpr) > 1 else np.nan
        return cls(fpr=fpr, pro=pro, aupro=aupro, max_fpr=max_fpr, name=name).plot(
            ax, **line_kwargs
        )

    def plot(self, ax=None, *, name=None, **line_kwargs):
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.
        name : str or None, default=None
            For the legend; None takes the display's own.
        **line_kwargs
            For matplotlib's `Axes.plot`.

        Returns
        -------
        PROCurveDisplay
            Itself.
        """
        require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_, self.figure_ = one_axes(ax)
        label = self._label(self.name if name is None else name)
        (self.line_,) = self.ax_.plot(
            *_thinned(self.fpr, self.pro), **{"label": label, **line_kwargs}
        )
        colour = self.line_.get_color()
        below = _thinned(*_up_to(self.max_fpr, self.fpr, self.pro))
        self.area_ = self.ax_.fill_between(*below, color=colour, alpha=0.2, linewidth=0)
        self.ax_.axvline(self.max_fpr, color="grey", linestyle=":", linewidth=1)
        self.ax_.set(
            xlabel="False positive rate (share of normal pixels)",
            ylabel="Per-region overlap",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
        )
        if not self.line_.get_label().startswith("_"):  # as matplotlib names what has none
            self.ax_.legend(loc="lower right")
        return self

    def _label(self, name):
        if self.aupro is None:
            return name
        area = f"AUPRO = {self.aupro:.2f} up to FPR {self.max_fpr:g}"
        return area if name is None else f"{name} ({area})"


def _up_to(max_fpr, fpr, pro):
    """The part of a curve up to a false-positive rate, with a point there."""
    within = fpr <= max_fpr
    return np.append(fpr[within], max_fpr), np.append(pro[within], np.interp(max_fpr, fpr, pro))


def _thinned(x, y, n_cells=1000):
    """Points of a curve that ascends in both, few enough to draw, none far from another.

    Those that enter or leave a cell of its length; no other is further from the line
    drawn than a cell.
    """
    cell = np.floor((x + y) * n_cells)
    changes = np.append(True, np.diff(cell) != 0)
    keep = changes | np.append(changes[1:], True)
    return x[keep], y[keep]
