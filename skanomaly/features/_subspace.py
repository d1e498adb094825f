"""One principal subspace of all features, and the distance from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

# Vectors that are held in double precision.
ROWS_AT_ONCE = 2**15


class PrincipalSubspace(nn.Module):
    """The affine subspace that holds most of the variance of vectors, from a stream of them.

    Parameters
    ----------
    d : int
    explained_variance : float in (0, 1), default=0.95
        Share of the variance that lies within: as many principal components as it takes,
        but at least one direction stays outside.
    groups : sequence of int or None, default=None
        Lengths of consecutive parts of the vectors that are each brought to a total
        variance of one; None takes them as they are.

    Attributes
    ----------
    n_seen : int
    mean : ndarray, shape (d,), float64
    scatter : ndarray, shape (d * (d + 1) / 2,), float64
        Lower triangle, row by row, of the sum of the outer products of the deviations
        from the mean.
    """

    def __init__(self, d, explained_variance=0.95, groups=None):
        super().__init__()
        self.explained_variance = explained_variance
        self.groups = None if groups is None else list(groups)
        self.n_seen = 0
        self.mean = np.zeros(d)
        self.scatter = np.zeros(d * (d + 1) // 2)
        self._outside = None

    def update(self, x):
        """Take vectors (n, d) into account."""
        for part in x.split(ROWS_AT_ONCE):
            rows = part.cpu().double()  # as not every device has double precision
            mean = rows.mean(dim=0)
            deviations = rows - mean
            self._merge(len(rows), mean.numpy(), (deviations.T @ deviations).numpy()[self._lower])

    def absorb(self, other):
        """Take into account what another subspace has seen."""
        self._merge(other.n_seen, other.mean, other.scatter)

    def _merge(self, n, mean, scatter):
        """As exact as a pass over all at once: Chan, Golub, LeVeque, 1983."""
        delta = mean - self.mean
        between = self.n_seen * n / (self.n_seen + n) * np.outer(delta, delta)
        self.scatter = self.scatter + scatter + between[self._lower]
        self.n_seen += n
        self.mean = self.mean + n / self.n_seen * delta
        self._outside = None

    def directions(self):
        """Principal components outside of the subspace, each divided by its group's scale.

        Returns
        -------
        ndarray, shape (d, d - n_components), float64
        """
        scatter = np.zeros((len(self.mean), len(self.mean)))
        scatter[self._lower] = self.scatter
        scatter += np.tril(scatter, -1).T
        scale = self._scale(scatter.diagonal() / max(1, self.n_seen - 1))
        variances, vectors = np.linalg.eigh(scatter / np.outer(scale, scale))
        variances = variances.clip(min=0)  # ascending; those of rounding may be negative
        beyond = np.cumsum(variances) <= (1 - self.explained_variance) * variances.sum()
        n_outside = max(1, int(beyond.sum()))
        return vectors[:, :n_outside] / scale[:, np.newaxis]

    def forward(self, x):
        """Euclidean distances (n,) of vectors (n, d) from the subspace."""
        d = x.shape[1]
        if self.mean.shape != (d,) or self.scatter.shape != (d * (d + 1) // 2,):
            raise ValueError(
                f"the subspace is of {self.mean.size} dimensions and {self.scatter.size} products, "
                f"the features of {d}; its state is damaged: fit anew"
            )
        outside = self._outside
        if outside is None or outside[0].device != x.device:
            outside = self._outside = tuple(
                torch.from_numpy(a.astype(np.float32)).to(x.device)
                for a in (self.mean, self.directions())
            )
        mean, directions = outside
        return torch.linalg.vector_norm((x - mean) @ directions, dim=1)

    def _scale(self, variances):
        if self.groups is None:
            return np.ones(len(variances))
        parts = np.split(variances, np.cumsum(self.groups)[:-1])
        totals = np.array([max(part.sum(), 1e-12) for part in parts])
        return np.repeat(np.sqrt(totals), self.groups)

    @property
    def _lower(self):
        return np.tril_indices(len(self.mean))

    def __getstate__(self):
        return {**super().__getstate__(), "_outside": None}
