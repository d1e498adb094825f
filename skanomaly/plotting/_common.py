"""What all pictures share."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._unwrap import has_products, steps_of, unwrap
from ._palette import BLUE, GREEN, ORANGE, RED

_SIDES = ("top", "left", "bottom", "right")


def require_matplotlib(caller):
    """Raise an ImportError that names the caller and the remedy if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller} requires matplotlib; install it with `pip install skanomaly[plot]`"
        ) from error


def unwrap_fitted(estimator, X):
    """The detector inside a fitted Pipeline or search, and X as it reaches it."""
    check_is_fitted(estimator)
    if has_products(estimator):
        raise ValueError(
            f"estimator is or ends in a {type(steps_of(estimator)[1]).__name__}, whose scores and "
            "maps are in units of each product's own; draw one product, by from_estimator of "
            "detectors_[name] with its images"
        )
    return unwrap(estimator, X)


def verdict_colour(flagged):
    """Red for what is called anomalous, green for the rest."""
    return RED if flagged else GREEN


def draw_outline(ax, mask, colour=BLUE):
    """Draw the border of a mask, if it marks anything; dark on both sides, so seen on all."""
    from matplotlib.patheffects import withStroke

    if not mask.any():
        return
    height, width = mask.shape
    framed = np.pad(mask, 1)  # so that a defect at the image's edge has a border there too
    drawn = ax.contour(
        np.arange(-1, width + 1),
        np.arange(-1, height + 1),
        framed,
        levels=[0.5],
        colors=colour,
        linewidths=1.2,
    )
    drawn.set_path_effects([withStroke(linewidth=2.4, foreground="black")])
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def check_boxes(regions, n_images):
    """Raise ValueError unless they are regions of these images."""
    missing = [name for name in ("image", *_SIDES) if name not in regions]
    if missing:
        raise ValueError(
            f"regions have no {missing[0]}; pass what find_regions gives, which has a box for each"
        )
    strange = np.flatnonzero((np.asarray(regions["image"]) < 0) | (regions["image"] >= n_images))
    if len(strange):
        i = int(strange[0])
        raise ValueError(
            f"region {i} is of image {regions['image'][i]}, and there are {n_images}; pass the "
            "regions of the images that are shown"
        )


def draw_boxes(ax, regions, i):
    """Draw a box around each region of image i, just outside of its pixels."""
    from matplotlib.patches import Rectangle

    for top, left, bottom, right in np.stack([regions[side] for side in _SIDES], axis=1)[
        np.asarray(regions["image"]) == i
    ]:
        corner = left - 0.5, top - 0.5
        box = Rectangle(corner, right - left, bottom - top, edgecolor=ORANGE, fill=False)
        ax.add_patch(box).set(linewidth=1.2, clip_on=False)


def one_axes(ax):
    """The axes given, or those of a new figure, and their figure."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots()
    return ax, ax.figure
