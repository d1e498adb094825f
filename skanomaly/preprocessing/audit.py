"""Audit of training images: what does not belong among them, and what is there twice."""

from __future__ import annotations

import warnings
from numbers import Integral

import numpy as np
from scipy.stats import median_abs_deviation, rankdata
from sklearn.utils import Bunch, check_random_state

from .._atomic import replaced
from ..images import check_images, checked_value_range
from ._audit_page import page, printable
from ._duplicates import joined_groups, near_duplicates
from ._looks import look_at_all, names_of

# The least robust deviations that count: of light, from black to white, and of logarithms of
# sharpness and of height and width. Sets that hardly differ have nothing odd.
LEAST = {"brightness": 0.01, "sharpness": 0.05, "size": 0.005}

# Images that are printed.
N_PRINTED = 10


class ImageAudit(Bunch):
    """What `audit_images` found: arrays by name, in the order of the images.

    It prints as a short table. What is NaN was not measured, as of what cannot be read.

    Parameters
    ----------
    **kwargs
        The attributes.

    Attributes
    ----------
    order : ndarray, shape (n,), int64
        The images, the most suspicious first: by `scores`, at last what has none.
    scores : ndarray, shape (n,), float64
        By what has not learnt from the image; higher = more normal.
    p_values : ndarray, shape (n,), float64, in (0, 1]
        Share of the images whose score is as low, itself included: low = odd. If all
        are from one source, that of each is uniform.
    flags : Bunch of ndarray, each (n,), bool
        "anomalous", "duplicate", "size", "dark", "bright", "blurred", "unreadable".
    flagged : ndarray, shape (n,), bool
        Whether any flag is set.
    sizes : ndarray, shape (n, 2), int64
        Height and width; 0 of what cannot be read.
    brightness : ndarray, shape (n,), float64
        Mean of the grey values, from 0 (black) to 1.
    contrast : ndarray, shape (n,), float64
        Their standard deviation.
    sharpness : ndarray, shape (n,), float64
        Variance of their Laplacian, at 512 x 512 pixels, divided by their mean square.
    deviations : Bunch of ndarray, each (n,), float64
        Of "scores", "brightness", "contrast", "sharpness" and "size": the distance from
        the median, in robust standard deviations (1.48 times the median absolute
        deviation); of the logarithm of sharpness and, whichever is odder, height or width.
    duplicate_of : ndarray, shape (n,), int64
        The nearest earlier image that is nearly the same; -1 where there is none.
    group : ndarray, shape (n,), int64
        Images that were left out together: near-duplicates, and those of one group.
    names : list of str
        Paths, or the images' numbers.
    reasons : list of str
        Why an image cannot be used, or "".
    thumbnails : list of bytes
        JPEG of up to 160 x 160 pixels.
    maps : ndarray, shape (n, 32, 32), float32, or None
        Where the image is odd: the largest value of each part of its anomaly map.
    """

    def to_records(self):
        """A dict for each image, the most suspicious first, with flat values.

        Returns
        -------
        list of dict
            Keys ``index``, ``name``, ``score``, ``p_value``, ``flags`` (joined by spaces),
            ``height``, ``width``, ``brightness``, ``contrast``, ``sharpness``,
            ``duplicate_of`` and ``reason``.
        """
        return [
            {
                "index": i,
                "name": printable(self.names[i]),
                "score": float(self.scores[i]),
                "p_value": float(self.p_values[i]),
                "flags": self._flags_of(i),
                "height": int(self.sizes[i, 0]),
                "width": int(self.sizes[i, 1]),
                "brightness": float(self.brightness[i]),
                "contrast": float(self.contrast[i]),
                "sharpness": float(self.sharpness[i]),
                "duplicate_of": int(self.duplicate_of[i]),
                "reason": self.reasons[i],
            }
            for i in self.order.tolist()
        ]

    def to_frame(self):
        """The records as a data frame, with ``index`` as its index.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas: pip install pandas; to_records does not"
            ) from error
        return pd.DataFrame.from_records(self.to_records(), index="index")

    def to_html(self, path):
        """Write a page of thumbnails, the most suspicious first, to be filtered by flag.

        It is one file that needs no other, and no script: open it in a browser, or send it.
        Red on a thumbnail is where the image is odder than most are anywhere. It takes
        some 10 kB an image.

        Parameters
        ----------
        path : str or path-like
            A file that is there is replaced once all is written.
        """
        with replaced(path) as file:
            file.write(page(self).encode("utf-8"))

    def _flags_of(self, i):
        return " ".join(flag for flag, marked in self.flags.items() if marked[i])

    def __str__(self):
        counts = [f"{marked.sum()} {flag}" for flag, marked in self.flags.items() if marked.any()]
        found = f": {', '.join(counts)}" if counts else ""
        lines = [["", "index", "score", "p", "name", "flags"]]
        for rank, i in enumerate(self.order[:N_PRINTED].tolist(), 1):
            if np.isfinite(self.scores[i]):
                score, p = f"{self.scores[i]:.4g}", f"{self.p_values[i]:.3f}"
                name = _shortened(printable(self.names[i]))
                lines.append([str(rank), str(i), score, p, name, self._flags_of(i)])
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        unreadable = np.flatnonzero(self.flags["unreadable"])
        reasons = [f"{i} {printable(self.names[i])}: {self.reasons[i]}" for i in unreadable]
        more = [f"and {len(reasons) - N_PRINTED} more"] if len(reasons) > N_PRINTED else []
        n = len(self.names)
        return "\n".join(
            [
                f"{n} image{'' if n == 1 else 's'}, {self.flagged.sum()} flagged{found}",
                *table,
                *(["cannot be used:", *reasons[:N_PRINTED], *more] if reasons else []),
            ]
        )

    __repr__ = __str__


def audit_images(
    X,
    detector=None,
    *,
    groups=None,
    cv=10,
    cutoff=3.5,
    duplicate_distance=0.1,
    value_range=None,
    device="auto",
    n_jobs=None,
    random_state=None,
):
    """Look through training images for what does not belong among them.

    Each image is scored by what has learnt from the others and not from it, so that a
    defect among them is odd; each is also compared with the others by size, light and
    sharpness, and near-duplicates are found. Nothing is removed: look at what is flagged.

    Parameters
    ----------
    X : batch of images
        As detectors' `fit` takes it. What cannot be read is reported, and not scored.
    detector : detector or None, default=None
        What scores. It is cloned and fitted `cv` times, each time without the images that
        it then scores; any estimator with `fit` and `score_samples` will do. None compares
        pretrained features of patches of each image with those of all others: a good
        first choice, and quick.
    groups : array-like (n,) or None, default=None
        What each image belongs to, such as its part. Images of one group, and
        near-duplicates, are left out together: a defect is not odd beside its double.
    cv : int, default=10
        Shares in which images are left out, with a detector. As many as there are images
        leave out each alone, and take as many fits.
    cutoff : float, default=3.5
        Robust standard deviations from the median beyond which an image is flagged.
    duplicate_distance : float, default=0.1
        Near-duplicates are no farther from each other than this share of the median
        distance of any two images, as grey images of 32 x 32 pixels. 0 finds identical ones.
    value_range : (float, float) or None, default=None
        As for detectors; None takes the detector's.
    device : str or torch.device, default="auto"
        Of the pretrained network, where no detector is given.
    n_jobs : int or None, default=None
        Threads that read images.
    random_state : int, RandomState or None, default=None
        Draws the patches that images are compared with, or the shares.

    Returns
    -------
    ImageAudit
        Arrays by name; prints as a table; ``to_html`` writes a page of thumbnails.

    Raises
    ------
    ValueError
        If a parameter cannot be.
    InvalidImageError
        If X is no batch of images, or the detector refuses one that can be read.

    Notes
    -----
    Without a detector, images are brought to 256 x 256 pixels, and the features of each of
    1,024 positions (``tf_efficientnet_lite0``, layers 2 and 3, each averaged over 3 x 3 and
    brought to a total variance of one) are compared with those of all images at up to 10,000
    positions, equally many of each image and drawn at random, but not its own group's. The
    distance to the nearest of them, in robust standard deviations from the median of all
    images at that position, is the map, which is smoothed (4 pixels) and whose maximum scores.

    That takes some 70 ms an image on one core, reading included. Held are .3 MB of features
    an image, in a temporary file beyond 4 GiB together; 15 kB of thumbnails and maps; and the
    images that are being read, which are read twice. Comparing all pairs of thumbnails takes
    2 s for 10,000 images, and grows with the square of their number.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import audit_images
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=30, n_defective=2, random_state=0).images
    >>> audit = audit_images(X, random_state=0)
    >>> sorted(audit.order[:2].tolist())
    [30, 31]
    >>> train = X[~audit.flagged]
    """
    from ._leave_one_out import score_by_detector, score_by_patches

    X = check_images(X)
    _check(X, detector, groups, cv, cutoff, duplicate_distance)
    random_state = check_random_state(random_state)
    if value_range is None:
        value_range = getattr(detector, "value_range", None)
    value_range = checked_value_range(value_range)
    looks = look_at_all(X, value_range, n_jobs)
    chosen = np.flatnonzero([not look.reason for look in looks])

    duplicate_of, group = np.full(len(X), -1), np.arange(len(X))
    if len(chosen):
        nearest, near = near_duplicates(
            np.stack([looks[i].grey for i in chosen]), duplicate_distance
        )
        duplicate_of[chosen] = np.where(nearest < 0, -1, chosen[nearest])
        group[chosen] = chosen[_first_of(near)]
    if groups is not None:
        group = joined_groups(groups, (np.arange(len(X)), group))

    scores, maps = np.full(len(X), np.nan), None
    if len(np.unique(group[chosen])) > 1:
        if detector is None:
            options = {"value_range": value_range, "device": device, "n_jobs": n_jobs}
            found = score_by_patches(X, chosen, group[chosen], random_state, **options)
        else:
            found = score_by_detector(detector, X, chosen, group[chosen], cv, random_state)
        scores[chosen] = found.scores
        _check_scores(found.scores, chosen, detector)
        if found.maps is not None:
            maps = np.full((len(X), *found.maps.shape[1:]), np.nan, np.float32)
            maps[chosen] = found.maps
    elif len(chosen):
        warnings.warn(
            f"all {len(chosen)} images that can be used are one group or near-duplicates, so that "
            "there is nothing to compare them with and none is scored; pass more images, or a "
            f"smaller duplicate_distance than {duplicate_distance}",
            stacklevel=2,
        )
    return _audit(X, looks, scores, maps, duplicate_of, group, cutoff)


def _check(X, detector, groups, cv, cutoff, duplicate_distance):
    for method in ("fit", "score_samples"):
        if detector is not None and not hasattr(detector, method):
            raise ValueError(
                f"detector is a {type(detector).__name__}, which has no {method}; pass a detector "
                "of images, or None"
            )
    if groups is not None and len(groups) != len(X):
        raise ValueError(f"groups is of length {len(groups)}, X of length {len(X)}")
    if not isinstance(cv, Integral) or cv < 2:
        raise ValueError(f"cv must be an int of 2 or more, got {cv!r}")
    if not cutoff > 0:
        raise ValueError(f"cutoff must be above 0, got {cutoff!r}")
    if not 0 <= duplicate_distance < 1:
        raise ValueError(f"duplicate_distance must lie in [0, 1), got {duplicate_distance!r}")


def _check_scores(scores, chosen, detector):
    not_finite = np.flatnonzero(~np.isfinite(scores))
    if len(not_finite):
        i = not_finite[0]
        raise ValueError(
            f"{type(detector).__name__} gives image {chosen[i]} the score {scores[i]}, expected a "
            "finite number"
        )


def _first_of(group):
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return first[inverse]


def _audit(X, looks, scores, maps, duplicate_of, group, cutoff):
    sizes = np.array([look.size for look in looks], np.int64)
    unreadable = np.array([bool(look.reason) for look in looks])
    measured = {
        name: np.array([getattr(look, name) for look in looks], float)
        for name in ("brightness", "contrast", "sharpness")
    }
    with np.errstate(divide="ignore"):
        log_sizes = np.where(unreadable[:, None], np.nan, np.log(sizes))
    by_side = [_deviations(side, LEAST["size"]) for side in log_sizes.T]
    deviations = Bunch(
        scores=_deviations(scores),
        brightness=_deviations(measured["brightness"], LEAST["brightness"]),
        contrast=_deviations(measured["contrast"], LEAST["brightness"]),
        sharpness=_deviations(np.log(measured["sharpness"] + 1e-12), LEAST["sharpness"]),
        size=np.where(np.abs(by_side[0]) > np.abs(by_side[1]), *by_side),
    )
    flags = Bunch(
        anomalous=deviations.scores < -cutoff,
        duplicate=duplicate_of >= 0,
        size=np.abs(deviations.size) > cutoff,
        dark=deviations.brightness < -cutoff,
        bright=deviations.brightness > cutoff,
        blurred=deviations.sharpness < -cutoff,
        unreadable=unreadable,
    )
    return ImageAudit(
        order=np.argsort(scores, kind="stable"),  # NaN at last
        scores=scores,
        p_values=_p_values(scores),
        flags=flags,
        flagged=np.any(list(flags.values()), axis=0),
        sizes=sizes,
        **measured,
        deviations=deviations,
        duplicate_of=duplicate_of,
        group=group,
        names=names_of(X),
        reasons=[look.reason for look in looks],
        thumbnails=[look.thumbnail for look in looks],
        maps=maps,
    )


def _deviations(values, least=0.0):
    """Distances from the median in robust standard deviations; NaN stays NaN."""
    if np.isnan(values).all():
        return values
    distances = values - np.nanmedian(values)
    deviation = median_abs_deviation(values, scale="normal", nan_policy="omit")
    deviation = max(float(deviation), least)
    return distances / (deviation or 1.0)  # where most are equal, their own unit is as good as any


def _p_values(scores):
    known = np.isfinite(scores)
    p_values = np.full(len(scores), np.nan)
    if known.any():
        p_values[known] = rankdata(scores[known], method="max") / known.sum()
    return p_values


def _shortened(name, longest=40):
    return name if len(name) <= longest else f"...{name[3 - longest :]}"
