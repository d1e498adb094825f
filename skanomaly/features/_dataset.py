"""Features of images, computed once and kept."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from ..images import MAX_BYTES_IN_MEMORY, allocated_array


class FeatureDataset(Dataset):
    """The features of images, computed once, as (input, target) with target = input.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_k, h_k, w_k)
        One a level, in channels-last memory.
    sizes : sequence of (int, int), length n
        Each image's own height and width.
    digest : callable or None, default=None
        Gives what says which images, and which network's features, these are.
    """

    def __init__(self, levels, sizes, digest=None):
        self.levels, self.sizes, self.digest = tuple(levels), list(sizes), digest

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return tuple(level[index] for level in self.levels)

    def __getitems__(self, indices):
        return self[torch.as_tensor(indices)]

    @staticmethod
    def collate(features):
        """A batch, which `__getitems__` has put together, as skorch's (input, target)."""
        return features, features

    def batches(self, batch_size):
        """Yield (features, sizes) of consecutive images."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield self[chosen], self.sizes[chosen]


def allocate(n, features):
    """One tensor a level for n images, channels last, in memory or in a file."""
    shapes = [(n, f.shape[2], f.shape[3], f.shape[1]) for f in features]
    n_bytes = 4 * sum(np.prod(shape, dtype=np.int64) for shape in shapes)
    levels = []
    for shape in shapes:
        if n_bytes <= MAX_BYTES_IN_MEMORY:
            array = np.empty(shape, np.float32)
        else:
            array = allocated_array(shape)
        levels.append(torch.from_numpy(array).permute(0, 3, 1, 2))
    return levels
