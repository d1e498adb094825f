"""Detectors for tables: rows of numbers that are flattened images."""

from __future__ import annotations

import math
import warnings
from dataclasses import MISSING
from numbers import Integral

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    OutlierMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from .._parameters import DeclaredParameters, parameter
from .._sklearn import HasMethods, Interval, StrOptions
from ..calibration import verdicts

# Of the range seen in `fit`: the more, the less contrast is left to what lies within.
_MARGIN = 0.5


class FlattenedImages(
    DeclaredParameters,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    TransformerMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Let a detector of images work on rows that are flattened images.

    As `sklearn.datasets.fetch_openml` gives them, data frames hold them and most
    tools for tables expect them: one image a row, one pixel a column.

    Parameters
    ----------
    detector : detector of images
        Is cloned, not fitted itself.
    image_shape : "auto", (int, int) or (int, int, int)
        Height, width and, if there are several, channels of the images, in the
        order in which the pixels of a row follow each other. "auto" takes the rows
        for grey images, square if the number of columns allows for it; if not, as
        nearly square as it does, with a warning.
    value_range : (float, float) or None
        Values that mean black and white, which no row may leave. None is the
        detector's own. Where that is None too, rows seen in `fit` set the range, and
        rows to be scored may leave it, as anomalies do: black and white lie half of
        it below and above, and what is farther out counts as black or white.
    min_side : int
        Smaller images are enlarged, each pixel to a square of several, so that
        neither side is smaller than this.

    Attributes
    ----------
    detector_ : detector of images
        The fitted one.
    image_shape_ : tuple of int
        Height, width and, if there are several, channels.
    stated_range_ : (float, float) or None
        What `value_range`, or the detector's own, says of black and white.
    value_range_ : (float, float)
        Values that mean black and white: those stated, or those that lie half the
        range seen in `fit` below and above it.
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    n_features_in_ : int
        Columns seen in `fit`.
    feature_names_in_ : ndarray of str, shape (n_columns,)
        Their names, if `fit` saw a data frame with names.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skanomaly import FlattenedImages, PaDiM
    >>> X, y = load_digits(return_X_y=True)
    >>> padim = PaDiM(image_size=64, n_features=10, random_state=0)
    >>> detector = FlattenedImages(padim, value_range=(0, 16))
    >>> detector.fit(X[y == 0][:40]).predict(X[y == 1][:3])
    array([-1, -1, -1])
    """

    detector: object = parameter(
        MISSING, HasMethods(["fit", "transform", "score_samples"]), kw_only=False
    )
    image_shape: str | tuple[int, ...] = parameter("auto", StrOptions({"auto"}), tuple, list)
    value_range: tuple[float, float] | None = parameter(None, tuple, list, None)
    min_side: int = parameter(64, Interval(Integral, 1, None, closed="left"))

    def fit(self, X, y=None):
        """Fit a clone of the detector on rows that are images of good parts.

        Parameters
        ----------
        X : array or data frame, shape (n, n_features)
            Numbers, within `value_range` if there is one.
        y : array-like of int, shape (n,), or None, default=None
            Rows that are -1, anomalous, are left out where all others are +1. Anything
            else is ignored, as by scikit-learn's outlier detectors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the rows cannot be images of `image_shape`, or an image cannot be used.
        """
        self._validate_params()
        X = validate_data(self, X, dtype="numeric", ensure_min_samples=2)
        self.image_shape_ = self._shape_of(X.shape[1])
        self.stated_range_ = self._stated_range()
        self.value_range_ = self.stated_range_ or _wider_range(X)
        self.detector_ = clone(self.detector).set_params(value_range=self._range_of_images())
        is_outlier_label = y is not None and np.isin(np.asarray(y), (1, -1)).all()
        self.detector_.fit(self._images(X), y if is_outlier_label else None)
        self._n_features_out = math.prod(self.image_shape_[:2])
        return self

    @property
    def offset_(self):
        """Threshold on `score_samples`."""
        return self.detector_.offset_

    def transform(self, X):
        """Flattened anomaly map of each row.

        Parameters
        ----------
        X : array or data frame, shape (n, n_features)

        Returns
        -------
        ndarray, shape (n, H * W), float32
            Higher = more anomalous.
        """
        images = self._images_to_score(X)
        maps = self.detector_.transform(images)
        if (k := self._enlargement()) > 1:  # of each enlarged pixel the most anomalous part
            height, width = self.image_shape_[:2]
            maps = maps.reshape(len(maps), height, k, width, k).max(axis=(2, 4))
        return maps.reshape(len(maps), -1)

    def score_samples(self, X):
        """Score of each row: the detector's.

        Parameters
        ----------
        X : array or data frame, shape (n, n_features)

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal.
        """
        images = self._images_to_score(X)
        return self.detector_.score_samples(images)

    def decision_function(self, X):
        """Score of each row, shifted so that the threshold is 0.

        Parameters
        ----------
        X : array or data frame, shape (n, n_features)

        Returns
        -------
        ndarray, shape (n,), float64
            Negative = anomalous.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Verdict on each row.

        Parameters
        ----------
        X : array or data frame, shape (n, n_features)

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return verdicts(self.score_samples(X), self.offset_)

    def _images_to_score(self, X):
        check_is_fitted(self)
        return self._images(validate_data(self, X, dtype="numeric", reset=False))

    def _images(self, X):
        if self.stated_range_ is None:
            low, high = self.value_range_
            # In double precision, as single precision cannot tell large numbers apart.
            X = ((np.clip(X.astype(float), low, high) - low) / (high - low)).astype(np.float32)
        elif X.dtype.kind not in "bu" or X.dtype.itemsize > 2:
            X = X.astype(np.float32)  # int64 has no black and white, nor do longer unsigned ones
        images = X.reshape(len(X), *self.image_shape_)
        k = self._enlargement()
        return images.repeat(k, axis=1).repeat(k, axis=2) if k > 1 else images

    def _enlargement(self):
        return -(-self.min_side // min(self.image_shape_[:2]))

    def _shape_of(self, n_features):
        if self.image_shape != "auto":
            shape = tuple(self.image_shape)
            if len(shape) not in (2, 3) or not all(isinstance(n, Integral) for n in shape):
                raise ValueError(
                    f"image_shape={shape} is not (height, width) or (height, width, channels)"
                )
            if math.prod(shape) != n_features:
                raise ValueError(
                    f"X has {n_features} features, but image_shape={shape} takes "
                    f"{math.prod(shape)}; state the shape of the flattened images"
                )
            return shape
        height = next(h for h in range(math.isqrt(n_features), 0, -1) if n_features % h == 0)
        shape = height, n_features // height
        if shape[0] != shape[1]:
            warnings.warn(
                f"rows of {n_features} features are taken for grey images of {shape[0]} x "
                f"{shape[1]} pixels; if they are not, state image_shape",
                stacklevel=3,
            )
        return shape

    def _stated_range(self):
        given = self.value_range or self.detector.get_params(deep=False).get("value_range")
        return None if given is None else tuple(given)

    def _range_of_images(self):
        return (0, 1) if self.stated_range_ is None else self.stated_range_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # maps are float32, whatever the rows are
        return tags


def _wider_range(X):
    """The range of numbers, and half of it on either side."""
    low, high = float(X.min()), float(X.max())
    if not high > low:  # any range will do, if it can be told from nothing
        high = low + max(1.0, abs(low) / 2**20)
    margin = _MARGIN * (high - low)
    return low - margin, high + margin
