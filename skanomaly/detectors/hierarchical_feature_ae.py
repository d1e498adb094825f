"""Hierarchical feature reconstruction (HFR-AE): Chen et al., arXiv 2405.09148."""

from __future__ import annotations

from numbers import Real

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..backbones import FeatureDataset
from ..maps import normalized_residual
from ..training import AnomalyNet, net_settings
from ._feature_detector import FrozenFeatureDetector


class HierarchicalDecoder(nn.Module):
    """Reconstruct every level of a feature pyramid from its coarsest one.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's levels, finest first.
    width : float, default=1.0
        Channels inside a level, as a multiple of the level's own.
    negative_slope : float, default=0.1
        Of the leaky ReLUs.
    """

    def __init__(self, channels, width=1.0, negative_slope=0.1):
        super().__init__()
        coarse_to_fine = list(reversed(channels))
        inputs = [coarse_to_fine[0], *coarse_to_fine]
        self.levels = nn.ModuleList(
            _level(c_in, max(1, round(width * c)), c, negative_slope)
            for c_in, c in zip(inputs, coarse_to_fine)
        )

    def forward(self, f_enc):
        """Reconstruct a batch of pyramids.

        Parameters
        ----------
        f_enc : sequence of tensor, each (n, c_k, h_k, w_k)
            The encoder's features, finest first; of all but the coarsest only
            the size is used.

        Returns
        -------
        tuple of tensor
            f_dec, of the same shapes.
        """
        f, f_dec = f_enc[-1], []
        for level, target in zip(self.levels, reversed(f_enc)):
            if f_dec:
                f = F.interpolate(f, target.shape[2:], mode="nearest")  # eq. 4
            f = level(f)  # eq. 3
            f_dec.append(f)
        return tuple(reversed(f_dec))


def _level(c_in, c_hidden, c_out, negative_slope):
    """Convolutions 1x1, 3x3, 1x1 with batch norm and leaky ReLU, then one more 1x1."""
    blocks = []
    for c, kernel in ((c_in, 1), (c_hidden, 3), (c_hidden, 1)):
        blocks += [
            nn.Conv2d(c, c_hidden, kernel, padding="same", bias=False),
            nn.BatchNorm2d(c_hidden),
            nn.LeakyReLU(negative_slope),
        ]
    return nn.Sequential(*blocks, nn.Conv2d(c_hidden, c_out, 1))


class HierarchicalFeatureLoss(nn.Module):
    """Mean over positions of each level's residual, mean over levels (eqs. 7-8)."""

    def forward(self, f_dec, f_enc):
        """The loss of reconstructed features, given the encoder's; a scalar in [0, 2]."""
        L_k = [normalized_residual(e, d).mean() for e, d in zip(f_enc, f_dec, strict=True)]
        return torch.stack(L_k).mean()


