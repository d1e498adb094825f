"""What the detectors on pretrained features share: the network, and training on what it gives."""

from __future__ import annotations

import os

import torch
from sklearn.utils._param_validation import HasMethods, StrOptions

from ..backbones import FeaturePyramid
from ..base import BaseImageDetector
from ..training import TRAINING_CONSTRAINTS


class FeatureDetector(BaseImageDetector):
    """Base of the detectors on the features of a pretrained network."""

    _parameter_constraints: dict = {
        **BaseImageDetector._parameter_constraints,
        "backbone": [str],
        "weights": [str, os.PathLike, None],
        "layers": [tuple, list],
        "memory": [str, os.PathLike, HasMethods("cache"), None],
        "engine": [StrOptions({"auto", "onnx", "torch"})],
    }

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
        self.min_image_size_ = max(self.encoder_.strides)
        for part in (images, validation):
            self.encoder_.require_size(part)


class FrozenFeatureDetector(FeatureDetector):
    """Base of those that train a network on features that are computed once.

    A method implements ``_make_net(levels)``, the net to be trained on features
    of the training images, and ``_maps_of_features(levels)``, a batch's maps.
    """

    _parameter_constraints: dict = {
        **FeatureDetector._parameter_constraints,
        **TRAINING_CONSTRAINTS,
    }

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        f_train, f_validation = (
            self.encoder_.extract(part, self.batch_size, self.n_jobs)
            for part in (images, validation)
        )
        self.net_ = self._make_net(f_train.levels).fit_on(f_train, f_validation)
        return self._validation_maps(f_validation)

    def _compute_maps(self, pixels):
        return self._maps_of_features(self.encoder_(pixels))

    def _validation_maps(self, features):
        self._place(self._device)
        for levels, sizes in features.batches(self.batch_size):
            with torch.inference_mode():
                maps = self._maps_of_features([f.to(self._device) for f in levels])
            yield maps, sizes

    def _make_net(self, levels):
        raise NotImplementedError("a detector implements _make_net")

    def _maps_of_features(self, levels):
        raise NotImplementedError("a detector implements _maps_of_features")
