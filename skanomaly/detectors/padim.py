"""PaDiM: Defard, Setkov, Loesch, Audigier, arXiv 2011.08785."""

from __future__ import annotations

import copy
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from ..regions import Regions
from ._feature_detector import FeatureDetector


class PositionwiseGaussian(nn.Module):
    """A Gaussian for each position, from a stream of batches, and the distance to it.

    Parameters
    ----------
    n_positions, d : int
    regularization : float, default=0.01
        Added to the diagonal of each covariance.
    shrinkage : "auto" or float in [0, 1], default="auto"
        Share of the covariance that is replaced by the multiple of the identity
        of equal trace. "auto" is the oracle approximating shrinkage: much for few
        vectors, and the less the more there are.

    Attributes
    ----------
    n_seen : int
    mean : tensor, shape (n_positions, d), float32
    scatter : tensor, shape (n_positions, d, d), float32
        Sum of the outer products of the deviations from the mean.
    """

    def __init__(self, n_positions, d, regularization=0.01, shrinkage="auto"):
        super().__init__()
        self.regularization, self.shrinkage = regularization, shrinkage
        self.n_seen = 0
        self.register_buffer("mean", torch.zeros(n_positions, d))
        self.register_buffer("scatter", torch.zeros(n_positions, d, d))
        self._whitening = None

    def update(self, x):
        """Take vectors (n, n_positions, d) into account.

        The mean and scatter of what was seen and of the batch are merged (Chan,
        Golub, LeVeque, 1983), which is as exact as a pass over all at once.
        """
        n = len(x)
        mean = x.mean(dim=0)
        delta = mean - self.mean
        between = (self.n_seen * n / (self.n_seen + n)) ** 0.5 * delta
        deviations = torch.cat([x - mean, between[None]]).transpose(0, 1)  # (n_positions, n + 1, d)
        self.scatter.baddbmm_(deviations.transpose(1, 2), deviations)
        self.n_seen += n
        self.mean += n / self.n_seen * delta
        self._whitening = None

    def covariance(self, positions=slice(None)):
        """Regularised covariances of some positions, (n_positions, d, d)."""
        sigma = self.scatter[positions] / max(1, self.n_seen - 1)
        diagonal = sigma.diagonal(dim1=1, dim2=2)
        mu = diagonal.mean(dim=1, keepdim=True)
        rho = self.shrinkage
        if rho == "auto":
            rho = _oas(sigma, self.n_seen)
        sigma *= 1 - torch.as_tensor(rho, device=sigma.device).view(-1, 1, 1)
        diagonal += rho * mu + self.regularization
        return sigma

    def forward(self, x):
        """Mahalanobis distances (n, n_positions) of vectors (n, n_positions, d)."""
        if self._whitening is None:
            parts = torch.arange(len(self.mean), device=self.mean.device).split(256)
            self._whitening = torch.cat([_whitening(self.covariance(part)) for part in parts])
        deviations = (x - self.mean).permute(1, 2, 0)  # (n_positions, d, n)
        return torch.bmm(self._whitening, deviations).norm(dim=1).T

    def _apply(self, fn, *args, **kwargs):
        if self._whitening is not None:
            self._whitening = fn(self._whitening)
        return super()._apply(fn, *args, **kwargs)

    def __getstate__(self):
        return {**super().__getstate__(), "_whitening": None}  # as large as the scatter it is of


def _whitening(covariance):
    """W with W' W the covariance's inverse: the inverse of its Cholesky factor."""
    try:
        cholesky = torch.linalg.cholesky(covariance)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            "the covariance of some position is singular in single precision; raise "
            "regularization or shrinkage, or fit on more images"
        ) from error
    identity = torch.eye(covariance.shape[1], device=covariance.device)
    return torch.linalg.solve_triangular(cholesky, identity, upper=False)


def _oas(sigma, n):
    """Oracle approximating shrinkage of covariances (m, d, d) from n vectors each, (m, 1).

    Chen, Wiesel, Eldar, Hero, "Shrinkage Algorithms for MMSE Covariance
    Estimation", IEEE TSP 58(10), 2010, in the form that scikit-learn's `oas` has.
    """
    d = sigma.shape[1]
    alpha = sigma.square().mean(dim=(1, 2))
    mu_squared = sigma.diagonal(dim1=1, dim2=2).mean(dim=1).square()
    rho = (alpha + mu_squared) / ((n + 1) * (alpha - mu_squared / d)).clamp(min=1e-30)
    return rho.clamp(max=1)[:, None]


