"""Local contrast: what an image is beside a blurred copy of itself."""

from __future__ import annotations

from numbers import Real

import torch

from .._parameters import parameter
from .._sklearn import Numbers
from ..growing import GrowingDetector
from ..maps import assemble_maps


class LocalContrast(GrowingDetector):
    r"""Detect defects as pixels that differ from their surroundings: no learning at all.

    The map is

    .. math:: \max_{c, \sigma} |x_c - G_\sigma * x_c|

    over the channels c of the image and Gaussian blurs of several widths. Good
    images do nothing but set the threshold. It is a floor for other methods, and
    right for small spots, dust and impurities on an even surface: what is much
    smaller than the finest cell of a network's features is all in this
    map. It is blind to what has the contrast of good parts, on structured
    parts and coarse textures above all.

    Parameters
    ----------
    scales : sequence of float
        Standard deviations of the blurs in pixels of what the method sees, ascending.
        A blur shows what is narrower than about twice its width; wide ones also show
        large defects, and slow changes of the light.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, in pixels of what the method sees.
    validation_fraction : float in (0, 1)
        Share of the images that sets the threshold; nothing is learnt from the others.

    Notes
    -----
    Defaults were chosen on the development categories (bottle, grid, leather, magnetic
    tiles, two kinds of paper; 256 x 256): in the mean, the largest difference over the
    scales does better than their sum, several scales better than one, and a channel
    more or less than grey values by less than .002. With
    ``smoothing=4.0`` and one scale of 25, large blots on leather are found better and
    everything that is small worse.

    Images may differ in size, with ``image_size=None``; scales are then pixels of each.

    Examples
    --------
    >>> from skanomaly import LocalContrast
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = LocalContrast(scales=(4.0,), random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 128, 128)
    """

    scales: tuple[float, ...] = parameter((8.0, 25.0), Numbers(Real, 0.1, ascending=True))
    smoothing = 2.0
    validation_fraction = 0.9

    _small_parameters = {"validation_fraction": 0.5}
    _holds_out_in_turn = True

    def _fit_images(self, images, validation):
        self.n_images_ = len(images)

    def _learn(self, images):
        pass

    def _absorb(self, others):
        pass

    def _compute_maps(self, pixels):
        planes = pixels.flatten(0, 1)
        size = [int(n) for n in pixels.shape[2:]]
        contrasts = [(planes - assemble_maps(planes, size, size, s)).abs() for s in self.scales]
        return torch.stack(contrasts).amax(dim=0).unflatten(0, (-1, pixels.shape[1])).amax(dim=1)
