"""Latent space autoregression: Abati et al., CVPR 2019, arXiv 1807.01653."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._reconstruction import Reconstructs
from ._whole_image_detector import WholeImageDetector, WholeImages


class MaskedLinear(nn.Linear):
    """A linear map of groups of numbers, one for each coordinate, in the order of these.

    Parameters
    ----------
    d : int
        Coordinates.
    n_in, n_out : int
        Numbers of each.
    strict : bool
        Whether a coordinate's outputs see the inputs of those before it alone, or its own, too.
    """

    def __init__(self, d, n_in, n_out, strict):
        super().__init__(d * n_in, d * n_out)
        seen = torch.ones(d, d).tril(-1 if strict else 0)
        mask = seen.repeat_interleave(n_out, dim=0).repeat_interleave(n_in, dim=1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, h):
        """From (n, d * n_in) to (n, d * n_out)."""
        return F.linear(h, self.weight * self.mask, self.bias)


class AutoregressiveDensity(nn.Module):
    """The density of latents in [0, 1]^d, a histogram of each coordinate given those before it.

    Parameters
    ----------
    d : int
        Coordinates.
    n_bins : int
        Of a histogram.
    width : int
        Hidden numbers of each coordinate.
    depth : int
        Hidden layers.
    """

    def __init__(self, d, n_bins, width, depth):
        super().__init__()
        self.d, self.n_bins = d, n_bins
        widths = [1, *depth * [width], n_bins]
        layers = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            layers += [MaskedLinear(d, n_in, n_out, strict=i == 0), nn.LeakyReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, z):
        """Negative log-likelihood, (n,), of the bins that latents (n, d) are in.

        What lies between the middles of two bins is of both by its distances, lest a rounding
        make a score jump.
        """
        log_p = self.layers(z).unflatten(1, (self.d, self.n_bins)).log_softmax(dim=2)
        place = (z.detach()[:, :, None] * self.n_bins - 0.5).clamp(0, self.n_bins - 1)
        # Of a latent that is not finite neither is the likelihood, which the training reports.
        lower = place.nan_to_num().long().clamp(max=self.n_bins - 2)
        return -torch.lerp(log_p.gather(2, lower), log_p.gather(2, lower + 1), place - lower).sum(
            dim=(1, 2)
        )


class LatentAutoregression(nn.Module):
    """Auto-encoder, and the density of its latents.

    Parameters
    ----------
    encoder, decoder, density : torch.nn.Module
    """

    def __init__(self, encoder, decoder, density):
        super().__init__()
        self.encoder, self.decoder, self.density = encoder, decoder, density

    def forward(self, x):
        """Reconstructions of images (n, C, h, w), and their latents' -log p, (n,)."""
        z = self.encoder(x).sigmoid()
        return self.decoder(z), self.density(z)


class SurpriseLoss(nn.Module):
    r"""Squared error of the reconstruction, summed over the image, and the latent's -log p.

    Parameters
    ----------
    density_weight : float
        :math:`\lambda`.
    """

    def __init__(self, density_weight):
        super().__init__()
        self.density_weight = density_weight

    def forward(self, found, x):
        """The loss of what `LatentAutoregression` gives, beside the images themselves."""
        y, nll = found
        return (y - x).square().sum(dim=(1, 2, 3)).mean() + self.density_weight * nll.mean()


class LSA(Reconstructs, WholeImageDetector):
    r"""Detect anomalies as images that are given back badly, or whose latents are unlikely.

    An auto-encoder is trained together with the density of its latents, coordinate after
    coordinate given those before it [1]_: what is remembered badly, or is surprising, is
    anomalous. For small images of one kind of thing.

    Parameters
    ----------
    n_bins : int
        Bins of a coordinate's histogram. The paper's, as far as known; what follows, the
        networks and their training are not known to be the paper's.
    density_weight : float
        :math:`\lambda`, the loss's weight on the density.
    density_width : int
        Hidden numbers of each coordinate in the density's network.
    density_depth : int
        Its hidden layers.

    Attributes
    ----------
    units_ : tensor, shape (2, 2)
        Mean and deviation, over normal images kept out of training, of an image's mean
        squared error and of :math:`-\log p`.

    Notes
    -----
    With the encoder's latent z in :math:`[0, 1]^d` and the decoder g, what is minimised is

    .. math:: \lVert x - g(z) \rVert^2 - \lambda \sum_i \log p(z_i | z_1, \ldots, z_{i-1}) ,

    each p a histogram; gradients do not follow which of its bins z is in. Between the middles
    of two bins :math:`\log p` is interpolated, where the paper has that of one. The paper's
    score is the sum of both parts, each normalised by what normal images have. So is the map:
    its value at a pixel is the squared error there in these units, to which that of the whole
    image's :math:`-\log p` is added. Its mean is the score; *where* is told by the first
    part alone.

    `fit` holds the training images at `image_size`, in a file if they exceed 4 GiB.

    References
    ----------
    .. [1] D. Abati, A. Porrello, S. Calderara, R. Cucchiara, "Latent Space Autoregression for
           Novelty Detection", CVPR 2019, arXiv:1807.01653.

    Examples
    --------
    >>> from skanomaly import LSA
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=20, image_size=32, random_state=0).images
    >>> detector = LSA(max_epochs=2, random_state=0).fit(X)
    >>> detector.reconstruct(X[:2]).shape
    (2, 32, 32)
    """

    n_bins: int = parameter(100, Interval(Integral, 2, None, closed="left"))
    density_weight: float = parameter(
        1.0, Interval(Real, 0, None, closed="left"), affects="training"
    )
    density_width: int = parameter(8, Interval(Integral, 1, None, closed="left"))
    density_depth: int = parameter(2, Interval(Integral, 0, None, closed="left"))

    lr = 5e-3

    _small_parameters = {"n_bins": 10, "density_width": 2}

    def _version(self, pixels):
        return self.net_.module_(pixels)[0]

    def _fit_images(self, images, validation):
        data, size = self._open_whole(images, validation)
        encoder = self._make_encoder(size)
        module = LatentAutoregression(
            encoder,
            self._make_decoder(encoder.sizes),
            AutoregressiveDensity(
                self.latent_dim, self.n_bins, self.density_width, self.density_depth
            ),
        )
        self.net_ = self._make_net(
            module, SurpriseLoss(self.density_weight), WholeImages, optimizer=torch.optim.Adam
        ).fit_on(*data)
        self.units_ = self._units_of(validation)

    def _units_of(self, images):
        parts = [
            torch.stack([error.mean(dim=(1, 2)), nll])
            for (error, nll), _ in self._batches_through(self._parts, images)
        ]
        parts = torch.cat(parts, dim=1).cpu().clone()
        mean, deviation = parts.mean(dim=1), parts.std(dim=1, correction=0)
        # One image tells no deviation; how much there is of it is all that is known.
        return torch.stack([mean, torch.where(deviation > 1e-6 * mean, deviation, mean)], dim=1)

    def _parts(self, pixels):
        """Squared error of each pixel, (n, h, w), and -log p of each image, (n,)."""
        y, nll = self.net_.module_(pixels)
        return (y - pixels).square().mean(dim=1), nll

    def _compute_maps(self, pixels):
        (error, nll), units = self._parts(pixels), self.units_.to(pixels.device)
        error, nll = (
            (part - mean) / deviation for part, (mean, deviation) in zip((error, nll), units)
        )
        return error + nll[:, None, None]
