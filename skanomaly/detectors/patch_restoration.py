"""Restoration in a quantised latent space: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

import hashlib
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval
from skorch.callbacks import Callback
from torch import nn

from ..base import stack
from ..maps import SSIM_WINDOW, structural_similarity
from ..patches import PatchMean, continued, patch_places
from ..training import first_checkpoint
from ._patch_detector import PatchDetector, PatchLoss

# Training patches whose codes' likelihoods set the threshold.
N_THRESHOLD_PATCHES = 2000


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


class QuantizedAutoEncoder(nn.Module):
    """A patch auto-encoder whose latent vectors are quantised.

    Parameters
    ----------
    autoencoder : ConvAutoEncoder
    quantizer : VectorQuantizer
    """

    def __init__(self, autoencoder, quantizer):
        super().__init__()
        self.autoencoder, self.quantizer = autoencoder, quantizer

    def forward(self, x):
        """Reconstructed patches without their rim, and the commitment loss."""
        quantised, commitment = self.quantizer(self.autoencoder.encode(x))
        return self.autoencoder.decode(quantised), commitment

    def assign(self, x):
        """Codes (n, latent_size, latent_size) of patches, or of images."""
        return self.quantizer.assign(self.autoencoder.encode(x))

    def decode(self, indices):
        """Patches without their rim, of their codes."""
        return self.autoencoder.decode(self.quantizer.look_up(indices))


class QuantizedLoss(nn.Module):
    """Reconstruction error, and in training also how far the latents are from their codes.

    The distance grows as more codes come into use, so that by it the first epochs
    would pass for the best.

    Parameters
    ----------
    commitment_weight : float, default=0.25
    """

    def __init__(self, commitment_weight=0.25):
        super().__init__()
        self.commitment_weight = commitment_weight
        self.reconstruction = PatchLoss()

    def forward(self, output, x):
        """The loss of what `QuantizedAutoEncoder` makes of patches x."""
        reconstruction, commitment = output
        weight = self.commitment_weight if self.training else 0.0
        return self.reconstruction(reconstruction, x) + weight * commitment


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


class RecordPerplexity(Callback):
    """Write the codebook's perplexity into the history."""

    def on_epoch_begin(self, net, **kwargs):
        """Count anew."""
        net.module_.quantizer.used.zero_()

    def on_epoch_end(self, net, **kwargs):
        """Record it."""
        net.history.record("perplexity", net.module_.quantizer.perplexity())


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


