"""Detectors that go on learning, and those that were fitted elsewhere made one."""

from __future__ import annotations

import copy
from typing import ClassVar

import numpy as np
from sklearn.utils import check_random_state

from ._judging import MAX_SCORES_KEPT
from ._random import drawing_from, seeded_generator
from .base import BaseImageDetector


class GrowingDetector(BaseImageDetector):
    """Base of the detectors whose state can take in further images, and those of others.

    Beside the two hooks of `BaseImageDetector` a method implements

    ``_learn(images)``
        Take a stream of normal images, an `ImageDataset`, into account.
    ``_absorb(others)``
        Take in what other detectors of its class with equal parameters have learnt.

    Its ``_fit_images`` sets ``n_images_``. Both may change the attributes named in
    ``_grown`` in place, which are copies then. What has to be equal before others are
    absorbed is what ``_kind_of_state()`` gives.

    Attributes
    ----------
    n_images_ : int
        Images learnt from so far.
    n_before_ : ndarray, shape (n_validation,), int64
        Images that had been learnt from when each of `validation_scores_` was found; there
        after `partial_fit` alone.
    """

    _grown: ClassVar[tuple] = ()

    def partial_fit(self, X, y=None, *, roi=None):
        """Take further normal images into account.

        They are scored first, by what has not seen them, and these scores join those that
        set the threshold; then all of them are learnt from. So a stream of single images
        moves the threshold too. Scores from when less was known are rather low, so that the
        threshold lags behind and flags fewer than was asked; those from when less than half
        as many images were known are dropped. `calibrate` with images, or a new fit, sets
        the threshold and the units of maps (`standardize`) anew. If it fails, the detector
        stays as it was. The first call is `fit`.

        Parameters
        ----------
        X : batch of images
            As for `fit`; one is enough.
        y : None, labels or masks
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self
        """
        if not hasattr(self, "offset_"):
            return self.fit(X, y, roi=roi)
        self._validate_params()
        updated = self._as_it_is()
        images, regions, _, defects = updated._sorted_images(X, y, roi, None)
        updated.n_left_out_ += self.n_left_out_ + (0 if defects is None else len(defects))
        updated.n_defects_ = self.n_defects_
        updated._drop_scores_of_when_less_was_known(len(images))
        updated._add_validation(updated._map_batches(images), regions)
        updated._learn_more(images)
        self._become(updated)
        return self

    def _judge_by(self, *args, **kwargs):
        vars(self).pop("n_before_", None)  # of scores that are replaced
        super()._judge_by(*args, **kwargs)

    def _drop_scores_of_when_less_was_known(self, n_new):
        n_before = getattr(self, "n_before_", None)
        if n_before is None:  # a fit, calibrate or merge_detectors has set the scores
            n_before = np.full(len(self.validation_scores_), self.n_images_)
        kept = n_before >= (self.n_images_ + n_new) / 2
        for name in ("validation_scores_", "validation_maxima_"):
            setattr(self, name, getattr(self, name)[kept])
        earlier = n_before[:0] if self.is_provisional_ else n_before[kept]
        new = np.full(n_new, self.n_images_)
        self.n_before_ = np.append(earlier, new)[-MAX_SCORES_KEPT:]

    def _learn_more(self, images):
        self._grow(lambda: self._learn(images))
        self.n_images_ += len(images)

    def _take_over(self, others):
        self._grow(lambda: self._absorb(others))
        self.n_images_ += sum(other.n_images_ for other in others)

    def _grow(self, change):
        for name in self._grown:
            setattr(self, name, copy.deepcopy(getattr(self, name)))
        # A generator object is the caller's, and each update draws other numbers.
        seed = check_random_state(copy.deepcopy(self.random_state)).randint(2**31 - 1)
        random_state = np.random.RandomState([seed, self.n_images_])
        with drawing_from(seeded_generator(random_state)):
            change()

    def _learn(self, images):
        raise NotImplementedError("a detector that grows implements _learn")

    def _absorb(self, others):
        raise NotImplementedError("a detector that grows implements _absorb")

    def _pool_units(self, states):
        """Take the units of maps of all images that set those of states, one's own among them."""
        if self.standardize is not None:
            moments = [(state.map_mean_, state.map_deviation_) for state in states]
            self.map_mean_, self.map_deviation_ = pooled_moments(moments, n_judged_by(states))

    def _kind_of_state(self):
        """What must be equal of detectors that are merged, by what it is called."""
        return {
            "number of channels of the images": self.n_channels_in_,
            "size of the images": getattr(self, "required_size_", None),
        }


