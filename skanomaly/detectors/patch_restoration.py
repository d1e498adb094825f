"""Restoration in a quantised latent space: Pinon, Trombetta, Lartizien, arXiv 2307.02495."""

from __future__ import annotations

import hashlib
from itertools import product
from numbers import Integral, Real

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ..maps import SSIM_WINDOW
from ._codes import CodePrior, VectorQuantizer, resample
from ._patch_detector import PatchLoss
from ._patch_residual_detector import PatchResidualDetector
from ._patches import PatchMean, continued, patch_places

# Patches whose codes are drawn side by side; what they cost above all is the number of steps.
PATCHES_AT_ONCE = 256

# Training patches whose codes' likelihoods set the threshold.
N_THRESHOLD_PATCHES = 2000


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


class RecordPerplexity(Callback):
    """Write the codebook's perplexity into the history."""

    def on_epoch_begin(self, net, **kwargs):
        """Count anew."""
        net.module_.quantizer.used.zero_()

    def on_epoch_end(self, net, **kwargs):
        """Record it."""
        net.history.record("perplexity", net.module_.quantizer.perplexity())


class PatchRestoration(PatchResidualDetector):
    """Detect defects as what changes when unlikely codes of a patch are replaced by likely ones.

    The latents of a patch auto-encoder are quantised by a learned codebook, and
    an autoregressive network learns how likely each code is given those before it.
    In a new image codes of low likelihood are drawn anew from that network, and
    the patches decoded; where the image differs from its restoration is the map
    [1]_, in the paper by ``error="ssim"`` and ``standardize=None``.

    Parameters
    ----------
    n_codes : int
        Size of the codebook. The paper states none of this and of what follows.
    commitment_weight : float
        Weight of the latents' distance to their codes in the loss.
    prior_width : int
        Channels of the autoregressive network.
    prior_depth : int
        Its gated residual blocks.
    n_prior_patches : int
        Random patches drawn of each image to train it, over all epochs.
    prior_lr : float
        Learning rate of Adam for it, at the start.
    likelihood_quantile : float in (0, 1)
        Share of the codes of training patches that are so unlikely as to be
        replaced.
    n_restorations : int
        Restorations that are averaged.
    stride : int
        Pixels between the patches that are looked at, at most their inner part of
        39; a pixel is the mean over the patches that cover it. Smaller ones cost
        more; multiples of 3, the step of the network, need the image encoded once.
    callbacks : list of skorch callbacks or None
        Further ones, such as `skorch.callbacks.EarlyStopping`; they serve both
        trainings, one after the other.
    checkpoint : path or None
        File that keeps the state of the training after each epoch, with another
        beside it for the first of the two. A fit of the same images, parameters and
        `random_state`, an int, that finds them there goes on, to the same result as
        without the interruption, and removes them at the end. Any other refuses them.

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

    See Also
    --------
    PatchReconstruction, PatchLatentSVM : The paper's other two methods.

    Notes
    -----
    Which codes of a patch are unlikely is decided once, before any is replaced.
    They are replaced in the order of reading, each drawn given those before it as
    they are by then; only the surroundings of each are computed anew.

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

    n_codes: int = parameter(64, Interval(Integral, 2, None, closed="left"))
    commitment_weight: float = parameter(
        0.25, Interval(Real, 0, None, closed="left"), affects="training"
    )
    prior_width: int = parameter(32, Interval(Integral, 1, None, closed="left"))
    prior_depth: int = parameter(4, Interval(Integral, 1, None, closed="left"))
    n_prior_patches: int = parameter(
        250, Interval(Integral, 1, None, closed="left"), affects="training"
    )
    prior_lr: float = parameter(3e-3, Interval(Real, 0, None, closed="neither"), affects="training")
    likelihood_quantile: float = parameter(0.02, Interval(Real, 0, 1, closed="neither"))
    n_restorations: int = parameter(4, Interval(Integral, 1, None, closed="left"), affects="scores")
    stride: int = parameter(18, Interval(Integral, 1, None, closed="left"))

    _not_exportable = "it draws random numbers for each image, as many as there are unlikely codes"
    _small_parameters = {
        "n_prior_patches": 20,
        "n_restorations": 2,
        "n_codes": 16,
        "prior_width": 8,
        "prior_depth": 1,
        "stride": 9,
    }

    _reach = SSIM_WINDOW // 2

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
        return self._made_of(X, self._version)

    def _fit_images(self, images, validation):
        autoencoder = self._make_autoencoder(images.n_channels)
        self._check_coverage(autoencoder)
        patches = self._open_patches(images, validation)
        quantizer = VectorQuantizer(self.n_codes, self.channels[-1])
        self.net_ = self._fit_autoencoder(
            patches,
            autoencoder,
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
            self.n_prior_patches,
            prepare_batch=self._assign_batch,
            lr=self.prior_lr,
            stage=2,
        )
        if self.checkpoint is not None:
            dict(self.net_.callbacks_)["checkpoint"].remove()
        self._place(self._device)
        self.log_likelihood_threshold_ = self._likelihood_quantile(patches[0])
        self.noise_seed_ = int(torch.randint(2**31, ()))
        self._learn_residuals(images)

    def _check_coverage(self, autoencoder):
        side = self.patch_size - 2 * autoencoder.margin
        if self.stride > side:
            raise ValueError(
                f"stride={self.stride} leaves pixels that no patch covers: of a patch, {side} "
                f"pixels are restored; choose a stride of at most {side}"
            )

    def _version(self, pixels):
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
            n_rows, columns = max(1, PATCHES_AT_ONCE // windows.shape[1]), phase.columns
            for first in range(0, len(windows), n_rows):
                part = slice(first, first + n_rows)
                noise = [
                    self._noise(seed + row, len(places[1]))[:, columns.which]
                    for row in phase.rows.which[part]
                ]
                drawn = resample(
                    self.prior_net_.module_,
                    windows[part].flatten(0, 1),
                    self.log_likelihood_threshold_,
                    torch.cat(noise, dim=1),
                )
                patches = self.net_.module_.decode(drawn.flatten(0, 1))
                patches = patches.unflatten(0, drawn.shape[:2]).mean(dim=0)
                for patch, place in zip(patches, product(phase.rows.places[part], columns.places)):
                    collected.add(patch, *place)
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
