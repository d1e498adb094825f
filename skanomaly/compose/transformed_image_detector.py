"""A detector behind a transformer of images, whose maps are of the original images."""

from __future__ import annotations

from dataclasses import MISSING

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._image_detector import ImageDetector
from .._parameters import parameter
from .._sklearn import HasMethods
from .._validation import image_labels
from ..images import Marks, Regions, check_images
from ._placed_images import PlacedImages, PlacedMarks, PlacedRegions
from ._wrapping import asked_of, check_unchanged, kind_of, with_parameters_of


def _grows(estimator):
    return hasattr(estimator.detector, "partial_fit")


class TransformedImageDetector(ImageDetector):
    """Let a detector see transformed images, and give its maps on the original ones.

    The transformer learns from the normal images, and the detector from what it makes of them.
    Regions of interest are taken to the transformed images, and maps are brought back, so that
    `roi`, masks, maps and regions found in them are all in the coordinates of the original
    images, whatever size and place the detector sees them in. A `Pipeline` cannot do that: its
    maps are of what its last step sees.

    Parameters
    ----------
    transformer : transformer of images
        Of `skanomaly.preprocessing`, or a `Pipeline` of such, or another one that keeps pixels in
        their places. It is cloned.
    detector : detector of images
        It is cloned. All that concerns scores and thresholds is its own, such as
        ``detector__false_alarm_rate``.

    Attributes
    ----------
    transformer_ : transformer
        The fitted one.
    detector_ : detector
        The fitted one. What it has found can be asked of the composite, too.
    offset_ : float
        Its threshold on `score_samples`: what lies below is anomalous.

    See Also
    --------
    skanomaly.preprocessing : The transformers.
    TiledDetector : Parts of large images in full resolution.

    Notes
    -----
    Pixels of the original image that the transformer drops get the smallest value of the map.
    Pixels that it makes up, as beyond the border of an image that `Align` turned, do not count.
    The transformer learns from the images that set the threshold, too. Masks of defects are taken
    to the transformed images; an image whose defects were cut away is left out.

    Examples
    --------
    >>> from skanomaly import PaDiM, TransformedImageDetector
    >>> from skanomaly.datasets import make_texture_defects
    >>> from skanomaly.preprocessing import Crop
    >>> X = make_texture_defects("brick", n_normal=20, random_state=0).images
    >>> padim = PaDiM(image_size=64, n_features=10, random_state=0)
    >>> detector = TransformedImageDetector(Crop((20, 20, 100, 120)), padim).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 128, 128)
    """

    transformer: object = parameter(MISSING, HasMethods(["fit", "transform"]), kw_only=False)
    detector: object = parameter(MISSING, HasMethods(["fit"]), kw_only=False)

    @available_if(_grows)
    def partial_fit(self, X, y=None, *, roi=None):
        """Take further normal images into account, if the detector can.

        The transformer stays as it is.

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
        if not hasattr(self, "detector_"):
            return self.fit(X, y, roi=roi)
        self._validate_params()
        updated = self._as_it_is()
        placed, regions = updated._placed_with_regions(X, roi)
        updated.detector_.partial_fit(placed, _labels(y, len(placed)), roi=regions)
        self._become(updated)
        return self

    def _validate_params(self):
        super()._validate_params()
        if not isinstance(self.detector, ImageDetector):
            raise ValueError(
                f"detector is {kind_of(self.detector)}, expected a detector of images; put others, "
                "with what comes before them, into a Pipeline"
            )
        if isinstance(self.transformer, type):
            raise ValueError(f"transformer is {kind_of(self.transformer)}")

    def _fit(self, X, y, roi, groups, X_val):
        X = check_images(X)
        marks = None if y is None else Marks.given(y, len(X))
        self.transformer_ = clone(self.transformer).fit(X, None if y is None else marks.labels)
        placed, regions = self._placed_with_regions(X, roi)
        if marks is not None and marks.has_masks:
            marks = PlacedMarks(marks, placed)
        validation = None if X_val is None else self._open(X_val)
        self.detector_ = clone(self.detector)
        self.detector_.fit(placed, marks, roi=regions, groups=groups, X_val=validation)

    def _placed_with_regions(self, X, roi):
        placed = self._open(X)
        return placed, PlacedRegions(Regions.given(roi, placed.X), placed)

    def _as_it_is(self, *checked):
        now = self._copied()
        check_is_fitted(now, "detector_")
        check_unchanged(now.transformer, now.transformer_, "transformer")
        now.detector_ = with_parameters_of(now.detector, now.detector_)._as_it_is(*checked)
        return now

    def _open(self, X):
        X = check_images(X)
        return PlacedImages(X, self.transformer_.transform(X))

    def _maps(self, images, roi=None):
        inner, regions = self.detector_, Regions.given(roi, images.X)
        of_new = inner._maps(inner._open(images), PlacedRegions(regions, images))
        for i, (anomaly_map, score) in enumerate(of_new):
            placement = images.placement(i)
            images.forget(i)
            found = placement.on_old(anomaly_map)
            region = regions.of(i, placement.old_size)
            if region is not None:
                found = np.where(region, found, found[region].min())
            yield found, score

    def _scores(self, X, roi):
        return self.detector_._scores(*self._placed_with_regions(X, roi))

    def _set_thresholds(self):
        self.detector_._set_thresholds()

    def _judge_anew(self, X, roi):
        self.detector_._judge_anew(*self._placed_with_regions(X, roi))

    def _seed_of_ties(self):
        return self.detector_._seed_of_ties()

    def __getattr__(self, name):
        fitted = vars(self).get("detector_")
        if fitted is not None and name.endswith("_") and not name.startswith("_"):
            return getattr(fitted, name)
        return asked_of(self, name)

    def _steps(self):
        """The transformers, one after the other."""
        transformer = self.transformer_
        if not isinstance(transformer, Pipeline):
            return [transformer]
        return [step for _, step in transformer.steps if step not in (None, "passthrough")]

    @property
    def _not_exportable(self):
        if reason := getattr(self.detector_, "_not_exportable", None):
            return f"of its {type(self.detector_).__name__}: {reason}"
        kinds = [type(step).__name__ for step in self._steps() if not hasattr(step, "_traced")]
        if not kinds:
            return None
        return (
            f"its {', '.join(kinds)} changes images before {type(self.detector_).__name__} sees "
            "them, which cannot be in the file; export detector_, with images as transformer_ "
            "gives them"
        )

    @property
    def _holds_out_in_turn(self):
        return self.detector._holds_out_in_turn


def _labels(y, n):
    return None if y is None else image_labels(y, n=n)
