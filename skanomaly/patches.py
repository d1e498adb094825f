"""Patches of images: an auto-encoder of them, random ones to learn from, all of one image at once.

A convolutional network without padding gives the same latent vectors whether it
sees a patch by itself or the patch within its image. So an image is encoded
once, and the latents of each of its patches are read off; where the network has
a stride, once for every shift below it (a *phase*).
"""

from __future__ import annotations

import copy
from itertools import count, pairwise, product
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset


class ConvAutoEncoder(nn.Module):
    """Auto-encoder of patches whose decoder mirrors its encoder.

    The encoder has convolutions without padding, each followed by GELU and batch
    norm; the decoder has the transposed ones in reverse order. Near the border of
    a patch a transposed convolution would need latents from outside the patch:
    what does not follow from the patch's own latents is left away, so that a
    reconstruction is the patch without a rim of `margin` pixels.

    Parameters
    ----------
    n_channels : int
        Of the images.
    patch_size : int, default=63
        Side of a patch in pixels.
    channels : sequence of int, default=(3, 4, 12, 16)
        Of each convolution; the last are those of the latent.
    kernel_sizes : sequence of int, default=(5, 3, 3, 3)
    strides : sequence of int, default=(1, 1, 3, 1)
        Of each convolution; none exceeds its kernel.

    Attributes
    ----------
    latent_size : int
        Side of a patch's latent; 17 by default.
    step : int
        Pixels between neighbouring latents, the product of the strides.
    margin : int
        Width of the rim that is not reconstructed; 12 by default.

    Raises
    ------
    ValueError
        If the sizes do not fit together.
    """

    def __init__(
        self,
        n_channels,
        patch_size=63,
        channels=(3, 4, 12, 16),
        kernel_sizes=(5, 3, 3, 3),
        strides=(1, 1, 3, 1),
    ):
        super().__init__()
        self.patch_size, self.strides, self.is_folded = patch_size, tuple(strides), False
        _check_layers(channels, kernel_sizes, strides)
        self.latent_size = _latent_size(patch_size, kernel_sizes, strides)
        decoded = _decoded_size(self.latent_size, kernel_sizes, strides)
        if decoded < 1:
            sizes = ((p, _latent_size(p, kernel_sizes, strides)) for p in count(patch_size))
            fitting = (p for p, z in sizes if _decoded_size(z, kernel_sizes, strides) > 0)
            problem = "leaves no pixel to reconstruct" if self.latent_size else "leaves pixels over"
            raise ValueError(
                f"patch_size={patch_size} {problem} with kernel_sizes={tuple(kernel_sizes)} and "
                f"strides={tuple(strides)}; the next that fits them is {next(fitting)}"
            )
        self.margin = (patch_size - decoded) // 2
        self.step = int(np.prod(strides))
        widths = [n_channels, *channels]
        layers = list(zip(widths, widths[1:], kernel_sizes, strides))
        self.encoder = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(i, o, k, s), nn.GELU(), nn.BatchNorm2d(o))
                for i, o, k, s in layers
            )
        )
        decoder = []
        for i, o, k, s in reversed(layers):
            decoder += [_transposed(o, i, k, s), nn.GELU(), nn.BatchNorm2d(i)]
        self.decoder = nn.Sequential(*decoder[:-2])

    def encode(self, x):
        """From patches or images (n, C, h, w) to latents; of a patch (n, c, latent_size, ...)."""
        return self.encoder(x - 0.5)

    def decode(self, z):
        """From latents to patches without their rim, (n, C, patch_size - 2 * margin, ...)."""
        return self.decoder(z).add_(0.5)

    def forward(self, x):
        """Reconstruct patches, without their rim."""
        return self.decode(self.encode(x))

    def without_rim(self, x):
        """What of patches (n, C, patch_size, patch_size) is reconstructed."""
        return F.pad(x, [-self.margin] * 4)

    @torch.no_grad()
    def folded(self):
        """A faster copy for scoring: convolutions take on the batch norms before them.

        Not the last of the encoder, which belongs to the latents, nor one before a
        transposed convolution, whose stride gives pixels different shares of its input.
        """
        if self.is_folded:
            return self
        network = copy.deepcopy(self)
        network.is_folded = True
        for blocks in (network.encoder, [network.decoder]):
            places = [(block, i) for block in blocks for i in range(len(block))]
            for (block, i), (next_block, j) in pairwise(places):
                norm, conv = block[i], next_block[j]
                if isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                    shift = norm.bias - norm.running_mean * scale
                    conv.bias.add_(torch.einsum("oihw,i->o", conv.weight, shift))
                    conv.weight.mul_(scale.view(-1, 1, 1))
                    block[i] = nn.Identity()
        return network

    def phases(self, x, rows, columns):
        """Encode images once for every phase that patches at these places need.

        Parameters
        ----------
        x : tensor, shape (n, C, h, w)
        rows, columns : ndarray of int
            Where patches begin, in pixels; the patches are at every pair of them.

        Yields
        ------
        Phase
        """
        axes = (Axis(0, np.arange(len(places)), places) for places in (rows, columns))
        yield from self._phases(x - 0.5, 0, 1, *axes)

    def _phases(self, h, depth, step, rows, columns):
        """Phases of the rest of the encoder on `h`, whose positions are `step` pixels apart."""
        if depth == len(self.encoder):
            yield Phase(h, step, rows, columns)
            return
        stride = self.strides[depth]
        for dy, dx in product(range(stride), repeat=2):
            own = rows.shifted(step * dy, step * stride), columns.shifted(step * dx, step * stride)
            if all(len(axis.places) for axis in own):
                deeper = self.encoder[depth](h[:, :, dy:, dx:])
                yield from self._phases(deeper, depth + 1, step * stride, *own)


