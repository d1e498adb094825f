"""What the detectors share whose network encodes a small image as a whole."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral

import torch
from torch import nn
from torch.utils.data import Dataset

from .._parameters import parameter
from .._sklearn import Interval, Numbers
from ._trained_detector import TrainedDetector


class ImageEncoder(nn.Module):
    """Convolutions, each of which halves the image, and a linear map to the latent.

    Parameters
    ----------
    n_channels : int
        Of the images.
    size : (int, int)
        Their height and width.
    channels : sequence of int
        Of each convolution.
    latent_dim : int
    bias : bool, default=True
        Whether convolutions, norms and the linear map have biases.

    Attributes
    ----------
    sizes : list of (int, int)
        Height and width of the image and after each convolution.
    """

    def __init__(self, n_channels, size, channels, latent_dim, bias=True):
        super().__init__()
        self.sizes = [tuple(size)]
        for _ in channels:
            self.sizes.append(tuple((n + 1) // 2 for n in self.sizes[-1]))
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 5, 2, padding=2, bias=bias),
                    nn.BatchNorm2d(o, affine=bias),
                    nn.LeakyReLU(),
                )
                for i, o in pairwise((n_channels, *channels))
            )
        )
        height, width = self.sizes[-1]
        self.head = nn.Linear(channels[-1] * height * width, latent_dim, bias=bias)

    def forward(self, x):
        """From images (n, C, h, w) to latents (n, latent_dim)."""
        return self.head(self.blocks(x).flatten(1))


class ImageDecoder(nn.Module):
    """The mirror image of an `ImageEncoder`, from latents to images in [0, 1].

    Parameters
    ----------
    n_channels, channels, latent_dim, bias
        As of the encoder.
    sizes : sequence of (int, int)
        The encoder's.
    """

    def __init__(self, n_channels, sizes, channels, latent_dim, bias=True):
        super().__init__()
        self.sizes = list(reversed(sizes))
        height, width = self.sizes[0]
        self.head = nn.Linear(latent_dim, channels[-1] * height * width, bias=bias)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(i, affine=bias),
                nn.LeakyReLU(),
                nn.ConvTranspose2d(i, o, 4, 2, padding=1, bias=bias),
            )
            for i, o in pairwise((*reversed(channels), n_channels))
        )

    def forward(self, z):
        """From latents (n, latent_dim) to images (n, C, h, w)."""
        f = self.head(z).unflatten(1, (-1, *self.sizes[0]))
        for block, (height, width) in zip(self.blocks, self.sizes[1:]):
            f = block(f)[:, :, :height, :width]
        return f.sigmoid()


class WholeImages(Dataset):
    """Images, read once, as (input, target) with target = input.

    Parameters
    ----------
    images : ImageDataset
        Of one size.
    n_jobs : int or None, default=None
        Threads that read them.
    """

    def __init__(self, images, n_jobs=None):
        self.images, self.digest = images.in_memory(n_jobs=n_jobs), images.digest

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        return torch.stack([self.images[i] for i in indices])

    @staticmethod
    def collate(pixels):
        """A batch, which `__getitems__` has put together, as skorch's (input, target)."""
        return pixels, pixels


class WholeImageDetector(TrainedDetector):
    """Base of the detectors whose network encodes an image as a whole.

    Parameters
    ----------
    channels : sequence of int
        Of the encoder's convolutions, each of which halves the image. A decoder mirrors
        them.
    latent_dim : int
        Numbers that an image is encoded to.
    image_size : int, (int, int) or None
        Height and width that the network, which is made for small images, sees; None keeps
        the images' own, which must then all be of one size.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, see `BaseImageDetector`.
    score_reduction : {"max", "mean", "sum"} or float in (0, 1]
        From map to score. "mean" gives the method's own score.

    Attributes
    ----------
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.
    """

    channels: tuple[int, ...] = parameter((16, 32), Numbers(Integral, 1))
    latent_dim: int = parameter(32, Interval(Integral, 1, None, closed="left"))
    image_size = 32
    smoothing = "auto"
    score_reduction = "mean"
    max_epochs = 100
    train_batch_size = 16
    batch_size = 64

    _small_parameters = {"channels": (4, 8), "latent_dim": 8, "train_batch_size": 8}

    def _open_whole(self, images, validation):
        """Data sets of images that all are of one size, and that size."""
        self._need_one_size(images, validation)
        size = tuple(images[0].shape[1:])
        return [WholeImages(part, self.n_jobs) for part in (images, validation)], size

    def _make_encoder(self, size, bias=True):
        return ImageEncoder(self.n_channels_in_, size, self.channels, self.latent_dim, bias)

    def _make_decoder(self, sizes, bias=True):
        return ImageDecoder(self.n_channels_in_, sizes, self.channels, self.latent_dim, bias)
