"""The report on what a detector finds in a set of images."""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._atomic import replaced
from .._unwrap import has_products, steps_of, unwrap
from .._validation import image_labels
from ..images import LazyImages, Regions, check_images, path_of
from ..metrics import evaluate
from ._pictures import LARGEST, SMALLEST
from ._provenance import model_checksum, settings, versions
from ._result import InspectionReport
from ._watching import WatchedDetector


def inspection_report(
    detector,
    X,
    out=None,
    *,
    y=None,
    masks=None,
    defect_types=None,
    groups=None,
    names=None,
    roi=None,
    title=None,
    min_area=1,
    thumbnail_size=None,
):
    """Score images and make a page on which people look at them and decide.

    The page is one HTML file that needs no network. It shows the distribution of scores with
    the threshold, every image with its map and an outline of what exceeds the threshold, the
    regions found, and metrics by type of defect where the truth is known. Whoever looks at it
    can move the threshold, filter, search, and decide on each image; decisions are kept in the
    browser and saved as files that `load_decisions` reads.

    Parameters
    ----------
    detector : fitted detector, OnnxDetector, or a Pipeline or search that ends in one
    X : batch of images, length n
        As `detector` takes it. Each image is read once, in batches, and not kept.
    out : str, path-like or None, default=None
        Where the page is written, whole or not at all; None writes none, see
        `InspectionReport.save`.
    y : array-like of int, shape (n,), or None, default=None
        The truth, +1 normal and -1 anomalous; None takes images as anomalous whose mask marks
        any pixel, and without masks as not known.
    masks : array of bool, shape (n, H, W), or sequence of (H, W), or None, default=None
        True where a defect is known to be. The page outlines it and shows the figures of
        `skanomaly.metrics.evaluate`, for which the maps of all images are held in memory.
    defect_types : array-like of str, shape (n,), or None, default=None
        Kinds of images, to filter by and, of anomalous ones, for figures of each.
    groups : array-like, shape (n,), or None, default=None
        What else to filter by, such as lot, camera or part.
    names : array-like of str, shape (n,), or None, default=None
        What decisions call the images, each another. None takes the paths of files, and
        "image 0", ... of others.
    roi : array of bool, sequence of such, or None, default=None
        Region of interest, as for the detector.
    title : str or None, default=None
        Of the page; None is made of the detector's name.
    min_area : int, default=1
        Regions of fewer pixels are left out of the regions' table; as of `find_regions`.
    thumbnail_size : int or None, default=None
        Pixels of the longer side of the pictures on the page, 64 to 512. None is by number:
        512 for up to 350 images, some 215 for 2,000, so that a page of 2,000 images stays
        below 60 MB; pictures that would take more are compressed more.

    Returns
    -------
    InspectionReport

    Raises
    ------
    ValueError
        If `detector` makes no maps or is of several products, or a length or value does not
        fit the images; it says which.
    InvalidImageError
        If an image, or its region, cannot be used; it names the image. Nothing is written.
    OSError
        If `out` cannot be written to; known before an image is scored.

    See Also
    --------
    skanomaly.metrics.evaluate : The figures alone.
    load_decisions : What was decided.

    Notes
    -----
    The report is about images as they reach the detector, after the earlier steps of a
    pipeline. Scores, verdicts and p-values are those of the detector's methods. The model's
    checksum is the SHA-256 of the file that `skanomaly.save` writes with these versions of the
    libraries; that of the data covers the pixels of all images, in order.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> from skanomaly.reports import inspection_report
    >>> train = make_texture_defects("brick", n_normal=30, image_size=64, random_state=0)
    >>> test = make_texture_defects("brick", split="test", n_normal=3, n_defective=3,
    ...                             image_size=64, random_state=0)
    >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(train.images)
    >>> report = inspection_report(detector, test.images, masks=test.masks)
    >>> report.scores.shape, report.p_values.shape, report.names[0]
    ((6,), (6,), 'image 0')
    >>> report.save("report.html")  # doctest: +SKIP
    """
    check_is_fitted(detector)
    inner, X_inner, names = _taken_apart(detector, X, names)
    n = len(names)
    truth = _checked_truth(y, masks, roi, n)
    columns = {
        "defect_types": _texts(defect_types, "defect_types", n),
        "groups": _texts(groups, "groups", n),
    }
    _check_sizes(min_area, thumbnail_size)
    watched = WatchedDetector(inner, X_inner, masks, roi, min_area, thumbnail_size)
    with nullcontext() if out is None else replaced(out) as file:
        if masks is None and truth is None:
            evaluation = None
            watched.score_samples(X_inner)
        else:
            types = columns["defect_types"]
            evaluation = evaluate(
                watched, X_inner, masks, y=y, defect_types=types, roi=roi, random_state=0
            )
            evaluation.detector_name = type(inner).__name__
        model, reason = model_checksum(detector)
        report = InspectionReport(
            title=title,
            detector_name=type(inner).__name__,
            names=np.array(names, object),
            truth=truth,
            **columns,
            **watched.results(),
            evaluation=evaluation,
            offset=float(inner.offset_),
            map_threshold=float(inner.map_threshold_),
            n_validation=len(inner.validation_scores_),
            settings=settings(detector),
            versions=versions(),
            model_sha256=model,
            why_no_model_sha256=reason,
        )
        if file is not None:
            report.write(file)
    return report


