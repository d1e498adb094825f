"""Images that are made when they are looked at, and not before."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral

import numpy as np


class LazyImages(Sequence):
    """A batch of images that exist while they are looked at; indexed as an array is.

    With an integer it gives one image, with a slice, integers or booleans a batch of the same
    kind, so that scikit-learn can take folds of it which cost no memory. A subclass implements
    ``_image(i)``, ``_subset(indices)`` and ``__len__``.
    """

    @property
    def shape(self):
        """(n,), by which scikit-learn knows what it can index."""
        return (len(self),)

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        return None

    def file_of(self, i):
        """The file whose content image i is, or None."""
        return None

    def index_of(self, i):
        """The number that errors call image i by."""
        return i

    def size_at(self, i):
        """Height and width of image i, or None if that is not known before it is made."""
        return None

    def is_moved(self, i):
        """Whether the pixels of image i are not where masks and regions take them to be."""
        return False

    def __getitem__(self, key):
        if isinstance(key, tuple):  # scikit-learn indexes arrays with (indices, ...)
            (key,) = (part for part in key if part is not Ellipsis)
        if isinstance(key, Integral) and not isinstance(key, bool):
            return self._image(range(len(self))[key])
        return self._subset(np.arange(len(self))[key])

    @abstractmethod
    def _image(self, i):
        """Image i, 0 <= i < n."""

    @abstractmethod
    def _subset(self, indices):
        """Those at an array of positions."""


def taken(X, indices):
    """Images of a batch at an array of positions, lazily where it is lazy.

    Parameters
    ----------
    X : batch of images, as `check_images` gives it
    indices : array of int

    Returns
    -------
    batch of images
    """
    if isinstance(X, (LazyImages, np.ndarray)):
        return X[indices]
    return [X[i] for i in indices]
