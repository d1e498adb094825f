"""Difference from the median of the good images, pixel by pixel."""

from __future__ import annotations

from numbers import Integral, Real

import torch

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..base import BaseImageDetector

# Deviations of a Gaussian that lie between its quantiles .05 and .95.
DEVIATIONS = 3.28971

# A Gaussian's deviation in units of its median absolute deviation.
PER_MAD = 1.482602

# Numbers that are sorted at a time.
MAX_SORTED = 2**22


class MedianDifference(BaseImageDetector):
    r"""Detect defects as pixels that no good image has there: distance from the median image.

    The map is

    .. math:: \max_c |x_c - m_c| / \max(s_c, s_0)

    over the channels c, with m the median of the good images and s their spread,
    both pixel by pixel, and s_0 the least that counts. It is a floor for other
    methods, and explains itself: for parts that are always seen in the same place,
    in the same light. On a texture the median is an even surface, and this a plain
    contrast.

    Parameters
    ----------
    spread : {"range", "mad"} or None
        Unit of each pixel's distance. "range" is what lies between the quantiles .05
        and .95 of the good values, over 3.29, and "mad" their median absolute
        deviation, times 1.4826: of Gaussian values both are the standard deviation.
        "mad" stands up to as many as half of the images being bad, "range" to a
        twentieth, and "range" sees better where good parts differ. None takes the
        distance itself.
    min_spread : float
        The least spread, in units of the value range (1 is from black to white), so
        that an even background does not make a defect of the camera's noise.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, in pixels of what the method sees.
    max_images : int
        Images that are learnt from; of more, so many are drawn at random.

    Attributes
    ----------
    median_ : tensor, shape (C, h, w), float32
        The median image.
    spread_ : tensor, shape (C, h, w), float32
        The unit of each pixel's distance.
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.

    Notes
    -----
    A fit holds `max_images` images of the size that the method sees, in single precision: 150
    MB of 200 in colour of 256 x 256.

    Defaults were chosen on the development categories (bottle, grid, leather, magnetic
    tiles, two kinds of paper; 256 x 256). In units of "range" a bottle's defects are found
    with an image AUROC of .98, in those of "mad" .95 and without units .82; what has no
    fixed place is found as well or badly with any.

    Examples
    --------
    >>> from skanomaly import MedianDifference
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = MedianDifference(random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 128, 128)
    """

    spread: str | None = parameter("range", StrOptions({"range", "mad"}), None)
    min_spread: float = parameter(0.01, Interval(Real, 0, None, closed="neither"))
    max_images: int = parameter(200, Interval(Integral, 1, None, closed="left"))
    smoothing = 2.0

    _holds_out_in_turn = True
    _models_positions = True

    def _fit_images(self, images, validation):
        self._need_one_size(images, validation)
        chosen = torch.randperm(len(images))[: self.max_images].sort().values
        X = self._stacked(images.subset(chosen.numpy()))
        parts = X.flatten(1).split(max(1, MAX_SORTED // len(X)), dim=1)
        median, spread = (torch.cat(found) for found in zip(*map(self._median_and_spread, parts)))
        self.median_, self.spread_ = median.view(X.shape[1:]), spread.view(X.shape[1:])

    def _compute_maps(self, pixels):
        median, spread = self.median_.to(pixels.device), self.spread_.to(pixels.device)
        return ((pixels - median).abs() / spread).amax(dim=1)

    def _median_and_spread(self, x):
        """Of the columns of good values (n, n_pixels)."""
        low, median, high = x.quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)
        if self.spread is None:
            return median, torch.ones_like(median)
        if self.spread == "range":
            spread = (high - low) / DEVIATIONS
        else:
            spread = PER_MAD * (x - median).abs().quantile(0.5, dim=0)
        return median, spread.clamp(min=self.min_spread)

    def _stacked(self, images):
        """All images as one tensor, which is filled batch by batch."""
        stacked, start = torch.empty((len(images), *images[0].shape)), 0
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            stacked[start : start + len(pixels)] = pixels
            start += len(pixels)
        return stacked
