"""What the detectors share that learn from pretrained features in one pass, and can grow."""

from __future__ import annotations

import torch

from ..growing import GrowingDetector
from ._feature_detector import CachedFeatureDetector


class OnePassDetector(CachedFeatureDetector, GrowingDetector):
    """Base of the detectors that see the features of each training image once.

    A method implements

    ``_begin(images, validation)``
        Set up what is learnt; `encoder_` is there.
    ``_take(levels)``
        Take a batch's features into account.
    ``_settle()``
        Do what is due when all were taken; nothing by default.
    ``_maps_of_features(levels)``
        A batch's maps from its features.
    ``_absorb(others)``
        As of `GrowingDetector`; ``_grown`` names the attributes that change.

    Parameters
    ----------
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`.  At an image's border, beyond which a
        network sees nothing, features differ from image to image more than elsewhere, which
        "position" makes good.
    """

    batch_size = 16
    standardize = "position"

    _holds_out_in_turn = True

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        self._begin(images, validation)
        self._learn(images)
        self.n_images_ = len(images)

    def _learn(self, images):
        self._place(self._device)
        for levels in self._levels_of(images):
            self._take(levels)
        self._settle()

    def _example_of(self, images):
        """The features of the first image."""
        with torch.inference_mode():
            return self.encoder_(images[0][None].to(self._device))

    def _compute_maps(self, pixels):
        return self._maps_of_features(self.encoder_(pixels))

    def _kind_of_state(self):
        network = {"pretrained network": self.encoder_.network.digest}
        return super()._kind_of_state() | network

    def _begin(self, images, validation):
        raise NotImplementedError("a detector implements _begin")

    def _take(self, levels):
        raise NotImplementedError("a detector implements _take")

    def _settle(self):
        pass

    def _maps_of_features(self, levels):
        raise NotImplementedError("a detector implements _maps_of_features")
