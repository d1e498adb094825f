"""Patch memory: which features are kept, and how far others lie from them."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

from .._process import is_exporting
from ._k_center import k_center_greedy

# Elements of the matrix of distances that a search holds at a time.
MAX_ELEMENTS = {"cpu": 2**23, "cuda": 2**28}


class PatchBank(nn.Module):
    """A memory of patch features, and the distances of others to it.

    Parameters
    ----------
    max_patches : int, default=20_000
        Patches that are kept; all of them where the stream has no more.
    subsampling : {"k_center", "random"}, default="k_center"
        "random" keeps a uniform sample of the stream. "k_center" keeps patches
        that leave none of the candidates far from a kept one, see
        `k_center_greedy`; it holds rare patches where a sample loses them.
    n_neighbors : int, default=1
        Nearest patches whose distances are averaged.
    max_candidates : int, default=250_000
        For "k_center": patches it chooses among. Of a longer stream they are a
        uniform sample; of a shorter one all patches.
    projection_dim : int or None, default=128
        For "k_center": features of more dimensions are projected at random to
        this many, which about keeps distances, before patches are chosen; what
        is kept is the features themselves. It saves half of the time or more;
        from 384 to 128 the largest distance of a candidate from its nearest kept
        patch grew by a fifth. None projects nothing, and that distance is the
        greedy choice's own.

    Attributes
    ----------
    patches : tensor, shape (n_patches, d), float32
        What is kept, in the order of the stream.

    Notes
    -----
    `fit` holds ``max_patches`` ("random") or ``max_candidates`` ("k_center")
    features of 4 d bytes on the CPU, at most three times over while it chooses,
    however long the stream is. The choice depends on the random state and on the
    stream, not on how that is cut into batches.

    References
    ----------
    K. Roth et al., "Towards total recall in industrial anomaly detection", CVPR
    2022, arXiv 2106.08265 (a memory of patches chosen by k-centre greedy).
    """

    def __init__(
        self,
        max_patches=20_000,
        subsampling="k_center",
        n_neighbors=1,
        *,
        max_candidates=250_000,
        projection_dim=128,
    ):
        super().__init__()
        self.max_patches, self.subsampling, self.n_neighbors = max_patches, subsampling, n_neighbors
        self.max_candidates, self.projection_dim = max_candidates, projection_dim
        self.register_buffer("patches", None)
        self.register_buffer("mean", None)
        self.register_buffer("half_squares", None)

    def fit(self, batches, random_state=None):
        """Fill the memory from a stream.

        Parameters
        ----------
        batches : iterable of tensor, each (n_i, d), float
            Patch features, finite, on any device.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        self
            Its memory on the CPU; ``to`` moves it, as any module.

        Raises
        ------
        ValueError
            If a feature is not finite, batches differ in d, or there are fewer
            patches than ``n_neighbors``.
        """
        if self.subsampling not in ("k_center", "random"):
            raise ValueError(f"subsampling={self.subsampling!r} is neither 'k_center' nor 'random'")
        if self.max_patches < self.n_neighbors:
            raise ValueError(
                f"max_patches={self.max_patches} is fewer than n_neighbors={self.n_neighbors}"
            )
        random_state = check_random_state(random_state)
        k_center = self.subsampling == "k_center"
        size = max(self.max_candidates, self.max_patches) if k_center else self.max_patches
        patches = _sample(batches, size, random_state)
        if len(patches) < self.n_neighbors:
            raise ValueError(
                f"the stream holds {len(patches)} patches and n_neighbors={self.n_neighbors}; "
                "give more images, or ask for fewer neighbours"
            )
        if len(patches) > self.max_patches:
            projected = _project(patches, self.projection_dim, random_state)
            start = random_state.randint(len(patches))
            chosen, _ = k_center_greedy(projected, self.max_patches, start=start)
            patches = patches[np.sort(chosen)]
        self.patches = torch.from_numpy(patches)
        self.mean = self.patches.mean(dim=0, dtype=torch.float64).float()
        self.half_squares = (self.patches - self.mean).square().sum(dim=1) / 2
        return self

    def distances(self, queries):
        """Mean Euclidean distance of each query to its nearest patches.

        Parameters
        ----------
        queries : tensor, shape (m, d), float
            On the memory's device.

        Returns
        -------
        tensor, shape (m,), float32
        """
        return self.kneighbors(queries)[0].mean(dim=1)

    def kneighbors(self, queries):
        r"""Nearest patches of each query and their Euclidean distances.

        Neighbours are found from :math:`|q - p|^2 = |q|^2 - 2 qp + |p|^2`, in
        single precision after the patches' mean is subtracted from q, and their
        distances are then computed from the differences. So a patch may take the
        place of one that is nearer by rounding's order, about :math:`10^{-6}` of
        :math:`|q||p|` in the squared distance, while each distance is that of
        the patch named, to about 6 digits, however small it is.

        Parameters
        ----------
        queries : tensor, shape (m, d), float
            On the memory's device.

        Returns
        -------
        distances : tensor, shape (m, n_neighbors), float32
            Ascending.
        indices : tensor, shape (m, n_neighbors), int64
            Rows of ``patches``.

        Notes
        -----
        Whatever m is, it holds matrices of up to 32 MiB each on a CPU and 1 GiB
        on a GPU, or of one query where a query alone needs more.
        """
        n_patches, d = self.patches.shape
        if queries.ndim != 2 or queries.shape[1] != d:
            raise ValueError(
                f"queries have shape {tuple(queries.shape)}, expected (m, {d}) as the patches "
                "that the memory was filled with"
            )
        max_elements = MAX_ELEMENTS.get(queries.device.type, MAX_ELEMENTS["cpu"])
        if is_exporting():  # a loop's length is not to depend on the example's
            return self._search(queries.float())
        parts = queries.float().split(max(1, max_elements // max(n_patches, self.n_neighbors * d)))
        found = [self._search(part) for part in parts]
        return tuple(torch.cat(results) for results in zip(*found))

    def _search(self, queries):
        ranking = torch.addmm(self.half_squares, queries - self.mean, self.patches.T, alpha=-1)
        if self.n_neighbors == 1:
            indices = ranking.argmin(dim=1, keepdim=True)
        else:
            indices = ranking.topk(self.n_neighbors, dim=1, largest=False).indices
        differences = queries[:, None] - self.patches[indices]
        distances = torch.linalg.vector_norm(differences, dim=2)
        if self.n_neighbors == 1:
            return distances, indices
        distances, order = distances.sort(dim=1, stable=not is_exporting())
        return distances, indices.gather(1, order)


def _project(patches, projection_dim, random_state):
    d = patches.shape[1]
    if projection_dim is None or projection_dim >= d:
        return patches
    matrix = random_state.standard_normal((d, projection_dim)) / np.sqrt(projection_dim)
    return patches @ matrix.astype(np.float32)


def _sample(batches, size, random_state):
    """A uniform sample of a stream's rows, in its order; all of them where there are fewer.

    Every row draws a key and those of the smallest keys are kept, so that the sample
    depends on no batch size.
    """
    rows, keys, d = [], [], None
    n_held, largest_key = 0, np.inf
    for number, batch in enumerate(batches):
        patches = _check_patches(batch, number, d)
        d = patches.shape[1]
        batch_keys = random_state.random_sample(len(patches))
        ahead = batch_keys < largest_key
        rows.append(patches[ahead])
        keys.append(batch_keys[ahead])
        n_held += len(rows[-1])
        if n_held > 1.25 * size:
            largest_key = _keep_smallest(rows, keys, size)
            n_held = size
    if not n_held:
        raise ValueError("the stream holds no patches; give at least one batch of features (n, d)")
    if n_held > size:
        _keep_smallest(rows, keys, size)
    return np.concatenate(rows)


def _keep_smallest(rows, keys, size):
    """Drop all but the rows of the smallest keys, part by part to spare memory."""
    largest_key = np.partition(np.concatenate(keys), size - 1)[size - 1]
    for i, part in enumerate(keys):
        kept = part <= largest_key
        rows[i], keys[i] = rows[i][kept], part[kept]
    rows[:] = [part for part in rows if len(part)]
    keys[:] = [part for part in keys if len(part)]
    return largest_key


def _check_patches(batch, number, d):
    if batch.ndim != 2:
        raise ValueError(
            f"batch {number} of patches has shape {tuple(batch.shape)}, expected (n, d): one "
            "feature a row"
        )
    if d not in (None, batch.shape[1]):
        raise ValueError(
            f"batch {number} holds features of {batch.shape[1]} dimensions, those before {d}; "
            "take them from the same layers"
        )
    if not torch.isfinite(batch).all():
        n_bad = int((~torch.isfinite(batch)).any(dim=1).sum())
        raise ValueError(
            f"batch {number} holds {n_bad} patches of {len(batch)} that are NaN or infinite; "
            "look for the images, or the weights, they come from"
        )
    return batch.detach().to("cpu", torch.float32).numpy()
