"""Multiresolution knowledge distillation (MKD): Salehi et al., arXiv 2011.11108."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval
from ._differentiable import differentiable
from ._student_detector import Lessons, StudentDetector

# That gradients are taken to have at least, so that of images without any the map is even.
LEAST_GRADIENT = 1e-12


class SmallStudent(nn.Module):
    """A convolutional network, much smaller than the teacher, with the same levels.

    Parameters
    ----------
    n_channels : int
        Of the images.
    channels, strides : sequence of int
        Of the teacher's levels, finest first.
    hidden_ratio : float
        Channels inside the network at a level, as a multiple of the level's own.
    """

    def __init__(self, n_channels, channels, strides, hidden_ratio=1.0):
        super().__init__()
        self.strides = tuple(strides)
        hidden = [n_channels, *(max(1, round(hidden_ratio * c)) for c in channels)]
        ratios = [b / a for a, b in zip([1, *strides], strides)]
        self.stages = nn.ModuleList(
            _stage(*sizes, round(math.log2(ratio)))
            for *sizes, ratio in zip(hidden, hidden[1:], ratios)
        )
        self.heads = nn.ModuleList(nn.Conv2d(h, c, 1) for h, c in zip(hidden[1:], channels))

    def forward(self, x):
        """Features of images (n, C, H, W), of each level (n, c_k, h_k, w_k)."""
        f, levels = x.contiguous(memory_format=torch.channels_last), []
        for stage, head, stride in zip(self.stages, self.heads, self.strides):
            f = stage(f)
            levels.append(_of_size(head(f), [-(-n // stride) for n in x.shape[2:]]))
        return levels


def _stage(c_in, c_out, n_halvings):
    """3x3 convolutions, each but the last of which halves the grid."""
    layers = []
    for stride in (*[2] * n_halvings, 1):
        layers += [
            nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        ]
        c_in = c_out
    return nn.Sequential(*layers)


def _of_size(f, size):
    """Features on the teacher's grid, whose stride may be no power of two."""
    return f if list(f.shape[2:]) == size else F.interpolate(f, size, mode="bilinear")


class DistillationLoss(nn.Module):
    r"""Of each image: how far features are from the teacher's, in value and in direction.

    .. math:: \sum_k \frac{\lVert t_k - s_k \rVert^2}{N_k v_k} +
              \lambda \Big(1 - \frac{t_k \cdot s_k}{\lVert t_k \rVert \lVert s_k \rVert}\Big)

    Parameters
    ----------
    mean_squares : sequence of float
        v_k, by which the values of each level are measured.
    direction_weight : float
        :math:`\lambda`.
    """

    def __init__(self, mean_squares, direction_weight):
        super().__init__()
        self.mean_squares, self.direction_weight = list(mean_squares), direction_weight

    def of_images(self, s, t):
        """The losses (n,) of a student's features, given the teacher's."""
        total = 0.0
        for s_k, t_k, v_k in zip(s, t, self.mean_squares, strict=True):
            s_k, t_k = s_k.float().flatten(1), t_k.flatten(1)
            value = (t_k - s_k).square().mean(dim=1) / v_k
            direction = 1 - F.cosine_similarity(t_k, s_k, dim=1)
            total = total + value + self.direction_weight * direction
        return total

    def forward(self, s, t):
        """Their mean."""
        return self.of_images(s, t).mean()


