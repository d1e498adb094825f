"""Random squares of images."""

from __future__ import annotations

import math

import torch
from torch.utils.data import Dataset


class CropDataset(Dataset):
    """A random square of each image, or all of a smaller one, with a seed of what is drawn of it.

    Parameters
    ----------
    images : ImageDataset
    crop_size : int or None
        Side of the squares; None takes images whole.
    fixed : bool, default=False
        Give the same ones every time, to compare epochs by. Otherwise they follow PyTorch's
        random state.
    n_jobs : int or None, default=None
        Threads that read images, once if they fit into memory.
    """

    def __init__(self, images, crop_size, *, fixed=False, n_jobs=None):
        self.images, self.digest = images.in_memory(n_jobs=n_jobs), images.digest
        self.crop_size, self.fixed = crop_size, fixed

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        """The batch (crops (n, C, h, w), seeds (n,))."""
        seeds = indices if self.fixed else torch.randint(2**62, (len(indices),)).tolist()
        images = [self.images[int(i)] for i in indices]
        most = math.inf if self.crop_size is None else self.crop_size
        size = [min(most, *(x.shape[k] for x in images)) for k in (1, 2)]
        crops = []
        for x, seed in zip(images, seeds):
            generator = torch.Generator().manual_seed(int(seed))
            top, left = (
                int(torch.randint(n - side + 1, (), generator=generator))
                for n, side in zip(x.shape[1:], size)
            )
            crops.append(x[:, top : top + size[0], left : left + size[1]])
        return torch.stack(crops), torch.tensor(seeds)

    @staticmethod
    def collate(batch):
        """What `__getitems__` has put together already."""
        return batch