class PaDiM(FeatureDetector):
    """Detect defects as features that are unlikely where they are: a Gaussian for each position.

    Features of several layers of a pretrained network, on one grid, are modelled
    by a multivariate Gaussian for each position of the grid; the Mahalanobis
    distance to it is the map [1]_. Nothing is trained: one pass over the images,
    in memory that does not grow with their number. For parts that are always
    seen in the same place.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        timm network whose pretrained features are used. The paper's best is
        ``"wide_resnet50_2"``, its fastest ``"resnet18"``.
    weights : "imagenet", path or None, default="imagenet"
        See `FeaturePyramid`.
    layers : sequence of int, default=(1, 2, 3)
        Levels of the pyramid; coarser ones are repeated on the finest's grid.
    dim : int or None, default=100
        Features used at each position, drawn at random from those of all layers;
        None uses all. The paper's is 100 for ResNet-18.
    regularization : float, default=0.01
        Added to the diagonal of each covariance; the paper's.
    shrinkage : "auto" or float in [0, 1], default="auto"
        How far each covariance is drawn towards a multiple of the identity.
        "auto" is the oracle approximating shrinkage, a share that falls with the
        number of images: without it, distances of new images are inflated until
        that number is several times `dim`. The paper shrinks nothing (0.0).
    image_size : int, (int, int) or None, default=256
        Height and width that the network sees; None keeps each image's own,
        which must then be one.
    value_range : (float, float) or None, default=None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    smoothing : float, default=4.0
        Standard deviation of the map's Gaussian, in pixels of the network's
        input; the paper's.
    score_reduction : {"max", "mean", "sum"}, default="max"
        From map to score.
    contamination : float in (0, 0.5), default=0.05
        Share of new normal images that may be called anomalous; sets `offset_`.
    validation_fraction : float in (0, 1), default=0.2
        Share of the images that is kept out of the Gaussians, for the threshold.
    batch_size : int, default=16
        Images that pass the network at once.
    memory : joblib.Memory, path or None, default=None
        Where features are kept between fits.
    engine : {"auto", "onnx", "torch"}, default="auto"
        What runs the network on a CPU; see `FeaturePyramid`.
    device : str or torch.device, default="auto"
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Decides the validation images and the features that are drawn.
    verbose : int, default=0
        Has no effect.

    Attributes
    ----------
    encoder_ : FeaturePyramid
        The pretrained network.
    channels_ : list of ndarray of int
        The features drawn, of each layer.
    gaussian_ : PositionwiseGaussian
        Means and scatter matrices.
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.
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

    References
    ----------
    .. [1] T. Defard, A. Setkov, A. Loesch, R. Audigier, "PaDiM: a Patch
           Distribution Modeling Framework for Anomaly Detection and
           Localization", arXiv:2011.08785, 2020.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> detector = PaDiM(image_size=128, random_state=0).fit(train.images[:12])
    >>> detector.partial_fit(train.images[12:]).gaussian_.n_seen
    16
    >>> detector.transform(train.images[:2]).shape
    (2, 128, 128)
    """

    _parameter_constraints: dict = {
        **FeatureDetector._parameter_constraints,
        "dim": [Interval(Integral, 1, None, closed="left"), None],
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        backbone="tf_efficientnet_lite0",
        weights="imagenet",
        layers=(1, 2, 3),
        dim=100,
        regularization=0.01,
        shrinkage="auto",
        image_size=256,
        value_range=None,
        smoothing=4.0,
        score_reduction="max",
        contamination=0.05,
        validation_fraction=0.2,
        batch_size=16,
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
        self.dim = dim
        self.regularization = regularization
        self.shrinkage = shrinkage
        self.image_size = image_size
        self.value_range = value_range
        self.smoothing = smoothing
        self.score_reduction = score_reduction
        self.contamination = contamination
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.memory = memory
        self.engine = engine
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def partial_fit(self, X, y=None, *, roi=None):
        """Take further normal images into account.

        The Gaussians become those of all images so far. `validation_fraction` of
        the new ones is kept out, rounded (none of one or two by default), and
        their scores join those that set the threshold. Earlier scores stay as they
        were under the Gaussians of their time, so a threshold from a first fit on
        few images lags behind; then fit anew. If it fails, the detector stays as it
        was. The first call is `fit`.

        Parameters
        ----------
        X : batch of images
            As for `fit`; one is enough.
        y : None
            Ignored.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self
        """
        if not hasattr(self, "gaussian_"):
            return self.fit(X, roi=roi)
        self._validate_params()
        images = self._open(X)
        regions = Regions(roi, len(images))
        order = check_random_state(self.random_state).permutation(len(images))
        n_held_out = min(round(self.validation_fraction * len(images)), len(images) - 1)
        updated = copy.copy(self)
        updated.gaussian_ = copy.deepcopy(self.gaussian_)
        updated._update(images.subset(np.sort(order[n_held_out:])))
        if n_held_out:
            held_out = images.subset(np.sort(order[:n_held_out]))
            updated._add_validation(
                updated._map_batches(held_out), regions.subset(held_out.indices)
            )
        vars(self).update(vars(updated))
        return self

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        size = tuple(images[0].shape[1:])
        self.required_size_ = size if self.image_size is None else None
        for part in (images, validation):
            part.required_size = self.required_size_
        self.channels_ = self._draw_channels()
        _, d, height, width = self._embed(images[0][None].to(self._device)).shape
        self.gaussian_ = PositionwiseGaussian(
            height * width, d, self.regularization, self.shrinkage
        ).to(self._device)
        self._update(images)

    def _update(self, images):
        self._place(self._device)
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                f = self._embed(pixels.to(self._device))
                self.gaussian_.update(f.flatten(2).transpose(1, 2))

    def _compute_maps(self, pixels):
        f = self._embed(pixels)
        return self.gaussian_(f.flatten(2).transpose(1, 2)).view(f.shape[0], *f.shape[2:])

    def _draw_channels(self):
        """Which features are used, of each level."""
        n = sum(self.encoder_.channels)
        if self.dim is not None and self.dim > n:
            raise ValueError(
                f"dim={self.dim} exceeds the {n} features that layers {tuple(self.layers)} of "
                f"{self.backbone} have; choose a smaller one, or None for all"
            )
        drawn = torch.randperm(n)[: self.dim].sort().values.numpy()
        ends = np.cumsum(self.encoder_.channels)
        starts = ends - self.encoder_.channels
        return [drawn[(drawn >= s) & (drawn < e)] - s for s, e in zip(starts, ends)]

    def _embed(self, pixels):
        """The drawn features on the finest level's grid, (n, d, h, w)."""
        levels = self.encoder_(pixels)
        size = levels[0].shape[2:]
        drawn = [f[:, torch.from_numpy(c)] for f, c in zip(levels, self.channels_) if len(c)]
        return torch.cat([F.interpolate(f, size, mode="nearest") for f in drawn], dim=1)
