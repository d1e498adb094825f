"""Residuals -> pixel map -> image score.

Bilinear resizing and Gaussian smoothing are linear and act on each axis by
itself, so that both are one matrix per axis: a map of h x w becomes one of H x W
by ``A_h @ map @ A_w.T``. That is exact, quick for the small maps that networks
give, and the same code on every device. Large maps, whose matrices would be
larger than they, are resized and smoothed step by step.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
from scipy import ndimage

from ._process import is_exporting
from .images import resized

#: Ways from a map to a score, besides the mean of its highest share.
SCORE_REDUCTIONS = ("max", "mean", "sum")

# Side in pixels of the window of structural similarity.
SSIM_WINDOW = 11

# Numbers that a matrix for one axis may hold: 1 MiB in single precision.
_MAX_MATRIX = 2**18

# Finished pixels that are held at once for images that are yielded one by one.
_MAX_FINISHED = 2**24


def normalized_residual(f_enc, f_dec):
    r"""Half the squared distance between two features of unit length.

    .. math:: \phi_k = \tfrac12 \lVert f_{enc}^k / \lVert f_{enc}^k \rVert_2
              - f_{dec}^k / \lVert f_{dec}^k \rVert_2 \rVert_2^2

    with both norms over the channels at each position, summed over channels
    (eqs. 5-6 of arXiv 2405.09148).

    Parameters
    ----------
    f_enc, f_dec : tensor, shape (n, c, h, w)

    Returns
    -------
    tensor, shape (n, h, w)
        Between 0 (same direction) and 2 (opposite). A feature that is zero in
        all channels has no direction and counts as the zero vector.
    """
    unit_enc = torch.nn.functional.normalize(f_enc, dim=1)
    unit_dec = torch.nn.functional.normalize(f_dec, dim=1)
    return 0.5 * (unit_enc - unit_dec).square().sum(dim=1)


def structural_similarity(x, y, window=SSIM_WINDOW, sigma=1.5):
    r"""Structural similarity of two images around each pixel, averaged over channels.

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
              {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    with moments weighted by a Gaussian, C_1 = 0.01^2 and C_2 = 0.03^2 (Wang et
    al., "Image quality assessment: from error visibility to structural
    similarity", IEEE TIP 13(4), 2004, whose window and constants are the defaults).

    Parameters
    ----------
    x, y : tensor, shape (n, C, h, w), values in [0, 1]
    window : int, default=11
        Side of the window in pixels, odd.
    sigma : float, default=1.5
        Standard deviation of its Gaussian in pixels.

    Returns
    -------
    tensor, shape (n, h - window + 1, w - window + 1)
        In [-1, 1]; 1 where the images are equal. Only for pixels whose window
        lies within the image.
    """
    offsets = np.arange(window) - window // 2
    weights = np.exp(-np.square(offsets) / (2 * sigma**2))
    weights = (weights / weights.sum()).tolist()

    # Differences from 1/2 keep the squares small, and with them what subtracting them loses.
    moments = torch.stack([x - 0.5, y - 0.5, (x - 0.5) ** 2, (y - 0.5) ** 2, (x - 0.5) * (y - 0.5)])
    mean_x, mean_y, xx, yy, xy = _weighted_sums(_weighted_sums(moments, weights, -1), weights, -2)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    c_1, c_2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    contrast = (2 * cov + c_2) / (var_x + var_y + c_2)
    return (luminance * contrast).mean(dim=1)


def _weighted_sums(x, weights, axis):
    """Of each run of neighbours along an axis.

    By additions, not by a convolution: on a GPU that may round to 10 bits, which
    is more than the variances that are to come of it. Where gradients are asked for, in a
    training, by a matrix, which takes a third of the time.
    """
    n = x.shape[axis] - len(weights) + 1
    if x.requires_grad:
        band = sum(w * torch.eye(n, x.shape[axis]).roll(i, 1) for i, w in enumerate(weights)).to(x)
        return x @ band.T if axis == -1 else band @ x
    total = weights[0] * x.narrow(axis, 0, n)
    for i, weight in enumerate(weights[1:], start=1):
        total.add_(x.narrow(axis, i, n), alpha=weight)
    return total


def resize_matrix(size, new_size):
    """Bilinear interpolation of one axis, as a matrix.

    Pixel centres are half-integers, as in OpenCV, Pillow and PyTorch's
    ``align_corners=False``; beyond the outermost centres the edge's value is
    kept. When it shrinks, the triangle filter widens with the step, so that no
    pixel is skipped (Pillow's and PyTorch's antialiasing).

    Parameters
    ----------
    size, new_size : int
        Or tensors, where an export is to hold the computation.

    Returns
    -------
    tensor, shape (new_size, size), float64
        Rows sum to 1.
    """
    step = torch.as_tensor(size).double() / new_size
    centers = (torch.arange(new_size, dtype=torch.float64)[:, None] + 0.5) * step - 0.5
    distance = (torch.arange(size, dtype=torch.float64) - centers).abs()
    weights = (1 - distance / step.clamp(min=1)).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def gaussian_matrix(size, sigma):
    """Gaussian smoothing of one axis, as a matrix.

    The kernel ends at four standard deviations and the border is mirrored
    (``d c b a | a b c d | d c b a``): scipy.ndimage's defaults.

    Parameters
    ----------
    size : int
    sigma : float
        Standard deviation in pixels; 0 smooths nothing.

    Returns
    -------
    tensor, shape (size, size), float64
        Rows sum to 1.
    """
    matrix = np.eye(size)
    if sigma:
        matrix = ndimage.gaussian_filter1d(matrix, sigma, axis=0, mode="reflect")
    return torch.from_numpy(matrix)


@lru_cache(maxsize=64)  # of at most 1 MiB each
def _axis_matrix(size, seen_size, sigma):
    """Map's axis -> the network's input -> smoothed there."""
    columns = torch.eye(size, dtype=torch.float64)[None]
    return _smoothed(_resized(columns, (seen_size, size)), sigma, axis=1)[0].float()


def _resized(maps, size):
    return maps if maps.shape[1:] == tuple(size) else resized(maps[:, None], tuple(size))[:, 0]


def _smoothed(maps, sigma, axis):
    """What `gaussian_matrix` does along an axis, by sums."""
    if not sigma:
        return maps
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    size = maps.shape[axis]
    mirrored = np.arange(-radius, size + radius) % (2 * size)
    mirrored = torch.from_numpy(np.minimum(mirrored, 2 * size - 1 - mirrored))
    extended = maps.index_select(axis, mirrored.to(maps.device))
    return _weighted_sums(extended, (weights / weights.sum()).tolist(), axis)


def _traced_axis_matrix(size, seen_size, sigma, own_size):
    """The same, where the image's own size is known only when an exported file is run."""
    size, seen_size = int(size), int(seen_size)
    matrix = gaussian_matrix(seen_size, sigma) @ resize_matrix(size, seen_size)
    if isinstance(own_size, int):
        return matrix.float()
    to_own = resize_matrix(seen_size, own_size)
    return (to_own if size == seen_size and not sigma else to_own @ matrix).float()


def assemble_maps_by_size(maps, seen_size, own_sizes, smoothing, regions):
    """As `assemble_maps`, of images that may differ in size and each have a region of its own.

    Parameters
    ----------
    maps, seen_size, smoothing
        As for `assemble_maps`.
    own_sizes : sequence of (int, int), length n
    regions : sequence of (array of bool (H, W) or None), length n
        The whole image where it is None.

    Yields
    ------
    tensor, shape (H, W), float32, on the CPU
    """
    maps = (maps,) if isinstance(maps, torch.Tensor) else maps
    start = 0
    for own_size, group in groupby(own_sizes):
        stop = start + len(list(group))
        n_at_once = max(1, _MAX_FINISHED // (own_size[0] * own_size[1]))
        for first in range(start, stop, n_at_once):
            part = slice(first, min(first + n_at_once, stop))
            within = _stacked_regions(regions[part], own_size)
            chosen = [phi[part] for phi in maps]
            yield from assemble_maps(chosen, seen_size, own_size, smoothing, within).cpu()
        start = stop


def _stacked_regions(regions, size):
    if all(region is None for region in regions):
        return None
    whole = np.ones(size, bool)
    return torch.from_numpy(np.stack([whole if r is None else r for r in regions]))


def assemble_maps(maps, seen_size, own_size, smoothing, regions=None):
    """Sum maps of several resolutions into one of the image's own size.

    Each is resized bilinearly to what the network saw, their sum is smoothed
    there, and the result is resized bilinearly to the image's own size.

    Parameters
    ----------
    maps : tensor or sequence of tensor, each (n, h_k, w_k)
    seen_size : (int, int)
        Height and width of the network's input.
    own_size : (int, int)
        Height and width of the images before they were resized for the network.
    smoothing : float
        Standard deviation of the Gaussian, in pixels of the network's input.
    regions : tensor of bool, shape (n, H, W), or None, default=None
        Pixels that count; None is all. Others take no part in the smoothing, which
        is over what the Gaussian covers of the region, and get the smallest value
        that is in it.

    Returns
    -------
    tensor, shape (n, H, W), float32
    """
    if isinstance(maps, torch.Tensor):
        maps = [maps]
    if regions is None:
        if is_exporting():
            return sum(_traced_map(phi, seen_size, smoothing, own_size) for phi in maps)
        return _resized(sum(_seen(phi, seen_size, smoothing) for phi in maps), own_size)
    seen = sum(_brought(phi, seen_size, 0.0, seen_size) for phi in maps)
    weights = _of_seen_size(regions.to(seen.device), seen_size)
    covered = _brought(weights, seen_size, smoothing, seen_size)
    smoothed = _brought(seen * weights, seen_size, smoothing, seen_size) / covered
    # Relative to what is covered best, as a region may be smaller than a pixel of the network.
    smoothed = _lowest_outside(smoothed, covered > 1e-6 * covered.amax(dim=(1, 2), keepdim=True))
    return _lowest_outside(_brought(smoothed, seen_size, 0.0, own_size), regions)


def _brought(phi, seen_size, smoothing, own_size):
    """Maps brought to what the network saw, smoothed there, and brought to another size."""
    if is_exporting():
        return _traced_map(phi, seen_size, smoothing, own_size)
    return _resized(_seen(phi, seen_size, smoothing), own_size)


def _seen(phi, seen_size, smoothing):
    """Maps brought to what the network saw, and smoothed there."""
    phi = phi.float()
    for axis, seen in ((1, seen_size[0]), (2, seen_size[1])):
        size = phi.shape[axis]
        if size * seen <= _MAX_MATRIX:
            matrix = _axis_matrix(size, seen, smoothing).to(phi.device)
            phi = matrix @ phi if axis == 1 else phi @ matrix.T
        else:
            new_size = (seen, phi.shape[2]) if axis == 1 else (phi.shape[1], seen)
            phi = _smoothed(_resized(phi, new_size), smoothing, axis)
    return phi


def _traced_map(phi, seen_size, smoothing, own_size):
    """The same, brought to the image's own size, as one matrix an axis, which ONNX can hold."""
    rows, columns = (
        _traced_axis_matrix(size, seen, smoothing, own).to(phi.device)
        for size, seen, own in zip(phi.shape[1:], seen_size, own_size, strict=True)
    )
    return rows @ phi.float() @ columns.T


def _of_seen_size(regions, seen_size):
    """Share of what lies in its region, of each pixel that the network sees."""
    if not is_exporting():
        return _seen(regions, seen_size, 0.0)
    # Theirs is the images' own size, which is known only when an exported file is run.
    sizes = zip(regions.shape[1:], seen_size)
    rows, columns = (resize_matrix(n, seen).float() for n, seen in sizes)
    return rows @ regions.float() @ columns.T


def _lowest_outside(maps, regions):
    regions = regions.to(maps.device)
    lowest = maps.masked_fill(~regions, torch.inf).amin(dim=(1, 2), keepdim=True)
    return torch.where(regions, maps, lowest)


def reduce_maps(maps, reduction):
    """One number for an image from its map.

    Parameters
    ----------
    maps : tensor, shape (n, ...)
        All pixels of it that count.
    reduction : {"max", "mean", "sum"} or float in (0, 1]
        A number is the mean of that share of the pixels, at least one, that have the
        highest values.

    Returns
    -------
    tensor, shape (n,), float64
        Higher = more anomalous.
    """
    pixels = maps.flatten(1)
    if reduction == "max":
        return pixels.amax(dim=1).double()
    pixels = pixels.double()
    if reduction == "sum":
        return pixels.sum(dim=1)
    if reduction == "mean":
        return pixels.mean(dim=1)
    n_pixels = pixels.shape[1]
    if is_exporting():  # the number of pixels is known when the file is run only
        n_pixels = torch.as_tensor(n_pixels)
        n_highest = (n_pixels * float(reduction)).round().clamp(min=1)
        ranks = torch.arange(n_pixels)
        return (pixels.sort(dim=1, descending=True).values * (ranks < n_highest)).sum(1) / n_highest
    n_highest = max(1, round(n_pixels * float(reduction)))
    return pixels.topk(n_highest, dim=1).values.mean(dim=1)
