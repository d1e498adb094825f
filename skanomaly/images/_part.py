"""Some images of a batch."""

from __future__ import annotations

import numpy as np

from ._checks import check_images, path_of
from ._lazy import LazyImages


class PartOfBatch(LazyImages):
    """Some images of a batch, none of them copied, which errors name by their place in it.

    A detector that is given such a part takes regions of interest for the whole batch.

    Parameters
    ----------
    X : batch of images
    indices : array-like of int, shape (n,)
        Those that belong to the part, in order.
    """

    def __init__(self, X, indices):
        self.X = check_images(X)
        self.indices = np.asarray(indices)

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        return self._asked("path_at", i, path_of)

    def file_of(self, i):
        """The file whose content image i is, or None."""
        return self._asked("file_of", i, path_of)

    def size_at(self, i):
        """Height and width of image i where they are known without its pixels, or None."""
        return self._asked("size_at", i, lambda _: None)

    def index_of(self, i):
        """The number that errors call image i by."""
        return self._asked("index_of", i, lambda _: int(self.indices[i]))

    def is_moved(self, i):
        """Whether the pixels of image i are not where masks and regions take them to be."""
        return self._asked("is_moved", i, lambda _: False)

    def __len__(self):
        return len(self.indices)

    def _image(self, i):
        return self.X[int(self.indices[i])]

    def _subset(self, indices):
        return PartOfBatch(self.X, self.indices[indices])

    def _asked(self, method, i, of_item):
        if isinstance(self.X, LazyImages):
            return getattr(self.X, method)(int(self.indices[i]))
        return of_item(self._image(i))
