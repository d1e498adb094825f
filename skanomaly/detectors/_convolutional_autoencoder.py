"""What the auto-encoders of whole images or large patches share: convolutions with strides."""

from __future__ import annotations

import math
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._crops import CropDataset
from ._residual_detector import MIN_SIZE
from ._trained_detector import TrainedDetector

# Channels, in units of `width`, of the convolutions on each grid, the coarsest grid last; the
# first on each halves the grid before it. Finer grids than these have one of one unit each.
WIDTHS = (1,), (1, 1), (2, 2), (4, 2, 1)

# Places of the coarsest grid, at most: 8 x 8 of an image of 128 x 128.
MAX_PLACES = 64

SLOPE = 0.2

# What is taken off the logarithm of latents' variances, which so start small: of noise alone a
# decoder learns nothing for a long time.
CERTAINTY = 4.0


class Halvings:
    """The grids on which convolutions with strides see images of one size.

    Parameters
    ----------
    size : (int, int)
        Height and width of the images.

    Attributes
    ----------
    grid : (int, int)
        The coarsest.
    stride : int
        Pixels between its places.
    widths : list of tuple of int
        Units of channels of the convolutions on each grid, the finest first.
    """

    def __init__(self, size):
        n = 2
        while math.prod(-(-side // 2**n) for side in size) > MAX_PLACES:
            n += 1
        self.stride = 2**n
        self.grid = tuple(-(-side // self.stride) for side in size)
        self.widths = [(1,)] * (n - len(WIDTHS)) + list(WIDTHS[-n:])


def continued(x, stride):
    """Images (n, C, h, w) whose last pixels go on below and to the right, to multiples."""
    return F.pad(x, (0, -x.shape[3] % stride, 0, -x.shape[2] % stride), mode="replicate")


class ConvEncoder(nn.Sequential):
    """Images (n, C, h, w) to features (n, width, *grid), grid by grid."""

    def __init__(self, n_channels, halvings, width):
        grids, c = [], n_channels
        for units in halvings.widths:
            layers = []
            for i, unit in enumerate(units):
                conv = (4, 2, 1) if i == 0 else (3, 1, 1)
                layers += [nn.Conv2d(c, unit * width, *conv), nn.LeakyReLU(SLOPE)]
                c = unit * width
            grids.append(nn.Sequential(*layers))
        super().__init__(*grids)


class ConvDecoder(nn.Sequential):
    """Features (n, width, *grid) to images (n, C, h, w): the encoder's mirror."""

    def __init__(self, n_channels, halvings, width):
        units = [unit * width for of_grid in halvings.widths for unit in of_grid]
        doubles = [i == 0 for of_grid in halvings.widths for i, _ in enumerate(of_grid)]
        layers = []
        for (c, d), double in zip(pairwise([*units[::-1], n_channels]), doubles[::-1]):
            conv = nn.ConvTranspose2d(c, d, 4, 2, 1) if double else nn.Conv2d(c, d, 3, 1, 1)
            layers += [conv, nn.LeakyReLU(SLOPE)]
        super().__init__(*layers[:-1])


class ConvAutoencoder(nn.Module):
    """Squeeze images of one size through a vector.

    Parameters
    ----------
    n_channels : int
        Of the images.
    size : (int, int)
        Their height and width; they are continued to what can be halved.
    width : int
        Channels of the finest grids.
    latent_dim : int
        Numbers that an image is reconstructed from.
    n_encoded : int or None, default=None
        Numbers that the encoder gives; None means `latent_dim`.
    """

    def __init__(self, n_channels, size, width, latent_dim, n_encoded=None):
        super().__init__()
        halvings = Halvings(size)
        self.stride = halvings.stride
        self.features = width, *halvings.grid
        n_features = math.prod(self.features)
        self.encoder = ConvEncoder(n_channels, halvings, width)
        self.to_latent = nn.Linear(n_features, n_encoded or latent_dim)
        self.from_latent = nn.Linear(latent_dim, n_features)
        self.decoder = ConvDecoder(n_channels, halvings, width)

    def encode(self, x):
        """What images (n, C, h, w) become, (n, n_encoded)."""
        return self.to_latent(self.encoder(continued(x, self.stride) - 0.5).flatten(1))

    def decode(self, z, size):
        """Images of a size from latents (n, latent_dim)."""
        f = F.leaky_relu(self.from_latent(z), SLOPE).unflatten(1, self.features)
        return 0.5 + self.decoder(f)[:, :, : size[0], : size[1]]

    def forward(self, x):
        """The reconstruction of images, of their shape."""
        return self.decode(self.encode(x), x.shape[2:])


def moments_of(latents):
    """Mean and logarithm of the variance, each of half of the channels."""
    mean, log_var = latents.chunk(2, dim=1)
    return mean, log_var - CERTAINTY


def drawn(mean, log_var, training):
    """Latents of these moments; their mean where nothing is being learnt."""
    noise = torch.randn_like(mean) if training else torch.zeros_like(mean)
    return mean + (log_var / 2).exp() * noise


class EvidenceLoss(nn.Module):
    r"""Negative evidence lower bound of images, up to a constant, per value; mean over images.

    .. math:: \frac{1}{2 \sigma^2} \lVert x - \hat x \rVert^2
              + \tfrac12 \sum_j (\mu_j^2 + s_j^2 - \log s_j^2 - 1)

    Parameters
    ----------
    decoder_std : float
        :math:`\sigma`.
    """

    def __init__(self, decoder_std):
        super().__init__()
        self.decoder_std = decoder_std

    def forward(self, found, x):
        """The loss of reconstructions of `x`, the latents' mean and logarithm of the variance."""
        y, mean, log_var = found
        error = (x - y).square().mean() / (2 * self.decoder_std**2)
        divergence = (mean.square() + log_var.exp() - log_var - 1).sum() / 2
        return error + divergence / x.numel()


def initialized(module):
    """A module whose weights let neither signals nor gradients fade through its layers (He)."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            if isinstance(layer, nn.ConvTranspose2d):
                n_inputs = layer.weight[:, 0].numel() / math.prod(layer.stride)
            else:
                n_inputs = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (1 + SLOPE**2) / n_inputs))
            nn.init.zeros_(layer.bias)
    return module.to(memory_format=torch.channels_last)


class ImageCrops(CropDataset):
    """Whole images, or a random square of each, as (input, target) with target = input."""

    @staticmethod
    def collate(batch):
        """A batch as skorch's pair."""
        crops, _ = batch
        x = crops.contiguous(memory_format=torch.channels_last)
        return x, x


def places(size, patch_size, stride):
    """Where patches begin along an axis: from border to border, at most `stride` apart, evenly."""
    n = -(-(size - patch_size) // stride) + 1
    return [round(i * (size - patch_size) / max(1, n - 1)) for i in range(n)]


class AutoencoderDetector(TrainedDetector):
    """Base of the detectors that train a convolutional auto-encoder on images or large patches.

    A method implements ``_module(n_channels, size)``, its network for what is of one size;
    ``_criterion()``, its loss; and ``_patch_maps(x)``, the maps (n, h, w) of whole images or
    patches (n, C, h, w).

    Parameters
    ----------
    latent_dim : int
        Numbers in the latent.
    width : int
        Channels of the finest grids.
    patch_size : int or None
        Side in pixels of the random squares that are learnt from, one an image and epoch. An
        image is then looked at in patches of that size, and what they say of a pixel is
        averaged. None takes images whole, as are those of which the first is smaller; they
        must be of one size.
    stride : int
        Pixels between patches that are looked at, at most.
    weight_decay : float
        Of Adam.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None. "position" takes back
        that patches are reconstructed worse at their borders.
    max_epochs : int
        Passes over the training images; the state of the lowest validation loss is kept.
    lr : float
        Learning rate of Adam at the start.

    Attributes
    ----------
    patch_size_ : int or None
        Side of the patches, None if images are taken whole.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored.
    required_size_ : (int, int) or None
        Height and width that images must have, where they are taken whole and `image_size` is
        None.
    """

    latent_dim: int = parameter(100, Interval(Integral, 1, None, closed="left"))
    width: int = parameter(32, Interval(Integral, 1, None, closed="left"))
    patch_size: int | None = parameter(128, Interval(Integral, MIN_SIZE, None, closed="left"), None)
    stride: int = parameter(64, Interval(Integral, 1, None, closed="left"))
    weight_decay: float = parameter(
        1e-5, Interval(Real, 0, None, closed="left"), affects="training"
    )
    standardize = "position"
    max_epochs = 200
    train_batch_size = 4

    _small_parameters = {"width": 8, "latent_dim": 16}

    def _fit_images(self, images, validation):
        size = self._open_patches(images, validation)
        train, held_out = (
            ImageCrops(part, self.patch_size_, fixed=fixed, n_jobs=self.n_jobs)
            for part, fixed in ((images, False), (validation, True))
        )
        self.net_ = self._make_net(
            initialized(self._module(images.n_channels, size)),
            self._criterion(),
            ImageCrops,
            keep_best=True,
            optimizer=torch.optim.Adam,
            optimizer__weight_decay=self.weight_decay,
        ).fit_on(train, held_out)

    def _open_patches(self, images, validation):
        """Settle whether there are patches; the size of what the network sees."""
        self._need_size(MIN_SIZE, images, validation)
        size = tuple(images[0].shape[1:])
        self.patch_size_ = self.patch_size if min(size) >= (self.patch_size or math.inf) else None
        if self.patch_size_ is None:
            self._need_one_size(images, validation)
            return size
        if self.stride > self.patch_size:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch of patch_size="
                f"{self.patch_size} covers; choose a stride of at most that"
            )
        self._need_size(self.patch_size, images, validation)
        return self.patch_size, self.patch_size

    def _compute_maps(self, pixels):
        return self._over_patches(lambda x: self._patch_maps(x)[:, None], pixels)[:, 0]

    def _over_patches(self, process, pixels):
        """What `process` makes of images (n, C, h, w), or the mean of what it makes of patches."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if self.patch_size_ is None:
            return process(pixels)
        p, (height, width) = self.patch_size_, map(int, pixels.shape[2:])
        total, n_covering = 0, np.zeros((height, width), np.float32)
        for top in places(height, p, self.stride):
            for left in places(width, p, self.stride):
                rows, columns = slice(top, top + p), slice(left, left + p)
                rims = left, width - left - p, top, height - top - p
                total = total + F.pad(process(pixels[:, :, rows, columns]), rims)
                n_covering[rows, columns] += 1
        return total / torch.from_numpy(n_covering).to(total)

    def _module(self, n_channels, size):
        raise NotImplementedError("a detector implements _module")

    def _criterion(self):
        raise NotImplementedError("a detector implements _criterion")

    def _patch_maps(self, x):
        raise NotImplementedError("a detector implements _patch_maps")
