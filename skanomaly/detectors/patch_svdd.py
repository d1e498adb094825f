"""Patch SVDD: Yi, Yoon, arXiv 2006.16067."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ..features import PatchBank, as_rows, channel_statistics
from ._crops import CropDataset
from ._patch_pairs import DIRECTIONS, STEP, draw_pairs, spread
from ._trained_detector import TrainedDetector

# Channels of the small patches' encoder, between the first convolution and the code.
FIRST, WIDTHS = 32, (64, 128, 128, 64, 32, 32)


class PatchEncoder(nn.Module):
    """Codes of all patches of images at once, and of patches half as large.

    Without padding, and with a first stride of 2 alone, so that the code of a patch is the
    same by itself and within an image.

    Parameters
    ----------
    mean, std : tensor, shape (C,)
        Of each channel over the training images.
    patch_size : int
        Side of the larger patches, a multiple of 4 from 8 on.
    latent_dim : int
    """

    def __init__(self, mean, std, patch_size, latent_dim):
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        half = self.small_size = patch_size // 2
        side, layers = (half - 3) // STEP + 1, [nn.Conv2d(len(mean), FIRST, 3, STEP)]
        while side > 3:
            width = (*WIDTHS, *[WIDTHS[-1]] * half)[len(layers) - 1]
            layers.append(nn.Conv2d(layers[-1].out_channels, width, 3))
            side -= 2
        layers.append(nn.Conv2d(layers[-1].out_channels, latent_dim, side))
        self.small = nn.ModuleList(layers)
        self.large = nn.ModuleList(
            [
                nn.Conv2d(latent_dim, 128, 2, dilation=half // STEP),
                nn.Conv2d(128, latent_dim, 1),
            ]
        )
        for layer in (*self.small, *self.large):
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            nn.init.zeros_(layer.bias)
        for last in (self.small[-1], self.large[-1]):  # where tanh is not flat yet
            last.weight.data *= 0.5

    def forward(self, x):
        """Codes (n, d, h, w) of larger patches and of smaller ones, `STEP` pixels apart."""
        x = x.contiguous(memory_format=torch.channels_last)  # a quarter faster on a CPU
        small = _through(self.small, (x - self.mean) / self.std)
        # The last layers leave a pixel over, so that an odd image has a place too many.
        height, width = ((n - self.small_size) // STEP + 1 for n in x.shape[2:])
        small = small[:, :, :height, :width]
        return _through(self.large, small), small


def _through(layers, x):
    for layer in layers[:-1]:
        x = F.leaky_relu(layer(x), 0.1)
    return torch.tanh(layers[-1](x))


class PatchTasks(nn.Module):
    """What the encoder is trained by: near patches have near codes, and tell where the next lies.

    Parameters
    ----------
    encoder : PatchEncoder
    latent_dim : int
    """

    def __init__(self, encoder, latent_dim):
        super().__init__()
        self.encoder = encoder
        self.classifiers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(latent_dim, 128),
                nn.LeakyReLU(0.1),
                nn.Linear(128, 128),
                nn.LeakyReLU(0.1),
                nn.Linear(128, len(DIRECTIONS)),
            )
            for _ in range(2)
        )

    def forward(self, drawn):
        """For both sizes the distances of near codes (m,), and logits of directions (m, 8)."""
        x, pairs = drawn
        found = []
        for codes, places, classify in zip(self.encoder(x), pairs, self.classifiers):
            image = torch.arange(len(x), device=x.device)[:, None, None]
            h = codes[image, :, places[..., 0], places[..., 1]]  # (n, m, 4, d)
            first, near, one, other = h.flatten(0, 1).unbind(1)
            found.append(((first - near).norm(dim=1), classify(one - other)))
        return found


class PatchTasksLoss(nn.Module):
    r"""Sum over both sizes of :math:`\lambda \lVert h - h' \rVert` and of the cross entropy.

    Parameters
    ----------
    svdd_weight : float
        :math:`\lambda`.
    """

    def __init__(self, svdd_weight):
        super().__init__()
        self.svdd_weight = svdd_weight

    def forward(self, found, directions):
        """The loss; `directions` are the numbers of the true ones, (m,) of each size."""
        return sum(
            self.svdd_weight * distances.mean() + F.cross_entropy(logits, true)
            for (distances, logits), true in zip(found, directions)
        )


class PatchSVDD(TrainedDetector):
    """Detect defects as patches whose learnt codes are far from those of all good ones.

    An encoder learns from scratch, from good images alone, to give near patches near codes,
    which at the same time tell in which of eight directions a second patch lies from a first.
    The distance of a patch's code to the nearest one of the training images is the map, of
    patches of two sizes [1]_.

    Parameters
    ----------
    patch_size : int
        Side of the larger patches in pixels, a multiple of 4 from 8 on; the paper's. The
        smaller ones are half as large. An image must be as large as a patch: images of 28
        pixels take 16.
    latent_dim : int
        Numbers of a code; the paper's.
    stride : int
        Pixels between the smaller patches of an image, even. Of the larger ones they are four
        times as many. 4 is the paper's.
    svdd_weight : float
        Weight of the distances of near codes beside the directions; the paper's for most
        categories.
    n_pairs : int
        Pairs for both tasks that are drawn of each image and size in an epoch, within a
        random square of twice the patch's side, which is encoded once.
    max_patches : int
        Codes of each size that are kept, by k-centre greedy; the paper keeps all.
    max_epochs : int
        Passes over the training images; the paper's are 300, of other batches.
    lr : float
        Learning rate of Adam at the start; the authors' is 1e-4, as far as we know.
    train_batch_size : int
        Images a step of training, a square of each.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.

    Attributes
    ----------
    large_bank_ : PatchBank
        Codes of the larger patches of training images.
    small_bank_ : PatchBank
        Codes of the smaller ones.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored: `patch_size`.

    Notes
    -----
    With :math:`h` the codes of patches, :math:`p'` beside :math:`p` and :math:`p_y` in the
    direction :math:`y` from it, the loss is for each size

    .. math:: \\lambda \\lVert h(p) - h(p') \\rVert_2
              + \\mathrm{CE}\\big(y, C(h(p) - h(p_y))\\big).

    The map is the product over both sizes of the mean, at each pixel, of
    :math:`\\min_q \\lVert h(p) - h(q) \\rVert_2` over the patches p that cover it.

    Layers, directions and distances of pairs are as we recall the authors' program, not read
    anew. Its codes of near patches are of patches one pixel apart, for the smaller size.

    References
    ----------
    .. [1] J. Yi, S. Yoon, "Patch SVDD: Patch-level SVDD for Anomaly Detection and
           Segmentation", ACCV 2020, arXiv:2006.16067.

    Examples
    --------
    >>> from skanomaly import PatchSVDD
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("gravel", n_normal=20, image_size=32, random_state=0).images
    >>> detector = PatchSVDD(patch_size=16, max_epochs=2, image_size=32, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 32, 32)
    """

    patch_size: int = parameter(64, Interval(Integral, 8, None, closed="left"))
    latent_dim: int = parameter(64, Interval(Integral, 1, None, closed="left"))
    stride: int = parameter(4, Interval(Integral, STEP, None, closed="left"))
    svdd_weight: float = parameter(1e-3, Interval(Real, 0, None, closed="left"), affects="training")
    n_pairs: int = parameter(64, Interval(Integral, 1, None, closed="left"), affects="training")
    max_patches: int = parameter(10_000, Interval(Integral, 1, None, closed="left"))
    max_epochs = 40
    train_batch_size = 4
    standardize = "position"

    _small_parameters = {"patch_size": 16, "max_patches": 300}

    def _fit_images(self, images, validation):
        self._check_sides()
        self._need_size(self.patch_size, images, validation)
        statistics = channel_statistics(
            as_rows(pixels) for pixels, _ in images.batches(self.batch_size, self.n_jobs)
        )
        encoder = PatchEncoder(*statistics, self.patch_size, self.latent_dim)
        parts = (
            CropDataset(part, 2 * self.patch_size, fixed=fixed, n_jobs=self.n_jobs)
            for part, fixed in ((images, False), (validation, True))
        )
        self.net_ = self._make_net(
            PatchTasks(encoder, self.latent_dim),
            PatchTasksLoss(self.svdd_weight),
            CropDataset,
            keep_best=True,
            prepare_batch=self._with_pairs,
            optimizer=torch.optim.Adam,
        ).fit_on(*parts)
        self._place(self._device)
        self.large_bank_, self.small_bank_ = (self._bank(images, k) for k in range(2))

    def _check_sides(self):
        for name, factor in (("patch_size", 4), ("stride", STEP)):
            if getattr(self, name) % factor:
                raise ValueError(
                    f"{name}={getattr(self, name)} is no multiple of {factor}; choose one that is"
                )

    def _with_pairs(self, crops, seeds):
        """Crops with pairs of patches of both sizes, and the pairs' directions."""
        pairs, directions = [], []
        for patch_size in self._patch_sizes:
            grid = [(n - patch_size) // STEP + 1 for n in crops.shape[2:]]
            drawn = [
                draw_pairs(grid, patch_size, self.n_pairs, torch.Generator().manual_seed(seed))
                for seed in seeds.tolist()
            ]
            places, true = (torch.stack(part).to(crops.device) for part in zip(*drawn))
            pairs.append(places)
            directions.append(true.flatten())
        return (crops, pairs), directions

    @property
    def _patch_sizes(self):
        return self.patch_size, self.patch_size // 2

    @property
    def _strides(self):
        return 4 * self.stride, self.stride

    def _bank(self, images, k):
        """Codes of the training images' patches of a size that stand for all."""
        codes = self._batches_through(lambda pixels: as_rows(self._codes(pixels)[k]), images)
        bank = PatchBank(self.max_patches, max_candidates=6 * self.max_patches)
        return bank.fit((rows for rows, _ in codes), int(torch.randint(2**31, ())))

    def _codes(self, pixels):
        """Codes (n, d, h, w) of larger and of smaller patches, strides apart."""
        codes = self.net_.module_.encoder(pixels)
        steps = (stride // STEP for stride in self._strides)
        return [h[:, :, ::step, ::step] for h, step in zip(codes, steps)]

    def _compute_maps(self, pixels):
        found = 1.0
        banks = self.large_bank_, self.small_bank_
        for h, bank, *sides in zip(self._codes(pixels), banks, self._patch_sizes, self._strides):
            scores = bank.distances(as_rows(h)).view(h.shape[0], *h.shape[2:])
            found = found * spread(scores, *sides, pixels.shape[2:])
        return found
