"""p-values of a stream of scores, each ranked among all that were seen before."""

from __future__ import annotations

import numpy as np

# Scores that are ranked one by one; those that follow are counted between them.
MAX_RANKED = 20_000


class OnlineRanks:
    """Ranks of a stream of scores as p-values that are independent and uniform.

    Of scores whose order tells nothing, the t-th is equally likely at each rank among those
    before, whatever the earlier ranks. With a uniform number for where between its neighbours
    it lies, ranks become independent uniform numbers in (0, 1). After so many scores, the
    gaps between them are counted in instead of the scores themselves: the probability that a
    score falls into a gap is, by those counts so far, (1 + count) / (gaps + all counts), so
    that independence is kept and memory is not without end.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Seen before the stream begins.
    max_ranked : int
        Scores that are kept.
    """

    def __init__(self, scores, max_ranked=MAX_RANKED):
        self.ranked = np.sort(np.asarray(scores, dtype=float))
        self.max_ranked = max(max_ranked, len(self.ranked))
        self.counts = None

    def add(self, score, random_state):
        """The p-value of a score, which is then one of those seen.

        Parameters
        ----------
        score : float
        random_state : RandomState
            Breaks ties, and places a score between its neighbours.

        Returns
        -------
        float in (0, 1)
        """
        first, last = (int(np.searchsorted(self.ranked, score, side)) for side in ("left", "right"))
        gap = first if first == last else int(random_state.randint(first, last + 1))
        within = min(max(random_state.random_sample(), 2.0**-53), 1 - 2.0**-53)
        if len(self.ranked) < self.max_ranked:
            p = (gap + within) / (len(self.ranked) + 1)
            self.ranked = np.concatenate([self.ranked[:gap], [score], self.ranked[gap:]])
            return p
        if self.counts is None:
            self.counts = np.ones(len(self.ranked) + 1, dtype=np.int64)
            self.n_counted = len(self.counts)
        p = (self.counts[:gap].sum() + within * self.counts[gap]) / self.n_counted
        self.counts[gap] += 1
        self.n_counted += 1
        return float(p)
