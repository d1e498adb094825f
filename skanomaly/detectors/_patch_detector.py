"""What the detectors on patch auto-encoders share: their network's parameters and its training."""

from __future__ import annotations

from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, Numbers
from ._patch_autoencoder import ConvAutoEncoder
from ._patches import PatchDataset, WindowDataset
from ._trained_detector import TrainedDetector


class PatchDetector(TrainedDetector):
    """Base of the detectors that learn an auto-encoder of patches.

    Parameters
    ----------
    patch_size : int
        Side of a patch in pixels; the paper's. The next three are those of the
        authors' network of the same year, which gives the paper's latent.
    channels : sequence of int
        Of each convolution of the encoder; the last are those of the latent. The
        decoder mirrors them.
    kernel_sizes : sequence of int
        Of each convolution.
    strides : sequence of int
        Of each convolution. They and the patch's size must come out even.
    n_patches : int
        What is learnt from each training image over all epochs: windows at random places
        with at most the pixels of so many patches, each window all of its patches at once.
        The paper draws about as many patches, and goes over them repeatedly.
    image_size : int, (int, int) or None
        Height and width that the network sees; None keeps each image's own.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.
    two_sided : bool
        In units of deviations, count what lies below the mean as well: a smooth spot where
        there is a texture elsewhere is nearer to most patches than what is normal there. The
        paper's methods do not.
    validation_fraction : float in (0, 1)
        Share of the images that is kept out of training, for the threshold and
        to choose the epoch whose state is kept.
    max_epochs : int
        Passes over the training images; the authors', for that network.
    lr : float
        Learning rate of Adam at the start.
    train_batch_size : int
        Images a step of training, a window of each.

    Attributes
    ----------
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored: an image is
        continued by reflection by half a patch.
    """

    patch_size: int = parameter(63, Interval(Integral, 1, None, closed="left"))
    channels: tuple[int, ...] = parameter((3, 4, 12, 16), Numbers(Integral, 1))
    kernel_sizes: tuple[int, ...] = parameter((5, 3, 3, 3), Numbers(Integral, 1))
    strides: tuple[int, ...] = parameter((1, 1, 3, 1), Numbers(Integral, 1))
    n_patches: int = parameter(1000, Interval(Integral, 1, None, closed="left"), affects="training")
    two_sided: bool = parameter(True, "boolean", affects="scores")
    standardize = "position"
    image_size = None
    smoothing = "auto"
    lr = 3e-3
    train_batch_size = 1
    batch_size = 4

    _reach = 0  # pixels by which maps continue images, where that exceeds half a patch
    _small_parameters = {"patch_size": 33, "n_patches": 40}

    def _sided(self, deviations):
        return deviations.abs() if self.two_sided else deviations

    def _make_autoencoder(self, n_channels):
        return ConvAutoEncoder(
            n_channels, self.patch_size, self.channels, self.kernel_sizes, self.strides
        )

    @property
    def _largest_patch(self):
        return self.patch_size

    def _open_patches(self, images, validation):
        """Data sets of random patches, to learn from and to compare epochs by."""
        self._need_size(max(self._largest_patch // 2, self._reach) + 1, images, validation)
        return [
            PatchDataset(part, self.patch_size, 1, fixed=fixed, n_jobs=self.n_jobs)
            for part, fixed in ((images, False), (validation, True))
        ]

    def _prepare_export(self):
        self.net_.module_ = self.net_.module_.folded()

    def _fit_autoencoder(self, patches, autoencoder, module, criterion, **settings):
        """Train a module around an auto-encoder on all patches of windows at once."""
        n_patches = -(-self.n_patches // self.max_epochs)
        of_network = autoencoder.margin, autoencoder.step
        windows = [WindowDataset(part.drawing(n_patches), *of_network) for part in patches]
        # Windows of one batch are of one size, on which the loss is not to depend by which epochs
        # are compared.
        settings["iterator_valid__batch_size"] = 1
        return self._fit_on(windows, module, criterion, **settings)

    def _fit_on_patches(self, patches, module, criterion, n_patches, **settings):
        """Train a module; over all epochs `n_patches` are drawn of each image."""
        n_patches = -(-n_patches // self.max_epochs)
        return self._fit_on([p.drawing(n_patches) for p in patches], module, criterion, **settings)

    def _fit_on(self, data, module, criterion, **settings):
        net = self._make_net(
            module, criterion, PatchDataset, keep_best=True, optimizer=torch.optim.Adam, **settings
        )
        net.fit_on(*data)
        # Whole images are convolved faster this way, small patches are not.
        net.module_.to(memory_format=torch.channels_last)
        return net


class PatchLoss(nn.Module):
    """Mean squared error over the part of the patches that is reconstructed."""

    def forward(self, reconstruction, x):
        """The loss; both are (n, C, h, w), the second with the rim that the first lacks."""
        rim = (x.shape[2] - reconstruction.shape[2]) // 2
        return F.mse_loss(reconstruction, F.pad(x, [-rim] * 4))
