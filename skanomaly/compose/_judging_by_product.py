"""What is said of images of several products: each by the detector of its own."""

from __future__ import annotations

from itertools import repeat

import numpy as np
from sklearn.utils import Bunch

from .._validation import is_product_name, product_names
from ..calibration import verdicts
from ..images import PartOfBatch, Regions, check_images, stack
from ._products import check_known, places_of


class JudgesByProduct:
    """The part of `MultiProductDetector` that scores.

    The other part gives ``_members()``, the fitted detectors by product at this moment, and
    ``_present(member)``, one of them with the parameters that hold now.
    """

    def transform(self, X, *, product=None, roi=None):
        """Anomaly map of each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        product : array-like of str or int, shape (n,), or one str or int
            The product that each image shows; one that was fitted.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W), float32
            Higher = more anomalous, in units of each product's own. If the images differ in
            size, an object array (n,) of 2-D maps.
        """
        return self._scores_and_maps(X, product, roi)[1]

    def score_samples(self, X, *, product=None, roi=None):
        """Score of each image by the detector of its product, raw.

        Parameters
        ----------
        X, product, roi : as for `transform`

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal, among images of the same product.
        """
        return self._gathered("score_samples", X, product, roi)

    def decision_function(self, X, *, product=None, roi=None):
        """Score of each image, shifted so that the threshold of its product is 0.

        Parameters
        ----------
        X, product, roi : as for `transform`

        Returns
        -------
        ndarray, shape (n,), float64
            ``score_samples - offsets_[product]``; negative = anomalous, whatever the product.
        """
        return self._gathered("decision_function", X, product, roi)

    def predict(self, X, *, product=None, roi=None):
        """Verdict on each image.

        Parameters
        ----------
        X, product, roi : as for `transform`

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return self._gathered("predict", X, product, roi)

    def p_values(self, X, *, product=None, roi=None):
        """Conformal p-value of each image: how rare its score is among its product's normal ones.

        Parameters
        ----------
        X, product, roi : as for `transform`

        Returns
        -------
        ndarray, shape (n,), float64, in (0, 1]
            Low = anomalous. Those of different products may be compared.
        """
        return self._gathered("p_values", X, product, roi)

    def detect(self, X, *, product=None, roi=None):
        """Scores, verdicts and maps from one pass over the images.

        Parameters
        ----------
        X, product, roi : as for `transform`

        Returns
        -------
        Bunch
            ``scores`` as of `score_samples`, ``labels`` as of `predict`,
            ``maps`` as of `transform`.
        """
        scores, maps, labels = self._scores_and_maps(X, product, roi)
        return Bunch(scores=scores, labels=labels, maps=maps)

    def stream(self, frames, *, product=None, roi=None):
        """Score images one at a time, as a camera or a queue hands them over.

        Each is scored before the next is asked for, and none is kept.

        Parameters
        ----------
        frames : iterable of images
            Arrays (H, W) or (H, W, C), PIL images or paths; without end, if need be.
        product : str, int, or iterable of such
            The product of all frames, or of one after the other.
        roi : array of bool, shape (H, W), or None, default=None
            Region of interest of all frames.

        Yields
        ------
        Bunch
            ``index``, the number of the frame from 0 on, its ``product``, and its ``score``
            (float), ``label`` (+1 or -1) and ``map`` (float32, (H, W)).

        Raises
        ------
        ValueError
            If a frame cannot be used, or its product is none that was fitted; it names the
            frame.
        """
        self._members()  # which must be there
        if product is None:
            product_names(product, 0)
        names = repeat(product) if is_product_name(product) else iter(product)
        return (self._frame(i, frame, names, roi) for i, frame in enumerate(frames))

    def _parts(self, X, product, roi):
        """Name, places, detector as it is now, and images of each product among some."""
        members = self._members()
        X = check_images(X)
        names = product_names(product, len(X))
        check_known(names, members)
        Regions(roi, len(X))
        return [
            (name, at, self._present(members[name]), PartOfBatch(X, at))
            for name, at in places_of(names).items()
        ]

    def _gathered(self, method, X, product, roi):
        """What a method of each detector gives of its images, in the order of all."""
        parts = self._parts(X, product, roi)
        found = [getattr(member, method)(part, roi=roi) for _, _, member, part in parts]
        order = np.concatenate([at for _, at, _, _ in parts])
        return np.concatenate(found)[np.argsort(order)]

    def _scores_and_maps(self, X, product, roi):
        """Scores, maps and labels of images, in their order."""
        parts, scores, labels = self._parts(X, product, roi), [], []

        def maps():
            for _, _, member, part in parts:
                now = member._as_it_is()
                for found, score in now._maps(now._open(part), roi):
                    scores.append(score)
                    labels.append(int(verdicts(score, now.offset_)))
                    yield found

        order = np.concatenate([at for _, at, _, _ in parts])
        found = stack(maps(), len(order), order)
        back = np.argsort(order)
        return np.array(scores)[back], found, np.array(labels)[back]

    def _frame(self, i, frame, names, roi):
        try:
            name = next(names)
        except StopIteration:
            raise ValueError(f"product ends before frame {i}; pass one for each frame") from None
        if not is_product_name(name):
            raise ValueError(f"product[{i}] is {name!r}, expected a str or an int")
        (name,) = product_names(name, 1)
        members = self._members()
        check_known([name], members, start=i)
        found = self._present(members[name])._frame(i, frame, roi)
        return Bunch(product=name, **found)
