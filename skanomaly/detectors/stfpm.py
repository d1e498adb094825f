"""Student-teacher feature pyramid matching (STFPM): Wang et al., arXiv 2103.04257."""

from __future__ import annotations

from numbers import Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..features import FeaturePyramid
from ..maps import normalized_residual
from ._student_detector import Lessons, StudentDetector


class Student(nn.Module):
    """A network of the teacher's architecture that learns from its random start.

    Parameters
    ----------
    pyramid : FeaturePyramid
        Without weights; it is then nobody else's.
    """

    def __init__(self, pyramid):
        super().__init__()
        pyramid.tune()
        pyramid.network.body.to(memory_format=torch.channels_last)
        self.pyramid = pyramid

    def train(self, mode=True):
        """As PyTorch's, and normalise by a batch's own statistics meanwhile."""
        super().train(mode)
        if not self.pyramid.network.is_shared:
            self.pyramid.network.body.train(mode)
        return self

    def forward(self, x):
        """Features of images (n, C, H, W), of each level (n, c_k, h_k, w_k)."""
        return self.pyramid(x.contiguous(memory_format=torch.channels_last))


class PyramidMatchingLoss(nn.Module):
    """Each level's residual, averaged over positions, summed over levels (eqs. 1-3)."""

    def forward(self, f_s, f_t):
        """The loss of a student's features, given the teacher's."""
        return sum(normalized_residual(t, s).mean() for t, s in zip(f_t, f_s, strict=True))


class STFPM(StudentDetector):
    level_reduction: str = parameter("product", StrOptions({"product", "sum"}), affects="scores")
    standardize = "position"
    max_epochs = 30
    lr = 0.4
    momentum: float = parameter(0.9, Interval(Real, 0, 1, closed="left"), affects="training")
    weight_decay: float = parameter(
        1e-4, Interval(Real, 0, None, closed="left"), affects="training"
    )

    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        self.net_.module_.pyramid.freeze()

    def _net_on(self, levels):
        student = FeaturePyramid(
            self.backbone,
            self.layers,
            weights=None,
            n_channels=self.n_channels_in_,
            engine=self.engine,
        )
        return self._make_net(
            Student(student),
            PyramidMatchingLoss,
            Lessons,
            keep_best=True,
            optimizer=torch.optim.SGD,
            optimizer__momentum=self.momentum,
            optimizer__weight_decay=self.weight_decay,
        )

    def _compute_maps(self, pixels):
        f_t, f_s = self.encoder_(pixels), self.net_.module_(pixels)
        residuals = [normalized_residual(t, s) for t, s in zip(f_t, f_s, strict=True)]
        if self.level_reduction == "sum":
            return residuals
        size = pixels.shape[2:]
        of_size = [F.interpolate(phi[:, None], size, mode="bilinear")[:, 0] for phi in residuals]
        return torch.stack(of_size).prod(dim=0)
