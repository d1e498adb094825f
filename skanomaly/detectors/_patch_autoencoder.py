"""An auto-encoder of patches, which encodes all patches of an image at once.

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

from .._process import is_exporting


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

    def latent_size_of(self, patch_size):
        """Side of the latent of a patch of another size; ValueError if the network has none."""
        kernel_sizes = [layer[0].kernel_size[0] for layer in self.encoder]
        size = _latent_size(patch_size, kernel_sizes, self.strides)
        if not size:
            fitting = (p for p in count(patch_size) if _latent_size(p, kernel_sizes, self.strides))
            raise ValueError(
                f"patches of {patch_size} pixels leave pixels over with "
                f"kernel_sizes={tuple(kernel_sizes)} and strides={self.strides}; the next that fit "
                f"them are of {next(fitting)}"
            )
        return size

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
        if is_exporting():  # which does not know how to write into a part
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
