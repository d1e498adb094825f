"""Units of maps: deviations from the mean of the maps of normal images."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from .images import resized

# Of maps that are needed several times, and would cost the method's time again.
MAX_BYTES_KEPT = 2**26

# Fewer images tell one unit for all positions.
MIN_IMAGES = 3

# Images' worth of weight that the mean over all positions has beside a position's own, of the
# variance and of the mean, and standard deviation of the Gaussian, in positions, that smooths
# what each position tells.
PRIOR_OF_VARIANCE, PRIOR_OF_MEAN, SIGMA = 50, 1, 1.0


class KeptMaps:
    """A stream of maps that can be gone through again: from memory, or computed anew.

    Parameters
    ----------
    batches : iterable of (maps, sizes, ...)
        Maps, a tensor (n, h_k, w_k) or several, the images' own sizes, and what else belongs
        to them.
    anew : callable
        Gives the same stream once more.
    """

    def __init__(self, batches, anew):
        self.batches, self.anew = batches, anew
        self.kept, self.is_complete, self.has_begun = [], False, False

    def __iter__(self):
        if not self.has_begun:
            return self._first_time()
        return iter(self.kept if self.is_complete and self.kept is not None else self.anew())

    def _first_time(self):
        self.has_begun = True
        n_bytes = 0
        for batch in self.batches:
            maps = batch[0]
            parts = (maps,) if isinstance(maps, torch.Tensor) else maps
            n_bytes += sum(phi.nbytes for phi in parts)
            if n_bytes > MAX_BYTES_KEPT:
                self.kept = None
            if self.kept is not None:
                self.kept.append(batch)
            yield batch
        self.is_complete = True


class MapMoments:
    """Mean and variance of a stream of maps, over all positions or for each.

    Parameters
    ----------
    per_position : bool
    prior_of_variance : float, default=50
        Images' worth of weight that the variance over all positions has beside a position's own.
    """

    def __init__(self, per_position, prior_of_variance=PRIOR_OF_VARIANCE):
        self.per_position, self.prior_of_variance = per_position, prior_of_variance
        self.n = self.sum = self.sum_of_squares = 0.0
        self.n_images = 0
        self.shift = None  # near the mean, for the sums' precision

    def add(self, phi, regions):
        """Take maps into account.

        Parameters
        ----------
        phi : tensor, shape (n, h, w)
        regions : sequence of (array of bool (H, W) or None), length n
            Pixels that count of each image, of its own size.
        """
        if self.shift is None:
            self.shift, self.grid = float(phi.cpu().double().mean()), phi.shape[1:]
        self.n_images += len(phi)
        n, once, twice = self._terms(phi, regions)
        self.n = self.n + n.sum(dim=0)
        self.sum = self.sum + once.sum(dim=0)
        self.sum_of_squares = self.sum_of_squares + twice.sum(dim=0)

    def mean_and_deviation(self):
        """Of all maps: two arrays of float64, (h, w) or ()."""
        mean, deviation = self._of(self.n, self.sum, self.sum_of_squares, self.n_images)
        return mean.cpu().numpy(), deviation.cpu().numpy()

    def left_out(self, phi, regions):
        """Each map in the units of the others: mean and deviation without itself."""
        found = []
        for own, n, once, twice in zip(phi, *self._terms(phi, regions)):
            others = self.n - n, self.sum - once, self.sum_of_squares - twice
            if float(others[0].sum()) <= 0:
                others = self.n, self.sum, self.sum_of_squares
            units = self._of(*others, self.n_images)
            mean, deviation = (_on_grid(a[None], own.shape)[0].to(own.device) for a in units)
            found.append((own - mean) / deviation)
        return torch.stack(found).float()

    def _terms(self, phi, regions):
        phi = phi.cpu().double() - self.shift  # as not every device has double precision
        weights = weights_of(regions, phi)
        terms = weights, weights * phi, weights * phi.square()
        if self.per_position:
            return tuple(_on_grid(term, self.grid) for term in terms)
        return tuple(term.sum(dim=(1, 2)) for term in terms)

    def _of(self, n, once, twice, n_images):
        mean = once.sum() / n.sum()
        variance = twice.sum() / n.sum() - mean.square()
        if self.per_position:
            n_free = torch.where(n > 1.5, n - 1, 0.0)  # one image does not tell how others differ
            # Of two, each would be judged by a single one.
            if n_images >= MIN_IMAGES and float(n_free.sum()) >= 1:
                mean, variance = self._at_each_position(n, once, twice, n_free, mean)
            else:
                mean, variance = mean.expand(n.shape), variance.expand(n.shape)
        deviation = variance.clamp(min=0).sqrt()
        # Where normal maps do not differ at all, their own unit is as good as any.
        return mean + self.shift, torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0)

    def _at_each_position(self, n, once, twice, n_free, mean):
        within = (twice - once.square() / n.clamp(min=1e-12)).clamp(min=0)
        within = torch.where(n_free > 0, within, 0.0)  # sums of squared deviations
        prior = self.prior_of_variance
        variance = _smoothed(within + prior * within.sum() / n_free.sum())
        variance = variance / _smoothed(n_free + prior)
        return _smoothed(once + PRIOR_OF_MEAN * mean) / _smoothed(n + PRIOR_OF_MEAN), variance


def _smoothed(a):
    return torch.from_numpy(ndimage.gaussian_filter(a.cpu().numpy(), SIGMA)).to(a.device)


def joined(maps):
    """Maps of several resolutions, (n, h_k, w_k) each, as their sum on the finest one's grid."""
    maps = (maps,) if isinstance(maps, torch.Tensor) else maps
    if len(maps) == 1:
        return maps[0]
    size = max((phi.shape[1:] for phi in maps), key=lambda shape: shape[0] * shape[1])
    return sum(_on_grid(phi, size) for phi in maps)


def with_regions(batches, regions):
    """Yield (maps, sizes, regions) of a stream of (maps, sizes) of images in order."""
    start = 0
    for maps, sizes in batches:
        yield maps, sizes, [regions.of(start + i, size) for i, size in enumerate(sizes)]
        start += len(sizes)


def in_units(maps, mean, deviation):
    """Maps in units of deviations from the mean, (n, h, w).

    Parameters
    ----------
    maps : tensor or sequence of tensor, each (n, h_k, w_k)
    mean, deviation : ndarray, shape () or (h, w)
        Are stretched to maps of another size.
    """
    phi = joined(maps)
    mean, deviation = (
        torch.from_numpy(np.asarray(a, np.float32)).to(phi.device) for a in (mean, deviation)
    )
    if mean.ndim:
        mean, deviation = (_on_grid(a[None], phi.shape[1:])[0] for a in (mean, deviation))
    return (phi.float() - mean) / deviation


def _on_grid(phi, size):
    if phi.shape[1:] == size:
        return phi
    return torch.nn.functional.interpolate(phi[:, None], tuple(size), mode="bilinear")[:, 0]


def weights_of(regions, phi):
    """Share of each position of maps (n, h, w) that counts, of that shape, float64."""
    weights = torch.ones(phi.shape, dtype=torch.float64, device=phi.device)
    for own, region in zip(weights, regions):
        if region is not None:
            whole = torch.from_numpy(region)[None, None].float()
            own.copy_(resized(whole, tuple(own.shape))[0, 0].clamp(0, 1))
    return weights
