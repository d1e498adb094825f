"""Patch AE: Cui, Liu, Lian, arXiv 2308.00429."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..neighbors import PatchBank
from ..synthesis import CorruptionDataset, DefectGenerator
from ..training import TRAINING_CONSTRAINTS, AnomalyNet, net_settings, use_bfloat16
from ._feature_detector import FeatureDetector


class PatchAutoEncoder(nn.Module):
    """Represent each patch of an image by a vector, and reconstruct it from that vector alone.

    Parameters
    ----------
    channels : sequence of int
        Channels of the pyramid's levels.
    stride : int
        Side of a patch in pixels.
    n_channels : int
        Of the images.
    dim : int, default=256
        Length of a patch's vector.
    """

    def __init__(self, channels, stride, n_channels, dim=256):
        super().__init__()
        self.stride = stride
        self.encoder = nn.Sequential(
            nn.Conv2d(sum(channels), dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, n_channels * stride**2, 1)
        )
        for layer in (self.encoder[0], self.encoder[2]):  # distances are kept to begin with
            nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
            nn.init.zeros_(layer.bias)

    def encode(self, f):
        """From features on one grid (n, sum(channels), h, w) to (n, dim, h, w)."""
        return self.encoder(f)

    def decode(self, z):
        """From (n, dim, h, w) to an image (n, n_channels, h * stride, w * stride)."""
        return F.pixel_shuffle(self.decoder(z), self.stride)

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
        f = on_one_grid(self.pyramid(x), self.pyramid.strides.index(self.patches.stride))
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


class PatchAE(FeatureDetector):
    """Detect defects by patch features that were learned by reconstructing defects too.

    An auto-encoder reconstructs every patch of an image from that patch's own
    feature vector. It is trained on images of good parts with drawn defects, and
    its target holds the defects as well: what a vector has to tell is what its
    patch looks like, defect or not. Then the distance of a patch's vector from
    those of the training images is the map [1]_.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        Pretrained part of the encoder, a network of timm that gives a feature
        pyramid.
    weights : "imagenet", path or None, default="imagenet"
        Its weights, see :class:`~skanomaly.backbones.FeaturePyramid`.
    layers : sequence of int, default=(1, 2, 3)
        Levels whose features are concatenated, finest first.
    stride : int, default=8
        Side of a patch in pixels; one of the strides of `layers`.
    tune_backbone : bool, default=False
        Train the pretrained part too.
    dim : int, default=256
        Length of a patch's learned vector.
    target : {"defective", "clean"}, default="defective"
        What is to be reconstructed: the image with its drawn defects, as the
        paper's idea asks, or without.
    defects : DefectGenerator or None, default=None
        What draws the defects; None means ``DefectGenerator()``. With
        ``DefectGenerator(opacity=(0, 0))`` nothing is drawn.
    max_patches : int, default=5_000
        Vectors of training images that are kept.
    subsampling : {"k_center", "random"}, default="k_center"
        How they are chosen, see :class:`~skanomaly.neighbors.PatchBank`.
    n_neighbors : int, default=1
        Nearest ones whose distances are averaged.
    image_size : int, (int, int) or None, default=256
        Height and width that the network sees; None keeps each image's own, and
        then all training images must share one size.
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
        Share of the images that is kept out of training and memory, for the
        threshold and for early stopping.
    max_epochs : int, default=10
    lr : float, default=1e-4
        Learning rate of Adam at the start. A small one keeps the vectors close to
        the pretrained features they start from.
    backbone_lr : float, default=1e-5
        That of the pretrained part, if it is tuned.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" lets the rate fall to zero over the epochs.
    train_batch_size : int, default=8
        Images a step of training.
    batch_size : int, default=8
        Images that pass the networks at once, outside training.
    callbacks : list of skorch callbacks or None, default=None
        Further ones, such as `skorch.callbacks.EarlyStopping`.
    checkpoint : path or None, default=None
        File that keeps the state of the training after each epoch. A fit that
        finds it there goes on from it, to the same result as without the
        interruption, and removes it at the end. Needs an int as `random_state`.
    mixed_precision : "auto" or bool, default="auto"
        Train in bfloat16 where that is safe. "auto" does on CUDA devices that
        have it.
    engine : {"auto", "onnx", "torch"}, default="auto"
        What runs the pretrained part on a CPU, unless it is being tuned.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images, the networks' start, the batches, the
        defects and the memory.
    verbose : int, default=0
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    encoder_ : FeaturePyramid
        The pretrained part of the encoder.
    net_ : AnomalyNet
        The trained auto-encoder (`net_.module_`) and its history (`net_.history`).
    bank_ : PatchBank
        Vectors of the training images' patches.
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
    skanomaly.neighbors.PatchBank : The memory.

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

    _parameter_constraints: dict = {
        **FeatureDetector._parameter_constraints,
        **TRAINING_CONSTRAINTS,
        "stride": [Interval(Integral, 1, None, closed="left")],
        "tune_backbone": ["boolean"],
        "dim": [Interval(Integral, 1, None, closed="left")],
        "target": [StrOptions({"defective", "clean"})],
        "defects": [DefectGenerator, None],
        "max_patches": [Interval(Integral, 1, None, closed="left")],
        "subsampling": [StrOptions({"k_center", "random"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "backbone_lr": [Interval(Real, 0, None, closed="left")],
        "mixed_precision": ["boolean", StrOptions({"auto"})],
    }

    def __init__(
        self,
        *,
        backbone="tf_efficientnet_lite0",
        weights="imagenet",
        layers=(1, 2, 3),
        stride=8,
        tune_backbone=False,
        dim=256,
        target="defective",
        defects=None,
        max_patches=5_000,
        subsampling="k_center",
        n_neighbors=1,
        image_size=256,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=10,
        lr=1e-4,
        backbone_lr=1e-5,
        lr_schedule="cosine",
        train_batch_size=8,
        batch_size=8,
        callbacks=None,
        checkpoint=None,
        mixed_precision="auto",
        engine="auto",
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.stride = stride
        self.tune_backbone = tune_backbone
        self.dim = dim
        self.target = target
        self.defects = defects
        self.max_patches = max_patches
        self.subsampling = subsampling
        self.n_neighbors = n_neighbors
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr = backbone_lr
        self.lr_schedule = lr_schedule
        self.train_batch_size = train_batch_size
        self.batch_size = batch_size
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.mixed_precision = mixed_precision
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        if self.stride not in self.encoder_.strides:
            raise ValueError(
                f"stride={self.stride} is none of the strides {self.encoder_.strides} that layers "
                f"{tuple(self.layers)} of {self.backbone} have; choose one of these"
            )
        generator = DefectGenerator() if self.defects is None else self.defects
        train = CorruptionDataset(images, generator, n_jobs=self.n_jobs)
        held_out = CorruptionDataset(validation, generator, train, fixed=True, n_jobs=self.n_jobs)
        self.net_ = self._make_net(generator).fit_on(train, held_out)
        self.encoder_.freeze()
        self.bank_ = PatchBank(self.max_patches, self.subsampling, self.n_neighbors)
        seed = int(torch.randint(2**31, ()))
        self.bank_.fit(self._vector_batches(images), seed)

    def _compute_maps(self, pixels):
        z = self._vectors(pixels)
        distances = self.bank_.distances(_as_rows(z))
        return distances.reshape(z.shape[0], *z.shape[2:])

    def _vectors(self, pixels):
        """Unit vectors of all patches, (n, dim, h, w)."""
        return F.normalize(self._patches.encode(self._features(pixels)), dim=1)

    def _features(self, pixels):
        return on_one_grid(self.encoder_(pixels), self.encoder_.strides.index(self.stride))

    @property
    def _patches(self):
        module = self.net_.module_
        return module.patches if self.tune_backbone else module

    def _vector_batches(self, images):
        self._place(self._device)
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                yield _as_rows(self._vectors(pixels.to(self._device)))

    def _make_net(self, generator):
        def prepare_batch(x, seeds, sources):
            x_c = generator.draw(x, seeds.tolist(), sources).images
            inputs = x_c if self.tune_backbone else self._features(x_c)
            return inputs, x_c if self.target == "defective" else x

        patches = PatchAutoEncoder(
            self.encoder_.channels, self.stride, self.n_channels_in_, self.dim
        )
        module, optimizer = patches, {}
        if self.tune_backbone:
            self.encoder_.tune()
            module = TunedPatchAutoEncoder(self.encoder_, patches)
            optimizer["optimizer__param_groups"] = [("pyramid.*", {"lr": self.backbone_lr})]
        return AnomalyNet(
            module,
            PatchReconstructionLoss,
            prepare_batch=prepare_batch,
            mixed_precision=use_bfloat16(self.mixed_precision, self._device),
            optimizer=torch.optim.Adam,
            **optimizer,
            **net_settings(self, CorruptionDataset),
        )


class PatchReconstructionLoss(nn.Module):
    """Mean squared error over the pixels that the image has and the patches cover."""

    def forward(self, reconstruction, image):
        """The loss; both are (n, C, H, W), the first of a size rounded up to whole patches."""
        height, width = image.shape[2:]
        return F.mse_loss(reconstruction[:, :, :height, :width].float(), image)


def _as_rows(z):
    return z.permute(0, 2, 3, 1).flatten(0, 2)
