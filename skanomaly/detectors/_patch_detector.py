"""What the detectors on patch auto-encoders share: their network's parameters and its training."""

from __future__ import annotations

from numbers import Integral

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval
from torch import nn

from ..base import BaseImageDetector
from ..exceptions import InvalidImageError
from ..patches import ConvAutoEncoder, PatchDataset
from ..training import TRAINING_CONSTRAINTS, AnomalyNet, net_settings


class PatchDetector(BaseImageDetector):
    """Base of the detectors that learn an auto-encoder of random patches."""

    _reach = 0  # pixels by which maps continue images, where that exceeds half a patch

    _parameter_constraints: dict = {
        **BaseImageDetector._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        "patch_size": [Interval(Integral, 1, None, closed="left")],
        "channels": [tuple, list],
        "kernel_sizes": [tuple, list],
        "strides": [tuple, list],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "n_patches": [Interval(Integral, 1, None, closed="left")],
    }

    def _make_autoencoder(self, n_channels):
        return ConvAutoEncoder(
            n_channels, self.patch_size, self.channels, self.kernel_sizes, self.strides
        )

    def _open_patches(self, images, validation):
        """Data sets of random patches, to learn from and to compare epochs by."""
        self.min_image_size_ = max(self.patch_size // 2, self._reach) + 1
        for part in (images, validation):
            part.min_size = self.min_image_size_
        if images.image_size is not None and min(images.image_size) < images.min_size:
            raise InvalidImageError(
                f"image_size={images.image_size} is too small for patch_size={self.patch_size}, "
                f"which takes {images.min_size} pixels; choose a larger one, or smaller patches"
            )
        return [
            PatchDataset(part, self.patch_size, 1, fixed=fixed, n_jobs=self.n_jobs)
            for part, fixed in ((images, False), (validation, True))
        ]

    def _prepare_export(self):
        self.net_.module_ = self.net_.module_.folded()

    def _fit_on_patches(
        self,
        patches,
        module,
        criterion,
        *,
        n_patches=None,
        stage=None,
        callbacks=(),
        **settings,
    ):
        """Train a module; over all epochs `n_patches` are drawn of each image."""
        n_patches = -(-(n_patches or self.n_patches) // self.max_epochs)
        settings = {
            **net_settings(self, PatchDataset, stage=stage, keep_best=True),
            **settings,
        }
        settings["callbacks"] = [*callbacks, *settings["callbacks"]]
        net = AnomalyNet(module, criterion, optimizer=torch.optim.Adam, **settings)
        net.fit_on(*(part.drawing(n_patches) for part in patches))
        # Whole images are convolved faster this way, small patches are not.
        net.module_.to(memory_format=torch.channels_last)
        return net


class PatchLoss(nn.Module):
    """Mean squared error over the part of the patches that is reconstructed."""

    def forward(self, reconstruction, x):
        """The loss; both are (n, C, h, w), the second with the rim that the first lacks."""
        rim = (x.shape[2] - reconstruction.shape[2]) // 2
        return F.mse_loss(reconstruction, F.pad(x, [-rim] * 4))
