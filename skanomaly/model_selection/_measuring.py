"""What a fitted detector makes of held-out images of good parts, and of drawn defects."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from .._sklearn import safe_indexing
from .._unwrap import detect

# Side, in pixels, of the grid that an image's normal pixels are taken from: the curve of false
# positives needs no more of each.
SIDE = 256
N_AT_ONCE = 16


class Found(NamedTuple):
    """Of one detector in one fold."""

    wins: np.ndarray  #: (n_drawn, n_normal) 1 where the drawn defect scores higher, 0.5 a tie
    pro: np.ndarray  #: (n_drawn,) each defect's part in AUPRO, in [0, 1]
    is_flagged: np.ndarray  #: (n_normal,) bool, normal images called anomalous
    seconds: float  #: for an image of a good part


def measure(estimator, X, regions, drawn, regions_drawn, max_fpr):
    """Judge a fitted detector by images of good parts and by drawn defects.

    Parameters
    ----------
    estimator : fitted detector, or pipeline around one
    X : sequence of images of good parts
    regions : Regions
        Of X.
    drawn : DrawnDefects
    regions_drawn : Regions
        Of these.
    max_fpr : float
        False-positive rate up to which AUPRO is taken.

    Returns
    -------
    Found
    """
    scores, flagged, normal, seconds = [], [], [], 0.0
    for i, score, label, anomaly_map, took in _detected(estimator, X, regions):
        scores.append(score)
        flagged.append(label == -1)
        normal.append(_sampled(anomaly_map, regions.of(i, anomaly_map.shape)))
        seconds += took
    scores_drawn, defective = [], []
    for i, score, _, anomaly_map, _ in _detected(estimator, drawn, regions_drawn):
        mask = drawn.mask(i)
        if mask.shape != anomaly_map.shape:
            raise ValueError(
                f"the map of an image of {mask.shape} has shape {anomaly_map.shape}; pipelines "
                "whose steps change the images' size cannot be compared, apply these before"
            )
        region = regions_drawn.of(i, anomaly_map.shape)
        scores_drawn.append(score)
        defective.append(anomaly_map[mask])
        normal.append(_sampled(anomaly_map, ~mask if region is None else region & ~mask))
    a, b = np.array(scores_drawn)[:, None], np.array(scores)
    normal = np.sort(np.concatenate(normal))
    return Found(
        (a < b) + 0.5 * (a == b),
        np.array([parts_of_pixels(values, normal, max_fpr).mean() for values in defective]),
        np.array(flagged),
        seconds / len(scores),
    )


def _detected(estimator, X, regions):
    """Yield (position, score, label, map, seconds) of each image, a few of them at once."""
    for start in range(0, len(X), N_AT_ONCE):
        of_batch = np.arange(start, min(start + N_AT_ONCE, len(X)))
        images = [X[i] for i in of_batch] if not hasattr(X, "paths") else safe_indexing(X, of_batch)
        routed = {} if regions.roi is None else {"roi": _regions_of(regions, of_batch)}
        began = time.perf_counter()
        found = detect(estimator, images, with_maps=True, **routed)
        took = (time.perf_counter() - began) / len(of_batch)
        for i, *of_image in zip(of_batch, found.scores, found.labels, found.maps):
            yield int(i), *of_image, took


def _regions_of(regions, positions):
    if regions.shared:
        return regions.roi
    return [regions.roi[int(regions.indices[i])] for i in positions]


def _sampled(anomaly_map, counted):
    step = -(-max(anomaly_map.shape) // SIDE)
    values = anomaly_map[::step, ::step]
    return values.ravel() if counted is None else values[counted[::step, ::step]]


def parts_of_pixels(values, normal, max_fpr):
    r"""What each defective pixel adds to the area under the PRO curve of its region.

    A pixel of value v raises the curve at the false-positive rate f, linearly from that of
    values above v to that of values from v on, so that it adds
    :math:`1 - \min(f, f_{max}) / f_{max}`; AUPRO is the mean over pixels, then regions.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Of the pixels of defects.
    normal : ndarray, shape (m,)
        Of all normal pixels, ascending.
    max_fpr : float in (0, 1]

    Returns
    -------
    ndarray, shape (n,), float64, in [0, 1]

    References
    ----------
    P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129, 2021 (PRO).
    """
    above = 1 - np.searchsorted(normal, values, side="right") / len(normal)
    from_on = 1 - np.searchsorted(normal, values, side="left") / len(normal)
    rise = np.maximum(from_on - above, np.finfo(float).tiny)
    inside = np.clip(max_fpr - above, 0, None)
    area = np.where(from_on > max_fpr, inside**2 / (2 * rise), inside - rise / 2)
    return np.clip(area / max_fpr, 0, 1)
