"""Which of the images are learnt from, and which set the threshold."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_random_state

from ._holdout import (
    ENOUGH,
    folds_in_turn,
    hold_out,
    hold_out_in_turn,
    until_enough,
    warn_of_duplicates,
    warn_of_learnt,
)
from ._random import drawing_from
from ._validation import image_labels
from .exceptions import InvalidImageError
from .images import Regions

# Where an image is seen, in pixels from the corner of itself with a border of one.
SHIFTS = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)


class HoldsOut:
    """The part of a detector that keeps images out of training, and has the others learnt from.

    The other parts implement ``_open``, ``_fit_images(images, validation)``, which may return
    the maps of the second ones, ``_raw_map_batches(images)`` and ``_judge_by(maps, regions)``.
    """

    def _fit(self, X, y, roi, groups, X_val):
        images, regions, groups = self._normal_images(X, y, roi, groups)
        random_state = check_random_state(self.random_state)
        # Drawn first, so that it does not depend on the number of images.
        seed = int(random_state.randint(2**31 - 1))
        self.n_channels_in_ = images.n_channels
        if X_val is not None:
            validation = self._open(X_val, images.n_channels)
            warn_of_learnt(images, validation)
            of_validation = regions.for_others(validation)
        elif self.cv is not None:
            self._require(len(images) > 1, len(images))
            folds = folds_in_turn(len(images), self.cv, groups, random_state)
            self._fit_in_turn(images, regions, folds, seed)
            return
        elif self._holds_out_in_turn and self.validation_fraction * len(images) < ENOUGH:
            folds = hold_out_in_turn(len(images), self.validation_fraction, groups, random_state)
            self._fit_in_turn(images, regions, until_enough(folds), seed)
            return
        else:
            self._require(len(images) > 1, len(images))
            held_out = hold_out(len(images), self.validation_fraction, groups, random_state)
            train = np.setdiff1d(np.arange(len(images)), held_out)
            validation, of_validation = images.subset(held_out), regions.subset(held_out)
            warn_of_duplicates(images, train, held_out)
            images = images.subset(train)
        with drawing_from(torch.Generator().manual_seed(seed)):
            batches = self._fit_images(images, validation)
            self._judge_by(self._kept_maps(validation, batches), of_validation)

    def _normal_images(self, X, y, roi, groups):
        """The images that are learnt from, with their regions and groups."""
        self._device  # noqa: B018  a wrong one is an error before images are read
        images = self._open(X)
        regions = Regions.given(roi, images.X)
        if groups is not None and len(groups) != len(images):
            raise ValueError(f"groups is of length {len(groups)}, X of length {len(images)}")
        self.n_left_out_ = 0
        if y is not None:
            normal = np.flatnonzero(image_labels(y, n=len(images)) == 1)
            self.n_left_out_ = len(images) - len(normal)
            self._require(len(normal), 0)
            images, regions = images.subset(normal), regions.subset(normal)
            groups = None if groups is None else [groups[i] for i in normal]
        return images, regions, groups

    def _require(self, enough, n_images):
        if not enough:
            left_out = f" ({self.n_left_out_} more are anomalous by y)" if self.n_left_out_ else ""
            raise InvalidImageError(
                f"{type(self).__name__} was given {n_images} normal image"
                f"{'' if n_images == 1 else 's'}{left_out} and needs at least 2: one to learn from "
                "and one, kept out of training, to set the threshold; or pass images for the "
                "threshold as X_val"
            )

    def _fit_in_turn(self, images, regions, folds, seed):
        """Learn from all images, after some were held out in turn, fold by fold."""
        maps, order = [], []
        others = [np.setdiff1d(np.arange(len(images)), held_out) for held_out in folds]
        if folds:
            warn_of_duplicates(images, others[0], folds[0])
        for held_out, learnt in zip(folds, others):
            train, validation = images.subset(learnt), images.subset(held_out)
            part = self._without_fitted_state()
            part.n_channels_in_ = self.n_channels_in_
            with drawing_from(torch.Generator().manual_seed(seed)):
                maps += part._fit_images(train, validation) or part._raw_map_batches(validation)
            order += list(held_out)
        with drawing_from(torch.Generator().manual_seed(seed)):
            self._fit_images(images, images)
        if folds:
            self._judge_by(maps, regions.subset(order))
        else:
            maps, of_each = self._maps_of_shifted(images), regions.subset([0] * len(SHIFTS))
            self._judge_by(maps, of_each, provisional=True)

    def _maps_of_shifted(self, images):
        """Maps of an image and of itself moved by a pixel: the least that others differ by."""
        self._place(self._device)
        pixels, (size,) = next(images.batches(1))
        height, width = pixels.shape[2:]
        wider = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
        shifted = [wider[:, :, y : y + height, x : x + width] for y, x in SHIFTS]
        with torch.inference_mode():
            return [(self._compute_maps(torch.cat(shifted).to(self._device)), [size] * len(SHIFTS))]