class HierarchicalFeatureAE(FrozenFeatureDetector):
    r"""Detect defects where a pyramid of pretrained features cannot be reconstructed.

    A frozen encoder gives features of three levels; a decoder learns, on images
    of good parts, to reconstruct all of them from the coarsest. Where it fails,
    the image differs from what was learnt [1]_. One forward pass an image.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        Encoder, a network of timm that gives a feature pyramid. The paper uses
        ResNet-18 and WideResNet-50-2; the default needs no download.
    weights : "imagenet", path or None, default="imagenet"
        The encoder's weights, see :class:`~skanomaly.backbones.FeaturePyramid`.
    layers : sequence of int, default=(1, 2, 3)
        Levels, finest first. (1, 2, 3) are a ResNet's first three stages, as in
        the paper.
    width : float, default=1.0
        Channels inside the decoder's levels, as a multiple of the level's own.
        Not stated in the paper.
    negative_slope : float, default=0.1
        Of the leaky ReLUs. The paper's.
    level_weights : {"area", "equal"}, default="area"
        Weight of a level's residual in the map. "area" is the paper's
        :math:`1 / (w_k h_k)`, which favours the coarse levels; "equal" is 1.
    image_size : int, (int, int) or None, default=256
        Height and width that the network sees; None keeps each image's own, and
        then all training images must share one size. Not stated in the paper.
    value_range : (float, float) or None, default=None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    smoothing : float, default=4.0
        Standard deviation of the map's Gaussian, in pixels of the network's
        input. The paper's.
    score_reduction : {"max", "mean", "sum"}, default="max"
        From map to score. The paper's is "max".
    contamination : float in (0, 0.5), default=0.05
        Share of new normal images that may be called anomalous; sets `offset_`.
    validation_fraction : float in (0, 1), default=0.2
        Share of the images that is kept out of training, for the threshold and
        for early stopping.
    max_epochs : int, default=60
        Not stated in the paper.
    lr : float, default=0.4
        Learning rate of SGD at the start. The paper's.
    momentum : float, default=0.9
        The paper's.
    weight_decay : float, default=1e-4
        The paper's.
    lr_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" lets the rate fall to zero over the epochs. Not stated in the
        paper.
    train_batch_size : int, default=2
        Images a step of training. Not stated in the paper.
    batch_size : int, default=8
        Images that pass the networks at once, outside training; it changes time
        and memory, not results.
    callbacks : list of skorch callbacks or None, default=None
        Further ones, such as `skorch.callbacks.EarlyStopping`.
    checkpoint : path or None, default=None
        File that keeps the state of the training after each epoch. A fit that
        finds it there goes on from it, to the same result as without the
        interruption, and removes it at the end. Needs an int as `random_state`.
    memory : joblib.Memory, path or None, default=None
        Where the encoder's features are kept between fits, by image; what makes
        a search over the decoder's settings cheap.
    engine : {"auto", "onnx", "torch"}, default="auto"
        What runs the encoder on a CPU.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images, the decoder's start and the batches.
    verbose : int, default=0
        1 shows a progress bar, 2 prints the losses of each epoch.

    Attributes
    ----------
    encoder_ : FeaturePyramid
        The frozen encoder.
    net_ : AnomalyNet
        The trained decoder (`net_.module_`) and its history (`net_.history`).
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
    skanomaly.backbones.FeaturePyramid : The encoder.

    Notes
    -----
    With features :math:`f_{enc}^k` of the encoder and :math:`f_{dec}^k` of the
    decoder at level k, the residual is

    .. math:: \phi_k = \tfrac12 \left\lVert
              \frac{f_{enc}^k}{\lVert f_{enc}^k \rVert_2} -
              \frac{f_{dec}^k}{\lVert f_{dec}^k \rVert_2}
              \right\rVert_2^2,

    the loss its mean over positions and levels, and the map

    .. math:: f_a = G_\sigma\Big(\sum_k \mathrm{Resize}\big(
              \tfrac{1}{w_k h_k} \phi_k\big)\Big).

    The decoder's input at a level is the reconstructed feature of the coarser
    level, upsampled to the nearest neighbour. Training is by SGD and without
    augmentation, so the encoder's features are computed once.

    References
    ----------
    .. [1] H. Chen, P. Chen, H. Mao, M. Jiang, "A Hierarchically Feature
           Reconstructed Autoencoder for Unsupervised Anomaly Detection",
           arXiv:2405.09148, 2024.

    Examples
    --------
    >>> from skanomaly import HierarchicalFeatureAE
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", split="train", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> detector = HierarchicalFeatureAE(max_epochs=2, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    _parameter_constraints: dict = {
        **FrozenFeatureDetector._parameter_constraints,
        "width": [Interval(Real, 0, None, closed="neither")],
        "negative_slope": [Interval(Real, 0, None, closed="left")],
        "level_weights": [StrOptions({"area", "equal"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        backbone="tf_efficientnet_lite0",
        weights="imagenet",
        layers=(1, 2, 3),
        width=1.0,
        negative_slope=0.1,
        level_weights="area",
        image_size=256,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        max_epochs=60,
        lr=0.4,
        momentum=0.9,
        weight_decay=1e-4,
        lr_schedule="cosine",
        train_batch_size=2,
        batch_size=8,
        callbacks=None,
        checkpoint=None,
        memory=None,
        engine="auto",
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layers = layers
        self.width = width
        self.negative_slope = negative_slope
        self.level_weights = level_weights
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.max_epochs = max_epochs
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.lr_schedule = lr_schedule
        self.train_batch_size = train_batch_size
        self.batch_size = batch_size
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.memory = memory
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _maps_of_features(self, f_enc):
        """phi_k of each level, (n, h_k, w_k), weighted for the sum of eqs. 9-10."""
        f_dec = self.net_.module_(f_enc)
        phi = [normalized_residual(e, d) for e, d in zip(f_enc, f_dec, strict=True)]
        if self.level_weights == "equal":
            return phi
        return [phi_k / (phi_k.shape[1] * phi_k.shape[2]) for phi_k in phi]

    def _make_net(self, levels):
        return AnomalyNet(
            HierarchicalDecoder,
            HierarchicalFeatureLoss,
            module__channels=self.encoder_.channels,
            module__width=self.width,
            module__negative_slope=self.negative_slope,
            optimizer=torch.optim.SGD,
            optimizer__momentum=self.momentum,
            optimizer__weight_decay=self.weight_decay,
            **net_settings(self, FeatureDataset),
        )
