"""Student-teacher feature pyramid matching (STFPM): Wang et al., arXiv 2103.04257."""

from __future__ import annotations

from numbers import Real

import torch
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ..features import FeaturePyramid
from ..maps import normalized_residual
from ._compared_levels import ComparedLevels
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
        return sum(normalized_residual(t, s.float()).mean() for t, s in zip(f_t, f_s, strict=True))


class STFPM(StudentDetector, ComparedLevels):
    r"""Detect defects where a student's features are not those of its pretrained teacher.

    The student has the teacher's architecture and learns, on images of good parts, to
    give the same features at several levels. Of a defect, which it has never seen, it
    gives others [1]_. Two forward passes an image.

    Parameters
    ----------
    backbone : str
        Teacher, a convolutional network of timm. The paper's is ``"resnet18"``.
    layers : sequence of int
        Levels of the pyramid that are compared; the paper's.
    level_reduction : {"product", "sum"}
        How the levels' residuals, brought to one size, become one map. A "product" is high
        where all levels differ; the paper's.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian. The paper names none.
    max_epochs : int
        The state of the lowest validation loss is kept, as in the paper, whose 100 epochs
        of batches of 32 are a quarter more steps.
    lr : float
        Learning rate of SGD at the start; the paper's, as are the momentum and the weight
        decay. The paper names no schedule.
    train_batch_size : int
        Images a step of training. The paper's is 32; fewer make more steps of an epoch.
    momentum : float
        Of SGD.
    weight_decay : float
        Of SGD.

    See Also
    --------
    ReverseDistillation : A student that sees the teacher's features, not the image.

    Notes
    -----
    With features :math:`f_t^k` of the teacher and :math:`f_s^k` of the student at level k,
    the residual is

    .. math:: \phi_k = \tfrac12 \left\lVert
              \frac{f_t^k}{\lVert f_t^k \rVert_2} -
              \frac{f_s^k}{\lVert f_s^k \rVert_2}
              \right\rVert_2^2,

    the loss its mean over positions, summed over levels, and the map

    .. math:: \prod_k \mathrm{Resize}(\phi_k).

    There is no augmentation, so that the teacher's features are computed once. A fit holds
    them and the images as the networks see them: 1.4 MiB an image of 256 x 256 with the
    default network, 2.5 MiB with ``"resnet18"``; in a temporary file, where either takes
    more than 4 GiB.

    References
    ----------
    .. [1] G. Wang, S. Han, E. Ding, D. Huang, "Student-Teacher Feature Pyramid Matching
           for Anomaly Detection", arXiv:2103.04257, 2021.

    Examples
    --------
    >>> from skanomaly import STFPM
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("gravel", n_normal=10, image_size=64, random_state=0).images
    >>> detector = STFPM(max_epochs=2, image_size=64, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 64, 64)
    """

    standardize = "position"
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
        return self._compared(self.encoder_(pixels), self.net_.module_(pixels))
