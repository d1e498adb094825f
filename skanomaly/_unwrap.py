"""The detector inside a pipeline or a search, and the images as it sees them."""

from __future__ import annotations

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from .calibration import verdicts


def steps_of(estimator):
    """What a pipeline, search or frozen estimator holds, as it is applied.

    Parameters
    ----------
    estimator : estimator, fitted if it is a search

    Returns
    -------
    before : list of str
        Names of the steps that may change what the last one sees.
    last : estimator
    """
    if isinstance(estimator, FrozenEstimator):
        return steps_of(estimator.estimator)
    if hasattr(estimator, "best_estimator_"):
        return steps_of(estimator.best_estimator_)
    if not isinstance(estimator, Pipeline):
        return [], estimator
    *earlier, (_, last) = estimator.steps
    before = [name for name, step in earlier if not _keeps_images(step)]
    inner, last = steps_of(last)
    return before + inner, last


def _keeps_images(step):
    if isinstance(step, FunctionTransformer):
        return step.func is None
    return step is None or isinstance(step, str)  # "passthrough"


def unwrap(estimator, X):
    """The last estimator of a pipeline or the best one of a search, and its input.

    Parameters
    ----------
    estimator : detector, or Pipeline, fitted search or FrozenEstimator around one
    X : batch of images
        As the outer estimator takes it.

    Returns
    -------
    detector : estimator
    X : batch of images
        As the detector takes it.
    """
    if isinstance(estimator, FrozenEstimator):
        return unwrap(estimator.estimator, X)
    if hasattr(estimator, "best_estimator_"):
        return unwrap(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return unwrap(estimator[-1], X)
    return estimator, X


def parameter_of(detector, name):
    """A parameter of a detector, which one around another leaves to that.

    Parameters
    ----------
    detector : detector
    name : str

    Returns
    -------
    object
        None if neither has it.
    """
    while detector is not None and not hasattr(detector, name):
        detector = getattr(detector, "detector", None)
    return getattr(detector, name, None)


def value_range_of(detector):
    """What a detector takes for black and white: (float, float) or None."""
    return parameter_of(detector, "value_range")


def detect(estimator, X, *, with_maps, **parameters):
    """Scores, labels and maps as of `BaseImageDetector.detect`, in one pass if it can be.

    Without maps, ``maps`` is None, no map is kept, and an estimator that makes none,
    such as an outlier detector on features, will do. Further parameters are the methods'.
    """
    detector, X = unwrap(estimator, X)
    if with_maps and hasattr(detector, "detect"):
        return detector.detect(X, **parameters)
    scores = detector.score_samples(X, **parameters)
    labels = verdicts(scores, _offset_of(detector, **parameters))
    maps = detector.transform(X, **parameters) if with_maps else None
    return Bunch(scores=scores, labels=labels, maps=maps)


def has_products(estimator):
    """Whether what a pipeline, search or frozen estimator holds has a detector for each product."""
    return hasattr(steps_of(estimator)[1], "offsets_")


def _offset_of(detector, product=None, **_):
    """The threshold on scores, or that of each image's product."""
    if product is None:
        return detector.offset_
    offsets = detector.offsets_
    return np.array([offsets[name] for name in product])
