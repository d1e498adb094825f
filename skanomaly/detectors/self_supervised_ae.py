"""Self-supervised filtering: Bauer et al., arXiv 2206.11723."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._parameters import parameter
from .._sklearn import Interval, Numbers
from ._defect_trained_detector import DefectTrainedDetector
from ._reconstruction import Reconstructs
from ._residual_detector import MIN_SIZE, ResidualDetector


class StackedDilatedConvolutions(nn.Module):
    """A residual block whose parallel 3x3 convolutions differ in dilation.

    Parameters
    ----------
    width : int
        Channels.
    dilations : sequence of int
        One branch each.
    """

    def __init__(self, width, dilations):
        super().__init__()
        branch_width = max(1, width // 4)
        self.branches = nn.ModuleList(
            nn.Conv2d(width, branch_width, 3, padding=d, dilation=d) for d in dilations
        )
        self.mix = nn.Conv2d(branch_width * len(dilations), width, 1)
        nn.init.zeros_(self.mix.weight)  # every block starts as the identity, which needs no norm
        nn.init.zeros_(self.mix.bias)

    def forward(self, f):
        """From (n, width, h, w) to the same shape."""
        return f + self.mix(F.gelu(torch.cat([branch(f) for branch in self.branches], dim=1)))


class FilterNet(nn.Module):
    """Fully convolutional network that gives back an image without its irregularities.

    Parameters
    ----------
    n_channels : int
        Of the images.
    width : int, default=64
        Channels inside.
    depth : int, default=4
        Blocks of stacked dilated convolutions.
    dilations : sequence of int, default=(1, 2, 4, 8, 16, 32)
        Of a block's branches, in positions of the inner grid.
    downsampling : int, default=4
        Pixels between neighbouring positions of the inner grid.
    skip : bool, default=True
        Add the network's output to its input.
    """

    def __init__(
        self,
        n_channels,
        width=64,
        depth=4,
        dilations=(1, 2, 4, 8, 16, 32),
        downsampling=4,
        skip=True,
    ):
        super().__init__()
        self.downsampling, self.skip = downsampling, skip
        self.stem = nn.Conv2d(n_channels, width, downsampling + 2, downsampling, padding=1)
        self.blocks = nn.Sequential(
            *(StackedDilatedConvolutions(width, dilations) for _ in range(depth))
        )
        self.head = nn.Conv2d(width, n_channels * downsampling**2, 3, padding=1)
        if skip:  # training starts from the identity
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x):
        """Filter a batch.

        Parameters
        ----------
        x : tensor, shape (n, C, H, W), float32 in [0, 1]
            Any size; it is continued by reflection to a multiple of `downsampling`.

        Returns
        -------
        tensor, shape (n, C, H, W), float32
        """
        height, width = x.shape[2:]
        padded = reflect_to_multiple(x, self.downsampling)
        f = F.gelu(self.stem(padded - 0.5))  # (n, width, H / 4, W / 4) by default
        y = F.pixel_shuffle(self.head(self.blocks(f)), self.downsampling).float()
        y = padded + y if self.skip else 0.5 + y
        return y[:, :, :height, :width]


def reflect_to_multiple(x, stride):
    """Continue images by reflection below and to the right, to multiples of `stride`.

    Parameters
    ----------
    x : tensor, shape (n, C, H, W)
    stride : int
        At most H and W.

    Returns
    -------
    tensor, shape (n, C, H + (-H) % stride, W + (-W) % stride)
    """
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % stride, 0, -height % stride), mode="reflect")


class FilteringLoss(nn.Module):
    r"""Squared error, averaged inside and outside the corrupted region by themselves.

    .. math:: \frac{1 - \lambda}{|1 - M|} \lVert (1 - M) (g(x_c) - x) \rVert^2
              + \frac{\lambda}{|M|} \lVert M (g(x_c) - x) \rVert^2

    averaged over channels and images. A region without pixels counts nothing.

    Parameters
    ----------
    mask_weight : float, default=0.5
        :math:`\lambda`.
    """

    def __init__(self, mask_weight=0.5):
        super().__init__()
        self.mask_weight = mask_weight

    def forward(self, g, target):
        """The loss of filtered images (n, C, H, W); `target` is the clean ones and M."""
        x, M = target
        error = (g - x).square().mean(dim=1)  # (n, H, W)
        M = M.to(error.dtype)
        inside = (M * error).sum(dim=(1, 2)) / M.sum(dim=(1, 2)).clamp(min=1)
        outside = ((1 - M) * error).sum(dim=(1, 2)) / (1 - M).sum(dim=(1, 2)).clamp(min=1)
        return ((1 - self.mask_weight) * outside + self.mask_weight * inside).mean()


class SelfSupervisedAE(Reconstructs, ResidualDetector, DefectTrainedDetector):
    r"""Detect defects as what a filter, trained on artificial ones, takes out of an image.

    A fully convolutional network learns to give back images of good parts from
    copies onto which defects were drawn: it keeps what is normal and replaces
    what is not, in effect a projection onto the normal images [1]_. What it
    changes is the map. One forward pass an image; no pretrained weights.

    Parameters
    ----------
    width : int
        Channels inside the network. Not stated in the sources at hand, as are
        `depth` and everything below for which nothing is said.
    depth : int
        Blocks of stacked dilated convolutions.
    dilations : sequence of int
        Of the parallel convolutions in each block, in positions of the network's
        inner grid; what gives the network its reach. The paper's, as far as known.
    downsampling : int
        Pixels between neighbouring positions of the network's inner grid.
    skip : bool
        Let the network compute what is to be added to the image rather than the
        image. It then starts as the identity and learns faster.
    mask_weight : float in [0, 1]
        :math:`\lambda`, the loss's weight on what lies within the defects. The less,
        the better normal pixels are kept.
    crop_size : int or None
        Side in pixels of the random squares it is trained on; None means whole
        images, which must then share one size.

    Attributes
    ----------
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored.

    Notes
    -----
    A normal image x is corrupted in a region M, and the network g minimises

    .. math:: \frac{1 - \lambda}{|1 - M|} \lVert (1 - M) (g(x_c) - x) \rVert^2
              + \frac{\lambda}{|M|} \lVert M (g(x_c) - x) \rVert^2 .

    The paper's map, that of ``error="squared"``, is :math:`G_\sigma(\lVert g(x) - x
    \rVert^2)`, the square averaged over channels.

    References
    ----------
    .. [1] A. Bauer, S. Nakajima, K.-R. Müller, "Self-Supervised Training with
           Autoencoders for Visual Anomaly Detection", arXiv:2206.11723;
           Mathematics 12(24), 3988, 2024.

    Examples
    --------
    >>> from skanomaly import SelfSupervisedAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> detector = SelfSupervisedAE(width=16, max_epochs=2, image_size=64, random_state=0)
    >>> detector.fit(train.images).reconstruct(train.images[:2]).shape
    (2, 128, 128)
    """

    width: int = parameter(64, Interval(Integral, 1, None, closed="left"))
    depth: int = parameter(4, Interval(Integral, 1, None, closed="left"))
    dilations: tuple[int, ...] = parameter((1, 2, 4, 8, 16, 32), Numbers(Integral, 1))
    downsampling: int = parameter(4, Interval(Integral, 1, None, closed="left"))
    skip: bool = parameter(True, "boolean")
    mask_weight: float = parameter(0.05, Interval(Real, 0, 1, closed="both"), affects="training")
    crop_size: int | None = parameter(
        None, Interval(Integral, 1, None, closed="left"), None, affects="training"
    )
    max_epochs = 50
    train_batch_size = 1

    _small_parameters = {"width": 16, "depth": 2}

    def _fit_images(self, images, validation):
        self._need_size(max(self.downsampling, MIN_SIZE), images, validation)
        self.net_ = self._train_with_defects(
            FilterNet(
                self.n_channels_in_,
                self.width,
                self.depth,
                self.dilations,
                self.downsampling,
                self.skip,
            ),
            FilteringLoss(self.mask_weight),
            images,
            validation,
            self._input_and_target,
            crop_size=self.crop_size,
            warmup=0.05,
            optimizer=torch.optim.Adam,
        )
        self._learn_residuals(images)

    @staticmethod
    def _input_and_target(generator, x, seeds, sources):
        x_c, M, _ = generator.draw(x, seeds, sources)
        return x_c.contiguous(memory_format=torch.channels_last), (x, M)

    def _version(self, pixels):
        return self.net_.module_(pixels.contiguous(memory_format=torch.channels_last))
