"""Discrete codes: a codebook of latents, and how likely each code is given those before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class VectorQuantizer(nn.Module):
    """Replace vectors by the nearest of a codebook, which follows the vectors it is nearest to.

    Each code is the exponential moving average of the vectors assigned to it (van
    den Oord, Vinyals, Kavukcuoglu, arXiv 1711.00937, appendix A.1). A code that
    hardly any vector is assigned to is put where a vector of the batch is.

    Parameters
    ----------
    n_codes, dim : int
    decay : float, default=0.97
        Share of the averages that a step of training keeps.

    Attributes
    ----------
    codes : tensor, shape (n_codes, dim)
    used : tensor, shape (n_codes,)
        How many vectors were assigned to each in training, until it is set to zero.
    """

    def __init__(self, n_codes, dim, decay=0.97):
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", torch.zeros(n_codes, dim))
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", torch.zeros(n_codes, dim))
        self.register_buffer("used", torch.zeros(n_codes))

    def forward(self, z):
        """Quantise latents.

        Parameters
        ----------
        z : tensor, shape (n, dim, h, w)

        Returns
        -------
        quantised : tensor, shape (n, dim, h, w)
            Gradients reach `z` as if nothing had been done to it.
        commitment : tensor, shape ()
            Mean squared distance to the codes, which are constants to it.
        """
        vectors = z.permute(0, 2, 3, 1).flatten(0, 2)
        if self.training:
            self._follow(vectors.detach())
        quantised = self.look_up(self.assign(z))
        return z + (quantised - z).detach(), F.mse_loss(z, quantised)

    def assign(self, z):
        """Which code is nearest, (n, h, w), to each vector of (n, dim, h, w)."""
        vectors = z.permute(0, 2, 3, 1).flatten(0, 2)
        return self._nearest(vectors).view(len(z), *z.shape[2:])

    def look_up(self, indices):
        """The codes (n, dim, h, w) of these numbers (n, h, w)."""
        return self.codes[indices].permute(0, 3, 1, 2)

    def perplexity(self):
        """How many codes are in use: the exponential of the entropy of `used`."""
        p = self.used / self.used.sum()
        return float(torch.exp(torch.special.entr(p).sum()))

    def _nearest(self, vectors):
        half_squares = self.codes.square().sum(dim=1) / 2
        return torch.addmm(half_squares, vectors, self.codes.T, alpha=-1).argmin(dim=1)

    @torch.no_grad()
    def _follow(self, vectors):
        """One step of the moving averages; the first takes the codes from the vectors."""
        if not self.counts.any():
            self._revive(torch.ones_like(self.counts, dtype=torch.bool), vectors)
        assigned = F.one_hot(self._nearest(vectors), len(self.codes)).to(vectors.dtype)
        self.used += assigned.sum(dim=0)
        share = len(self.codes) / len(vectors)  # so that codes used evenly count 1 each
        self.counts.lerp_(share * assigned.sum(dim=0), 1 - self.decay)
        self.sums.lerp_(share * assigned.T @ vectors, 1 - self.decay)
        self.codes.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])
        self._revive(self.counts < 0.1, vectors)

    def _revive(self, dead, vectors):
        chosen = vectors[torch.randint(len(vectors), (len(dead),)).to(vectors.device)]
        self.codes[dead] = chosen[dead]
        self.sums[dead] = chosen[dead]
        self.counts[dead] = 1


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what comes before, in the order of reading.

    Parameters
    ----------
    n_in, n_out, kernel_size : int
    itself : bool
        Whether a position sees itself too.
    """

    def __init__(self, n_in, n_out, kernel_size, itself):
        self.reach = kernel_size // 2
        super().__init__(n_in, n_out, (self.reach + 1, kernel_size))
        mask = torch.ones(self.reach + 1, kernel_size)
        mask[-1, self.reach + itself :] = 0
        self.register_buffer("mask", mask)

    def forward(self, h):
        """Of positions that have all they see: (n, n_in, h, w) to (n, n_out, h - r, w - 2 r)."""
        return F.conv2d(h, self.weight * self.mask, self.bias)


