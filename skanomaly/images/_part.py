"""Some images of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._checks import check_images


class PartOfBatch(Sequence):
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

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        return self.X[int(self.indices[i])]
