"""Patches of images: where they are, random ones to learn from, and maps of what they say."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from .._process import is_exporting


def patch_places(size, stride):
    """Where patches begin along an axis of a continued image: `stride` pixels apart, centred.

    Parameters
    ----------
    size : int
        Pixels of the image.
    stride : int

    Returns
    -------
    ndarray of int, length ceil(size / stride)
        Central pixels in the image, which is also where the patches begin in
        the image as `continued` gives it back.
    """
    size = int(size)  # while an export is traced it is more
    n = -(-size // stride)
    return (size - stride * (n - 1)) // 2 + stride * np.arange(n)


def interpolate_places(maps, places, size):
    """Maps of images' size from values at places, bilinear; the outermost go on to the border.

    Parameters
    ----------
    maps : tensor, shape (n, number of rows, number of columns)
    places : (ndarray of int, ndarray of int)
        Pixel rows and columns of the values.
    size : (int, int)
        Height and width of the images.

    Returns
    -------
    tensor, shape (n, *size)
    """
    for axis, (p, n) in enumerate(zip(places, size), start=1):
        if len(p) != n:
            matrix = np.stack([np.interp(np.arange(n), p, e) for e in np.eye(len(p))], axis=1)
            matrix = torch.from_numpy(matrix).to(maps)
            maps = torch.tensordot(maps, matrix, dims=([axis], [1])).movedim(2, axis)
    return maps


def continued(x, patch_size):
    """Continue images by reflection, so that every pixel is the centre of a patch.

    Parameters
    ----------
    x : tensor, shape (n, C, H, W)
        Sides of more than ``patch_size // 2``.
    patch_size : int

    Returns
    -------
    tensor, shape (n, C, H + patch_size - 1, W + patch_size - 1)
        The patch that begins at pixel (i, j) has pixel (i, j) of `x` as its
        centre, at ``patch_size // 2``. In channels-last memory, in which large
        images are convolved faster on a CPU.
    """
    before, after = patch_size // 2, patch_size - 1 - patch_size // 2
    x = F.pad(x, (before, after, before, after), mode="reflect")
    return x.contiguous(memory_format=torch.channels_last)


class PatchMean:
    """An image or map from what patches say of it: the mean over those that cover each pixel.

    Parameters
    ----------
    like : tensor, shape (..., H, W)
        Of the shape and on the device of the result.
    patch_size : int
    rim : int
        Pixels at each border of a patch of which it says nothing.
    """

    def __init__(self, like, patch_size, rim):
        self.total = torch.zeros_like(like)
        self.n_covering = np.zeros(tuple(map(int, like.shape[-2:])), np.float32)
        self.shift = rim - patch_size // 2  # from a patch's centre to where its inner part begins
        self.side = patch_size - 2 * rim

    def add(self, patch, row, column):
        """One patch (..., side, side) whose centre is at this pixel."""
        (rows, from_rows), (columns, from_columns) = (
            self._overlap(place, axis, self.side) for place, axis in ((row, -2), (column, -1))
        )
        self.total[..., rows, columns] += patch[..., from_rows, from_columns]
        self.n_covering[rows, columns] += 1

    def add_phase(self, values, phase):
        """All patches of a phase, as one array (..., h, w): where they overlap they agree."""
        axes = (phase.rows, -2), (phase.columns, -1)
        (rows, from_rows), (columns, from_columns) = (
            self._overlap(axis.start, k, values.shape[k]) for axis, k in axes
        )
        weights = np.outer(*(self._counts(axis.places, k) for axis, k in axes))[rows, columns]
        self.n_covering[rows, columns] += weights
        values, weights = values[..., from_rows, from_columns], torch.from_numpy(weights).to(values)
        if is_exporting():  # which does not know how to write into a part
            height, width = self.n_covering.shape
            rims = columns.start, width - columns.stop, rows.start, height - rows.stop
            self.total = self.total + F.pad(weights * values, rims)
        else:
            self.total[..., rows, columns].addcmul_(weights, values)

    def result(self):
        """The means, of the shape of `like`."""
        return self.total / torch.from_numpy(self.n_covering).to(self.total)

    def _overlap(self, place, axis, n):
        """Where n values of a patch at a place lie in the image, and which of them do."""
        first, size = int(place) + self.shift, self.total.shape[axis]
        inside = slice(max(0, first), min(size, first + n))
        return inside, slice(inside.start - first, inside.stop - first)

    def _counts(self, places, axis):
        """How many of the patches at these places cover each pixel along an axis."""
        counts = np.zeros(self.total.shape[axis], np.float32)
        for place in places:
            counts[self._overlap(place, axis, self.side)[0]] += 1
        return counts


class PatchDataset(Dataset):
    """Random patches of images, drawn when they are asked for.

    Every pixel of an image is as likely as any other to be a patch's centre; the
    images are continued by reflection.

    Parameters
    ----------
    images : ImageDataset
        May differ in size.
    patch_size : int
    n_patches : int
        Of each image, each time it is asked for.
    fixed : bool, default=False
        Give the same patches every time, to compare epochs by. Otherwise they
        follow PyTorch's random state.
    n_jobs : int or None, default=None
        Threads that read images, once if they fit into memory.
    """

    def __init__(self, images, patch_size, n_patches, *, fixed=False, n_jobs=None):
        self.images, self.digest = images.in_memory(n_jobs=n_jobs), images.digest
        self.patch_size, self.n_patches, self.fixed = patch_size, n_patches, fixed

    def drawing(self, n_patches):
        """The same images, of which other numbers of patches are drawn."""
        other = copy.copy(self)
        other.n_patches = n_patches
        return other

    def of_size(self, patch_size):
        """The same images, of which patches of another size are drawn."""
        other = copy.copy(self)
        other.patch_size = patch_size
        return other

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        """Patches of these images, (len(indices) * n_patches, C, patch_size, patch_size)."""
        return torch.cat([self._patches(int(i)) for i in indices])

    def _patches(self, i):
        x = self.images[i]
        generator = torch.Generator().manual_seed(i) if self.fixed else None
        places = [
            torch.randint(n, (self.n_patches,), generator=generator).tolist() for n in x.shape[1:]
        ]
        x, p = continued(x[None], self.patch_size)[0], self.patch_size
        return torch.stack([x[:, y : y + p, left : left + p] for y, left in zip(*places)])

    @staticmethod
    def collate(patches):
        """What `__getitems__` has put together already, as skorch's (input, target)."""
        return patches, patches


