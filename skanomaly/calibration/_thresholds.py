"""Thresholds on scores: the one that a stated share of new normal images falls below."""

from __future__ import annotations

from numbers import Integral

import numpy as np


def quantile_of_new(scores, share):
    r"""The value that a share of *new* scores from the same source falls below.

    The k-th smallest of n scores has k / (n + 1) of all further ones below it on
    average, whatever their distribution; between ranks it is interpolated. A
    share below 1 / (n + 1) lies beyond the smallest score, where ranks say
    nothing: there the distances of the m lowest scores from the next one are
    taken as exponentially distributed, as the tail of most distributions is.
    With :math:`\bar d` the mean distance from that next score u, a new score
    lies below :math:`u - s \bar d` with probability

    .. math:: \frac{m + 1}{n + 1} \Big(1 + \frac{s}{m}\Big)^{-m},

    in which the uncertainty of :math:`\bar d` is accounted for.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of normal images that were not trained on; higher = more normal.
    share : float in (0, 1)

    Returns
    -------
    float

    References
    ----------
    L. Breiman, C. Stone, C. Kooperberg, "Robust confidence bounds for extreme upper
    quantiles", Journal of Statistical Computation and Simulation 37, 1990 (the
    exponential tail).
    """
    scores = np.sort(scores)
    n = len(scores)
    if share >= 1 / (n + 1) or n == 1:
        return float(np.quantile(scores, share, method="weibull"))
    m = min(int(np.ceil(np.sqrt(n))), n - 1)
    u = scores[m]
    mean_distance = np.mean(u - scores[:m])
    s = m * (((m + 1) / ((n + 1) * share)) ** (1 / m) - 1)
    return float(min(scores[0], u - s * mean_distance))


def false_alarm_interval(n_validation, rate, *, n_new=None, confidence=0.95):
    r"""Between what the share of new normal images flagged will lie, by a threshold once set.

    A threshold for the share `rate` flags that share on average over all sets of images that
    might have set it. The one set that has done so is luckier or less lucky: below the k-th
    lowest of its n scores lies a share of all new ones which is drawn from
    :math:`\mathrm{Beta}(k, n + 1 - k)`, whatever the scores' distribution, and of m new
    images a number which is beta-binomial.

    Parameters
    ----------
    n_validation : int
        Images that set the threshold, ``len(detector.validation_scores_)``.
    rate : float in (0, 1)
        Share that was asked for, ``detector.false_alarm_rate``.
    n_new : int or None, default=None
        New normal images of which the share is counted. None is the share in the long run.
    confidence : float in (0, 1), default=0.95
        How often the share lies within.

    Returns
    -------
    low, high : float in [0, 1]

    Raises
    ------
    ValueError
        If a number is out of its range.

    See Also
    --------
    quantile_of_new : The threshold.

    Notes
    -----
    It holds of a threshold from images that were not learnt from, all of one source with the
    new ones. Where ``rate * (n_validation + 1)`` is no whole number, the threshold lies between
    two scores and the interval reaches from the lower one's to the upper one's; below 1, where
    it lies under all scores by what their tail suggests, only that is known of it, and `low` is
    0. There, and between scores, the interval is too wide rather than too narrow. With scores
    that are equal, fewer may be flagged than `low`. After a fit that held out in turn (``cv``,
    or few images) scores are not independent, and it holds about.

    References
    ----------
    V. Vovk, "Conditional validity of inductive conformal predictors", Machine Learning 92,
    2013, doi:10.1007/s10994-013-5355-6.

    Examples
    --------
    >>> from skanomaly.calibration import false_alarm_interval
    >>> low, high = false_alarm_interval(99, 0.05)
    >>> f"{low:.3f} to {high:.3f}"
    '0.017 to 0.100'
    """
    _check_counts(n_validation, n_new)
    for name, value in (("rate", rate), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}, expected a number above 0 and below 1")
    n, tail = n_validation, (1 - confidence) / 2
    position = 1 if n == 1 else min(rate * (n + 1), n)
    nearest = round(position)
    if np.isclose(position, nearest, rtol=1e-12, atol=0):
        position = nearest
    below, above = int(np.floor(position)), int(np.ceil(position))
    low = share_below_rank(below, n, n_new, tail) if below else 0.0
    return low, share_below_rank(above, n, n_new, 1 - tail)


def share_below_rank(k, n, n_new, quantile):
    """A quantile of the share of new scores below the k-th lowest of n.

    Parameters
    ----------
    k, n : int
    n_new : int or None
        New scores of which the share is counted; None is the share in the long run.
    quantile : float in (0, 1)

    Returns
    -------
    float
    """
    from scipy import stats  # whose import takes longer than scoring an image

    if n_new is None:
        return float(stats.beta.ppf(quantile, k, n + 1 - k))
    return float(stats.betabinom.ppf(quantile, n_new, k, n + 1 - k)) / n_new


def _check_counts(n_validation, n_new):
    for name, value in (("n_validation", n_validation), ("n_new", n_new)):
        if value is None and name == "n_new":
            continue
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a number of images, 1 or more")


def conformal_p_values(scores, reference, random_state):
    """How rare scores are among those of normal images, by rank.

    Of n normal scores and one more of the same source, the new one's rank from below is
    equally often 1, 2, ... or n + 1, whatever their distribution; the p-value is the rank
    divided by n + 1. So p-values up to .01 need 99 normal scores.

    Parameters
    ----------
    scores : ndarray, shape (m,)
    reference : ndarray, shape (n,)
        Of normal images that were not learnt from; higher = more normal.
    random_state : RandomState
        Breaks ties.

    Returns
    -------
    ndarray, shape (m,), float64, in [1 / (n + 1), 1]
        Low = anomalous.

    References
    ----------
    V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer,
    2005 (conformal p-values).
    """
    reference = np.sort(reference)
    below = np.searchsorted(reference, scores, side="left")
    ties = np.searchsorted(reference, scores, side="right") - below
    return (1 + below + random_state.randint(ties + 1)) / (len(reference) + 1)


def verdicts(scores, offset):
    """The label of each image from its score.

    Parameters
    ----------
    scores : float or ndarray, shape (n,)
    offset : float

    Returns
    -------
    ndarray of int64, of the shape of `scores`
        -1, anomalous, where a score lies below the offset, else +1.
    """
    return np.where(np.less(scores, offset), -1, 1)
