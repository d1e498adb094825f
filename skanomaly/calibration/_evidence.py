"""Evidence that something has changed, and how seldom it is wrong: test martingales."""

from __future__ import annotations

import numpy as np
from scipy.special import betaln

# Concentrations of densities of p-values, and where they are highest.
_CONCENTRATIONS, _MODES = (8.0, 32.0, 128.0), (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_BROAD = ((3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (0.3, 1.0), (1.0, 0.3), (0.5, 0.5))
_SLIGHT = ((1.25, 0.8), (0.8, 1.25), (1.3, 1.3), (0.8, 0.8))

# Share of p-values that is taken to be from the lowest where a few are.
_SPARSE = 0.1


class RestartedMartingale:
    r"""Winnings of bets that begin at every image, each with a part of the stake.

    Against a hypothesis K bets multiply their stake by :math:`f_k(t)`, whose mean is at most 1
    if the hypothesis holds. A bet may be opened with each image; to the t-th the part

    .. math:: w_t = \frac{h}{(h + t - 1)(h + t)}

    of the stake of 1 is given, and after it :math:`h / (h + t)` waits. The sum of all, the
    average over the bets, is a non-negative supermartingale that begins at 1: by Ville's
    inequality the probability that it *ever* reaches 1 / alpha is at most alpha. What was lost
    before a change does not matter after it, as the bet that begins with the change has lost
    nothing: the price is that its stake is about 1 / h.

    Parameters
    ----------
    n_bets : int
    horizon : int
        The h.
    """

    def __init__(self, n_bets, horizon):
        self.horizon, self.n_seen = horizon, 0
        self.log_winnings = np.full(n_bets, -np.inf)

    def add(self, log_factors):
        """Take an image into account.

        Parameters
        ----------
        log_factors : ndarray, shape (n_bets,)
            Logarithms of what the bets multiply their stakes by.
        """
        h, t = self.horizon, self.n_seen + 1
        log_stake = np.log(h) - np.log(h + t - 1) - np.log(h + t)
        self.log_winnings = np.logaddexp(self.log_winnings, log_stake) + log_factors
        self.n_seen = t

    @property
    def log_value(self):
        """Logarithm of all winnings and of the stake that waits."""
        waiting = np.log(self.horizon) - np.log(self.horizon + self.n_seen)
        won = np.logaddexp.reduce(self.log_winnings) - np.log(len(self.log_winnings))
        return float(np.logaddexp(waiting, won))


class BetsOnPValues:
    """Densities of p-values that are not uniform: low, high, alike, apart, or a few low ones.

    Each is a beta density, and the last a mixture of one with the uniform density, so that
    its mean under uniform p-values is 1.
    """

    def __init__(self):
        humps = [(1 + c * m, 1 + c * (1 - m)) for c in _CONCENTRATIONS for m in _MODES]
        self.a, self.b = np.array([*humps, *_BROAD, *_SLIGHT]).T
        self.log_scale = -betaln(self.a, self.b)
        self.lowest = humps.index((1.0, 1 + _CONCENTRATIONS[-1]))

    def __len__(self):
        return len(self.a) + 1

    def log_factors(self, p):
        """Logarithms of the densities at a p-value in (0, 1), shape (n_bets,)."""
        found = np.empty(len(self))
        found[:-1] = (self.a - 1) * np.log(p) + (self.b - 1) * np.log1p(-p) + self.log_scale
        found[-1] = np.log1p(_SPARSE * np.expm1(found[self.lowest]))
        return found


class BetsOnFlags:
    """Higher probabilities of an image to be flagged than one that is allowed.

    Ratios of likelihoods to that of the allowed probability; for any lower one their means
    are below 1.

    Parameters
    ----------
    allowed : float in (0, 1)
    """

    def __init__(self, allowed):
        higher = allowed ** np.array([0.75, 0.5, 0.25, 0.1])
        self.if_flagged = np.log(higher / allowed)
        self.if_not = np.log1p(-higher) - np.log1p(-allowed)

    def __len__(self):
        return len(self.if_flagged)

    def log_factors(self, flagged):
        """Logarithms of the ratios for an image, flagged or not, shape (n_bets,)."""
        return self.if_flagged if flagged else self.if_not
