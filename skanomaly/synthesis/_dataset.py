"""Normal images with what it takes to draw defects onto them."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch.utils.data import Dataset

from ..exceptions import InvalidImageError
from ..images import ImageDataset, ImageFiles


class CorruptionDataset(Dataset):
    """Normal images with what `DefectGenerator.draw` needs to draw onto them.

    It gives batches of images, seeds and sources, not the corrupted images: these
    are drawn from them where the network is, for a whole batch at once.

    Parameters
    ----------
    images : ImageDataset
        What is drawn onto.
    generator : DefectGenerator
        Its `texture_images` are the sources.
    others : CorruptionDataset or None, default=None
        One whose sources, and size of images, are taken: for images kept out of
        training, that of the images trained on. None means the generator's
        sources, or else `images`, of which an image is then given another one.
    crop_size : int or None, default=None
        Side of a random square of each image that is taken; None takes all of it,
        and then all images must share a size.
    fixed : bool, default=False
        Give the same crops, seeds and sources every time, to compare epochs by.
        Otherwise they follow PyTorch's random state.
    n_jobs : int or None, default=None
        Threads that read images, once if they fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from torch.utils.data import DataLoader
    >>> from skanomaly.images import ImageDataset
    >>> from skanomaly.synthesis import CorruptionDataset, DefectGenerator
    >>> images = ImageDataset(np.random.default_rng(0).random((6, 48, 64)))
    >>> generator = DefectGenerator()
    >>> dataset = CorruptionDataset(images, generator, crop_size=32)
    >>> for x, seeds, sources in DataLoader(dataset, 4, collate_fn=dataset.collate):
    ...     print(generator.draw(x, seeds, sources).images.shape)
    torch.Size([4, 1, 32, 32])
    torch.Size([2, 1, 32, 32])
    """

    def __init__(self, images, generator, others=None, *, crop_size=None, fixed=False, n_jobs=None):
        self.fixed = fixed
        self.images = _Cuts(
            images, crop_size, n_jobs, None if others is None else others.images.size
        )
        if others is not None:
            self.sources = others.sources
        elif generator.texture_images is not None:
            self.sources = self._open(generator.texture_images, images.n_channels, n_jobs)
        else:
            self.sources = self.images

    def __len__(self):
        return len(self.images)

    def digest(self):
        """Of the images that are drawn onto, and of those that textures are cut from."""
        return [self.images.digest(), self.sources.digest()]

    def __getitems__(self, indices):
        """The batch (pixels, seeds, sources) of these images."""
        seeds = indices if self.fixed else torch.randint(2**62, (len(indices),)).tolist()
        pairs = [self._pair(int(i), int(seed)) for i, seed in zip(indices, seeds)]
        pixels, sources = (torch.stack(part) for part in zip(*pairs))
        return pixels, torch.tensor(seeds), sources

    def _pair(self, i, seed):
        """An image and its source."""
        rng = np.random.default_rng([seed, 1])  # other numbers than the defect's own
        skip = self.sources is self.images and len(self.images) > 1  # itself
        j = int(rng.integers(len(self.sources) - skip))
        return self.images.cut(i, rng), self.sources.cut(j + (skip and j >= i), rng)

    def _open(self, textures, n_channels, n_jobs):
        """`texture_images`, resized to what is cut from the images."""
        if isinstance(textures, (str, os.PathLike)):
            textures = ImageFiles.from_folder(textures, recursive=True)
        size = self.images.size
        try:
            textures = ImageDataset(textures, n_channels=n_channels, image_size=size)
            return _Cuts(textures, None, n_jobs)
        except InvalidImageError as error:
            reason = f"{error.reason} (one of the generator's texture_images)"
            raise InvalidImageError(reason, index=error.index, path=error.path) from error

    @staticmethod
    def collate(batch):
        """What `__getitems__` has put together already."""
        return batch


class _Cuts:
    """Images of one size: whole ones, or random squares of larger ones."""

    def __init__(self, images, crop_size, n_jobs, size=None):
        self.indices, self.crop_size, self.digest = images.indices, crop_size, images.digest
        self.images = images.in_memory(n_jobs=n_jobs)
        first = (crop_size, crop_size) if crop_size else tuple(self.images[0].shape[1:])
        self.size = first if size is None else size

    def __len__(self):
        return len(self.images)

    def cut(self, i, rng):
        """Image i, or a square of it."""
        pixels = self.images[i]
        height, width = pixels.shape[1:]
        if self.crop_size is None:
            if (height, width) != self.size:
                raise InvalidImageError(
                    f"is {height} x {width} pixels, others are {self.size[0]} x {self.size[1]}; "
                    "to train on several sizes set image_size or crop_size",
                    index=int(self.indices[i]),
                )
            return pixels
        if min(height, width) < self.crop_size:
            raise InvalidImageError(
                f"is {height} x {width} pixels, smaller than crop_size={self.crop_size}",
                index=int(self.indices[i]),
            )
        top, left = (int(rng.integers(n - self.crop_size + 1)) for n in (height, width))
        return pixels[:, top : top + self.crop_size, left : left + self.crop_size]