class MKD(StudentDetector):
    r"""Detect defects as images that a small student sees otherwise than its pretrained teacher.

    A student much smaller than the teacher learns, on images of good parts, to give the
    same values at several levels, and in the same direction. The loss of a new image is
    its score, and the gradient of that loss to the image shows which pixels it comes
    from [1]_.

    Parameters
    ----------
    backbone : str
        Teacher, a network of timm. The paper's is a VGG-16.
    layers : sequence of int
        Levels that are compared. The paper compares the outputs of four of VGG-16's stages.
    direction_weight : float
        Weight of the directions in the loss. It is not known to be the paper's.
    hidden_ratio : float
        Channels inside the student at a level, as a multiple of the level's own. It has
        one convolution a level, and one for each time that its grid is halved.
    n_noisy : int
        Copies of an image, each with noise of its own, over which the gradient is averaged
        (SmoothGrad [2]_); 0 takes that of the image itself. Each costs a pass forwards and
        one backwards.
    noise : float
        Standard deviation of that noise, where white is 1.
    score_reduction : {"max", "mean", "sum"} or float in (0, 1]
        From map to score. The mean of the map is the image's loss, which is the paper's
        score.
    max_epochs : int
        The state of the lowest validation loss is kept. It is not known to be the paper's,
        nor are `lr` and `train_batch_size`.
    lr : float
        Learning rate of Adam at the start.

    Attributes
    ----------
    mean_squares_ : list of float
        Mean square of each level's features in the training images.

    See Also
    --------
    STFPM : A student of the teacher's own size, and a map without gradients.

    Notes
    -----
    With :math:`N_k` values :math:`t_k` of the teacher and :math:`s_k` of the student at
    level k of an image x, the loss is

    .. math:: L(x) = \sum_k \frac{\lVert t_k - s_k \rVert^2}{N_k v_k} + \lambda
              \Big(1 - \frac{t_k \cdot s_k}{\lVert t_k \rVert \lVert s_k \rVert}\Big),

    where :math:`\lambda` is `direction_weight`, and :math:`v_k`, `mean_squares_`, brings
    levels of any network to one scale, for which the paper's has no need. The map is

    .. math:: L(x) \, g / \overline{g}, \quad g = \sum_c \Big\lvert
              \Big\langle \frac{\partial L}{\partial x_c} (x + \varepsilon)
              \Big\rangle_\varepsilon \Big\rvert ,

    so that its mean over the network's pixels is the loss: smoothing keeps it, and
    resizing to the image's own size nearly. The gradient leads through both networks. The
    noise is the same for all images. A morphological opening, a further step of the paper,
    is left out: several noisy copies leave it little to do.

    A fit holds the images and the teacher's features: 1.4 MiB an image of 256 x 256 with
    the default network; in a temporary file, where either takes more than 4 GiB.

    References
    ----------
    .. [1] M. Salehi, N. Sadjadi, S. Baselizadeh, M. H. Rohban,
           H. R. Rabiee, "Multiresolution Knowledge Distillation for Anomaly Detection",
           CVPR 2021, arXiv:2011.11108.
    .. [2] D. Smilkov, N. Thorat, B. Kim, F. Viegas, M. Wattenberg, "SmoothGrad: removing
           noise by adding noise", arXiv:1706.03825, 2017.

    Examples
    --------
    >>> from skanomaly import MKD
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("gravel", n_normal=10, image_size=64, random_state=0).images
    >>> detector = MKD(max_epochs=2, image_size=64, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 64, 64)
    """

    direction_weight: float = parameter(1.0, Interval(Real, 0, None, closed="left"))
    hidden_ratio: float = parameter(1.0, Interval(Real, 0, None, closed="neither"))
    n_noisy: int = parameter(4, Interval(Integral, 0, None, closed="left"), affects="scores")
    noise: float = parameter(0.02, Interval(Real, 0, None, closed="left"), affects="scores")
    score_reduction = "mean"
    max_epochs = 50
    lr = 5e-3

    _not_exportable = "its map is a gradient, which an ONNX model does not compute"

    def _net_on(self, levels):
        self.mean_squares_ = [max(1e-12, float(f.square().mean())) for f in levels]
        return self._make_net(
            SmallStudent,
            DistillationLoss,
            Lessons,
            keep_best=True,
            module__n_channels=self.n_channels_in_,
            module__channels=self.encoder_.channels,
            module__strides=self.encoder_.strides,
            module__hidden_ratio=self.hidden_ratio,
            criterion__mean_squares=self.mean_squares_,
            criterion__direction_weight=self.direction_weight,
            optimizer=torch.optim.Adam,
        )

    def _compute_maps(self, pixels):
        losses, gradients = self._losses_and_gradients(pixels)
        magnitudes = gradients.abs().sum(dim=1) + LEAST_GRADIENT
        shares = magnitudes / magnitudes.mean(dim=(1, 2), keepdim=True)
        return losses[:, None, None] * shares

    def _losses_and_gradients(self, pixels):
        """Of images (n, C, H, W): their losses (n,), and the mean gradient of noisy copies."""
        loss = DistillationLoss(self.mean_squares_, self.direction_weight)
        student, teacher = self.net_.module_, self.encoder_.network
        gradients = torch.zeros_like(pixels)
        for noise in self._noises(pixels):
            with differentiable(pixels + noise) as x:
                losses = loss.of_images(student(x), teacher(x))
                (gradient,) = torch.autograd.grad(losses.sum(), x)
            gradients += gradient / max(1, self.n_noisy)
        with torch.no_grad():
            return loss.of_images(student(pixels), self.encoder_(pixels)), gradients

    def _noises(self, pixels):
        """The same for all images: what a copy of each is to have, (C, H, W)."""
        if self.n_noisy == 0:
            return [0.0]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(self.n_noisy, *pixels.shape[1:], generator=generator)
        return self.noise * drawn.to(pixels.device)
