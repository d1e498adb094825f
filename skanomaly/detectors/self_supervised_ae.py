"""Self-supervised filtering: Bauer et al., arXiv 2206.11723."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..base import BaseImageDetector, stack
from ..synthesis import CorruptionDataset, DefectGenerator
from ..training import TRAINING_CONSTRAINTS, AnomalyNet, net_settings, use_bfloat16


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
    stride : int, default=4
        Pixels between neighbouring positions of the inner grid.
    skip : bool, default=True
        Add the network's output to its input.
    """

    def __init__(
        self, n_channels, width=64, depth=4, dilations=(1, 2, 4, 8, 16, 32), stride=4, skip=True
    ):
        super().__init__()
        self.stride, self.skip = stride, skip
        self.stem = nn.Conv2d(n_channels, width, stride + 2, stride, padding=1)
        self.blocks = nn.Sequential(
            *(StackedDilatedConvolutions(width, dilations) for _ in range(depth))
        )
        self.head = nn.Conv2d(width, n_channels * stride**2, 3, padding=1)
        if skip:  # training starts from the identity
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x):
        """Filter a batch.

        Parameters
        ----------
        x : tensor, shape (n, C, H, W), float32 in [0, 1]
            Any size; it is continued by reflection to a multiple of the stride.

        Returns
        -------
        tensor, shape (n, C, H, W), float32
        """
        height, width = x.shape[2:]
        padded = reflect_to_multiple(x, self.stride)
        f = F.gelu(self.stem(padded - 0.5))  # (n, width, H / stride, W / stride)
        y = F.pixel_shuffle(self.head(self.blocks(f)), self.stride).float()
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


class SelfSupervisedAE(BaseImageDetector):
    r"""Detect defects as what a filter, trained on artificial ones, takes out of an image.

    A fully convolutional network learns to give back images of good parts from
    copies onto which defects were drawn: it keeps what is normal and replaces
    what is not, in effect a projection onto the normal images [1]_. What it
    changes is the map. One forward pass an image; no pretrained weights.

    Parameters
    ----------
    width : int, default=64
        Channels inside the network. Not stated in the sources at hand, as are
        `depth` and everything below for which nothing is said.
    depth : int, default=4
        Blocks of stacked dilated convolutions.
    dilations : sequence of int, default=(1, 2, 4, 8, 16, 32)
        Of the parallel convolutions in each block, in units of `stride` pixels;
        what gives the network its reach. The paper's, as far as known.
    stride : int, default=4
        Pixels between neighbouring positions inside the network.
    skip : bool, default=True
        Let the network compute what is to be added to the image rather than the
        image. It then starts as the identity and learns faster.
    defects : DefectGenerator or None, default=None
        What draws the defects; None means ``DefectGenerator()``. With
        ``DefectGenerator(opacity=(0, 0))`` nothing is drawn.
    mask_weight : float in [0, 1], default=0.05
        :math:`\lambda`, the loss's weight on what lies within the defects. The less,
        the better normal pixels are kept.
    crop_size : int or None, default=None
        Side in pixels of the random squares it is trained on; None means whole
        images, which must then share one size.
    image_size : int, (int, int) or None, default=256
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
        for early stopping.
    max_epochs : int, default=25
    lr : float, default=1e-3
        Learning rate of Adam at the start.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" lets the rate fall to zero over the epochs.
    train_batch_size : int, default=1
        Images a step of training.
    batch_size : int, default=8
        Images that pass the network at once, outside training.
    callbacks : list of skorch callbacks or None, default=None
        Further ones, such as `skorch.callbacks.EarlyStopping`.
    checkpoint : path or None, default=None
        File that keeps the state of the training after each epoch. A fit that
        finds it there goes on from it, to the same result as without the
        interruption, and removes it at the end. Needs an int as `random_state`.
    mixed_precision : "auto" or bool, default="auto"
        Train in bfloat16 where that is safe. "auto" does on CUDA devices that
        have it.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images, the network's start, the batches and the
        defects.
    verbose : int, default=0
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    net_ : AnomalyNet
        The trained network (`net_.module_`) and its history (`net_.history`).
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
        Smallest height and width, in pixels, that can be scored.

    See Also
    --------
    skanomaly.synthesis.DefectGenerator : What the defects are.

    Notes
    -----
    A normal image x is corrupted in a region M, and the network g minimises

    .. math:: \frac{1 - \lambda}{|1 - M|} \lVert (1 - M) (g(x_c) - x) \rVert^2
              + \frac{\lambda}{|M|} \lVert M (g(x_c) - x) \rVert^2 .

    The map is :math:`G_\sigma(\lVert g(x) - x \rVert^2)`, the square averaged
    over channels.

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

    _parameter_constraints: dict = {
        **BaseImageDetector._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        "width": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "dilations": [tuple, list],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "skip": ["boolean"],
        "defects": [DefectGenerator, None],
        "mask_weight": [Interval(Real, 0, 1, closed="both")],
        "crop_size": [Interval(Integral, 1, None, closed="left"), None],
        "mixed_precision": ["boolean", StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        width=64,
        depth=4,
        dilations=(1, 2, 4, 8, 16, 32),
        stride=4,
        skip=True,
        defects=None,
        mask_weight=0.05,
        crop_size=None,
        image_size=256,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=25,
        lr=1e-3,
        lr_schedule="cosine",
        train_batch_size=1,
        batch_size=8,
        callbacks=None,
        checkpoint=None,
        mixed_precision="auto",
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.width = width
        self.depth = depth
        self.dilations = dilations
        self.stride = stride
        self.skip = skip
        self.defects = defects
        self.mask_weight = mask_weight
        self.crop_size = crop_size
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
        self.mixed_precision = mixed_precision
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def reconstruct(self, X):
        """The images as the network filters them.

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
        return stack(self._images_through(self.net_.module_, images), len(images))

    def _fit_images(self, images, validation):
        self.min_image_size_ = images.min_size = self.stride
        generator = DefectGenerator() if self.defects is None else self.defects
        part = {"crop_size": self.crop_size, "n_jobs": self.n_jobs}
        train = CorruptionDataset(images, generator, **part)
        held_out = CorruptionDataset(validation, generator, train, fixed=True, **part)

        def prepare_batch(x, seeds, sources):
            x_c, M, _ = generator.draw(x, seeds.tolist(), sources)
            return x_c.contiguous(memory_format=torch.channels_last), (x, M)

        self.net_ = self._make_net(prepare_batch).fit_on(train, held_out)

    def _compute_maps(self, pixels):
        x = pixels.contiguous(memory_format=torch.channels_last)
        return (self.net_.module_(x) - x).square().mean(dim=1)

    def _make_net(self, prepare_batch):
        return AnomalyNet(
            FilterNet,
            FilteringLoss,
            module__n_channels=self.n_channels_in_,
            module__width=self.width,
            module__depth=self.depth,
            module__dilations=self.dilations,
            module__stride=self.stride,
            module__skip=self.skip,
            criterion__mask_weight=self.mask_weight,
            prepare_batch=prepare_batch,
            mixed_precision=use_bfloat16(self.mixed_precision, self._device),
            optimizer=torch.optim.Adam,
            **net_settings(self, CorruptionDataset, warmup=0.05),
        )
