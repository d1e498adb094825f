"""Which detector for these parts, in one line."""

from __future__ import annotations

from ._search import SyntheticDefectSearchCV


def recommend(X, detectors=None, *, budget=600, y=None, roi=None, groups=None, **parameters):
    """Choose a detector for images of good parts, by drawn defects, in a stated time.

    Parameters
    ----------
    X : batch of images
        Of good parts, as for a detector's `fit`.
    detectors : sequence of detectors, or of (str, detector), or None, default=None
        What is compared; None takes those of `SyntheticDefectSearchCV`.
    budget : float or None, default=600
        Seconds for all of it, by estimates; what does not fit is left out, and said to be.
    y : None, labels (n,), or masks (n, H, W), default=None
        Images that it calls anomalous are left out.
    roi : array of bool, sequence of such, or None, default=None
        Region of interest, as for a detector's `fit`.
    groups : array-like (n,) or None, default=None
        What each image belongs to, such as its part, lot or camera.
    **parameters
        Further ones of `SyntheticDefectSearchCV`, such as ``cv``, ``n_jobs``, ``random_state``.

    Returns
    -------
    SyntheticDefectSearchCV
        Fitted. It prints as a table; ``best_estimator_`` is the chosen detector, fitted on all
        good images, and the search itself detects as that does.

    See Also
    --------
    SyntheticDefectSearchCV : What is done, what the figures mean, and what they do not.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> from skanomaly.model_selection import recommend
    >>> X = make_texture_defects("brick", n_normal=60, image_size=64, random_state=0).images
    >>> detectors = [PaDiM(image_size=64, n_features=10, false_alarm_rate=0.2)]
    >>> found = recommend(X, detectors, cv=2, contrasts=(1.0,), n_drawn=24, random_state=0)
    >>> found.best_estimator_.predict(X[:2]).shape
    (2,)
    """
    search = SyntheticDefectSearchCV(detectors, budget=budget, **parameters)
    return search.fit(X, y, roi=roi, groups=groups)
