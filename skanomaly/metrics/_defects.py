"""What each defect region is, and how well it was found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..exceptions import InvalidImageError
from ..images import ImageDataset, ImageFiles, check_images, range_of, read_image
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


def describe_defects(masks, maps, contrasts, map_threshold, max_fpr, roi=None):
    """Describe all regions.

    Parameters
    ----------
    masks, maps : lists of ndarray, each (H, W)
    contrasts : Contrasts, or dict of int to ndarray
    map_threshold : float
        NaN if the detector has none.
    max_fpr : float
    roi : as for `aupro_score`
        Masks lie within it.

    Returns
    -------
    Defects
    """
    pixels = ranked_pixels(masks, maps, by_region=True, roi=roi)
    counts = Counts.of(pixels.defective, pixels.normal)
    area = _counts.area_right_of(counts, max_fpr) / max_fpr
    map_threshold = np.float64(map_threshold)  # lest it be rounded to the maps' precision
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
                contrasts[i],
                np.bincount(labels, area[np.searchsorted(counts.thresholds, values)]) / sizes,
                np.bincount(labels, values > map_threshold) > 0,
            )
        )
    return Defects(*map(np.concatenate, zip(*parts)))


class Contrasts:
    """Contrasts of the regions of each image, by the image's number.

    Those of files are found while a detector reads them, so that each is read once.

    Parameters
    ----------
    X : batch of images
    masks : list of bool ndarray, each (H, W)
        The regions.
    marked : list of bool ndarray, each (H, W)
        All pixels that are marked, also where they do not count.
    value_range : (float, float) or None
        The detector's.
    """

    def __init__(self, X, masks, marked, value_range):
        self._X, self._masks, self._marked = X, masks, marked
        self._value_range = value_range
        self._found = {}

    def beside(self, process):
        """What a process gives of the images, which finds contrasts while it reads files."""
        X = self._X if isinstance(self._X, ImageFiles) else check_images(self._X)
        files = _Files(X, self._add)
        may_hold_files = isinstance(X, (ImageFiles, list, tuple))
        if not may_hold_files or not any(map(files.path_of, range(len(X)))):
            return process(self._X)
        try:
            return process(files)
        except InvalidImageError as error:
            if error.index is None or error.path is not None:
                raise
            path = files.path_of(error.index)
            raise InvalidImageError(error.reason, index=error.index, path=path) from error.__cause__

    def __getitem__(self, i):
        if i not in self._found:
            image = ImageDataset(self._X, value_range=self._value_range, indices=[i])[0]
            image = image.permute(1, 2, 0).numpy()
            self._found[i] = contrasts_of(self._masks[i], image, self._marked[i])
        return self._found[i]

    def _add(self, i, image):
        mask, marked = self._masks[i], self._marked[i]
        if mask.any() and image.shape[:2] == mask.shape and i not in self._found:
            low, high = range_of(image.dtype, self._value_range)
            self._found[i] = contrasts_of(mask, image, marked) / (high - low)


class _Files(Sequence):
    """Images that are read when they are looked at, and shown to an observer too."""

    def __init__(self, X, observe):
        self._X, self._observe = X, observe

    def path_of(self, i):
        """Path of image i, or None where it is no file."""
        item = self._X.paths[i] if isinstance(self._X, ImageFiles) else self._X[i]
        return os.fspath(item) if isinstance(item, (str, os.PathLike)) else None

    def __len__(self):
        return len(self._X)

    def __getitem__(self, i):
        path = self.path_of(i)
        if path is None:
            return self._X[i]
        image = read_image(path, convert=getattr(self._X, "convert", None))
        self._observe(i, image)
        return image


def contrasts_of(mask, image, marked=None):
    """Difference between each region's mean colour and that of what surrounds it.

    The surroundings are what a dilation adds that is about as wide as a quarter of
    the region's side, less all that is `marked`, by default the mask; the difference is
    the root mean square over channels, in the units of the image, (H, W) or (H, W, C).
    """
    marked = mask if marked is None else marked
    everywhere, n_regions = ndimage.label(mask, structure=np.ones((3, 3)))
    contrasts = np.full(n_regions, np.nan)
    for label, box in enumerate(ndimage.find_objects(everywhere), start=1):
        margin = max(2, round(np.sqrt(np.count_nonzero(everywhere[box] == label)) / 4))
        near = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
        region = everywhere[near] == label
        ring = ndimage.binary_dilation(region, np.ones((3, 3)), iterations=margin)
        ring &= ~marked[near]
        if ring.any():
            pixels = image[near].astype(float)
            difference = pixels[region].mean(axis=0) - pixels[ring].mean(axis=0)
            contrasts[label - 1] = np.sqrt(np.mean(difference**2))
    return contrasts
