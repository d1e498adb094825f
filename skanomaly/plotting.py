"""Pictures of maps, curves and scores (needs matplotlib: ``pip install skanomaly[plot]``).

As in scikit-learn, a Display is made by ``from_estimator`` or ``from_predictions``,
keeps what it has computed, and can be drawn again with ``plot``.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import auc
from sklearn.utils.validation import check_is_fitted

from .images import ImageDataset, check_images
from .metrics import pro_curve
from .metrics._validation import check_masks_and_maps, check_max_fpr, image_labels
from .unwrapping import unwrap

_RED, _GREEN, _BLUE = "#c0392b", "#2e8b57", "deepskyblue"

# Below the threshold and above it; the jump between the two is the threshold.
_QUIET = ["#ffffff", "#c4c9d0"]
_ALARMING = ["#fb6a4a", "#cb181d", "#67000d"]

_KINDS = {"image": "image", "map": "anomaly map", "overlay": "map over image"}


class AnomalyMapDisplay:
    """Images, their anomaly maps, and the maps laid over the images, a row an image.

    All rows share one colour scale, which turns red at the threshold: what is below
    it is pale, however large it is beside the rest of its map, so a good part does
    not glow.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    images : list of ndarray, each (H, W) or (H, W, 3)
        In [0, 1].
    maps : list of ndarray, each (H, W)
        Higher = more anomalous.
    masks : list of bool ndarray, each (H, W), or None, default=None
        True where the defect is; it is outlined.
    threshold : float or None, default=None
        Map value above which colours are red; None for a plain scale.
    titles : sequence of str or None, default=None
        One for each image.
    flagged : sequence of bool or None, default=None
        Images that were called anomalous get a red title, the others a green one.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (n_images, n_kinds)
    figure_ : matplotlib Figure
    colorbar_ : matplotlib Colorbar or None
        None if neither maps nor overlays are shown.

    See Also
    --------
    plot_sheet : Many images, each above its map.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.plotting import AnomalyMapDisplay
    >>> images, maps = np.full((2, 8, 8), 0.5), np.zeros((2, 8, 8))
    >>> maps[1, 2:4, 5:7] = 3.0
    >>> display = AnomalyMapDisplay.from_predictions(images, maps, threshold=1.0)
    >>> display.axes_.shape
    (2, 3)
    """

    def __init__(self, *, images, maps, masks=None, threshold=None, titles=None, flagged=None):
        self.images = images
        self.maps = maps
        self.masks = masks
        self.threshold = threshold
        self.titles = titles
        self.flagged = flagged

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        masks=None,
        *,
        kinds=("image", "map", "overlay"),
        vmin=None,
        vmax=None,
        ax=None,
    ):
        """Show what a detector finds in images.

        The colours turn at its ``map_threshold_``; the titles are its scores and
        verdicts, which ``offset_`` decides.

        Parameters
        ----------
        estimator : detector, or Pipeline or search that ends in one
            Fitted.
        X : batch of images
            As `estimator` takes it; a row each, so a few. Shown are the images as
            the detector itself sees them, after a pipeline's earlier steps. Images
            of 2, or more than 3, channels are shown as the mean over channels, in
            grey.
        masks : array of bool, shape (n, H, W), sequence of (H, W), or None, default=None
            True where the defect is, in the pixels of the images shown.
        kinds, vmin, vmax, ax
            As for `plot`.

        Returns
        -------
        AnomalyMapDisplay

        Raises
        ------
        ValueError
            If `estimator` holds no detector, or images and masks do not match.
        """
        _require_matplotlib(f"{cls.__name__}.from_estimator")
        detector, X = _unwrap_fitted(estimator, X)
        if not hasattr(detector, "detect"):
            raise ValueError(
                f"estimator is a {type(detector).__name__}, expected a detector or a Pipeline or "
                "search that ends in one"
            )
        found = detector.detect(X)
        return cls.from_predictions(
            X,
            found.maps,
            masks=masks,
            threshold=detector.map_threshold_,
            titles=[_verdict(score, detector.offset_) for score in found.scores],
            flagged=found.labels == -1,
            value_range=detector.value_range,
            kinds=kinds,
            vmin=vmin,
            vmax=vmax,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        images,
        maps,
        *,
        threshold,
        masks=None,
        titles=None,
        flagged=None,
        value_range=None,
        kinds=("image", "map", "overlay"),
        vmin=None,
        vmax=None,
        ax=None,
    ):
        """Show maps that have been computed.

        Parameters
        ----------
        images : array, or sequence of arrays, PIL images or paths, or ImageFiles
            As a detector takes them; a row each, so a few. Images of 2, or more
            than 3, channels are shown as the mean over channels, in grey.
        maps : array, shape (n, H, W), or sequence of (H, W)
            Higher = more anomalous. Each of its image's height and width.
        threshold : float or None
            Map value above which colours are red, such as a detector's
            ``map_threshold_``. None gives a plain scale from the smallest value to
            the largest, on which a good part may glow like a defect.
        masks : array of bool, shape (n, H, W), sequence of (H, W), or None, default=None
            True where the defect is; 0 and 1 are taken too.
        titles : sequence of str or None, default=None
            One for each image.
        flagged : sequence of bool or None, default=None
            Images that were called anomalous get a red title, the others a green
            one.
        value_range : (float, float) or None, default=None
            Values that mean black and white. None: 0 to the largest value of an
            unsigned 8- or 16-bit dtype, 0 to 1 for floats.
        kinds, vmin, vmax, ax
            As for `plot`.

        Returns
        -------
        AnomalyMapDisplay

        Raises
        ------
        ValueError
            If numbers or shapes do not match, an image cannot be shown, a map holds
            NaN or infinity, or a mask is not binary; it names the first that does.
        """
        _require_matplotlib(f"{cls.__name__}.from_predictions")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number or None")
        images = check_images(images)
        _check_as_many(images, maps=maps, masks=masks, titles=titles, flagged=flagged)
        images = [_as_shown(images, i, value_range) for i in range(len(images))]
        for i, (image, anomaly_map) in enumerate(zip(images, maps)):
            if np.shape(anomaly_map) != image.shape[:2]:
                raise ValueError(
                    f"map {i} has shape {np.shape(anomaly_map)} and image {i} {image.shape}, "
                    "expected the same height and width"
                )
        no_defect = [np.zeros(image.shape[:2], bool) for image in images]
        masks, maps = check_masks_and_maps(no_defect if masks is None else masks, maps)
        display = cls(
            images=images,
            maps=maps,
            masks=masks,
            threshold=threshold,
            titles=titles,
            flagged=flagged,
        )
        return display.plot(ax, kinds=kinds, vmin=vmin, vmax=vmax)

    def plot(self, ax=None, *, kinds=("image", "map", "overlay"), vmin=None, vmax=None):
        """Draw it.

        Parameters
        ----------
        ax : array of matplotlib Axes, shape (n_images, n_kinds), or None, default=None
            Where to draw; of one row or one column, the array may be flat. None
            makes a new figure.
        kinds : sequence of {"image", "map", "overlay"}, default=all three
            The columns. In an overlay, the image shows through where the map is
            far below the threshold.
        vmin : float or None, default=None
            Map value at the bottom of the colour scale; None takes the smallest.
        vmax : float or None, default=None
            Map value at the top. None takes the largest, or the value as far above
            the threshold as `vmin` is below, if that is more.

        Returns
        -------
        AnomalyMapDisplay
            Itself.

        Raises
        ------
        ValueError
            If the number of axes is wrong, a kind is unknown, or the threshold does
            not lie between `vmin` and `vmax`.
        """
        _require_matplotlib(f"{type(self).__name__}.plot")
        for kind in kinds:
            if kind not in _KINDS:
                raise ValueError(f"kinds holds {kind!r}, expected some of {', '.join(_KINDS)}")
        scale = _colour_scale(self.maps, self.threshold, vmin, vmax)
        shape = (len(self.images), len(kinds))
        self.axes_ = self._new_axes(shape) if ax is None else _as_grid(ax, shape)
        self.figure_ = self.axes_[0, 0].figure
        for i, row in enumerate(self.axes_):
            for ax, kind in zip(row, kinds):
                self._draw(ax, i, kind, scale)
            if self.titles is not None:
                row[0].set_title(self.titles[i], color=self._title_colour(i), loc="left", size=9)
        for ax, kind in zip(self.axes_[0], kinds):
            if self.titles is None or ax is not self.axes_[0, 0]:
                ax.set_title(_KINDS[kind], size=9)
        self.colorbar_ = self._draw_colorbar(scale) if {"map", "overlay"} & set(kinds) else None
        return self

    def _new_axes(self, shape):
        import matplotlib.pyplot as plt

        width = 2.6
        heights = [width * np.clip(m.shape[0] / m.shape[1], 0.25, 2) for m in self.maps]
        _, axes = plt.subplots(
            *shape,
            squeeze=False,
            figsize=(width * shape[1] + 1.1, sum(heights) + 0.45 * shape[0]),
            height_ratios=heights,
            layout="constrained",
        )
        return axes

    def _draw(self, ax, i, kind, scale):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(color="lightgrey", linewidth=0.8)
        if kind != "map":
            ax.imshow(self.images[i], cmap="gray", vmin=0, vmax=1)
        if kind == "map":
            ax.imshow(self.maps[i], cmap=scale.cmap, norm=scale.norm)
        elif kind == "overlay":
            alpha = self._opacity(self.maps[i], scale)
            ax.imshow(self.maps[i], cmap=scale.cmap, norm=scale.norm, alpha=alpha)
        if self.masks is not None:
            _outline(ax, self.masks[i])

    def _opacity(self, anomaly_map, scale):
        """Of a map laid over its image: nothing far below the threshold, most above it."""
        position = np.ma.getdata(scale.norm(anomaly_map))  # 0.5 at the threshold
        if self.threshold is None:
            return np.clip(0.8 * position, 0, 0.8)
        below, above = (0, 0.25, 0.5), (0.5, 0.75)
        return np.where(
            position < 0.5,
            np.interp(position, below, (0, 0, 0.2)),
            np.interp(position, above, (0.6, 0.85)),
        )

    def _title_colour(self, i):
        return "black" if self.flagged is None else _verdict_colour(self.flagged[i])

    def _draw_colorbar(self, scale):
        n_rows = len(self.axes_)
        colorbar = self.figure_.colorbar(
            scale, ax=self.axes_, shrink=min(1, 3 / n_rows), anchor=(0, 1), aspect=25
        )
        if self.threshold is not None:
            vmin, vmax = scale.get_clim()
            colorbar.set_ticks(
                [vmin, self.threshold, vmax],
                labels=[f"{vmin:.3g}", f"{self.threshold:.3g}\nthreshold", f"{vmax:.3g}"],
            )
            colorbar.ax.axhline(self.threshold, color="black", linewidth=1.5)
        if self.masks is not None and any(mask.any() for mask in self.masks):
            colorbar.set_label("blue outline: marked defect", size=9)
        return colorbar


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
        _require_matplotlib(f"{cls.__name__}.from_estimator")
        check_max_fpr(max_fpr)
        detector, X = _unwrap_fitted(estimator, X)
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
        _require_matplotlib(f"{cls.__name__}.from_predictions")
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
        _require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_, self.figure_ = _one_axes(ax)
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
        _require_matplotlib(f"{cls.__name__}.from_estimator")
        detector, X = _unwrap_fitted(estimator, X)
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
        _require_matplotlib(f"{cls.__name__}.from_predictions")
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
        _require_matplotlib(f"{type(self).__name__}.plot")
        self.ax_, self.figure_ = _one_axes(ax)
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
        groups = [("normal", 1, _GREEN), ("anomalous", -1, _RED)]
        return [
            (name, self.scores[self.labels == label], colour)
            for name, label, colour in groups
            if np.any(self.labels == label)
        ]

    def _label(self, name, scores):
        if self.threshold is None:
            return f"{name} ({len(scores)})"
        return f"{name} ({len(scores)}, {np.mean(scores < self.threshold):.1%} flagged)"


def plot_sheet(images, maps, *, masks=None, titles=None, flagged=None, limit=None, n_columns=6):
    """A sheet of images, each above its map, with the mask's outline on both.

    Parameters
    ----------
    images : sequence of ndarray, each (H, W) or (H, W, C)
        uint8, or float in [0, 1].
    maps : sequence of ndarray, each (H, W)
    masks : sequence of bool ndarray, each (H, W), or None, default=None
    titles : sequence of str or None, default=None
    flagged : sequence of bool or None, default=None
        Images that were called anomalous get a red title, the others a green one.
    limit : float or None, default=None
        Map value at the top of the colour scale, which begins at 0; None takes the
        largest. Twice the detector's threshold keeps good parts from glowing.
    n_columns : int, default=6

    Returns
    -------
    matplotlib.figure.Figure
    """
    _require_matplotlib("plot_sheet")
    from matplotlib.figure import Figure

    n_rows = -(-len(images) // n_columns)
    limit = max(float(np.max(m)) for m in maps) if limit is None else limit
    figure = Figure(figsize=(1.6 * n_columns, 3.5 * n_rows), layout="constrained", dpi=110)
    axes = figure.subplots(2 * n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (image, anomaly_map) in enumerate(zip(images, maps, strict=True)):
        top, below = axes[2 * (i // n_columns) : 2 * (i // n_columns) + 2, i % n_columns]
        white = 255 if image.dtype == np.uint8 else 1
        top.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=white)
        drawn = below.imshow(anomaly_map, cmap="inferno", vmin=0, vmax=limit)
        if masks is not None:
            for ax in (top, below):
                _outline(ax, masks[i])
        if titles is not None:
            color = "black" if flagged is None else _verdict_colour(flagged[i])
            top.set_title(titles[i], fontsize=8, color=color)
    figure.colorbar(drawn, ax=axes, shrink=0.3, aspect=40, label="anomaly map")
    return figure


def _require_matplotlib(caller):
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib; install it with `pip install skanomaly[plot]`"
        ) from error


def _unwrap_fitted(estimator, X):
    check_is_fitted(estimator)
    return unwrap(estimator, X)


def _verdict(score, offset):
    word = "anomalous" if score < offset else "normal"
    return f"{word}, score {score:.3g}\nthreshold {offset:.3g}"


def _verdict_colour(flagged):
    return _RED if flagged else _GREEN


def _check_as_many(images, **others):
    for name, values in others.items():
        if values is not None and len(values) != len(images):
            raise ValueError(
                f"there are {len(images)} images and {len(values)} {name}, expected as many"
            )


def _as_shown(images, i, value_range):
    """Image i as floats in [0, 1] that matplotlib shows: (H, W) or (H, W, 3)."""
    # A dataset of its own, as images to look at may differ in their channels.
    pixels = ImageDataset(images, value_range=value_range, indices=[i])[0]
    image = np.clip(pixels.permute(1, 2, 0).numpy(), 0, 1)
    return image if image.shape[2] == 3 else image.mean(axis=2)


def _colour_scale(maps, threshold, vmin, vmax):
    """One scale for all maps, a ScalarMappable: quiet up to the threshold, red above it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, TwoSlopeNorm

    smallest = min(float(np.min(m)) for m in maps)
    largest = max(float(np.max(m)) for m in maps)
    if threshold is None:
        low, high = smallest if vmin is None else vmin, largest if vmax is None else vmax
        return ScalarMappable(Normalize(low, high), "inferno")
    if vmin is None:
        # Both halves of the scale need some width, even where nothing is below.
        widths = (threshold - smallest, largest - threshold, abs(threshold), 1.0)
        resolved = 10 * (_just_above(threshold) - threshold)
        vmin = threshold - next(width for width in widths if width > resolved)
    if vmax is None:
        vmax = max(largest, threshold + (threshold - vmin))
    if not vmin < threshold < vmax:
        raise ValueError(
            f"threshold is {threshold:g}, expected between vmin ({vmin:g}) and vmax ({vmax:g})"
        )
    halves = zip((0, 0.5, 0.5, 0.75, 1), _QUIET + _ALARMING)
    colours = LinearSegmentedColormap.from_list("threshold", list(halves))
    # Red begins at the centre, so the threshold itself is kept below it, also when rounded.
    centre = max(_just_above(threshold), threshold + 1e-12 * (vmax - vmin))
    return ScalarMappable(TwoSlopeNorm(centre, vmin, vmax), colours)


def _just_above(threshold):
    """The first float32, which is what maps hold, that exceeds the threshold."""
    rounded = np.float32(threshold)
    if float(rounded) <= threshold:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def _outline(ax, mask):
    """Draw the border of a mask, if it marks anything."""
    if not mask.any():
        return
    height, width = mask.shape
    framed = np.pad(mask, 1)  # so that a defect at the image's edge has a border there too
    ax.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        framed,
        levels=[0.5],
        colors=_BLUE,
        linewidths=1.2,
    )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _as_grid(ax, shape):
    axes = np.asarray(ax, dtype=object)
    if axes.size != shape[0] * shape[1] or (axes.ndim > 1 and axes.shape != shape):
        raise ValueError(
            f"ax is an array of axes of shape {axes.shape}, expected {shape}: a row for each "
            "image, a column for each kind"
        )
    return axes.reshape(shape)


def _one_axes(ax):
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots()
    return ax, ax.figure


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
