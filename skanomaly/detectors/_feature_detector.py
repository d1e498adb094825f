"""What the detectors on pretrained features share: the network, and training on what it gives."""

from __future__ import annotations

import os
from numbers import Integral

import numpy as np
import torch
from joblib import Memory

from .._parameters import parameter
from .._sklearn import HasMethods, Numbers, StrOptions
from ..base import BaseImageDetector
from ..features import FeaturePyramid, as_rows, level_scales
from ._trained_detector import TrainedDetector

# Images that tell the levels' scales.
N_FOR_SCALE = 64


class FeatureDetector(BaseImageDetector):
    """Base of the detectors on the features of a pretrained network.

    Parameters
    ----------
    backbone : str
        timm network that gives a feature pyramid. The default's weights are installed
        with the package; those of others, such as "resnet18", are downloaded once.
    weights : "imagenet", path or None
        Its weights, see :class:`~skanomaly.features.FeaturePyramid`.
    layers : sequence of int
        Levels of the pyramid, finest first. (1, 2, 3) are a ResNet's first three stages;
        a vision transformer's are its blocks, from 0, see `FeaturePyramid`.
    image_size : int, (int, int) or None
        Height and width that the network sees; None keeps each image's own, and
        then all training images must share one size.
    engine : {"auto", "onnx", "torch"}
        What runs the network on a CPU, see `FeaturePyramid`.

    Attributes
    ----------
    encoder_ : FeaturePyramid
        The pretrained network.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored.
    """

    backbone: str = parameter("tf_efficientnet_lite0", str)
    weights: str | os.PathLike | None = parameter("imagenet", str, os.PathLike, None)
    layers: tuple[int, ...] = parameter((1, 2, 3), Numbers(Integral, 0, ascending=True))
    engine: str = parameter("auto", StrOptions({"auto", "onnx", "torch"}), affects="nothing")

    def _open_encoder(self, images, validation):
        """Set the pretrained network, which images must be large enough for."""
        self.encoder_ = FeaturePyramid(
            self.backbone,
            self.layers,
            self.weights,
            n_channels=images.n_channels,
            engine=self.engine,
            memory=getattr(self, "memory", None),  # drawn defects are never seen again
        ).to(self._device)
        self._need_size(max(self.encoder_.strides), images, validation)

    def _levels_of(self, images):
        levels = self._batches_through(lambda pixels: self.encoder_(pixels), images)
        return (f for f, _ in levels)

    def _scales_of(self, images, joined):
        """What brings each level of some images' features, as `joined` joins them, to one scale."""
        some = np.unique(np.linspace(0, len(images) - 1, N_FOR_SCALE).astype(int))
        rows = (as_rows(joined(levels)) for levels in self._levels_of(images.subset(some)))
        return level_scales(rows, self.encoder_.channels)


class CachedFeatureDetector(FeatureDetector):
    """Base of those whose features are of the images as they are, and so worth keeping.

    Parameters
    ----------
    memory : joblib.Memory, path or None
        Where features are kept between fits, by image; what makes a search over
        all that comes after them cheap.
    """

    memory: Memory | str | os.PathLike | None = parameter(
        None, str, os.PathLike, HasMethods("cache"), None, affects="nothing"
    )


class FrozenFeatureDetector(TrainedDetector, CachedFeatureDetector):
    """Base of those that train a network on features that are computed once.

    A method implements ``_net_on(levels)``, the net to be trained on features
    of the training images, and ``_maps_of_features(levels)``, a batch's maps.
    """

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        f_train, f_validation = (
            self.encoder_.extract(part, self.batch_size, self.n_jobs)
            for part in (images, validation)
        )
        self.net_ = self._net_on(f_train.levels).fit_on(f_train, f_validation)
        return self._validation_maps(f_validation)

    def _compute_maps(self, pixels):
        return self._maps_of_features(self.encoder_(pixels))

    def _validation_maps(self, features):
        self._place(self._device)
        for levels, sizes in features.batches(self.batch_size):
            with torch.inference_mode():
                maps = self._maps_of_features([f.to(self._device) for f in levels])
            yield maps, sizes

    def _net_on(self, levels):
        raise NotImplementedError("a detector implements _net_on")

    def _maps_of_features(self, levels):
        raise NotImplementedError("a detector implements _maps_of_features")