class GatedBlock(nn.Module):
    """Residual block: a masked convolution whose one half gates the other."""

    def __init__(self, width):
        super().__init__()
        self.conv = MaskedConv2d(width, 2 * width, 3, itself=True)
        self.out = nn.Conv2d(width, width, 1)
        self.reach = self.conv.reach

    def forward(self, h):
        """From (n, width, h, w) to (n, width, h - 1, w - 2)."""
        value, gate = self.conv(h).chunk(2, dim=1)
        return h[:, :, 1:, 1:-1] + self.out(torch.tanh(value) * torch.sigmoid(gate))


class CodePrior(nn.Module):
    """Predict each code of a grid from those before it, in the order of reading.

    Parameters
    ----------
    n_codes : int
    width : int, default=32
    depth : int, default=4
        Gated residual blocks.

    Attributes
    ----------
    reach : int
        How many rows above, and columns to each side, a prediction depends on.
    """

    def __init__(self, n_codes, width=32, depth=4):
        super().__init__()
        self.embedding = nn.Embedding(n_codes, width)
        self.layers = nn.ModuleList(
            [
                MaskedConv2d(width, width, 5, itself=False),
                *(GatedBlock(width) for _ in range(depth)),
            ]
        )
        self.last = nn.Sequential(nn.GELU(), nn.Conv2d(width, n_codes, 1))
        self.reach = sum(layer.reach for layer in self.layers)

    def forward(self, codes):
        """Logits (n, n_codes, h, w) of each code of grids (n, h, w)."""
        h = self._embed(codes)
        for layer in self.layers:
            h = layer(F.pad(h, (layer.reach, layer.reach, layer.reach, 0)))
        return self.last(h)

    def log_likelihood(self, codes):
        """Logarithm of each code's probability given those before it, (n, h, w)."""
        log_p = F.log_softmax(self(codes), dim=1)
        return log_p.gather(1, codes[:, None])[:, 0]

    def predict(self, codes, rows, columns):
        """Probabilities (n, n_codes) of one code of each grid, from its surroundings alone.

        Parameters
        ----------
        codes : tensor, shape (n, h, w), int64
        rows, columns : tensor, shape (n,), int64
            Which one.
        """
        r = self.reach
        padded = F.pad(codes, (r, r, r, 0))
        inside = F.pad(torch.ones_like(codes[:1]), (r, r, r, 0)).float()
        i = rows[:, None, None] + torch.arange(r + 1, device=codes.device)[:, None]
        j = columns[:, None, None] + torch.arange(2 * r + 1, device=codes.device)
        n = torch.arange(len(codes), device=codes.device)[:, None, None]
        h, inside = self._embed(padded[n, i, j]), inside[0, i, j][:, None]
        for layer in self.layers:  # each takes away what only it has needed
            h = layer(h * inside)  # beyond the grid's border `forward` pads with zeros
            inside = inside[:, :, layer.reach :, layer.reach : -layer.reach]
        return self.last(h)[:, :, 0, 0].softmax(dim=1)

    def _embed(self, codes):
        return self.embedding(codes).permute(0, 3, 1, 2)


def resample(prior, codes, threshold, noise):
    """Replace unlikely codes of grids by ones drawn from the prior.

    Which codes are unlikely is decided before anything is replaced; they are
    replaced in the order of reading, each drawn given all before it as they are
    by then.

    Parameters
    ----------
    prior : CodePrior
    codes : tensor, shape (n, h, w), int64
    threshold : float
        Codes of lower log-likelihood are replaced.
    noise : tensor, shape (m, n, h, w)
        Uniform in [0, 1): for each of m independent restorations.

    Returns
    -------
    tensor, shape (m, n, h, w), int64
    """
    m, n, height, width = noise.shape
    unlikely = (prior.log_likelihood(codes) < threshold).flatten(1)  # (n, h * w)
    restored = codes.repeat(m, 1, 1)
    counts = unlikely.sum(dim=1).repeat(m)
    noise = noise.reshape(m * n, height * width)
    # Positions of the unlikely codes first, in order.
    order = unlikely.to(torch.int8).argsort(dim=1, descending=True, stable=True).repeat(m, 1)
    for k in range(int(counts.max())):
        active = (counts > k).nonzero()[:, 0]
        position = order[active, k]
        rows, columns = position // width, position % width
        p = prior.predict(restored[active], rows, columns)
        below = p.cumsum(dim=1) <= noise[active, position, None]
        drawn = below.sum(dim=1).clamp(max=p.shape[1] - 1)
        restored[active, rows, columns] = drawn
    return restored.view(m, n, height, width)