def merge_detectors(detectors):
    """One detector from several that were fitted elsewhere, with equal parameters.

    What it has learnt is what one fit on all their images would have: exactly so for
    Gaussians and subspaces, and for memories a choice of patches from all of theirs. The
    scores that set their thresholds set its own, and the units of their maps
    (`standardize`) are pooled; each is of a detector that had seen less, so that it flags
    rather fewer than was asked until `calibrate` with images.

    Parameters
    ----------
    detectors : sequence of detectors
        Fitted, of one class that has `partial_fit`. None of them is changed.

    Returns
    -------
    detector
        With the first one's parameters.

    Raises
    ------
    ValueError
        If one differs from the first in its class, in a parameter that its state depends
        on (`random_state` aside), in the pretrained network or in the channels drawn; it
        says which, and in what.

    Examples
    --------
    >>> from skanomaly import PaDiM, merge_detectors
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=40, image_size=64).images
    >>> line = PaDiM(image_size=64, n_features=10, random_state=0)
    >>> one, other = line.fit(X[:20]), PaDiM(**line.get_params()).fit(X[20:])
    >>> merge_detectors([one, other]).gaussian_.n_seen
    40
    """
    if isinstance(detectors, BaseImageDetector):
        raise ValueError("merge_detectors takes a list of detectors: merge_detectors([a, b])")
    detectors = list(detectors)
    if not detectors:
        raise ValueError("there are no detectors to merge; pass one or more")
    for i, detector in enumerate(detectors):
        if not hasattr(detector, "partial_fit") or not isinstance(detector, GrowingDetector):
            raise ValueError(
                f"detector {i} is a {type(detector).__name__}, whose state cannot be merged; "
                "those can that have partial_fit"
            )
    states = [detector._as_it_is() for detector in detectors]
    merged, *others = states
    for i, other in enumerate(others, start=1):
        _check_mergeable(i, other, merged)
    told = [state for state in states if not state.is_provisional_] or states
    _check_units(told, states)
    merged._take_over(others)
    merged._pool_units(told)
    for name in ("validation_scores_", "validation_maxima_"):
        scores = np.concatenate([getattr(state, name) for state in told])
        setattr(merged, name, scores[-MAX_SCORES_KEPT:])
    vars(merged).pop("n_before_", None)
    merged.is_provisional_ = told[0].is_provisional_
    merged.n_left_out_ = sum(state.n_left_out_ for state in states)
    merged._set_thresholds()
    return merged


def n_judged_by(states):
    """How many images set the units of each one's maps."""
    return np.array([len(state.validation_scores_) for state in states], float)


def pooled_moments(moments, weights):
    """Mean and deviation of all, from pairs (mean, deviation), arrays, of as many each."""
    means, deviations = zip(*moments)
    shape = np.broadcast_shapes(*map(np.shape, means))
    means, variances = (
        np.stack([np.broadcast_to(a, shape) for a in arrays])
        for arrays in (means, map(np.square, deviations))
    )
    mean = np.average(means, axis=0, weights=weights)
    variance = np.average(variances + np.square(means - mean), axis=0, weights=weights)
    return mean, np.sqrt(variance)


def _check_mergeable(i, other, first):
    if type(other) is not type(first):
        raise ValueError(
            f"detector {i} is a {type(other).__name__}, detector 0 a {type(first).__name__}; merge "
            "those of one class"
        )
    own, expected = (_settings(detector) | detector._kind_of_state() for detector in (other, first))
    differing = [name for name in expected if own.get(name) != expected[name]]
    if differing:
        name = differing[0]
        raise ValueError(
            f"detector {i} has another {name} than detector 0: {_short(own.get(name))} and "
            f"{_short(expected[name])}; fit all with the same"
        )


def _check_units(told, states):
    if told[0].standardize != "position":
        return
    shapes = {state.map_mean_.shape: states.index(state) for state in reversed(told)}
    if len(shapes) > 1:
        (shape, i), (other, j), *_ = shapes.items()
        raise ValueError(
            f"maps of detectors {i} and {j} are standardised at {shape} and {other} positions, of "
            "images of other sizes; set image_size, or standardize to 'global' or None"
        )


def _settings(detector):
    found = detector._parameters_that_affect("maps", "scores", "training")
    return {
        name: tuple(v) if isinstance(v, list) else v
        for name, v in found.items()
        if name.rpartition("__")[2] != "random_state"
    }


def _short(value):
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."
