"""Transformed images, and regions on them, that know where their pixels were."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from ..exceptions import InvalidImageError
from ..images import LazyImages, Marks, Regions, path_of, taken, to_array
from ..preprocessing import Placement, TransformedImages

# Placements that are remembered; others are found again when they are asked for.
MAX_KEPT = 10_000


class PlacedImages(LazyImages):
    """The images that a transformer makes of a batch, with where their pixels lie in it.

    Parameters
    ----------
    X : batch of images
    transformed : batch of as many
        What the transformer's `transform` gave.
    """

    def __init__(self, X, transformed):
        if len(X) != len(transformed):
            raise InvalidImageError(
                f"the transformer made {len(transformed)} images of {len(X)}; expected one of each"
            )
        self.X, self.transformed = X, transformed
        self._placements = OrderedDict()

    def placement(self, i):
        """Where the pixels of image i lie in the original one, which is read unless it has been."""
        found = self._placements.get(i)
        if found is None:
            self._image(i)
            found = self._placements[i]
        return found

    def forget(self, i):
        """Keep no longer where the pixels of image i lie."""
        self._placements.pop(i, None)

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        return self.X.path_at(i) if isinstance(self.X, LazyImages) else path_of(self.X[i])

    def index_of(self, i):
        """The number that errors call image i by."""
        return self.X.index_of(i) if isinstance(self.X, LazyImages) else i

    def size_at(self, i):
        """Height and width of image i, which is made unless it has been."""
        return self.placement(i).new_size

    def __len__(self):
        return len(self.X)

    def _image(self, i):
        if isinstance(self.transformed, TransformedImages):
            image, placement = self.transformed.placed(i)
        else:
            image = to_array(self.transformed[i])
            placement = self._of_same_size(i, image)
        if not placement.is_known():
            raise InvalidImageError(
                f"was {placement.old_size[0]} x {placement.old_size[1]} pixels and is "
                f"{placement.new_size[0]} x {placement.new_size[1]} after the transformer, which "
                "does not say where they went; write it as a BaseImageTransformer whose _apply "
                "gives a Placement"
            )
        self._placements[i] = placement
        if len(self._placements) > MAX_KEPT:
            self._placements.popitem(last=False)
        return image

    def _of_same_size(self, i, image):
        size = to_array(self.X[i]).shape[:2]
        same = size == image.shape[:2]
        return Placement.unmoved(size) if same else Placement.unknown(size, image.shape[:2])

    def _subset(self, indices):
        return PlacedImages(taken(self.X, indices), taken(self.transformed, indices))


class PlacedMarks(Marks):
    """Masks of original images, on the images that were made of them.

    Parameters
    ----------
    marks : Marks
        Of the original images.
    images : PlacedImages
    positions : array of int or None, default=None
        The images that these are of; None is all.
    """

    has_masks = True

    def __init__(self, marks, images, positions=None):
        self.marks, self.images = marks, images
        self.positions = np.arange(len(images)) if positions is None else np.asarray(positions)
        self.labels = marks.labels[self.positions]

    def subset(self, positions):
        """Those of the images at these positions."""
        return PlacedMarks(self.marks, self.images, self.positions[positions])

    def of(self, i, size):
        """That of image i: array (H, W) of bool."""
        position = int(self.positions[i])
        placement = self.images.placement(position)
        return placement.on_new(self.marks.of(position, placement.old_size))


class PlacedRegions(Regions):
    """Regions of interest of original images, on the images that were made of them.

    What is made up, as beyond the border of an image that was turned, is outside.

    Parameters
    ----------
    regions : Regions
        Of the original images.
    images : PlacedImages
    positions : array of int or None, default=None
        The images that these are of; None is all.
    """

    def __init__(self, regions, images, positions=None):
        self.regions, self.images = regions, images
        self.positions = np.arange(len(images)) if positions is None else np.asarray(positions)
        self.indices = regions.indices[self.positions]

    def subset(self, positions):
        """Those of the images at these positions."""
        return PlacedRegions(self.regions, self.images, self.positions[positions])

    def for_others(self, images):
        """Those of other images, of an `ImageDataset`: the one that is for all, or none."""
        return PlacedRegions(self.regions.for_others(images), images.X)

    def of(self, i, size):
        """That of image i, of a height and width: array (H, W) of bool, or None for all of it."""
        position = int(self.positions[i])
        placement = self.images.placement(position)
        region, covered = self.regions.of(position, placement.old_size), placement.covered()
        if region is not None:
            region = placement.on_new(region)
            region = region if covered is None else region & covered
            if not region.any():
                raise InvalidImageError(
                    "its region of interest lies outside of what the transformer keeps of it",
                    index=int(self.indices[i]),
                )
            return region
        return covered
