"""Patch AE: Cui, Liu, Lian, arXiv 2308.00429."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import PatchBank, as_rows, on_grid_of
from ._defect_trained_detector import DefectTrainedDetector
from ._feature_detector import FeatureDetector

# By which activations lie above zero to begin with, in their own deviations.
N_DEVIATIONS = 3.0

# Images whose features tell these.
N_TO_START_FROM = 16


class PatchAutoEncoder(nn.Module):
    """Represent each patch of an image by a vector, and reconstruct it from that vector alone.

    Parameters
    ----------
    channels : sequence of int
        Channels of the pyramid's levels.
    patch_size : int
        Side of a patch in pixels.
    n_channels : int
        Of the images.
    latent_dim : int, default=256
        Length of a patch's vector.
    """

    def __init__(self, channels, patch_size, n_channels, latent_dim=256):
        super().__init__()
        self.patch_size = patch_size
        d = latent_dim
        self.encoder = nn.Sequential(
            nn.Conv2d(sum(channels), d, 1), nn.ReLU(), nn.Conv2d(d, d, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(d, d, 1), nn.ReLU(), nn.Conv2d(d, n_channels * patch_size**2, 1)
        )
        for layer in (self.encoder[0], self.encoder[2]):
            nn.init.orthogonal_(layer.weight)

    @torch.no_grad()
    def keep_distances(self, f):
        """Set the encoder's biases so that it keeps distances, as far as its width allows.

        Its weights are orthogonal to begin with; above zero, ReLUs do nothing.

        Parameters
        ----------
        f : tensor, shape (n, sum(channels), h, w)
            Features like those to be encoded.
        """
        for convolution, relu in zip(self.encoder[::2], self.encoder[1::2]):
            nn.init.zeros_(convolution.bias)
            deviations, means = torch.std_mean(convolution(f), dim=(0, 2, 3), correction=0)
            convolution.bias.copy_(N_DEVIATIONS * deviations - means)
            f = relu(convolution(f))

    def encode(self, f):
        """From features on one grid (n, sum(channels), h, w) to (n, latent_dim, h, w)."""
        return self.encoder(f)

    def decode(self, z):
        """From (n, latent_dim, h, w) to an image (n, C, h * patch_size, w * patch_size)."""
        return F.pixel_shuffle(self.decoder(z), self.patch_size)

    def forward(self, f):
        """From features on one grid to the reconstructed image."""
        return self.decode(self.encode(f))


class TunedPatchAutoEncoder(nn.Module):
    """A pyramid and a patch auto-encoder that are trained together, from image to image.

    Parameters
    ----------
    pyramid : FeaturePyramid
    patches : PatchAutoEncoder
    joined : callable
        Makes features on one grid of the pyramid's levels.
    """

    def __init__(self, pyramid, patches, joined):
        super().__init__()
        self.pyramid, self.patches, self.joined = pyramid, patches, joined

    def forward(self, x):
        """From an image (n, C, H, W) to the reconstructed one."""
        return self.patches(self.joined(self.pyramid(x)))


class JoinedLevels(nn.Module):
    """The levels of a pyramid on one grid, each of the same total variance.

    Parameters
    ----------
    k : int
        The level whose grid it is.
    neighborhood : int
        Side of the square of positions that each is the mean of.
    n_features : int
    """

    def __init__(self, k, neighborhood, n_features):
        super().__init__()
        self.k, self.neighborhood = k, neighborhood
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, levels):
        """From levels, each (n, c_i, h_i, w_i), to (n, n_features, h_k, w_k)."""
        return on_grid_of(levels, self.k, self.neighborhood) / self.scale.view(-1, 1, 1)


class PatchAE(DefectTrainedDetector, FeatureDetector):
    """Detect defects by patch features that were learned by reconstructing defects too.

    An auto-encoder reconstructs every patch of an image from that patch's own
    feature vector. It is trained on images of good parts with drawn defects, and
    its target holds the defects as well: what a vector has to tell is what its
    patch looks like, defect or not. Then the distance of a patch's vector from
    those of the training images is the map [1]_.

    Parameters
    ----------
    patch_size : int
        Side of a patch in pixels; one of the strides of `layers`.
    neighborhood : int
        Side of the square of positions whose pretrained features are averaged.
    tune_backbone : bool
        Train the pretrained part too.
    latent_dim : int
        Length of a patch's learned vector.
    target : {"defective", "clean"}
        What is to be reconstructed: the image with its drawn defects, as the
        paper's idea asks, or without.
    max_patches : int
        Vectors of training images that are kept.
    subsampling : {"k_center", "random"}
        How they are chosen, see :class:`~skanomaly.features.PatchBank`.
    n_neighbors : int
        Nearest ones whose distances are averaged.
    lr : float
        Learning rate of Adam at the start, for the decoder.
    encoder_lr : float
        That of the encoder. A small one keeps the vectors close to the pretrained
        features they start from.
    backbone_lr : float
        That of the pretrained part, if it is tuned.

    Attributes
    ----------
    bank_ : PatchBank
        The vectors that are kept.
    joined_ : JoinedLevels
        What joins the pretrained features, each level brought to a total variance of one.

    See Also
    --------
    skanomaly.features.PatchBank : The memory.

    Notes
    -----
    The architecture is the paper's (its figure 2): features of several layers on
    one grid, two 1x1 convolutions with ReLU, and a decoder of 1x1 convolutions,
    in which nothing mixes positions. Everything else is not stated in the sources
    at hand: loss (mean squared error), training, the scaling of features, memory
    and smoothing.

    The encoder starts as an isometry, with biases that keep its ReLUs above zero, so that
    untrained it is a memory of the pretrained features. What training adds to that is
    little: on the categories it was measured on it judges images a little better, and
    outlines defects no better.

    References
    ----------
    .. [1] Y. Cui, Z. Liu, S. Lian, "Patch-wise Auto-Encoder for Visual Anomaly
           Detection", arXiv:2308.00429, 2023.

    Examples
    --------
    >>> from skanomaly import PatchAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> detector = PatchAE(max_epochs=2, image_size=128, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    patch_size: int = parameter(8, Interval(Integral, 1, None, closed="left"))
    neighborhood: int = parameter(3, Interval(Integral, 1, None, closed="left"))
    tune_backbone: bool = parameter(False, "boolean")
    latent_dim: int = parameter(256, Interval(Integral, 1, None, closed="left"))
    target: str = parameter("defective", StrOptions({"defective", "clean"}))
    max_patches: int = parameter(5_000, Interval(Integral, 1, None, closed="left"))
    subsampling: str = parameter("k_center", StrOptions({"k_center", "random"}))
    n_neighbors: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    max_epochs = 5
    encoder_lr: float = parameter(1e-4, Interval(Real, 0, None, closed="left"), affects="training")
    backbone_lr: float = parameter(1e-5, Interval(Real, 0, None, closed="left"), affects="training")
    standardize = "position"

    _small_parameters = {"latent_dim": 32, "max_patches": 500}

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        if self.patch_size not in self.encoder_.strides:
            raise ValueError(
                f"patch_size={self.patch_size} is none of the strides {self.encoder_.strides} that "
                f"layers {tuple(self.layers)} of {self.backbone} have; choose one of these"
            )
        k, n_features = self.encoder_.strides.index(self.patch_size), sum(self.encoder_.channels)
        self.joined_ = JoinedLevels(k, self.neighborhood, n_features)
        scale = self._scales_of(images, lambda levels: on_grid_of(levels, k, self.neighborhood))
        self.joined_.scale.copy_(torch.from_numpy(scale))
        patches = PatchAutoEncoder(
            self.encoder_.channels, self.patch_size, self.n_channels_in_, self.latent_dim
        )
        patches.to(self._device).keep_distances(self._features_of_some(images))
        module, prefix, groups = patches, "", []
        if self.tune_backbone:
            self.encoder_.tune()
            module, prefix = TunedPatchAutoEncoder(self.encoder_, patches, self.joined_), "patches."
            groups = [("pyramid.*", {"lr": self.backbone_lr})]
        self.net_ = self._train_with_defects(
            module,
            PatchReconstructionLoss,
            images,
            validation,
            self._input_and_target,
            optimizer=torch.optim.Adam,
            optimizer__param_groups=[*groups, (f"{prefix}encoder.*", {"lr": self.encoder_lr})],
        )
        self.encoder_.freeze()
        self.bank_ = PatchBank(self.max_patches, self.subsampling, self.n_neighbors)
        seed = int(torch.randint(2**31, ()))
        self.bank_.fit(self._vector_batches(images), seed)

    def _features_of_some(self, images):
        some = np.unique(np.linspace(0, len(images) - 1, N_TO_START_FROM).astype(int))
        levels_of_some = self._levels_of(images.subset(some))  # whose sizes may differ
        rows = torch.cat([as_rows(self.joined_(levels)) for levels in levels_of_some])
        return rows.T[None, :, :, None]

    def _input_and_target(self, generator, x, seeds, sources):
        x_c = generator.draw(x, seeds, sources).images
        inputs = x_c if self.tune_backbone else self._features(x_c)
        return inputs, x_c if self.target == "defective" else x

    def _compute_maps(self, pixels):
        z = self._vectors(pixels)
        distances = self.bank_.distances(as_rows(z))
        return distances.reshape(z.shape[0], *z.shape[2:])

    def _vectors(self, pixels):
        """Vectors of all patches, (n, latent_dim, h, w)."""
        return self._patches.encode(self._features(pixels))

    def _features(self, pixels):
        return self.joined_(self.encoder_(pixels))

    @property
    def _patches(self):
        module = self.net_.module_
        return module.patches if self.tune_backbone else module

    def _vector_batches(self, images):
        return (as_rows(z) for z, _ in self._batches_through(self._vectors, images))


class PatchReconstructionLoss(nn.Module):
    """Mean squared error over the pixels that the image has and the patches cover."""

    def forward(self, reconstruction, image):
        """The loss; both are (n, C, H, W), the first of a size rounded up to whole patches."""
        height, width = image.shape[2:]
        return F.mse_loss(reconstruction[:, :, :height, :width].float(), image)
