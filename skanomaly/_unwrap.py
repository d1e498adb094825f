"""The detector inside a pipeline or a search, and the images as it sees them."""

from __future__ import annotations

from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch

from .calibration import verdicts


def unwrap(estimator, X):
    """The last estimator of a pipeline or the best one of a search, and its input.

    Parameters
    ----------
    estimator : detector, or Pipeline or fitted search around one
    X : batch of images
        As the outer estimator takes it.

    Returns
    -------
    detector : estimator
    X : batch of images
        As the detector takes it.
    """
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return unwrap(estimator[-1], X)
    return estimator, X


def detect(estimator, X, *, with_maps, **parameters):
    """Scores, labels and maps as of `BaseImageDetector.detect`, in one pass if it can be.

    Without maps, ``maps`` is None, no map is kept, and an estimator that makes none,
    such as an outlier detector on features, will do. Further parameters are the methods'.
    """
    detector, X = unwrap(estimator, X)
    if with_maps and hasattr(detector, "detect"):
        return detector.detect(X, **parameters)
    scores = detector.score_samples(X, **parameters)
    labels = verdicts(scores, detector.offset_)
    maps = detector.transform(X, **parameters) if with_maps else None
    return Bunch(scores=scores, labels=labels, maps=maps)
