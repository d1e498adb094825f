"""What each defect region is, and how well it was found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from . import _counts
from ._counts import Counts
from ._pixels import ranked_pixels
from ._regions import label_regions


class Defects(NamedTuple):
    """One entry a region of all masks."""

    image: np.ndarray  #: (r,) index of its image
    size: np.ndarray  #: (r,) pixels
    contrast: np.ndarray  #: (r,) see `contrasts_of`; NaN where nothing is around the region
    aupro: np.ndarray  #: (r,) its part in AUPRO, which is the mean over regions
    is_found: np.ndarray  #: (r,) whether some pixel exceeds the map threshold


def describe_defects(masks, maps, pixels_of, map_threshold, max_fpr):
    """Describe all regions.

    Parameters
    ----------
    masks, maps : lists of ndarray, each (H, W)
    pixels_of : callable
        ``pixels_of(i)`` is image i as float (C, H, W), where black and white are
        0 and 1.
    map_threshold : float
        NaN if the detector has none.
    max_fpr : float

    Returns
    -------
    Defects
    """
    pixels = ranked_pixels(masks, maps, by_region=True)
    counts = Counts.of(pixels.defective, pixels.normal)
    area = _counts.area_right_of(counts, max_fpr) / max_fpr
    parts = []
    for i, (mask, anomaly_map) in enumerate(zip(masks, maps)):
        if not mask.any():
            continue
        labels, n_regions = label_regions(mask)
        values = anomaly_map[mask]
        sizes = np.bincount(labels)
        parts.append(
            Defects(
                np.full(n_regions, i),
                sizes,
                contrasts_of(mask, pixels_of(i)),
                np.bincount(labels, area[np.searchsorted(counts.thresholds, values)]) / sizes,
                np.bincount(labels, values > map_threshold) > 0,
            )
        )
    return Defects(*map(np.concatenate, zip(*parts)))


def contrasts_of(mask, pixels):
    """Difference between each region's mean colour and that of what surrounds it.

    The surroundings are what a dilation adds that is about as wide as a quarter of
    the region's side, less other defects; the difference is the root mean square
    over channels, in units of the range from black to white.
    """
    everywhere, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
    contrasts = np.full(n_regions, np.nan)
    for label, box in enumerate(ndimage.find_objects(everywhere), start=1):
        margin = max(2, round(np.sqrt(np.count_nonzero(everywhere[box] == label)) / 4))
        rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in box)
        region = everywhere[rows, columns] == label
        ring = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=margin)
        ring &= ~mask[rows, columns]
        if ring.any():
            near = pixels[:, rows, columns]
            difference = near[:, region].mean(axis=1) - near[:, ring].mean(axis=1)
            contrasts[label - 1] = np.sqrt(np.mean(difference**2))
    return contrasts
