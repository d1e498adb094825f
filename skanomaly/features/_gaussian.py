"""A Gaussian for each position of a grid of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .._process import is_exporting

# Vectors a position up to which NumPy multiplies faster than PyTorch, whose products of many
# small matrices with one vector each take twice as long as reading the matrices.
_FEW = 8


class PositionwiseGaussian(nn.Module):
    """A Gaussian for each position, from a stream of batches, and the distance to it.

    Parameters
    ----------
    n_positions, d : int
    regularization : float, default=0.01
        Added to the diagonal of each covariance.
    shrinkage : "auto" or float in [0, 1], default="auto"
        Share of the covariance that is replaced by the multiple of the identity
        of equal trace. "auto" is the oracle approximating shrinkage: much for few
        vectors, and the less the more there are.

    Attributes
    ----------
    n_seen : int
    mean : tensor, shape (n_positions, d), float32
    scatter : tensor, shape (n_positions, d, d) or (n_positions, d (d + 1) / 2), float32
        Sum of the outer products of the deviations from the mean; once it is settled, the
        lower triangles alone, row by row.
    """

    def __init__(self, n_positions, d, regularization=0.01, shrinkage="auto"):
        super().__init__()
        self.regularization, self.shrinkage = regularization, shrinkage
        self.n_seen = 0
        self.register_buffer("mean", torch.zeros(n_positions, d))
        self.register_buffer("scatter", torch.zeros(n_positions, d, d))
        self._whitening = None

    def update(self, x):
        """Take vectors (n, n_positions, d) into account.

        The mean and scatter of what was seen and of the batch are merged (Chan,
        Golub, LeVeque, 1983), which is as exact as a pass over all at once.
        """
        mean = x.mean(dim=0)
        deviations = (x - mean).transpose(0, 1)
        self._merge(len(x), mean, lambda: self.scatter.baddbmm_(deviations.mT, deviations))

    def absorb(self, other):
        """Take into account what another Gaussian of the same positions has seen."""
        device = self.mean.device

        def add_scatter():
            for part in self._parts():
                self.scatter[part] += _squares(other.scatter[part].to(device))

        self._merge(other.n_seen, other.mean.to(device), add_scatter)

    def settle(self):
        """Keep half of each scatter matrix, of which the other is a mirror image, until more comes.

        What is kept, and saved, is then half as large.
        """
        if self.scatter.ndim == 3:
            self.scatter = torch.cat([_triangles(self.scatter[part]) for part in self._parts()])

    def _merge(self, n, mean, add_scatter):
        if self.scatter.ndim == 2:
            self.scatter = _squares(self.scatter)
        delta = mean - self.mean
        between = (self.n_seen * n / (self.n_seen + n)) ** 0.5 * delta[:, None]
        add_scatter()
        self.scatter.baddbmm_(between.mT, between)
        self.n_seen += n
        self.mean += n / self.n_seen * delta
        self._whitening = None

    def covariance(self, positions=slice(None)):
        """Regularised covariances of some positions, (n_positions, d, d)."""
        sigma = _squares(self.scatter[positions]) / max(1, self.n_seen - 1)
        diagonal = sigma.diagonal(dim1=1, dim2=2)
        mu = diagonal.mean(dim=1, keepdim=True)
        rho = self.shrinkage
        if rho == "auto":
            rho = _oas(sigma, self.n_seen)
        sigma *= 1 - torch.as_tensor(rho, device=sigma.device).view(-1, 1, 1)
        diagonal += rho * mu + self.regularization
        return sigma

    def forward(self, x):
        """Mahalanobis distances (n, n_positions) of vectors (n, n_positions, d)."""
        n_positions, d = self.mean.shape
        known = (n_positions, d, d), (n_positions, d * (d + 1) // 2)
        if x.shape[1:] != self.mean.shape or self.scatter.shape not in known:
            raise ValueError(
                f"the Gaussians are {n_positions} of {d} dimensions with scatter "
                f"{tuple(self.scatter.shape)}, the features are {tuple(x.shape[1:])}; their state "
                "is damaged: fit anew"
            )
        whitening = self._whitening
        if whitening is None:
            steps = zip(*(_steps(_whitening(self.covariance(part))) for part in self._parts()))
            whitening = self._whitening = [torch.cat(step) for step in steps]
        deviations = (x - self.mean).contiguous().permute(1, 2, 0)  # (n_positions, d, n)
        squares = [_product(step, deviations[:, : step.shape[2]]).square() for step in whitening]
        return sum(step.sum(dim=1) for step in squares).sqrt().T

    def _parts(self):
        """Positions, a few at once, as slices."""
        n = len(self.mean)
        return [slice(start, min(start + 256, n)) for start in range(0, n, 256)]

    def _apply(self, fn, *args, **kwargs):
        if self._whitening is not None:
            self._whitening = [fn(step) for step in self._whitening]
        return super()._apply(fn, *args, **kwargs)

    def __getstate__(self):
        return {**super().__getstate__(), "_whitening": None}  # as large as the scatter it is of


def _whitening(covariance):
    """W with W' W the covariance's inverse: the inverse of its Cholesky factor."""
    try:
        cholesky = torch.linalg.cholesky(covariance)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            "the covariance of some position is singular in single precision; raise "
            "regularization or shrinkage, or fit on more images"
        ) from error
    identity = torch.eye(covariance.shape[1], device=covariance.device)
    return torch.linalg.solve_triangular(cholesky, identity, upper=False)


def _steps(triangular):
    """Rows of lower triangular matrices, a quarter each, without the columns that are all zero."""
    d = triangular.shape[1]
    ends = sorted({-(-d * k // 4) for k in range(1, 5)})
    return [triangular[:, a:b, :b].contiguous() for a, b in zip([0, *ends], ends)]


def _product(matrices, vectors):
    """Products of matrices (m, i, j) with vectors (m, j, n)."""
    if vectors.shape[2] > _FEW or vectors.device.type != "cpu" or is_exporting():
        return torch.bmm(matrices, vectors)
    return torch.from_numpy(np.matmul(matrices.numpy(), vectors.numpy()))


def _triangles(squares):
    """The lower triangles of symmetric matrices (m, d, d), row by row, (m, d (d + 1) / 2)."""
    d = squares.shape[1]
    rows, columns = torch.tril_indices(d, d, device=squares.device)
    return squares.flatten(1).index_select(1, d * rows + columns)


def _squares(scatter):
    """Symmetric matrices (m, d, d) of their lower triangles; what is square already as it is."""
    if scatter.ndim == 3:
        return scatter
    i = torch.arange(int((8 * scatter.shape[1] + 1) ** 0.5) // 2, device=scatter.device)
    row, column = torch.maximum(i[:, None], i), torch.minimum(i[:, None], i)
    places = row * (row + 1) // 2 + column
    return scatter.index_select(1, places.flatten()).unflatten(1, places.shape)


def _oas(sigma, n):
    """Oracle approximating shrinkage of covariances (m, d, d) from n vectors each, (m, 1).

    Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance
    Estimation", IEEE TSP 58(10), 2010, in the form that scikit-learn's `oas` has.
    """
    d = sigma.shape[1]
    alpha = sigma.square().mean(dim=(1, 2))
    mu_squared = sigma.diagonal(dim1=1, dim2=2).mean(dim=1).square()
    rho = (alpha + mu_squared) / ((n + 1) * (alpha - mu_squared / d)).clamp(min=1e-30)
    return rho.clamp(max=1)[:, None]
