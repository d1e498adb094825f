"""Which of the images are learnt from, and which set the threshold."""

from __future__ import annotations

from typing import ClassVar

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
from .exceptions import InvalidImageError
from .images import MarkedImages, Marks, Regions

# Where an image is seen, in pixels from the corner of itself with a border of one.
SHIFTS = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)


class HoldsOut:
    """The part of a detector that keeps images out of training, and has the others learnt from.

    The other parts implement ``_open``, ``_fit_images(images, validation)``, which may return
    the maps of the second ones, ``_raw_map_batches(images)`` and ``_judge_by(maps, regions)``.

    One whose ``_learns_from_defects`` is true has ``_fit_images(images, validation,
    defects=None)``, and gets the images that `y` calls anomalous, a `MarkedImages`, where there
    are any.
    """

    _learns_from_defects: ClassVar[bool] = False

    def _fit(self, X, y, roi, groups, X_val):
        images, regions, groups, defects = self._sorted_images(X, y, roi, groups)
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
            self._fit_in_turn(images, regions, defects, groups, folds, seed)
            return
        elif self._holds_out_in_turn and self.validation_fraction * len(images) < ENOUGH:
            folds = hold_out_in_turn(len(images), self.validation_fraction, groups, random_state)
            self._fit_in_turn(images, regions, defects, groups, until_enough(folds), seed)
            return
        else:
            self._require(len(images) > 1, len(images))
            held_out = hold_out(len(images), self.validation_fraction, groups, random_state)
            train = np.setdiff1d(np.arange(len(images)), held_out)
            validation, of_validation = images.subset(held_out), regions.subset(held_out)
            warn_of_duplicates(images, train, held_out)
            images = images.subset(train)
            apart = _apart(defects, groups, held_out)
            self.n_left_out_ += _number(defects) - _number(apart)
            defects = apart
        self.n_defects_ = _number(defects)
        with drawing_from(torch.Generator().manual_seed(seed)):
            batches = self._learnt_from(images, validation, defects)
            self._judge_by(self._kept_maps(validation, batches), of_validation)

    def _sorted_images(self, X, y, roi, groups):
        """The normal images, with their regions and groups, and the defective ones, or None."""
        self._device  # noqa: B018  a wrong one is an error before images are read
        images = self._open(X)
        regions = Regions.given(roi, images.X)
        if groups is not None and len(groups) != len(images):
            raise ValueError(f"groups is of length {len(groups)}, X of length {len(images)}")
        self.n_left_out_ = self.n_defects_ = 0
        if y is None:
            return images, regions, groups, None
        marks = Marks.given(y, len(images))
        normal, anomalous = (np.flatnonzero(marks.labels == label) for label in (1, -1))
        self.n_left_out_ = len(anomalous)
        self._require(len(normal), 0)
        defects = None
        if len(anomalous) and self._learns_from(marks.has_masks):
            own = None if groups is None else [groups[i] for i in anomalous]
            defects = MarkedImages(images.subset(anomalous), marks.subset(anomalous), own).seen()
            self.n_left_out_ -= len(defects)
        groups = None if groups is None else [groups[i] for i in normal]
        return images.subset(normal), regions.subset(normal), groups, defects

    def _learns_from(self, has_masks):
        """Whether defective images are learnt from, of which there are masks or labels alone."""
        return self._learns_from_defects

    def _learnt_from(self, images, validation, defects):
        """What `_fit_images` gives, with marked defects where it takes them."""
        if _number(defects) and self._learns_from(defects.has_masks):
            return self._fit_images(images, validation, defects)
        return self._fit_images(images, validation)

    def _require(self, enough, n_images):
        if not enough:
            left_out = f" ({self.n_left_out_} more are anomalous by y)" if self.n_left_out_ else ""
            raise InvalidImageError(
                f"{type(self).__name__} was given {n_images} normal image"
                f"{'' if n_images == 1 else 's'}{left_out} and needs at least 2: one to learn from "
                "and one, kept out of training, to set the threshold; or pass images for the "
                "threshold as X_val"
            )

    def _fit_in_turn(self, images, regions, defects, groups, folds, seed):
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
                found = part._learnt_from(train, validation, _apart(defects, groups, held_out))
                maps += found or part._raw_map_batches(validation)
            order += list(held_out)
        self.n_defects_ = _number(defects)
        with drawing_from(torch.Generator().manual_seed(seed)):
            self._learnt_from(images, images, defects)
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


def _apart(defects, groups, held_out):
    """Defective images of other groups than those of the normal ones that are held out."""
    if defects is None or groups is None:
        return defects
    return defects.apart_from({groups[i] for i in held_out})


def _number(defects):
    return 0 if defects is None else len(defects)