class WindowDataset(Dataset):
    """A random window of each image, whole but for a large one: all patches in it at once.

    A network without padding gives the same for all patches of a window at once as for
    each by itself, without computing anew what they share.

    Parameters
    ----------
    patches : PatchDataset
        Whose images they are. A window holds at most the pixels of its `n_patches`.
    margin, step : int
        Of the network: the width of the rim that it does not reconstruct, and the
        pixels between its latents.
    """

    def __init__(self, patches, margin, step):
        self.patches, self.margin, self.step = patches, margin, step
        self.digest = patches.digest

    def __len__(self):
        return len(self.patches)

    def __getitems__(self, indices):
        """Windows of these images, (len(indices), C, height, width)."""
        patch_size, fixed = self.patches.patch_size, self.patches.fixed
        images = [self.patches.images[int(i)] for i in indices]
        height, width = (self._side(min(x.shape[k] for x in images)) for k in (1, 2))
        windows = []
        for i, x in zip(indices, images):
            generator = torch.Generator().manual_seed(int(i)) if fixed else None
            x = continued(x[None], patch_size)[0]
            top, left = (
                int(torch.randint(n - side + 1, (), generator=generator))
                for n, side in zip(x.shape[1:], (height, width))
            )
            windows.append(x[:, top : top + height, left : left + width])
        return torch.stack(windows)

    def _side(self, n):
        """Of windows of images with n pixels along that side; the network leaves none over."""
        p = self.patches.patch_size
        side = min(n + 2 * self.margin, math.isqrt(self.patches.n_patches * p**2), n + p - 1)
        return p + max(0, side - p) // self.step * self.step
