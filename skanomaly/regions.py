"""Maps -> regions: where the defects are that a threshold finds, as a table."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from skimage.measure import label, regionprops_table
from sklearn.utils import Bunch

from ._validation import check_maps
from .images import Regions

_PROPERTIES = {
    "bbox-0": "top",
    "bbox-1": "left",
    "bbox-2": "bottom",
    "bbox-3": "right",
    "centroid-0": "centroid_row",
    "centroid-1": "centroid_column",
    "area": "area",
    "intensity_max": "max",
    "intensity_mean": "mean",
}
_ASKED = ("bbox", "centroid", "area", "intensity_max", "intensity_mean")
_STEPS = {4: 1, 8: 2}  # of one pixel along an axis that lead to a neighbour


def find_regions(maps, threshold, *, min_area=1, connectivity=8, roi=None):
    """Find the connected regions of maps above a threshold: what is marked, where, how large.

    With a detector's ``map_threshold_``, an image has a region exactly if the detector calls
    it anomalous by the maximum of its map (``score_reduction="max"``, the default). By any
    other reduction an image may be flagged without a region, and the other way round.

    Parameters
    ----------
    maps : array, shape (n, H, W), or sequence of n arrays (H, W)
        As of a detector's `transform`, higher = more anomalous; they may differ in size.
    threshold : float, or array-like of float, shape (n,)
        Map value above which a pixel belongs to a region, not at it; one for all maps or one
        for each.
    min_area : int, default=1
        Regions of fewer pixels are left out.
    connectivity : {4, 8}, default=8
        Whether pixels touch at sides only, or at corners too.
    roi : array of bool, sequence of such, or None, default=None
        Region of interest, as for the detector: pixels outside are in no region.

    Returns
    -------
    Bunch of ndarray, each of shape (n_regions,)
        One entry a region, by image and then from the highest `max` on;
        ``pandas.DataFrame(found)`` makes a table of it.

        image : int
            Index of the map.
        top, left, bottom, right : int
            Box, half-open: ``maps[image][top:bottom, left:right]`` holds the region.
        centroid_row, centroid_column : float
            Mean position of its pixels, from 0 on; no weights.
        area : int
            Pixels.
        share : float
            Of the map's pixels, in (0, 1].
        max, mean : float
            Of its map values.

    Raises
    ------
    ValueError
        If maps, thresholds or regions of interest are none; it names the first.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import find_regions
    >>> maps = np.zeros((2, 6, 8))
    >>> maps[1, 1:3, 4:7], maps[1, 5, 0] = 2.0, 7.0
    >>> found = find_regions(maps, threshold=1.0)
    >>> found.image, found.area, found.max
    (array([1, 1]), array([1, 6]), array([7., 2.]))
    >>> [int(found[side][1]) for side in ("top", "left", "bottom", "right")]
    [1, 4, 3, 7]
    """
    maps = check_maps(maps)
    thresholds = _checked_thresholds(threshold, len(maps))
    if not isinstance(min_area, Integral) or min_area < 1:
        raise ValueError(f"min_area must be an int of at least 1 pixel, got {min_area!r}")
    if connectivity not in _STEPS:
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity!r}")
    regions = Regions(roi, len(maps))
    tables = []
    for i, (anomaly_map, limit) in enumerate(zip(maps, thresholds)):
        above = anomaly_map > limit
        region = regions.of(i, above.shape)
        if region is not None:
            above &= region
        tables.append(_table(i, anomaly_map, above, _STEPS[connectivity], min_area))
    return Bunch(**{name: np.concatenate([t[name] for t in tables]) for name in tables[0]})


def _table(i, anomaly_map, above, steps, min_area):
    """The regions of one map, from the highest on."""
    labels = label(above, connectivity=steps)
    found = regionprops_table(labels, anomaly_map.astype(float), properties=_ASKED)
    found = {name: found[theirs] for theirs, name in _PROPERTIES.items()}
    found["area"] = found["area"].astype(np.int64)
    found["share"] = found["area"] / above.size
    order = np.argsort(-found["max"], kind="stable")
    order = order[found["area"][order] >= min_area]
    columns = {name: values[order] for name, values in found.items()}
    return {"image": np.full(len(order), i), **columns}


def _checked_thresholds(threshold, n):
    """One for each map, in double precision, in which single-precision maps compare exactly."""
    thresholds = np.asarray(threshold, dtype=np.float64)
    if thresholds.ndim and thresholds.shape != (n,):
        raise ValueError(
            f"threshold has shape {thresholds.shape}, expected one number, or ({n},), one a map"
        )
    not_finite = np.flatnonzero(~np.isfinite(thresholds))
    if len(not_finite):
        where = f"[{not_finite[0]}]" if thresholds.ndim else ""
        raise ValueError(
            f"threshold{where} is {thresholds.flat[not_finite[0]]}, expected a finite number, such "
            "as a detector's map_threshold_"
        )
    return np.broadcast_to(thresholds, n)
