"""Marked defects: which images of a batch have any, and where they are."""

from __future__ import annotations

import hashlib

import numpy as np

from .._validation import are_masks, image_labels
from ..exceptions import InvalidImageError
from ._lazy import LazyImages
from ._resizing import resized


class Marks:
    """What `y` says of each image of a batch.

    Parameters
    ----------
    y : array-like of int (n,), or array of bool (n, H, W), or sequence of (H, W)
        Labels, +1 normal and -1 anomalous, or masks, True or 1 where the defect is.
    n : int
        Number of images.
    indices : array of int or None, default=None
        The images that these are of, by number in `y`; None means all.

    Attributes
    ----------
    labels : ndarray of int, shape (n,)
    has_masks : bool

    Raises
    ------
    ValueError
        If `y` is none of these, or not for n images.
    """

    def __init__(self, y, n, indices=None):
        self.y = y
        self.indices = np.arange(n) if indices is None else np.asarray(indices)
        if indices is None:  # a subset's are checked
            self.labels = image_labels(y, n=n)
            self.has_masks = are_masks(y)

    @classmethod
    def given(cls, y, n):
        """Those of a batch, which may have been made already."""
        return y if isinstance(y, Marks) else cls(y, n)

    def subset(self, positions):
        """Those of the images at these positions."""
        part = Marks(self.y, len(positions), self.indices[positions])
        part.labels, part.has_masks = self.labels[positions], self.has_masks
        return part

    def of(self, i, size):
        """The mask of image i, of a height and width: array (H, W) of bool."""
        index = int(self.indices[i])
        mask = np.asarray(self.y[index]).astype(bool)
        if mask.shape != tuple(size):
            raise InvalidImageError(
                f"its mask has shape {mask.shape}, expected {tuple(size)} as the image", index=index
            )
        return mask


class MarkedImages:
    """Images with defects that are learnt from, and where these are.

    Parameters
    ----------
    images : ImageDataset
    marks : Marks
        Of these images.
    groups : sequence or None, default=None
        What each belongs to.

    Attributes
    ----------
    images : ImageDataset
    has_masks : bool
        Whether it is known where the defects are, or only that there are some.
    """

    def __init__(self, images, marks, groups=None):
        self.images, self.marks, self.groups = images, marks, groups
        self.has_masks = marks.has_masks

    def __len__(self):
        return len(self.images)

    def subset(self, positions):
        """Those at these positions."""
        groups = None if self.groups is None else [self.groups[i] for i in positions]
        return MarkedImages(self.images.subset(positions), self.marks.subset(positions), groups)

    def with_images(self, images):
        """The same marks on the same images as another data set gives them."""
        return MarkedImages(images, self.marks, self.groups)

    def apart_from(self, groups):
        """Those that belong to none of these."""
        return self.subset([i for i, group in enumerate(self.groups) if group not in groups])

    def seen(self):
        """Those whose defects can be seen, which a transformer may have cut away."""
        if not self.has_masks:
            return self
        return self.subset([i for i in range(len(self)) if self.mask(i).any()])

    def mask(self, i):
        """Where the defects of image i are: array (H, W) of bool, of the image's own size.

        Raises
        ------
        InvalidImageError
            If its mask is not of its size, or has not been moved along with it.
        """
        images = self.images
        index = int(images.indices[i])
        if isinstance(images.X, LazyImages) and images.X.is_moved(index):
            raise InvalidImageError(
                "was moved by a transformer, and its mask was not; put both steps into a "
                "TransformedImageDetector, which takes masks along",
                index=images.index_of(i),
                path=images.path_at(i),
            )
        return self.marks.of(i, images.size_of(i))

    def masks_on(self, grid):
        """Which positions of a grid the defects of each image touch.

        Parameters
        ----------
        grid : (int, int)
            h and w.

        Returns
        -------
        tensor, shape (n, h, w), float32
            1 where one does, else 0; -1 everywhere where that is not known.
        """
        import torch

        if not self.has_masks:
            return torch.full((len(self), *grid), -1.0)
        found = torch.empty((len(self), *grid))
        for i in range(len(self)):
            mask = torch.from_numpy(self.mask(i)).float()
            found[i] = resized(mask[None, None], grid)[0, 0] > 0
        return found

    def digest(self):
        """What says which images these are, and what is marked on them.

        Returns
        -------
        list of str
        """
        digest = hashlib.sha256()
        for i in range(len(self) if self.has_masks else 0):
            mask = self.mask(i)
            digest.update(repr(mask.shape).encode())
            digest.update(np.packbits(mask))
        return [self.images.digest(), digest.hexdigest()]
