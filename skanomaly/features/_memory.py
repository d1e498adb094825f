"""Patch memory: which features are kept, and how far others lie from them."""

from __future__ import annotations

from functools import partial
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_random_state
from torch import nn

from .._process import is_exporting
from ._k_center import k_center_greedy

# Elements of the matrix of distances that a search holds at a time.
MAX_ELEMENTS = {"cpu": 2**21, "cuda": 2**28}


class PatchBank(nn.Module):
    """A memory of patch features, and the distances of others to it.

    Parameters
    ----------
    max_patches : int or float in (0, 1], default=20_000
        Patches that are kept, or which share of the stream's; all of them where the
        stream has no more.
    subsampling : {"k_center", "random"}, default="k_center"
        "random" keeps a uniform sample of the stream. "k_center" keeps patches
        that leave none of the candidates far from a kept one, see
        `k_center_greedy`; it holds rare patches where a sample loses them.
    n_neighbors : int, default=1
        Nearest patches whose distances are averaged.
    metric : {"euclidean", "cosine"}, default="euclidean"
        "cosine" is 1 - the cosine of the angle between two features, which are brought
        to unit length.
    n_memories : int, default=1
        If several, what is kept is dealt out at random to as many memories of equal size,
        and a patch's distance is the mean of its distances to the nearest in each. A
        rare patch is in few of them and hardly counts.
    max_candidates : int, default=250_000
        For "k_center", or a share: patches it chooses among. Of a longer stream they are
        a uniform sample; of a shorter one all patches.
    projection_dim : int or None, default=128
        For "k_center": features of twice as many dimensions or more are projected at
        random to this many, which about keeps distances, before patches are chosen; what
        is kept is the features themselves. It saves half of the time or more;
        from 384 to 128 the largest distance of a candidate from its nearest kept
        patch grew by a fifth. None projects nothing, and that distance is the
        greedy choice's own.

    Attributes
    ----------
    patches : tensor, shape (n_patches, d), float32
        What is kept, in the order of the stream, or memory by memory.
    n_seen : int
        Patches of all streams so far.
    radius : float
        For "k_center": no candidate so far was farther from its nearest kept patch, by
        Euclidean distances of what is chosen by (unit vectors, projections).

    Notes
    -----
    `fit` holds ``max_patches`` (a number, "random") or ``max_candidates`` features of
    4 d bytes on the CPU, at most three times over while it chooses, however long the
    stream is. The choice depends on the random state and on the stream, not on how that
    is cut into batches.

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
        metric="euclidean",
        n_memories=1,
        max_candidates=250_000,
        projection_dim=128,
    ):
        super().__init__()
        self.max_patches, self.subsampling, self.n_neighbors = max_patches, subsampling, n_neighbors
        self.metric, self.n_memories = metric, n_memories
        self.max_candidates, self.projection_dim = max_candidates, projection_dim
        self.n_seen, self.radius = 0, 0.0
        for name in ("patches", "mean", "half_squares", "neighborhoods"):
            self.register_buffer(name, None)

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
        if not self._is_share and self.max_patches < self.n_neighbors:
            raise ValueError(
                f"max_patches={self.max_patches} is fewer than n_neighbors={self.n_neighbors}"
            )
        random_state = check_random_state(random_state)
        patches, self.n_seen = self._candidates(batches, random_state)
        if len(patches) < self.n_neighbors * self.n_memories:
            raise ValueError(
                f"there are {len(patches)} patches to keep and n_neighbors={self.n_neighbors}"
                + (f" in each of {self.n_memories} memories" if self.n_memories > 1 else "")
                + "; give more images, or ask for fewer neighbours"
            )
        self.radius = 0.0
        size = max(self._size(), self.n_neighbors * self.n_memories)
        if len(patches) > size and self.subsampling == "random":
            patches = patches[np.sort(random_state.permutation(len(patches))[:size])]
        elif len(patches) > size:
            projected = self._project(patches, random_state)
            start = random_state.randint(len(patches))
            chosen, self.radius = k_center_greedy(projected, size, start=start)
            patches = patches[np.sort(chosen)]
        return self._keep(patches, random_state)

    def update(self, batches, random_state=None):
        """Take a further stream into account.

        "random" keeps a uniform sample of all patches so far. "k_center" keeps what it
        has: a share of the stream's patches joins it, those farthest from it and each
        other; a memory of a number of patches that is full takes in those farther than
        its radius alone, and then chooses anew among what it has and these.

        Parameters
        ----------
        batches, random_state
            As for `fit`.

        Returns
        -------
        self
        """
        random_state = check_random_state(random_state)
        patches, n_new = self._candidates(batches, random_state)
        own = self.patches.cpu().numpy()
        n_seen, self.n_seen = self.n_seen, self.n_seen + n_new
        if self.subsampling == "random":
            return self._draw([own, patches], [n_seen, n_new], random_state)
        room = self._size() - len(own)
        if room >= len(patches):
            return self._keep(np.concatenate([own, patches]), random_state)
        both = self._project(np.concatenate([own, patches]), random_state)
        near = PatchBank(len(own)).fit([torch.from_numpy(both[: len(own)])], 0)
        gaps = near.distances(torch.from_numpy(both[len(own) :])).numpy().astype(np.float64)
        if room > 0:
            chosen, radius = k_center_greedy(both[len(own) :], room, gaps=gaps)
            self.radius = max(self.radius, radius)
            return self._keep(np.concatenate([own, patches[np.sort(chosen)]]), random_state)
        if self._is_share and len(own) < self.max_candidates:
            self.radius = max(self.radius, float(gaps.max()))
            return self
        uncovered = patches[gaps > self.radius]
        if not len(uncovered):
            return self
        return self._choose_anew(np.concatenate([own, uncovered]), self.radius, random_state)

    def absorb(self, others, random_state=None):
        """Take what other memories have kept into account, which must be of equal settings.

        "random" keeps a uniform sample of all that they have seen; "k_center" all that
        was kept, or, where that is more than a number of patches, a choice of it.

        Parameters
        ----------
        others : sequence of PatchBank
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        self
        """
        random_state = check_random_state(random_state)
        banks = [self, *others]
        kept, n_seen = [b.patches.cpu().numpy() for b in banks], [b.n_seen for b in banks]
        self.n_seen, radius = sum(n_seen), max(b.radius for b in banks)
        if self.subsampling == "random":
            return self._draw(kept, n_seen, random_state)
        if sum(map(len, kept)) > self._size(for_all=True):
            return self._choose_anew(np.concatenate(kept), radius, random_state)
        self.radius = radius
        return self._keep(np.concatenate(kept), random_state)

    def rescale(self, factors):
        """Multiply each feature of what is kept, as if the streams had been."""
        factors = np.asarray(factors, np.float32)
        # Unit vectors may be turned by as much as the factors differ.
        self.radius *= float(factors.max() / (factors.min() if self.metric == "cosine" else 1))
        self._keep(self.patches.cpu().numpy() * factors, None)

    def distances(self, queries):
        """Mean distance of each query to its nearest patches.

        Parameters
        ----------
        queries : tensor, shape (m, d), float
            On the memory's device.

        Returns
        -------
        tensor, shape (m,), float32
        """
        return self.kneighbors(queries)[0].mean(dim=1)

    def reweighted_distances(self, queries):
        r"""Distance to the nearest patch, and less where that lies in a dense part of the memory.

        With :math:`d` the distance of a query to its nearest patch and :math:`N_b` the
        b patches nearest to that one, itself included, it is

        .. math:: \Big(1 - \frac{e^d}{\sum_{p \in N_b} e^{|q - p|}}\Big) \, d.

        Parameters
        ----------
        queries : tensor, shape (m, d), float
            On the memory's device.

        Returns
        -------
        tensor, shape (m,), float32
        """
        distances, indices = self.kneighbors(queries)
        nearest = distances[:, 0]
        around = self.neighborhoods[indices[:, 0]]  # (m, b)
        if around.shape[1] == 1:
            return nearest
        queries = self._prepared(queries.float())
        from_these = [self._exact(queries, around[:, j]) for j in range(around.shape[1])]
        # Relative to the nearest, whose exponential is then 1.
        total = sum((d - nearest).exp() for d in from_these)
        return (1 - 1 / total.clamp(min=1)) * nearest

    def find_neighborhoods(self, b=9):
        """Find the b nearest patches of each patch, which `reweighted_distances` needs."""
        patches = self.patches.cpu()
        finder = PatchBank(len(patches), n_neighbors=min(b, len(patches))).fit([patches], 0)
        self.neighborhoods = finder.kneighbors(patches)[1].to(self.patches.device)

    def kneighbors(self, queries):
        r"""Nearest patches of each query and their distances; in each memory, if there are several.

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
        distances : tensor, shape (m, n_memories * n_neighbors), float32
            Ascending in each memory.
        indices : tensor, of that shape, int64
            Rows of ``patches``.

        Notes
        -----
        Whatever m is, it holds matrices of up to 8 MiB each on a CPU and 1 GiB
        on a GPU, or of one query where a query alone needs more.
        """
        n_patches, d = self.patches.shape
        if self.mean.shape != (d,) or self.half_squares.shape != (n_patches,):
            raise ValueError("the memory's state is damaged: fit anew")
        if queries.ndim != 2 or queries.shape[1] != d:
            raise ValueError(
                f"queries have shape {tuple(queries.shape)}, expected (m, {d}) as the patches "
                "that the memory was filled with"
            )
        queries = self._prepared(queries.detach().float())
        max_elements = MAX_ELEMENTS.get(queries.device.type, MAX_ELEMENTS["cpu"])
        if is_exporting():  # a loop's length is not to depend on the example's
            return self._search(queries)
        n_found = self.n_neighbors * self.n_memories
        n_rows = min(len(queries), max(1, max_elements // max(n_patches, n_found * d)))
        # One for all parts: of its own, each would leave a hole among what the others found.
        ranking = queries.new_empty(n_rows, n_patches)
        parts = queries.split(max(1, n_rows))
        found = [self._search(part, ranking[: len(part)]) for part in parts]
        return tuple(torch.cat(results) for results in zip(*found))

    def _search(self, queries, out=None):
        k, m = self.n_neighbors, self.n_memories
        centered = queries - self.mean
        ranking = torch.addmm(self.half_squares, centered, self.patches.T, alpha=-1, out=out)
        ranking = ranking.view(-1, m, len(self.patches) // m)
        if k == 1:
            indices = ranking.argmin(dim=2, keepdim=True)
        else:
            indices = ranking.topk(k, dim=2, largest=False).indices
        if m > 1:
            starts = torch.arange(m, device=indices.device) * (len(self.patches) // m)
            indices = indices + starts[:, None]
        distances = self._exact(queries[:, None, None], indices)
        if k > 1:
            # The exporter knows no stable sort.
            sort = torch.sort if is_exporting() else partial(torch.sort, stable=True)
            distances, order = sort(distances, dim=2)
            indices = indices.gather(2, order)
        return distances.flatten(1), indices.flatten(1)

    def _exact(self, queries, indices):
        distances = torch.linalg.vector_norm(queries - self.patches[indices], dim=-1)
        return distances if self.metric == "euclidean" else distances.square() / 2

    def _prepared(self, features):
        return features if self.metric == "euclidean" else F.normalize(features, dim=1)

    @property
    def _is_share(self):
        return not isinstance(self.max_patches, Integral)

    def _size(self, for_all=False):
        """Patches to keep of those seen so far."""
        if not self._is_share:
            return self.max_patches
        size = self.max_candidates if for_all else max(1, round(self.max_patches * self.n_seen))
        return min(self.max_candidates, size)

    def _candidates(self, batches, random_state):
        size = self.n_neighbors * self.n_memories
        if not self._is_share:
            size = max(size, self.max_patches)
        if self._is_share or self.subsampling == "k_center":
            size = max(size, self.max_candidates)
        return _sample(map(self._prepared_batch, batches), size, random_state)

    def _prepared_batch(self, batch):
        return self._prepared(batch) if batch.ndim == 2 else batch

    def _draw(self, kept, n_seen, random_state):
        """Keep a uniform sample of several streams, of each of which there is one."""
        size = min(self._size(), sum(map(len, kept)))
        if self._is_share and size < self.max_candidates:  # each has its share already
            counts = [min(len(part), round(self.max_patches * n)) for part, n in zip(kept, n_seen)]
        else:
            counts, n_rest = [], sum(n_seen)
            for part, n in zip(kept, n_seen):
                n_rest -= n
                n_drawn = random_state.hypergeometric(n, n_rest, size) if size else 0
                counts.append(min(n_drawn, len(part)))
                size -= counts[-1]
        patches = [
            part[np.sort(random_state.permutation(len(part))[:n])] for part, n in zip(kept, counts)
        ]
        return self._keep(np.concatenate(patches), random_state)

    def _choose_anew(self, patches, radius, random_state):
        """Keep as many of these as there is room for, which stand for all within a radius."""
        size = min(self._size(for_all=True), len(patches))
        start = random_state.randint(len(patches))
        projected = self._project(patches, random_state)
        chosen, farther = k_center_greedy(projected, size, start=start)
        self.radius = radius + farther
        return self._keep(patches[np.sort(chosen)], random_state)

    def _keep(self, patches, random_state):
        if self.n_memories > 1 and random_state is not None:
            patches = patches[random_state.permutation(len(patches))]
            patches = patches[: len(patches) // self.n_memories * self.n_memories]
        self.patches = self._prepared(torch.from_numpy(np.ascontiguousarray(patches)))
        self.mean = self.patches.mean(dim=0, dtype=torch.float64).float()
        self.half_squares = (self.patches - self.mean).square().sum(dim=1) / 2
        return self

    def _project(self, patches, random_state):
        d = patches.shape[1]
        if self.projection_dim is None or d < 2 * self.projection_dim:
            return patches
        matrix = random_state.standard_normal((d, self.projection_dim))
        return patches @ (matrix / np.sqrt(self.projection_dim)).astype(np.float32)


def _sample(batches, size, random_state):
    """A uniform sample of a stream's rows, in its order, or all of them; and their number.

    Every row draws a key and those of the smallest keys are kept, so that the sample
    depends on no batch size.
    """
    rows, keys, d = [], [], None
    n_held, n_rows, largest_key = 0, 0, np.inf
    for number, batch in enumerate(batches):
        patches = _check_patches(batch, number, d)
        d, n_rows = patches.shape[1], n_rows + len(patches)
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
    return np.concatenate(rows), n_rows


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
