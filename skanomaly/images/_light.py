"""How an image looks as a whole: its grey values, and how sharp they are."""

from __future__ import annotations

import numpy as np


def grey_of(pixels):
    """Grey values of an image as floats in [0, 1], (h, w), float64.

    Parameters
    ----------
    pixels : tensor, shape (C, h, w)
        Of four channels the last is taken to be transparency.
    """
    colours = pixels[:3] if len(pixels) in (3, 4) else pixels
    return colours.mean(dim=0).numpy().astype(np.float64)


def sharpness_of(grey):
    """Variance of the Laplacian, relative to the light, in which it does not change.

    Parameters
    ----------
    grey : ndarray, shape (h, w)

    Returns
    -------
    float
    """
    from scipy import ndimage

    light = np.square(grey).mean()
    return float(ndimage.laplace(grey).var() / light) if light > 0 else 0.0