class PatchRestoration(PatchDetector):
    """Detect defects as what changes when unlikely codes of a patch are replaced by likely ones.

    The latents of a patch auto-encoder are quantised by a learned codebook, and
    an autoregressive network learns how likely each code is given those before it.
    In a new image codes of low likelihood are drawn anew from that network, and
    the patches decoded; where the image differs from its restoration, in
    structural similarity, is the map [1]_.

    Parameters
    ----------
    patch_size : int, default=63
        Side of a patch in pixels; the paper's. The next three are those of the
        authors' network of the same year, which gives the paper's latent.
    channels : sequence of int, default=(3, 4, 12, 16)
        Of each convolution of the encoder; the last are those of the latent. The
        decoder mirrors them.
    kernel_sizes : sequence of int, default=(5, 3, 3, 3)
        Of each convolution.
    strides : sequence of int, default=(1, 1, 3, 1)
        Of each convolution. They and the patch's size must come out even.
    n_codes : int, default=64
        Size of the codebook. The paper states none of this and of what follows up
        to `stride`.
    commitment_weight : float, default=0.25
        Weight of the latents' distance to their codes in the loss.
    prior_width : int, default=32
        Channels of the autoregressive network.
    prior_depth : int, default=4
        Its gated residual blocks.
    n_prior_patches : int, default=250
        Random patches drawn of each image to train it, over all epochs.
    prior_lr : float, default=3e-3
        Learning rate of Adam for it, at the start.
    likelihood_quantile : float in (0, 1), default=0.02
        Share of the codes of training patches that are so unlikely as to be
        replaced.
    n_restorations : int, default=4
        Restorations that are averaged.
    stride : int, default=18
        Pixels between the patches that are restored, at most their inner part of
        39; a pixel is the mean over the patches that cover it. Smaller ones cost
        more; multiples of 3, the step of the network, need the image encoded once.
    n_patches : int, default=1000
        Random patches drawn of each training image, over all epochs; the paper
        draws about as many, and goes over them repeatedly.
    image_size : int, (int, int) or None, default=None
        Height and width that the network sees; None keeps each image's own.
    value_range : (float, float) or None, default=None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    smoothing : float, default=4.0
        Standard deviation of the map's Gaussian, in pixels of the network's
        input.
    score_reduction : {"max", "mean", "sum"}, default="max"
        From map to score.
    contamination : float in (0, 0.5), default=0.05
        Share of new normal images that may be called anomalous; sets `offset_`.
    validation_fraction : float in (0, 1), default=0.2
        Share of the images that is kept out of training, for the threshold and
        to choose the epoch whose state is kept.
    max_epochs : int, default=20
        The authors', for that network.
    lr : float, default=3e-3
        Learning rate of Adam at the start.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" lets the rate fall to zero over the epochs.
    train_batch_size : int, default=1
        Images whose patches make a step of training:
        ``n_patches / max_epochs`` of each.
    batch_size : int, default=4
        Images that are scored at once.
    callbacks : list of skorch callbacks or None, default=None
        Further ones, such as `skorch.callbacks.EarlyStopping`; they serve both
        trainings, one after the other.
    checkpoint : path or None, default=None
        File that keeps the state of the training after each epoch, with another
        beside it for the first of the two. A fit that finds them there goes on, to
        the same result as without the interruption, and removes them at the end.
        Needs an int as `random_state`.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images, the start of what is trained, the patches
        and everything else that is drawn.
    verbose : int, default=0
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    net_ : AnomalyNet
        The trained auto-encoder (`net_.module_`) and its history (`net_.history`),
        in which "perplexity" says how many codes are in use.
    prior_net_ : AnomalyNet
        The autoregressive network and its history.
    log_likelihood_threshold_ : float
        Codes of lower log-likelihood are replaced.
    noise_seed_ : int
        What, with the image, decides the codes drawn: an image's map depends
        neither on its place in a batch nor on the images beside it.
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    validation_scores_ : ndarray, shape (n_validation,), float64
        Scores of the images kept out of training, from which `offset_` comes.
    validation_maxima_ : ndarray, shape (n_validation,), float64
        Their maps' largest values.
    map_threshold_ : float
        Map value that `contamination` of new normal images exceed somewhere;
        ``-offset_`` if the score is the map's maximum.
    n_channels_in_ : int
        Channels of the images seen in `fit`.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored: an image is
        continued by reflection by half a patch.

    See Also
    --------
    PatchReconstruction, PatchLatentSVM : The paper's other two methods.

    Notes
    -----
    Which codes of a patch are unlikely is decided once, before any is replaced.
    They are replaced in the order of reading, each drawn given those before it as
    they are by then; only the surroundings of each are computed anew.

    The network has no padding, so an image is encoded once for every phase of its
    strides, not once for every patch, with the same result.

    References
    ----------
    .. [1] N. Pinon, R. Trombetta, C. Lartizien, "Anomaly detection in image or
           latent space of patch-based auto-encoders for industrial image
           analysis", arXiv:2307.02495, GRETSI 2023.

    Examples
    --------
    >>> from skanomaly import PatchRestoration
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("brick", n_normal=10, random_state=0)
    >>> detector = PatchRestoration(n_patches=40, max_epochs=2, prior_width=8, random_state=0)
    >>> detector.fit(train.images).restore(train.images[:2]).shape
    (2, 128, 128)
    """

    _not_exportable = "it draws random numbers for each image, as many as there are unlikely codes"

    _parameter_constraints: dict = {
        **PatchDetector._parameter_constraints,
        "n_codes": [Interval(Integral, 2, None, closed="left")],
        "commitment_weight": [Interval(Real, 0, None, closed="left")],
        "prior_width": [Interval(Integral, 1, None, closed="left")],
        "prior_depth": [Interval(Integral, 1, None, closed="left")],
        "n_prior_patches": [Interval(Integral, 1, None, closed="left")],
        "prior_lr": [Interval(Real, 0, None, closed="neither")],
        "likelihood_quantile": [Interval(Real, 0, 1, closed="neither")],
        "n_restorations": [Interval(Integral, 1, None, closed="left")],
    }

    _reach = SSIM_WINDOW // 2

    def __init__(
        self,
        *,
        patch_size=63,
        channels=(3, 4, 12, 16),
        kernel_sizes=(5, 3, 3, 3),
        strides=(1, 1, 3, 1),
        n_codes=64,
        commitment_weight=0.25,
        prior_width=32,
        prior_depth=4,
        n_prior_patches=250,
        prior_lr=3e-3,
        likelihood_quantile=0.02,
        n_restorations=4,
        stride=18,
        n_patches=1000,
        image_size=None,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=20,
        lr=3e-3,
        lr_schedule="cosine",
        train_batch_size=1,
        batch_size=4,
        callbacks=None,
        checkpoint=None,
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.patch_size = patch_size
        self.channels = channels
        self.kernel_sizes = kernel_sizes
        self.strides = strides
        self.n_codes = n_codes
        self.commitment_weight = commitment_weight
        self.prior_width = prior_width
        self.prior_depth = prior_depth
        self.n_prior_patches = n_prior_patches
        self.prior_lr = prior_lr
        self.likelihood_quantile = likelihood_quantile
        self.n_restorations = n_restorations
        self.stride = stride
        self.n_patches = n_patches
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.train_batch_size = train_batch_size
        self.batch_size = batch_size
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def restore(self, X):
        """The images with their unlikely parts replaced by likely ones.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W, C), or (n, H, W) for one channel, float32
            In [0, 1], of each image's own size. If the images differ in size, an
            object array (n,) of such images.
        """
        images = self._open_to_score(X)
        return stack(self._images_through(self._restored, images), len(images))

    def _fit_images(self, images, validation):
        autoencoder = self._make_autoencoder(images.n_channels)
        self._check_coverage(autoencoder)
        patches = self._open_patches(images, validation)
        quantizer = VectorQuantizer(self.n_codes, self.channels[-1])
        self.net_ = self._fit_on_patches(
            patches,
            QuantizedAutoEncoder(autoencoder, quantizer),
            QuantizedLoss(self.commitment_weight),
            callbacks=[("perplexity", RecordPerplexity())],
            stage=1,
        )
        self._place(self._device)  # what the second training learns from
        self.prior_net_ = self._fit_on_patches(
            patches,
            CodePrior(self.n_codes, self.prior_width, self.prior_depth),
            nn.CrossEntropyLoss,
            n_patches=self.n_prior_patches,
            prepare_batch=self._assign_batch,
            lr=self.prior_lr,
            stage=2,
        )
        if self.checkpoint is not None:
            first_checkpoint(self).unlink(missing_ok=True)
        self._place(self._device)
        self.log_likelihood_threshold_ = self._likelihood_quantile(patches[0])
        self.noise_seed_ = int(torch.randint(2**31, ()))

    def _check_coverage(self, autoencoder):
        side = self.patch_size - 2 * autoencoder.margin
        if self.stride > side:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch covers: of a patch, {side} "
                f"pixels are restored; choose a stride of at most {side}"
            )

    def _compute_maps(self, pixels):
        r = self._reach
        pair = (F.pad(x, (r, r, r, r), mode="reflect") for x in (pixels, self._restored(pixels)))
        return 1 - structural_similarity(*pair, SSIM_WINDOW)

    def _restored(self, pixels):
        return torch.stack([self._restored_image(x) for x in pixels])

    def _restored_image(self, pixels):
        """One image, (C, H, W), from its patches: the mean of those that cover each pixel."""
        autoencoder = self.net_.module_.autoencoder
        self._check_coverage(autoencoder)
        places = [patch_places(size, self.stride) for size in pixels.shape[1:]]
        collected = PatchMean(pixels, self.patch_size, autoencoder.margin)
        seed = self._noise_seed(pixels)
        x = continued(pixels[None], self.patch_size)
        for phase in autoencoder.phases(x, *places):
            codes = self.net_.module_.quantizer.assign(phase.z)
            windows = phase._replace(z=codes[:, None]).windows(autoencoder.latent_size)[0, ..., 0]
            for row, in_row, place in zip(phase.rows.which, windows, phase.rows.places):
                drawn = resample(
                    self.prior_net_.module_,
                    in_row,
                    self.log_likelihood_threshold_,
                    self._noise(seed + row, len(places[1]))[:, phase.columns.which],
                )
                patches = self.net_.module_.decode(drawn.flatten(0, 1))
                patches = patches.unflatten(0, drawn.shape[:2]).mean(dim=0)
                for patch, column in zip(patches, phase.columns.places):
                    collected.add(patch, place, column)
        return collected.result()

    def _noise_seed(self, pixels):
        """What depends on the image and the fit alone, not on what is scored with it."""
        digest = hashlib.sha256(pixels.cpu().numpy().tobytes()).digest()
        return self.noise_seed_ ^ int.from_bytes(digest[:7], "little")

    def _noise(self, seed, n_columns):
        """Uniform numbers for the codes of a row of patches, in each restoration."""
        size = self.net_.module_.autoencoder.latent_size
        generator = torch.Generator().manual_seed(int(seed))
        noise = torch.rand(self.n_restorations, n_columns, size, size, generator=generator)
        return noise.to(self._device)

    def _assign_batch(self, x, _):
        codes = self.net_.module_.assign(x)
        return codes, codes

    def _likelihood_quantile(self, patches):
        """`likelihood_quantile` of the log-likelihoods of the codes of random training patches."""
        patches = patches.drawing(-(-N_THRESHOLD_PATCHES // len(patches)))
        found = []
        with torch.inference_mode():
            for i in range(len(patches)):
                codes = self.net_.module_.assign(patches.__getitems__([i]).to(self._device))
                found.append(self.prior_net_.module_.log_likelihood(codes).flatten().cpu().numpy())
        return float(np.quantile(np.concatenate(found), self.likelihood_quantile))
