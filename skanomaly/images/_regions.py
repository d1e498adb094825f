"""Regions of interest: which pixels of each image count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..exceptions import InvalidImageError
from ._arrays import as_array, is_array_like
from ._checks import check_is_not_masked
from ._part import PartOfBatch


class Regions:
    """The region of interest of each image of a batch.

    What regions hold is checked at once, whether they fit their images when they
    are asked for.

    Parameters
    ----------
    roi : array of bool (H, W) or (n, H, W), sequence of n such arrays or None, or None
        True where a pixel counts. One array (H, W) is for all images; None is the
        whole image.
    n : int
        Number of images.
    indices : array of int or None, default=None
        The images that these are of, by number in `roi`; None means all.

    Raises
    ------
    ValueError
        If `roi` is none of these, or not for n images.
    """

    def __init__(self, roi, n, indices=None):
        self.indices = np.arange(n) if indices is None else np.asarray(indices)
        check_is_not_masked(roi, "roi")
        roi = as_array(roi) if is_array_like(roi) else roi
        self.shared = isinstance(roi, np.ndarray) and roi.ndim == 2
        self.roi = roi
        if indices is not None or roi is None:
            return  # a subset's are checked
        if self.shared:
            self.roi = _checked(roi, 0)
            return
        if not isinstance(roi, (np.ndarray, Sequence)) or getattr(roi, "ndim", 3) < 1:
            raise ValueError(
                f"roi is a {type(roi).__name__}, expected an array of bool (H, W) or (n, H, W), or "
                "a sequence of n arrays (H, W)"
            )
        if len(roi) != n:
            raise ValueError(f"roi holds {len(roi)} regions, X {n} images; expected as many")
        self.roi = [_checked(region, i) for i, region in enumerate(roi)]

    @classmethod
    def given(cls, roi, X):
        """Those of a batch, which may have been made already; of a part, from those of all."""
        if isinstance(roi, Regions):
            return roi
        if isinstance(X, PartOfBatch):
            return cls(roi, len(X.X)).subset(X.indices)
        return cls(roi, len(X))

    def for_others(self, images):
        """Those of other images: the one that is for all, or none."""
        return Regions.given(self.roi if self.shared else None, images.X)

    def subset(self, positions):
        """Those of the images at these positions."""
        return Regions(self.roi, len(positions), self.indices[positions])

    def of(self, i, size):
        """That of image i, of a height and width: array (H, W) of bool, or None for all of it."""
        if self.roi is None:
            return None
        index = int(self.indices[i])
        region = self.roi if self.shared else self.roi[index]
        if region is None:
            return None
        if region.shape != tuple(size):
            raise InvalidImageError(
                f"its region of interest has shape {region.shape}, expected {tuple(size)} as the "
                "image",
                index=index,
            )
        return region


def _checked(region, index):
    """A region as an array of bool with at least one pixel, or None."""
    if region is None:
        return None
    if isinstance(region, np.ma.MaskedArray):
        raise InvalidImageError(
            "its region of interest is a masked array, whose mask would be lost; pass a boolean "
            "array",
            index=index,
        )
    region = as_array(region) if is_array_like(region) else np.asarray(region)
    if region.dtype != bool:
        if not np.isin(region, (0, 1)).all():
            raise InvalidImageError(
                "its region of interest holds other values than 0 and 1; pass roi > 0", index=index
            )
        region = region.astype(bool)
    if not region.any():
        raise InvalidImageError("its region of interest is empty; leave the image out", index=index)
    return region
