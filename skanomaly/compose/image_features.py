"""Images to a table of pooled features, for all that scikit-learn has for tables."""

from __future__ import annotations

import os
from numbers import Integral, Real

import numpy as np
import torch
from joblib import Memory
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._device import resolve_device
from .._modules import on_cpu, place
from .._parameters import DeclaredParameters, parameter
from .._sklearn import HasMethods, Interval, Numbers, StrOptions
from ..features import FeaturePyramid
from ..images import ImageDataset
from ._rows import POOLINGS, pooled


class ImageFeatures(DeclaredParameters, TransformerMixin, BaseEstimator):
    """Turn images into a table of pretrained features, one row for each image.

    Each column is a feature of a level of a pretrained network, pooled over all
    positions: the first step of pipelines that end in any of scikit-learn's estimators
    for tables. Nothing is learnt; `fit` opens the network for the images' channels.

    Parameters
    ----------
    backbone : str
        timm network. The default's weights are installed with the package; those of
        others, such as "resnet18", are downloaded once.
    weights : "imagenet", path or None
        Its weights, see :class:`~skanomaly.features.FeaturePyramid`.
    layers : sequence of int
        Levels of the pyramid, finest first. (1, 2, 3) are a ResNet's first three stages.
    pooling : {"mean", "max"}
        What is taken of a feature's values at all positions.
    image_size : int, (int, int) or None
        Height and width that the network sees, to which images are resized; None keeps
        each image's own.
    value_range : (float, float) or None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    batch_size : int
        Images that go through the network at once; it changes time and memory, not results.
    engine : {"auto", "onnx", "torch"}
        What runs the network on a CPU, see `FeaturePyramid`.
    memory : joblib.Memory, path or None
        Where features are kept between calls, by image.
    device : str or torch.device
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None
        Threads that read images.

    Attributes
    ----------
    encoder_ : FeaturePyramid
        The pretrained network.
    n_channels_in_ : int
        Channels of the images seen in `fit`.

    See Also
    --------
    FeatureOutlierDetector : An outlier detector on features, with maps and a threshold.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import OneClassSVM
    >>> from skanomaly import ImageFeatures
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=12, random_state=0).images
    >>> ImageFeatures(image_size=64).fit_transform(X).shape
    (12, 176)
    >>> pipeline = make_pipeline(ImageFeatures(image_size=64), StandardScaler(), OneClassSVM())
    >>> pipeline.fit(X).score_samples(X[:3]).shape
    (3,)
    """

    backbone: str = parameter("tf_efficientnet_lite0", str)
    weights: str | os.PathLike | None = parameter("imagenet", str, os.PathLike, None)
    layers: tuple[int, ...] = parameter((1, 2, 3), Numbers(Integral, 0, ascending=True))
    pooling: str = parameter("mean", StrOptions(set(POOLINGS)))
    image_size: int | tuple[int, int] | None = parameter(
        256, Interval(Integral, 1, None, closed="left"), Numbers(Integral, 1, length=2), None
    )
    value_range: tuple[float, float] | None = parameter(
        None, Numbers(Real, -np.inf, length=2, ascending=True), None
    )
    batch_size: int = parameter(8, Interval(Integral, 1, None, closed="left"))
    engine: str = parameter("auto", StrOptions({"auto", "onnx", "torch"}))
    memory: Memory | str | os.PathLike | None = parameter(
        None, str, os.PathLike, HasMethods("cache"), None
    )
    device: str | torch.device = parameter("auto", str, torch.device)
    n_jobs: int | None = parameter(None, Integral, None)

    def fit(self, X, y=None):
        """Open the network for images of as many channels as the first has.

        Parameters
        ----------
        X : array, or sequence of arrays, PIL images or paths, or ImageFiles
            An array (n, H, W) or (n, H, W, C) of uint8, uint16 or float in [0, 1], or a
            sequence of such images, which may differ in size.
        y : object, default=None
            Not used.

        Returns
        -------
        self

        Raises
        ------
        InvalidImageError
            If `X` is no batch of images, or the first cannot be used.
        """
        self._validate_params()
        resolve_device(self.device)  # a wrong one is an error before images are read
        images = self._open(X, None)
        encoder = FeaturePyramid(
            self.backbone,
            self.layers,
            self.weights,
            n_channels=images.n_channels,
            engine=self.engine,
            memory=self.memory,
        )
        encoder.require_size(images)
        self.encoder_, self.n_channels_in_ = encoder, images.n_channels
        return self

    def transform(self, X):
        """Pooled features of each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, n_features_out), float32
            In the order of `get_feature_names_out`; a data frame, if `set_output` asks
            for one.

        Raises
        ------
        InvalidImageError
            If an image cannot be used; it names the image.
        """
        check_is_fitted(self)
        images = self._open(X, self.n_channels_in_)
        encoder, device, rows = self.encoder_, resolve_device(self.device), []
        encoder.require_size(images)
        place([encoder], device)
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                rows.append(pooled(encoder(pixels.to(device)), self.pooling).cpu().numpy())
        return np.concatenate(rows)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns: the level and the number of a feature in it.

        Parameters
        ----------
        input_features : object, default=None
            Not used.

        Returns
        -------
        ndarray of str objects, shape (n_features_out,)
            Such as "layer2_17".
        """
        check_is_fitted(self)
        levels = zip(self.encoder_.network.layers, self.encoder_.channels)
        return np.array([f"layer{k}_{i}" for k, n in levels for i in range(n)], dtype=object)

    def _open(self, X, n_channels):
        return ImageDataset(
            X, image_size=self.image_size, value_range=self.value_range, n_channels=n_channels
        )

    def __getstate__(self):
        return {name: on_cpu(value) for name, value in super().__getstate__().items()}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever images are
        return tags
