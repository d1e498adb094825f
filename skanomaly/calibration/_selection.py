"""Which images of a batch are flagged, if a share of those flagged may be normal."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from numbers import Integral

import numpy as np
from scipy.stats import false_discovery_control

from ..exceptions import ThresholdWarning

# What p-values by rank can be multiples of, and how many of them tell of what.
MAX_DENOMINATOR, N_THAT_TELL = 20_001, 10


def select(p_values, fdr=0.1, *, n_reference=None):
    """Flag images of a batch so that, on average, a stated share of those flagged is normal.

    A threshold flags a share of the normal images; if defects are rare, most of what it flags is
    normal. This bounds the share of *false discoveries* instead, by the procedure of Benjamini
    and Hochberg: the more low p-values a batch has, the higher one may be and still be flagged.

    Parameters
    ----------
    p_values : array-like, shape (m,)
        Of the batch, as of a detector's `p_values`.
    fdr : float in (0, 1), default=0.1
        False discovery rate: expected share of normal images among those flagged, where none
        flagged counts as 0. Of a batch without defects it is the probability that any is.
    n_reference : int or None, default=None
        Normal images that the p-values are ranks among, ``len(detector.validation_scores_)``.
        None: from what the p-values are multiples of, if there are 10 or more of them.

    Returns
    -------
    ndarray of bool, shape (m,)
        True = flagged.

    Raises
    ------
    ValueError
        If a p-value is not in (0, 1]; it names the position.

    Warns
    -----
    ThresholdWarning
        If a single defect cannot be flagged, however plain, as p-values among `n_reference` are
        never below 1 / (n_reference + 1), which would have to be `fdr` / m.

    Notes
    -----
    p-values of a batch that are ranks among the same normal images depend on each other, in
    such a way that the rate holds [2]_. It holds on average, over batches and over the images
    that set the p-values; not of one batch, and not if normal images of the batch differ from
    those.

    References
    ----------
    .. [1] Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", Journal of the
       Royal Statistical Society B 57, 1995.
    .. [2] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with conformal
       p-values", Annals of Statistics 51, 2023, arXiv:2104.08279.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.calibration import select
    >>> p_values = np.array([0.005, 0.6, 0.01, 0.3, 0.04])
    >>> select(p_values, fdr=0.1, n_reference=199)
    array([ True, False,  True, False,  True])
    """
    p_values = _checked(p_values)
    if not 0 < fdr < 1:
        raise ValueError(f"fdr is {fdr}, expected a number above 0 and below 1")
    if n_reference is None:
        n_reference = _n_reference_of(p_values)
    elif not isinstance(n_reference, Integral) or n_reference < 1:
        raise ValueError(f"n_reference is {n_reference!r}, expected a number of images, 1 or more")
    if not len(p_values):
        return np.zeros(0, bool)
    if n_reference is not None and p_values.min() < (1 - 1e-9) / (n_reference + 1):
        raise ValueError(
            f"p_values[{p_values.argmin()}] is {p_values.min():.3g}, and among n_reference="
            f"{n_reference} normal images none is below {1 / (n_reference + 1):.3g}"
        )
    if n_reference is not None:
        _warn_of_few(len(p_values), fdr, n_reference)
    # Ranks divided by whole numbers meet the rate exactly, but for rounding.
    return false_discovery_control(p_values, method="bh") <= fdr * (1 + 1e-9)


def _checked(p_values):
    p_values = np.asarray(p_values, dtype=float)
    if p_values.ndim != 1:
        raise ValueError(f"p_values is of shape {p_values.shape}, expected (m,), one an image")
    outside = np.flatnonzero(~((p_values > 0) & (p_values <= 1)))
    if len(outside):
        i = outside[0]
        raise ValueError(
            f"p_values[{i}] is {p_values[i]}, expected a number above 0 and up to 1, as a "
            "detector's p_values gives; scores are none"
        )
    return p_values


def _n_reference_of(p_values):
    """How many normal images p-values are ranks among, or None if they do not tell."""
    if len(p_values) < N_THAT_TELL:
        return None
    denominator = 1
    for p in np.unique(p_values):
        nearest = Fraction(p).limit_denominator(MAX_DENOMINATOR)
        if abs(float(nearest) - p) > 1e-12:
            return None
        denominator = math.lcm(denominator, nearest.denominator)
        if denominator > MAX_DENOMINATOR:
            return None
    return denominator - 1 if denominator > 1 else None


def _warn_of_few(n_images, fdr, n_reference):
    lowest = 1 / (n_reference + 1)
    if lowest <= fdr / n_images * (1 + 1e-9):
        return
    together = math.ceil(n_images * lowest / fdr * (1 - 1e-9))
    needed = math.ceil(n_images / fdr * (1 - 1e-9)) - 1
    few = (
        "cannot flag any of"
        if together > n_images
        else f"flags none unless {together} or more are lowest, of"
    )
    warnings.warn(
        f"p-values among {n_reference} normal images are never below {lowest:.3g}, so that "
        f"fdr={fdr:g} {few} {n_images} images; for a single defect {needed} normal images are "
        "needed. Pass more to calibrate, fewer at once to select, or allow a higher fdr",
        ThresholdWarning,
        stacklevel=3,
    )
