"""SPADE: Cohen, Hoshen, arXiv 2005.02357."""

from __future__ import annotations

import math
from itertools import product
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._process import is_exporting
from .._sklearn import Interval
from ..maps import resize_matrix
from ._feature_detector import CachedFeatureDetector


class SPADE(CachedFeatureDetector):
    """Detect defects as features that are in none of the most similar good images.

    Good images near by are found by their globally averaged deepest feature. At
    each position of each level, the distance of the feature to the nearest one
    anywhere in these images is the map [1]_; the levels' maps are averaged.
    Nothing is trained, and each image is compared with images that it
    resembles: for parts of several kinds or poses, and textures.

    Parameters
    ----------
    n_images : int
        Good images that each image is compared with; all where fewer were
        learnt from. The paper's.
    n_neighbors : int
        Nearest features whose distances are averaged, no more than there are images
        compared with. The paper's is one.
    window : int or None
        Height and width, odd, in positions of a level's grid, of what is searched
        around each feature's own position [2]_, for parts that are always seen in
        the same place; quicker where it is small. None searches everywhere.
    max_positions : int
        Positions that a level has at most; finer ones are resized to so many. The paper
        resizes none (its finest has 4,096). It bounds what an image costs, which grows with
        its square without a `window`.
    max_images : int
        Images that are learnt from; of more, so many are drawn at random.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, in pixels of the network's
        input; the paper's.
    standardize : {"global", "position"} or None
        Units of the map; the paper has none. "position" makes good that features differ
        more at an image's border, beyond which a network sees nothing.
    image_size : int, (int, int) or None
        Height and width that the network sees; None keeps each image's own,
        which must then be one.

    Attributes
    ----------
    galleries_ : ModuleList of Gallery, one a level
        Features of good images, in half precision.
    global_features_ : tensor, shape (n, c), float32
        Their deepest features, averaged over the grid.
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.

    Notes
    -----
    What a fit and a file hold is at most `max_images` images, each of 2 bytes for each
    channel of up to `max_positions` positions of each level: 184 KiB an image with the
    default network, 54 MiB of 300; 2 MiB an image with ``wide_resnet50_2``.

    The search takes, an image, 2 `n_images` times the sum over levels of squared positions
    times channels: 7.4 GFLOP by default, 126 ms of one CPU core, 87 GFLOP with
    ``wide_resnet50_2``; with ``window=3`` 65 ms. Images are searched for one after the
    other, so that what it holds, about 30 MiB by default, does not depend on `batch_size`;
    with a `window` it is a few copies of the grids of `n_images` images.

    Defaults were chosen on the development categories (bottle, grid, leather, two kinds
    of paper). Resizing the finest level changed AUPRO by -.02 on grid and .02 on leather;
    50 images did better than 10, by .08 on grid; a window of 3 lost .02 to .03 on both, and
    gained .05 of image AUROC on grid.

    The score is the map's `score_reduction`, as with every detector here. The paper's
    is another, the mean distance of the global feature to those of the `n_images`
    nearest images, which finds large defects alone (an image AUROC of .473 on the
    paper's *grid*).

    References
    ----------
    .. [1] N. Cohen, Y. Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid
           Correspondences", arXiv:2005.02357, 2020.
    .. [2] RAD, arXiv:2601.22763, 2026: the search restricted to a window of the most
           similar images.

    Examples
    --------
    >>> from skanomaly import SPADE
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = SPADE(image_size=64, n_images=3, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 128, 128)
    """

    n_images: int = parameter(50, Interval(Integral, 1, None, closed="left"))
    n_neighbors: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    window: int | None = parameter(None, Interval(Integral, 1, None, closed="left"), None)
    max_positions: int = parameter(1024, Interval(Integral, 1, None, closed="left"))
    max_images: int = parameter(300, Interval(Integral, 1, None, closed="left"))

    standardize = "position"

    _holds_out_in_turn = True
    # Of one neighbour, the score of an image that was learnt from is what rounding left.
    _small_parameters = {"n_images": 4, "n_neighbors": 2, "max_positions": 64}

    def _fit_images(self, images, validation):
        if self.window is not None and self.window % 2 == 0:
            raise ValueError(f"window={self.window} has no middle; choose an odd number, or None")
        self._open_encoder(images, validation)
        self._need_one_size(images, validation)
        chosen = torch.randperm(len(images))[: self.max_images].sort().values
        images = images.subset(chosen.numpy())
        example = self._pyramid(images[0][None].to(self._device))
        self.galleries_ = nn.ModuleList(Gallery(len(images), f) for f in example)
        self.global_features_ = torch.empty(len(images), example[-1].shape[1])
        self._place(self._device)
        start = 0
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                levels = self._pyramid(pixels.to(self._device))
                of_batch = slice(start, start + len(pixels))
                self.global_features_[of_batch] = levels[-1].mean(dim=(2, 3)).cpu()
                for gallery, f in zip(self.galleries_, levels):
                    gallery.put(of_batch, f)
            start += len(pixels)

    def _compute_maps(self, pixels):
        levels = self._pyramid(pixels)
        if is_exporting():
            return self._distances(levels)
        images = zip(*(f.split(1) for f in levels))  # one by one, to bound what is held
        return tuple(map(torch.cat, zip(*map(self._distances, images))))

    def _pyramid(self, pixels):
        """Features of each level, on grids of `max_positions` positions at most."""
        return [_within(f.float(), self.max_positions) for f in self.encoder_(pixels)]

    def _distances(self, levels):
        """Each level's share in the mean of all levels' maps, (n, h_k, w_k)."""
        nearest = self._nearest_images(levels[-1].mean(dim=(2, 3)))
        n_neighbors = min(self.n_neighbors, int(nearest.shape[1]))
        return tuple(
            gallery(f, nearest, n_neighbors, self.window) / len(levels)
            for gallery, f in zip(self.galleries_, levels)
        )

    def _nearest_images(self, global_features):
        """Numbers of the most similar good images, (n, n_images)."""
        others = self.global_features_.to(global_features.device)
        squared = (global_features[:, None] - others).square().sum(dim=2)
        return squared.topk(min(self.n_images, len(others)), dim=1, largest=False).indices


