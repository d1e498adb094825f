"""Metrics on the scores of whole images that scikit-learn does not have."""

from __future__ import annotations

import numpy as np

from .._validation import check_rate, check_scores, image_labels
from . import _counts
from ._counts import Counts, Ranked
from ._pixels import warn_undefined


def image_f1_max_score(y_true, y_score):
    r"""Highest F1 score of the anomalous class that any one threshold reaches.

    .. math:: \max_t \frac{2\,\mathrm{TP}(t)}
              {2\,\mathrm{TP}(t) + \mathrm{FP}(t) + \mathrm{FN}(t)}

    The threshold is chosen with knowledge of the labels, so this is what scores
    could do at best, not what a detector's own threshold does.

    Parameters
    ----------
    y_true : array-like, shape (n,), or masks
        +1 normal, -1 anomalous; or a mask an image, which is anomalous where any
        pixel is True.
    y_score : array-like of float, shape (n,)
        As of `score_samples`: higher = more normal.

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        normal and anomalous images.

    Raises
    ------
    ValueError
        If lengths differ, labels are others than +1 and -1 or scores are not
        finite.

    See Also
    --------
    sklearn.metrics.roc_auc_score : Takes `y_true` and `y_score` as they are.
    sklearn.metrics.average_precision_score : With ``y_true == -1`` and ``-y_score``.

    Examples
    --------
    >>> from skanomaly.metrics import image_f1_max_score
    >>> image_f1_max_score([1, 1, -1, -1], [-0.1, -0.5, -0.4, -0.9])
    0.8
    """
    counts = _count(y_true, y_score, "image_f1_max_score")
    return np.nan if counts is None else float(_counts.f1_max(counts))


def false_alarm_rate_at_detection_rate(y_true, y_score, *, detection_rate=0.95):
    r"""Share of normal images that are flagged where a share of anomalous ones is found.

    .. math:: \min_t \mathrm{FPR}(t) \quad \text{such that} \quad
              \mathrm{TPR}(t) \ge \text{detection\_rate}

    over thresholds t that exist, without interpolation. Often called FPR95.

    Parameters
    ----------
    y_true, y_score
        As for `image_f1_max_score`.
    detection_rate : float in (0, 1], default=0.95

    Returns
    -------
    float
        In [0, 1], lower is better; NaN, with an `UndefinedMetricWarning`, unless
        there are both normal and anomalous images.

    Raises
    ------
    ValueError
        As `image_f1_max_score`; also if the rate is out of its range.

    Examples
    --------
    >>> from skanomaly.metrics import false_alarm_rate_at_detection_rate
    >>> y_true, y_score = [1, 1, -1, -1], [-0.1, -0.5, -0.4, -0.9]
    >>> false_alarm_rate_at_detection_rate(y_true, y_score, detection_rate=1.0)
    0.5
    """
    check_rate(detection_rate, "detection_rate", zero_is_allowed=False)
    counts = _count(y_true, y_score, "false_alarm_rate_at_detection_rate")
    return np.nan if counts is None else float(_counts.false_alarm_rate(counts, detection_rate))


def detection_rate_at_false_alarm_rate(y_true, y_score, *, false_alarm_rate=0.01):
    r"""Share of anomalous images that are found where few normal ones are flagged.

    .. math:: \max_t \mathrm{TPR}(t) \quad \text{such that} \quad
              \mathrm{FPR}(t) \le \text{false\_alarm\_rate}

    over thresholds t that exist, without interpolation.

    Parameters
    ----------
    y_true, y_score
        As for `image_f1_max_score`.
    false_alarm_rate : float in [0, 1], default=0.01

    Returns
    -------
    float
        In [0, 1]; NaN, with an `UndefinedMetricWarning`, unless there are both
        normal and anomalous images.

    Raises
    ------
    ValueError
        As `image_f1_max_score`; also if the rate is out of its range.

    Examples
    --------
    >>> from skanomaly.metrics import detection_rate_at_false_alarm_rate
    >>> y_true, y_score = [1, 1, -1, -1], [-0.1, -0.5, -0.4, -0.9]
    >>> detection_rate_at_false_alarm_rate(y_true, y_score, false_alarm_rate=0.0)
    0.5
    """
    check_rate(false_alarm_rate, "false_alarm_rate", zero_is_allowed=True)
    counts = _count(y_true, y_score, "detection_rate_at_false_alarm_rate")
    return np.nan if counts is None else float(_counts.detection_rate(counts, false_alarm_rate))


def _count(y_true, y_score, metric):
    labels = image_labels(y_true, name="y_true")
    anomaly = -check_scores(y_score, len(labels))
    for label, kind in ((1, "normal"), (-1, "anomalous")):
        if not np.any(labels == label):
            warn_undefined(metric, f"{kind} images", stacklevel=4)
            return None
    normal, anomalous = (np.sort(anomaly[labels == label]) for label in (1, -1))
    return Counts.of(Ranked(anomalous), Ranked(normal))
