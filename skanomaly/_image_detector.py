"""What every detector offers, whatever it is made of."""

from __future__ import annotations

import copyreg
import warnings
from numbers import Integral
from operator import itemgetter
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from ._modules import on_cpu
from ._parameters import DeclaredParameters
from ._version import __version__
from .calibration import conformal_p_values, verdicts
from .exceptions import InvalidImageError
from .images import stack


class ImageDetector(DeclaredParameters, OutlierMixin, TransformerMixin, BaseEstimator):
    """The methods of a detector of images, in terms of a few that a subclass implements.

    ``_fit(X, y, roi, groups, X_val)``
        Learn, and set `offset_` and `validation_scores_`.
    ``_open(X)``
        The images of a batch, whose number ``len`` gives; nothing but the first is read.
    ``_maps(images, roi)``
        Yield each one's finished map, float32 (H, W), and its score, in order.
    ``_set_thresholds()``, ``_judge_anew(X, roi)``
        Set the threshold for the present `false_alarm_rate` by the scores that were kept, or by
        those of other images.
    ``_check_parameters(what)``
        Raise ValueError if a parameter that affects this was changed since it counted.
    """

    # Searches hand their groups on, so that the images of one lot are held out together.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def fit(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit the detector on images of good parts.

        If it fails or is interrupted, the detector stays as it was.

        Parameters
        ----------
        X : array, or sequence of arrays, PIL images or paths, or ImageFiles
            Normal images: an array (n, H, W) or (n, H, W, C) of uint8, uint16 or float
            in [0, 1], or a sequence of such images, which may differ in size. Two or
            more, but for methods whose fit is cheap, or with `X_val`.
        y : None, array-like of int (n,), or masks (n, H, W), default=None
            Labels, +1 normal and -1 anomalous, or masks, True where a defect is.
            Anomalous images are left out, but for methods that learn from them, too (see
            `SuperSimpleNet`); thresholds are set from normal images alone.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image. The
            threshold is set from these pixels; a method may learn from the others.
        groups : array-like (n,) or None, default=None
            What each image belongs to, such as its part, lot or camera. Images of
            one group are all learnt from or all kept out, anomalous ones then left out.
        X_val : batch of images or None, default=None
            Normal images that the threshold is set from, instead of some of `X`. A
            region for all images holds for them too.

        Returns
        -------
        self

        Raises
        ------
        InvalidImageError
            If an image, or its region, cannot be used; it names the image.

        Warns
        -----
        ThresholdWarning
            If too few images set the threshold for the rate that was asked, or
            they hardly differ from those that are learnt from.
        """
        self._validate_params()
        fitted = self._without_fitted_state()
        fitted._fit(X, y, roi, groups, X_val)
        self._become(fitted)
        return self

    def calibrate(self, X=None, *, roi=None):
        """Set the threshold anew, for the present `false_alarm_rate`.

        With images it also sets the units of maps, if `standardize` asks for such; nothing
        else changes.

        Parameters
        ----------
        X : batch of images or None, default=None
            Normal images that were not learnt from, whose scores take the place of
            those kept from `fit`. None keeps these.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self

        Warns
        -----
        ThresholdWarning
            If too few images set the threshold for the rate that was asked.

        Examples
        --------
        >>> from skanomaly import PaDiM
        >>> from skanomaly.datasets import make_texture_defects
        >>> X = make_texture_defects("brick", n_normal=100, image_size=64).images
        >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
        >>> strict = detector.offset_
        >>> bool(detector.set_params(false_alarm_rate=0.2).calibrate().offset_ > strict)
        True
        """
        self._validate_params()
        calibrated = self._as_it_is("maps", *(["scores"] if X is None else []))
        if X is None:
            calibrated._set_thresholds()
        else:
            calibrated._judge_anew(X, roi)
        self._become(calibrated)
        return self

    def transform(self, X, *, roi=None):
        """Anomaly map of each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W), float32
            Higher = more anomalous. If the images differ in size, an object
            array (n,) of 2-D maps. Outside a region it is the smallest value inside.
        """
        now = self._as_it_is()
        images = now._open(X)
        return stack((m for m, _ in now._maps(images, roi)), len(images))

    def score_samples(self, X, *, roi=None):
        """Score of each image: minus its map's reduction, raw.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal.
        """
        return self._as_it_is()._scores(X, roi)

    def decision_function(self, X, *, roi=None):
        """Score of each image, shifted so that the threshold is 0.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            ``score_samples(X) - offset_``; negative = anomalous.
        """
        now = self._as_it_is()
        return now._scores(X, roi) - now.offset_

    def predict(self, X, *, roi=None):
        """Verdict on each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        now = self._as_it_is()
        return verdicts(now._scores(X, roi), now.offset_)

    def p_values(self, X, *, roi=None):
        """Conformal p-value of each image: how rare its score is among normal images.

        If the image is as normal as those that set the threshold, its p-value is uniform
        on 1 / (n + 1), 2 / (n + 1), ..., 1, whatever the scores' distribution, n being the
        number of those: the share of p-values up to 0.05 is 5 %, or less. Only ranks count,
        so that values of different detectors may be compared.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64, in (0, 1]
            Low = anomalous. Ties with the scores kept from `fit` or `calibrate` are broken
            at random, by `random_state` if it is an int.
        """
        now = self._as_it_is()
        random_state = np.random.RandomState(now._seed_of_ties())
        return conformal_p_values(now._scores(X, roi), now.validation_scores_, random_state)

    def detect(self, X, *, roi=None):
        """Scores, verdicts and maps from one pass over the images.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        Bunch
            ``scores`` as of `score_samples`, ``labels`` as of `predict`,
            ``maps`` as of `transform`.
        """
        now = self._as_it_is()
        images, scores = now._open(X), []

        def maps_beside_scores():
            for anomaly_map, score in now._maps(images, roi):
                scores.append(score)
                yield anomaly_map

        maps = stack(maps_beside_scores(), len(images))
        scores = np.array(scores)
        return Bunch(scores=scores, labels=verdicts(scores, now.offset_), maps=maps)

    def fit_predict(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit on images, and give the verdict on each of them, also on those left out.

        Parameters
        ----------
        X, y, roi, groups, X_val : as for `fit`

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return self.fit(X, y, roi=roi, groups=groups, X_val=X_val).predict(X, roi=roi)

    def fit_transform(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit on images, and give the map of each of them, also of those left out.

        Parameters
        ----------
        X, y, roi, groups, X_val : as for `fit`

        Returns
        -------
        ndarray, shape (n, H, W), float32
        """
        return self.fit(X, y, roi=roi, groups=groups, X_val=X_val).transform(X, roi=roi)

    def stream(self, frames, *, roi=None):
        """Score images one at a time, as a camera or a queue hands them over.

        Each is scored before the next is asked for, and none is kept.

        Parameters
        ----------
        frames : iterable of images
            Arrays (H, W) or (H, W, C), PIL images or paths; without end, if need be.
        roi : array of bool, shape (H, W), or None, default=None
            Region of interest of all frames.

        Yields
        ------
        Bunch
            ``index``, the number of the frame from 0 on, and its ``score`` (float),
            ``label`` (+1 or -1) and ``map`` (float32, (H, W)).

        Raises
        ------
        InvalidImageError
            If a frame cannot be used; its ``index`` is the frame's. Another stream
            may go on with what is left of an iterator.

        Examples
        --------
        >>> from skanomaly import PaDiM
        >>> from skanomaly.datasets import make_texture_defects
        >>> frames = make_texture_defects("brick", n_normal=12, random_state=0).images
        >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(frames[:10])
        >>> for found in detector.stream(iter(frames[10:])):
        ...     print(found.index, found.map.shape)
        0 (128, 128)
        1 (128, 128)
        """
        self._as_it_is()
        return (self._frame(i, frame, roi) for i, frame in enumerate(frames))

    def _frame(self, i, frame, roi):
        now = self._as_it_is()
        try:
            ((found, score),) = now._maps(now._open([frame]), roi)
        except InvalidImageError as error:
            raise type(error)(error.reason, index=i, path=error.path) from error.__cause__
        return Bunch(index=i, score=score, label=int(verdicts(score, now.offset_)), map=found)

    def _scores(self, X, roi):
        # A loop's variable would hold each map until the next is made.
        return np.array(list(map(itemgetter(1), self._maps(self._open(X), roi))))

    def _as_it_is(self, *checked):
        """This detector at this moment, whatever another thread's fit makes of it meanwhile."""
        now = self._copied()
        check_is_fitted(now, "offset_")
        for what in checked or ("maps", "scores"):
            now._check_parameters(what)
        return now

    def _seed_of_ties(self):
        """What breaks them in p-values; no object's state may move, as scoring changes nothing."""
        return int(self.random_state) if isinstance(self.random_state, Integral) else 0

    def _copied(self):
        """Another one with the same objects as attributes."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def _without_fitted_state(self):
        """Another one with the same parameter objects and nothing that a fit has set."""
        blank = self._copied()
        blank.__dict__ = {name: value for name, value in vars(blank).items() if name[-1] != "_"}
        return blank

    def _become(self, other):
        """Take over another's state, at once for every other thread."""
        self.__dict__ = vars(other)

    def __getstate__(self):
        state = {name: on_cpu(value) for name, value in super().__getstate__().items()}
        return {**state, "_skanomaly_version": __version__}

    def __reduce_ex__(self, protocol):
        return copyreg.__newobj__, (type(self),), self.__getstate__()

    def __reduce__(self):  # skops asks for this; pickle, copy and joblib for what is above
        raise TypeError(
            f"{type(self).__name__} cannot be written by skops, which knows no neural networks: "
            'use skanomaly.save, or with MLflow serialization_format="cloudpickle"'
        )

    def __setstate__(self, state):
        written = state.pop("_skanomaly_version", "before 0.1")
        if written != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=__version__,
                    original_sklearn_version=written,
                ),
                stacklevel=2,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags
