"""Patch AE: Cui, Liu, Lian, arXiv 2308.00429."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import PatchBank
from ._defect_trained_detector import DefectTrainedDetector
from ._feature_detector import FeatureDetector


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
        for layer in (self.encoder[0], self.encoder[2]):  # distances are kept to begin with
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            nn.init.zeros_(layer.bias)

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
    """

    def __init__(self, pyramid, patches):
        super().__init__()
        self.pyramid, self.patches = pyramid, patches

    def forward(self, x):
        """From an image (n, C, H, W) to the reconstructed one."""
        f = on_one_grid(self.pyramid(x), self.pyramid.strides.index(self.patches.patch_size))
        return self.patches(f)


def on_one_grid(levels, k):
    """Concatenate the levels of a pyramid on the grid of level k.

    Each level is scaled to unit root mean square over its channels at each
    position, so that none outweighs the others; finer ones are averaged, coarser
    ones interpolated bilinearly.

    Parameters
    ----------
    levels : sequence of tensor, each (n, c_i, h_i, w_i)
        Finest first.
    k : int

    Returns
    -------
    tensor, shape (n, sum of c_i, h_k, w_k)
    """
    size = levels[k].shape[2:]
    scaled = [F.normalize(f, dim=1) * f.shape[1] ** 0.5 for f in levels]
    placed = [_averaged(f, size) for f in scaled[:k]] + [scaled[k]]
    placed += [F.interpolate(f, size, mode="bilinear") for f in scaled[k + 1 :]]
    return torch.cat(placed, dim=1)


def _averaged(f, size):
    ratios = [int(n) / int(m) for n, m in zip(f.shape[2:], size)]
    if all(ratio.is_integer() for ratio in ratios):  # the same, but also in ONNX
        return F.avg_pool2d(f, [int(ratio) for ratio in ratios])
    return F.adaptive_avg_pool2d(f, size)


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
        Learning rate of Adam at the start. A small one keeps the vectors close to
        the pretrained features they start from.
    backbone_lr : float
        That of the pretrained part, if it is tuned.

    Attributes
    ----------
    bank_ : PatchBank
        The vectors that are kept.

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
    tune_backbone: bool = parameter(False, "boolean")
    latent_dim: int = parameter(256, Interval(Integral, 1, None, closed="left"))
    target: str = parameter("defective", StrOptions({"defective", "clean"}))
    max_patches: int = parameter(5_000, Interval(Integral, 1, None, closed="left"))
    subsampling: str = parameter("k_center", StrOptions({"k_center", "random"}))
    n_neighbors: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    max_epochs = 10
    lr = 1e-4
    backbone_lr: float = parameter(1e-5, Interval(Real, 0, None, closed="left"), affects="training")

    _small_parameters = {"latent_dim": 32, "max_patches": 500}

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        if self.patch_size not in self.encoder_.strides:
            raise ValueError(
                f"patch_size={self.patch_size} is none of the strides {self.encoder_.strides} that "
                f"layers {tuple(self.layers)} of {self.backbone} have; choose one of these"
            )
        patches = PatchAutoEncoder(
            self.encoder_.channels, self.patch_size, self.n_channels_in_, self.latent_dim
        )
        module, settings = patches, {}
        if self.tune_backbone:
            self.encoder_.tune()
            module = TunedPatchAutoEncoder(self.encoder_, patches)
            settings["optimizer__param_groups"] = [("pyramid.*", {"lr": self.backbone_lr})]
        self.net_ = self._train_with_defects(
            module,
            PatchReconstructionLoss,
            images,
            validation,
            self._input_and_target,
            optimizer=torch.optim.Adam,
            **settings,
        )
        self.encoder_.freeze()
        self.bank_ = PatchBank(self.max_patches, self.subsampling, self.n_neighbors)
        seed = int(torch.randint(2**31, ()))
        self.bank_.fit(self._vector_batches(images), seed)

    def _input_and_target(self, generator, x, seeds, sources):
        x_c = generator.draw(x, seeds, sources).images
        inputs = x_c if self.tune_backbone else self._features(x_c)
        return inputs, x_c if self.target == "defective" else x

    def _compute_maps(self, pixels):
        z = self._vectors(pixels)
        distances = self.bank_.distances(_as_rows(z))
        return distances.reshape(z.shape[0], *z.shape[2:])

    def _vectors(self, pixels):
        """Unit vectors of all patches, (n, latent_dim, h, w)."""
        return F.normalize(self._patches.encode(self._features(pixels)), dim=1)

    def _features(self, pixels):
        return on_one_grid(self.encoder_(pixels), self.encoder_.strides.index(self.patch_size))

    @property
    def _patches(self):
        module = self.net_.module_
        return module.patches if self.tune_backbone else module

    def _vector_batches(self, images):
        self._place(self._device)
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                yield _as_rows(self._vectors(pixels.to(self._device)))


class PatchReconstructionLoss(nn.Module):
    """Mean squared error over the pixels that the image has and the patches cover."""

    def forward(self, reconstruction, image):
        """The loss; both are (n, C, H, W), the first of a size rounded up to whole patches."""
        height, width = image.shape[2:]
        return F.mse_loss(reconstruction[:, :, :height, :width].float(), image)


def _as_rows(z):
    return z.permute(0, 2, 3, 1).flatten(0, 2)
