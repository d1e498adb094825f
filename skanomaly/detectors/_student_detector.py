"""What the detectors share whose student learns from images what a pretrained teacher sees."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from ._feature_detector import CachedFeatureDetector
from ._trained_detector import MixedPrecisionDetector


class Lessons(Dataset):
    """Images, and the features of a teacher, computed once, that a student is to find in them.

    Parameters
    ----------
    images : sequence of tensor, each (C, H, W)
    features : FeatureDataset
    """

    def __init__(self, images, features):
        self.images, self.features = images, features
        self.digest = features.digest

    def __len__(self):
        return len(self.features)

    def __getitems__(self, indices):
        return torch.stack([self.images[i] for i in indices]), self.features[
            torch.as_tensor(indices)
        ]

    @staticmethod
    def collate(lesson):
        """A batch, which `__getitems__` has put together, as skorch's (input, target)."""
        return lesson


class StudentDetector(MixedPrecisionDetector, CachedFeatureDetector):
    """Base of those that compare a pretrained teacher with a student that knows good parts alone.

    A method implements ``_net_on(levels)``, the net whose module makes features like
    ``levels``, the teacher's of the training images, from images, and ``_compute_maps``.
    During a fit images and features are in memory, or in a file where either takes more
    than 4 GiB.
    """

    def _fit_images(self, images, validation):
        self._open_encoder(images, validation)
        lessons = [
            Lessons(
                part.in_memory(self.batch_size, self.n_jobs),
                self.encoder_.extract(part, self.batch_size, self.n_jobs),
            )
            for part in (images, validation)
        ]
        self.net_ = self._net_on(lessons[0].features.levels).fit_on(*lessons)

    def _net_on(self, levels):
        raise NotImplementedError("a detector implements _net_on")
