"""Thresholds on scores: the one that a stated share of new normal images falls below."""

from __future__ import annotations

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