def _transposed(n_in, n_out, k, s):
    """A transposed convolution that gives only what follows from its input, s * n - (k - s).

    With a stride of 1 that is a convolution, which is many times faster as such.
    """
    if s == 1:
        return nn.Conv2d(n_in, n_out, k)
    return nn.ConvTranspose2d(n_in, n_out, k, s, padding=k - s)


def _check_sizes(name, numbers):
    wrong = [n for n in numbers if not isinstance(n, Integral) or n < 1]
    if wrong or not len(numbers):
        found = repr(wrong[0]) if wrong else "nothing"
        raise ValueError(f"{name}={tuple(numbers)} holds {found}; use whole numbers from 1 on")


def _check_layers(channels, kernel_sizes, strides):
    if not len(channels) == len(kernel_sizes) == len(strides) > 0:
        raise ValueError(
            "channels, kernel_sizes and strides have a number for each convolution; got "
            f"{len(channels)}, {len(kernel_sizes)} and {len(strides)} numbers"
        )
    for name, numbers in (
        ("channels", channels),
        ("kernel_sizes", kernel_sizes),
        ("strides", strides),
    ):
        _check_sizes(name, numbers)
    for k, s in zip(kernel_sizes, strides):
        if s > k:
            raise ValueError(
                f"strides={tuple(strides)} holds {s} for a kernel of {k}, which would skip pixels; "
                "no stride may exceed its kernel"
            )


def _latent_size(patch_size, kernel_sizes, strides):
    """Side of a patch's latent, or 0 if some convolution would leave pixels over."""
    size = patch_size
    for k, s in zip(kernel_sizes, strides):
        if size < k or (size - k) % s:
            return 0
        size = (size - k) // s + 1
    return size


def _decoded_size(latent_size, kernel_sizes, strides):
    """Side of what a patch's latent determines, where that is positive."""
    size = latent_size
    for k, s in zip(reversed(kernel_sizes), reversed(strides)):
        size = s * size - (k - s)
    return size


class Axis(NamedTuple):
    """The patches of one phase along one axis."""

    start: int  #: pixel at which the patch of the latents' first position begins
    which: object  #: ndarray of int, the places that are of this phase, by number
    places: object  #: ndarray of int, pixels at which they begin, evenly apart

    def shifted(self, by, step):
        """Those of the patches that begin a multiple of `step` pixels after the start, shifted."""
        start = self.start + by
        own = (self.places - start) % step == 0
        return Axis(start, self.which[own], self.places[own])


class Phase(NamedTuple):
    """Latents of all patches of one phase."""

    z: object  #: tensor (n, c, h, w)
    step: int  #: pixels between neighbouring positions
    rows: Axis
    columns: Axis

    def at(self, values, offset):
        """Of values (n, h, w) on the phase's pixels, those at an offset in each patch."""
        chosen = []
        for axis in (self.rows, self.columns):
            pixels = axis.places - axis.start + offset
            step = int(pixels[1] - pixels[0]) if len(pixels) > 1 else 1
            chosen.append(slice(int(pixels[0]), int(pixels[-1]) + 1, step))
        return values[:, *chosen]

    def put(self, maps, values):
        """A map of all places, so far zero at the phase's, with what its patches have there."""
        if torch.onnx.is_in_onnx_export():  # which does not know how to write into a part
            rows, columns = (
                torch.from_numpy(np.eye(int(n), dtype=np.float32)[:, axis.which])
                for n, axis in zip(maps.shape[1:], (self.rows, self.columns))
            )
            return maps + rows @ values @ columns.T
        rows, columns = (
            torch.from_numpy(axis.which).to(maps.device) for axis in (self.rows, self.columns)
        )
        maps[:, rows[:, None], columns] = values
        return maps

    def of_patches(self, size):
        """The latents from the first to the last of the phase's patches.

        Parameters
        ----------
        size : int
            Side of a patch's latent.

        Returns
        -------
        z : tensor, shape (n, c, h, w)
        strides : (int, int)
            Positions from a patch to the next, down and across.
        """
        inside, strides = [], []
        for axis in (self.rows, self.columns):
            positions = (axis.places - axis.start) // self.step
            inside.append(slice(positions[0], positions[-1] + size))
            strides.append(int(positions[1] - positions[0]) if len(positions) > 1 else 1)
        return self.z[:, :, *inside], tuple(strides)

    def windows(self, size):
        """Latents of each of the phase's patches.

        Parameters
        ----------
        size : int
            Side of a patch's latent.

        Returns
        -------
        tensor, shape (n, number of rows, number of columns, size, size, c)
        """
        i, j = (
            torch.from_numpy((axis.places - axis.start) // self.step).to(self.z.device)
            for axis in (self.rows, self.columns)
        )
        z = self.z.permute(0, 2, 3, 1).contiguous()  # channels last: long runs to copy
        n, height, width, c = z.shape
        shape = n, height - size + 1, width - size + 1, size, size * c
        windows = z.as_strided(shape, (z.stride(0), z.stride(1), c, z.stride(1), 1))
        windows = windows[:, i[:, None], j]
        return windows.unflatten(4, (size, c))


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
        if torch.onnx.is_in_onnx_export():  # which does not know how to write into a part
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
        self.images = images.in_memory(n_jobs=n_jobs)
        self.patch_size, self.n_patches, self.fixed = patch_size, n_patches, fixed

    def drawing(self, n_patches):
        """The same images, of which other numbers of patches are drawn."""
        other = copy.copy(self)
        other.n_patches = n_patches
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
