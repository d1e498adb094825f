"""Many images and their maps at a glance."""

from __future__ import annotations

import numpy as np

from ._common import check_boxes, draw_boxes, draw_outline, require_matplotlib, verdict_colour


def plot_sheet(
    images,
    maps,
    *,
    masks=None,
    titles=None,
    flagged=None,
    regions=None,
    limit=None,
    n_columns=6,
):
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
    regions : Bunch or None, default=None
        As of `skanomaly.find_regions`; a box is drawn around each, on image and map.
    limit : float or None, default=None
        Map value at the top of the colour scale, which begins at 0; None takes the
        largest. Twice the detector's threshold keeps good parts from glowing.
    n_columns : int, default=6

    Returns
    -------
    matplotlib.figure.Figure
    """
    require_matplotlib("plot_sheet")
    from matplotlib.figure import Figure

    if regions is not None:
        check_boxes(regions, len(images))
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
                draw_outline(ax, masks[i])
        if regions is not None:
            for ax in (top, below):
                draw_boxes(ax, regions, i)
        if titles is not None:
            color = "black" if flagged is None else verdict_colour(flagged[i])
            top.set_title(titles[i], fontsize=8, color=color)
    figure.colorbar(drawn, ax=axes, shrink=0.3, aspect=40, label="anomaly map")
    return figure
