"""Maps over images, on a scale anchored at the threshold."""

from __future__ import annotations

import numpy as np

from .._unwrap import value_range_of
from .._validation import check_masks_and_maps
from ..images import check_images
from ..regions import find_regions
from ._common import (
    check_boxes,
    draw_boxes,
    draw_outline,
    require_matplotlib,
    unwrap_fitted,
    verdict_colour,
)
from ._palette import STOPS, opacity
from ._shown import as_shown
from ._verdicts import verdict_text

_KINDS = {"image": "image", "map": "anomaly map", "overlay": "map over image"}


class AnomalyMapDisplay:
    """Images, their anomaly maps, and the maps laid over the images, a row an image.

    All rows share one colour scale, which turns red at the threshold: what is below
    it is pale, however large it is beside the rest of its map, so a good part does
    not glow. In overlays, what exceeds the threshold is outlined in white.

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
    regions : Bunch or None, default=None
        As of `skanomaly.find_regions`; a box is drawn around each.

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

    def __init__(
        self,
        *,
        images,
        maps,
        masks=None,
        threshold=None,
        titles=None,
        flagged=None,
        regions=None,
    ):
        self.images = images
        self.maps = maps
        self.masks = masks
        self.threshold = threshold
        self.titles = titles
        self.flagged = flagged
        self.regions = regions

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        masks=None,
        *,
        regions=False,
        kinds=("image", "map", "overlay"),
        vmin=None,
        vmax=None,
        ax=None,
    ):
        """Show what a detector finds in images.

        The colours turn at its ``map_threshold_``; the titles are its verdicts, which
        ``offset_`` decides, and how many times the threshold an image's score is.

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
        regions : bool or Bunch, default=False
            As for `from_predictions`.
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
        require_matplotlib(f"{cls.__name__}.from_estimator")
        detector, X = unwrap_fitted(estimator, X)
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
            titles=[verdict_text(score, detector.offset_) for score in found.scores],
            flagged=found.labels == -1,
            value_range=value_range_of(detector),
            regions=regions,
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
        regions=False,
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
        regions : bool or Bunch, default=False
            True draws a box around each region above the threshold, which takes one; a
            Bunch, as of `skanomaly.find_regions`, around those that it holds, such as the
            larger ones.
        kinds, vmin, vmax, ax
            As for `plot`.

        Returns
        -------
        AnomalyMapDisplay

        Raises
        ------
        ValueError
            If numbers or shapes do not match, an image cannot be shown, a map holds
            NaN or infinity, or a mask is not binary; it names the first that does. If
            regions are asked for without a threshold, or are of other images.
        """
        require_matplotlib(f"{cls.__name__}.from_predictions")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number or None")
        images = check_images(images)
        _check_as_many(images, maps=maps, masks=masks, titles=titles, flagged=flagged)
        images = [as_shown(images, i, value_range) for i in range(len(images))]
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
            regions=_regions_to_box(regions, maps, threshold),
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
        require_matplotlib(f"{type(self).__name__}.plot")
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
        self.colorbar_ = (
            self._draw_colorbar(scale, kinds) if {"map", "overlay"} & set(kinds) else None
        )
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
        if kind == "overlay" and self.threshold is not None:
            draw_outline(ax, self.maps[i] > self.threshold, "white")
        if self.masks is not None:
            draw_outline(ax, self.masks[i])
        if self.regions is not None:
            draw_boxes(ax, self.regions, i)

    def _opacity(self, anomaly_map, scale):
        """Of a map laid over its image: nothing far below the threshold, most above it."""
        position = np.ma.getdata(scale.norm(anomaly_map))  # 0.5 at the threshold
        if self.threshold is None:
            return np.clip(0.8 * position, 0, 0.8)
        return opacity(position)

    def _title_colour(self, i):
        return "black" if self.flagged is None else verdict_colour(self.flagged[i])

    def _draw_colorbar(self, scale, kinds):
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
        notes = []
        is_outlined = self.threshold is not None and "overlay" in kinds
        if is_outlined and any((m > self.threshold).any() for m in self.maps):
            notes.append("white outline: above the threshold")
        if self.masks is not None and any(mask.any() for mask in self.masks):
            notes.append("blue outline: marked defect")
        if self.regions is not None and len(self.regions["image"]):
            notes.append("orange box: region found")
        if notes:
            colorbar.set_label("\n".join(notes), size=9)
        return colorbar


def _regions_to_box(regions, maps, threshold):
    """The regions whose boxes are drawn, or None."""
    if isinstance(regions, (bool, np.bool_)):
        if regions and threshold is None:
            raise ValueError(
                "regions=True draws those above the threshold, which is None; pass a threshold, or "
                "what find_regions gives"
            )
        return find_regions(maps, threshold) if regions else None
    if regions is not None:
        check_boxes(regions, len(maps))
    return regions


def _check_as_many(images, **others):
    for name, values in others.items():
        if values is not None and len(values) != len(images):
            raise ValueError(
                f"there are {len(images)} images and {len(values)} {name}, expected as many"
            )


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
    colours = LinearSegmentedColormap.from_list("threshold", list(STOPS))
    # Red begins at the centre, so the threshold itself is kept below it, also when rounded.
    centre = max(_just_above(threshold), threshold + 1e-12 * (vmax - vmin))
    return ScalarMappable(TwoSlopeNorm(centre, vmin, vmax), colours)


def _just_above(threshold):
    """The first float32, which is what maps hold, that exceeds the threshold."""
    rounded = np.float32(threshold)
    if float(rounded) <= threshold:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return float(rounded)


def _as_grid(ax, shape):
    axes = np.asarray(ax, dtype=object)
    if axes.size != shape[0] * shape[1] or (axes.ndim > 1 and axes.shape != shape):
        raise ValueError(
            f"ax is an array of axes of shape {axes.shape}, expected {shape}: a row for each "
            "image, a column for each kind"
        )
    return axes.reshape(shape)
