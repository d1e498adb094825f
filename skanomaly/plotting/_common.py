"""What all pictures share."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._unwrap import unwrap

RED, GREEN, BLUE = "#c0392b", "#2e8b57", "deepskyblue"


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
    return unwrap(estimator, X)


def verdict_colour(flagged):
    """Red for what is called anomalous, green for the rest."""
    return RED if flagged else GREEN


def draw_outline(ax, mask):
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
        colors=BLUE,
        linewidths=1.2,
    )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def one_axes(ax):
    """The axes given, or those of a new figure, and their figure."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots()
    return ax, ax.figure