def _taken_apart(estimator, X, names):
    """The detector inside an estimator, the images as they reach it, and all their names."""
    if has_products(estimator):
        raise ValueError(
            f"detector is or ends in a {type(steps_of(estimator)[1]).__name__}, whose scores and "
            "maps are in units of each product's own; make a report of each product, by "
            "detectors_[name] and its images"
        )
    X = check_images(X)
    names = _checked_names(X, names)
    detector, X = unwrap(estimator, X)
    missing = [
        name
        for name in ("detect", "offset_", "map_threshold_", "validation_scores_")
        if not hasattr(detector, name)
    ]
    if missing:
        raise ValueError(
            f"detector is or ends in a {type(detector).__name__}, which has no {missing[0]}; pass "
            "a detector of images, which makes maps, such as PatchCore"
        )
    return detector, X, names


def _checked_names(X, names):
    """What each image is called, each another."""
    if names is None:
        paths = map(X.path_at, range(len(X))) if isinstance(X, LazyImages) else map(path_of, X)
        if isinstance(X, np.ndarray):
            paths = [None] * len(X)
        names = [f"image {i}" if path is None else path for i, path in enumerate(paths)]
        remedy = "pass names= of your own, or each file once"
    else:
        names, remedy = list(names), "give each image a name of its own"
    if len(names) != len(X):
        raise ValueError(f"names is of length {len(names)}, X of length {len(X)}")
    places = {}
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"names[{i}] is {name!r}, expected a str")
        if name in places:
            raise ValueError(
                f"images {places[name]} and {i} are both called {name!r}, so that decisions could "
                f"not tell them apart; {remedy}"
            )
        places[name] = i
    return [str(name) for name in names]


def _checked_truth(y, masks, roi, n):
    """The known label of each image, or None."""
    if y is not None:
        return image_labels(y, n)
    if masks is None:
        return None
    labels, regions = image_labels(masks, n, name="masks"), Regions(roi, n)
    for i in np.flatnonzero(labels == -1):
        mask = np.asarray(masks[i])
        inside = regions.of(i, mask.shape)
        if inside is not None and not (mask.astype(bool) & inside).any():
            labels[i] = 1
    return labels


def _texts(values, name, n):
    """A word for each image, or None."""
    if values is None:
        return None
    values = list(values)
    if len(values) != n:
        raise ValueError(f"{name} is of length {len(values)}, X of length {n}; expected the same")
    return np.array([str(value) for value in values], object)


def _check_sizes(min_area, thumbnail_size):
    if not isinstance(min_area, Integral) or min_area < 1:
        raise ValueError(f"min_area must be an int of at least 1 pixel, got {min_area!r}")
    is_side = isinstance(thumbnail_size, Integral) and SMALLEST <= thumbnail_size <= LARGEST
    if thumbnail_size is not None and not is_side:
        raise ValueError(
            f"thumbnail_size must be an int from {SMALLEST} to {LARGEST}, or None, got "
            f"{thumbnail_size!r}"
        )
