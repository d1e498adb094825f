"""How far the residuals of an image are from those of normal images, at each place."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf
from torch import nn

from .._map_units import MapMoments
from .._process import is_exporting

# Standard deviation in pixels of the Gaussian over which residuals are taken together, and what
# is added to squares before their logarithm is taken.
SIGMA = 2.0
LEAST_SQUARE = 1e-6

# Pixels of a side that are taken together first, which costs no detail under that Gaussian, and
# the deviation that is left for it then, in such cells.
CELL = 2
SIGMA_OF_CELLS = math.sqrt(SIGMA**2 - (CELL**2 - 1) / 12) / CELL

# Images' worth of weight that a feature's variance at all places has beside that at each.
PRIOR_OF_VARIANCE = 500

# Of which the mean and the deviation are kept, each; of more they are taken together.
MAX_CELLS = 2**18

# Cells from one to the next of those that tell how features vary together, so that neighbours are
# nearly independent, how many of them an image has at most, and a side at least, if it has so many.
SPACING, MAX_SAMPLES, MIN_SAMPLES = 4, 2**12, 8

# That a combination of features in units of their deviations is taken to have: channels that hold
# the same differ by little but rounding.
LEAST_VARIANCE = 1e-3


def residual_features(residuals):
    """What residuals are around each cell: their mean, and the logarithm of their mean square.

    Parameters
    ----------
    residuals : tensor, shape (n, C, H, W), float32

    Returns
    -------
    tensor, shape (n, 2 * C, ceil(H / 2), ceil(W / 2)), float32
    """
    means, squares = (
        locally_averaged(_in_cells(values), SIGMA_OF_CELLS)
        for values in (residuals, residuals.square())
    )
    return torch.cat([means, (squares + LEAST_SQUARE).log()], dim=1)


def _in_cells(values):
    height, width = values.shape[2:]
    whole = F.pad(values, (0, -width % CELL, 0, -height % CELL), mode="replicate")
    return F.avg_pool2d(whole, CELL)


def locally_averaged(maps, sigma):
    """Maps (n, C, h, w) smoothed by a Gaussian; beyond their border the outermost values go on."""
    radius = int(4 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2).to(maps)
    weights = weights / weights.sum()
    alone = maps.flatten(0, 1)[:, None]
    extended = F.pad(alone, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(extended, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1)).view(maps.shape)


class ResidualDistance(nn.Module):
    r"""Mahalanobis distance of `residual_features` from those of normal images.

    .. math:: \lVert W (z - \operatorname{median} z) \rVert_2, \quad z = (f - \mu) / \sigma,

    with the mean and deviation of each feature at each place, its median over the
    image, and W what makes the features, in these units, uncorrelated and of variance 1.

    Parameters
    ----------
    mean, deviation : tensor, shape (2 * C, h, w)
        Of some resolution; they are stretched to the images'.
    whitening : tensor, shape (2 * C, 2 * C)
        W.
    """

    def __init__(self, mean, deviation, whitening):
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", deviation.float())
        self.register_buffer("whitening", whitening.float())

    @classmethod
    def of(cls, residuals):
        """The distance from residuals of normal images, given as batches (n, C, H, W)."""
        moments, sampled = None, []
        for batch in residuals:
            features = residual_features(batch).cpu()
            moments = moments or [MapMoments(True, PRIOR_OF_VARIANCE) for _ in features[0]]
            for of_feature, maps in zip(moments, _pooled(features).unbind(1)):
                of_feature.add(maps, [None] * len(maps))
            sampled.append((_thinned(features).clone(), features.shape[2:]))
        mean, deviation = (
            torch.from_numpy(np.stack(parts)).float()
            for parts in zip(*(of_feature.mean_and_deviation() for of_feature in moments))
        )
        z = [
            _in_units(
                features, *(_thinned(_stretched(values, size)) for values in (mean, deviation))
            )
            for features, size in sampled
        ]
        whitening = _whitening(torch.cat([part.transpose(0, 1).flatten(1) for part in z], dim=1))
        return cls(mean, deviation, whitening)

    def forward(self, residuals):
        """Distances (n, ceil(H / 2), ceil(W / 2)) of residuals (n, C, H, W)."""
        features = residual_features(residuals)
        size = features.shape[2:]
        z = _in_units(features, _stretched(self.mean, size), _stretched(self.deviation, size))
        return F.conv2d(z, self.whitening[:, :, None, None]).square().sum(dim=1).sqrt()


def _in_units(features, mean, deviation):
    """Deviations, less their median: an image may be darker or rougher as a whole."""
    z = (features - mean) / deviation
    return z - _medians(z.flatten(2))[..., None]


def _medians(values):
    """Lower medians (n, c, 1) of values (n, c, m)."""
    if is_exporting():
        middle = (values.shape[2] - 1) // 2
        return values.sort(dim=2).values[..., middle : middle + 1]
    return values.median(dim=2, keepdim=True).values


def _stretched(values, size):
    """Values (c, h, w) as a batch of one, of another resolution."""
    return F.interpolate(values[None], tuple(size), mode="bilinear")


def _pooled(features):
    height, width = features.shape[2:]
    step = math.ceil(math.sqrt(height * width / MAX_CELLS))
    return F.avg_pool2d(features, step, ceil_mode=True) if step > 1 else features


def _thinned(features):
    height, width = features.shape[2:]
    step = max(SPACING, math.ceil(math.sqrt(height * width / MAX_SAMPLES)))
    # Of small images, closer by: a median is taken of the samples. As far from each border.
    steps = [max(1, min(step, n // MIN_SAMPLES)) for n in (height, width)]
    top, left = ((n - 1) % k // 2 for n, k in zip((height, width), steps))
    return features[:, :, top :: steps[0], left :: steps[1]]


def _whitening(z):
    """W of variables (d, n): of W z the covariance is the identity.

    The fewer samples there are, the more the covariance is drawn to a multiple of that.
    """
    covariance, _ = ledoit_wolf(z.double().T.numpy())
    variances, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    return (vectors / variances.clamp(min=LEAST_VARIANCE).sqrt()).T