class Gallery(nn.Module):
    """A level's features of good images, and distances of others to those of some of them.

    Parameters
    ----------
    n_images : int
    example : tensor, shape (1, c, h, w)
        Features of one image. What is kept is differences from their mean, so that little is
        lost to rounding.
    """

    def __init__(self, n_images, example):
        super().__init__()
        _, c, h, w = example.shape
        self.register_buffer("center", example.mean(dim=(2, 3), keepdim=True))
        self.register_buffer("features", torch.zeros(n_images, h, w, c, dtype=torch.float16))

    def put(self, numbers, f):
        """Keep features (n, c, h, w) as those of some images."""
        self.features[numbers] = (f - self.center).permute(0, 2, 3, 1).half()

    def forward(self, f, nearest, n_neighbors, window):
        """Mean distance of features to their nearest ones.

        Parameters
        ----------
        f : tensor, shape (n, c, h, w)
        nearest : tensor of int64, shape (n, n_images)
            Images among whose features these are.
        n_neighbors : int
            At most n_images.
        window : int or None
            Odd: positions around each that are searched; None is all.

        Returns
        -------
        tensor, shape (n, h, w)
        """
        q = (f - self.center).permute(0, 2, 3, 1)
        if window is None:
            distances = self._anywhere(q, nearest, n_neighbors)
        else:
            distances = self._around(q, nearest, n_neighbors, window // 2)
        return distances.mean(dim=3)

    def _anywhere(self, q, nearest, n_neighbors):
        """The rows of the images' grids that hold the nearest, by products; then by differences."""
        n_images, h, w, c = self.features.shape
        features = self.features.view(n_images, h * w, c)
        q = q.reshape(-1, h * w, c)
        lowest = []
        for numbers in nearest.unbind(dim=1):  # one of the images at a time
            p = features[numbers].float()
            half_squares = p.square().sum(dim=2)[:, None] / 2
            ranking = torch.baddbmm(half_squares, q, p.transpose(1, 2), alpha=-1)
            lowest.append(ranking.reshape(-1, h * w, h, w).amin(dim=3))
        best = torch.cat(lowest, dim=2).topk(n_neighbors, dim=2, largest=False).indices
        numbers = nearest.gather(1, (best // h).flatten(1)).view_as(best)
        candidates = self.features.view(n_images * h, w, c)[numbers * h + best % h].float()
        squared = (candidates - q[:, :, None, None]).square().sum(dim=4).flatten(2)
        return _lowest(squared, n_neighbors).sqrt().reshape(-1, h, w, n_neighbors)

    def _around(self, q, nearest, n_neighbors, radius):
        """One place of the window after the other; what lies beyond the grid is infinitely far."""
        _, h, w, _ = self.features.shape
        dy, dx = min(radius, h - 1), min(radius, w - 1)
        p = self.features[nearest].float()
        p = F.pad(p, (0, 0, dx, dx, dy, dy), value=torch.inf)
        squared = []
        for i, j in product(range(2 * dy + 1), range(2 * dx + 1)):
            of_images = (p[:, :, i : i + h, j : j + w] - q[:, None]).square().sum(dim=4)
            squared.append(_lowest(of_images.permute(0, 2, 3, 1), n_neighbors))
        return _lowest(torch.cat(squared, dim=3), n_neighbors).sqrt()


def _lowest(values, n):
    """The n lowest values along the last axis, or all of fewer."""
    n = min(n, int(values.shape[-1]))
    if n == 1:
        return values.amin(dim=-1, keepdim=True)
    return values.topk(n, dim=-1, largest=False).values


def _within(f, max_positions):
    """Features (n, c, h, w), resized to a grid of about their shape if theirs is larger."""
    h, w = map(int, f.shape[2:])
    if h * w <= max_positions:
        return f
    height = max(1, math.isqrt(max_positions * h // w))
    width = min(w, max_positions // height)
    rows, columns = (
        resize_matrix(size, new).float().to(f.device) for size, new in ((h, height), (w, width))
    )
    return rows @ f @ columns.T
