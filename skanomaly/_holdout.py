"""Which images are kept out of training to set the threshold, and what they are worth."""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .exceptions import ThresholdWarning

# Where a fit is cheap, images are held out in turn until as many have been, and all are learnt
# from in the end: a threshold for 5 % false alarms needs the scores of 20.
ENOUGH = 20

# Images that are looked at for near-duplicates, and the side of what is compared of them.
N_LOOKED_AT, SIDE = 8, 16

# What the images that are warned about are of.
_judged = ContextVar("judged", default="")

_ONE_GROUP = (
    "groups holds one group, of which some images cannot be kept out of training; leave groups "
    "out, or pass images for the threshold as X_val"
)


def hold_out(n_images, fraction, groups, random_state):
    """The images that are kept out of training.

    Parameters
    ----------
    n_images : int
        Two or more.
    fraction : float in (0, 1)
        Of the images.
    groups : array-like (n_images,) or None
        Images of one group are on one side.
    random_state : RandomState

    Returns
    -------
    ndarray of int
        Their positions, sorted: at least one, and not all.

    Raises
    ------
    ValueError
        If there is but one group.
    """
    n_wanted = min(max(1, round(fraction * n_images)), n_images - 1)
    if groups is None:
        return np.sort(random_state.permutation(n_images)[:n_wanted])
    _, group, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise ValueError(_ONE_GROUP)
    order = random_state.permutation(len(sizes))[:-1]  # one is learnt from in any case
    totals = np.cumsum(sizes[order])
    n_groups = 1 + int(np.abs(totals - n_wanted).argmin())
    return np.flatnonzero(np.isin(group, order[:n_groups]))


def hold_out_in_turn(n_images, fraction, groups, random_state):
    """The images that are held out in each of several fits, so that each image is once.

    Parameters
    ----------
    n_images, fraction, groups, random_state
        As for `hold_out`, but that there may be one image.

    Returns
    -------
    list of ndarray of int, sorted
        Empty if there is one image.

    Raises
    ------
    ValueError
        If there are several images and but one group.
    """
    if n_images == 1:
        return []
    group, n_groups = _grouped(n_images, groups)
    return _folds(group, n_groups, min(n_groups, max(2, round(1 / fraction))), random_state)


def folds_in_turn(n_images, n_folds, groups, random_state):
    """The images that are held out in each of so many fits, so that each image is once.

    Parameters
    ----------
    n_images, n_folds : int
        Two or more.
    groups : array-like (n_images,) or None
        Images of one group are in one fold.
    random_state : RandomState

    Returns
    -------
    list of ndarray of int, sorted

    Raises
    ------
    ValueError
        If there are fewer images, or groups, than folds.
    """
    group, n_groups = _grouped(n_images, groups)
    if n_groups < n_folds:
        what = "normal images" if groups is None else "groups of normal images"
        raise ValueError(
            f"cv={n_folds} asks for more folds than there are {what}, {n_groups}; "
            f"set cv to {n_groups} or fewer, or to None"
        )
    return _folds(group, n_groups, n_folds, random_state)


def _grouped(n_images, groups):
    """The number of each image's group, from 0 on, and how many groups there are."""
    if groups is None:
        return np.arange(n_images), n_images
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(_ONE_GROUP)
    return group, len(names)


def _folds(group, n_groups, n_folds, random_state):
    fold = np.empty(n_groups, int)
    fold[random_state.permutation(n_groups)] = np.arange(n_groups) % n_folds
    return [np.flatnonzero(fold[group] == i) for i in range(n_folds)]


def until_enough(folds):
    """The first folds, as many as hold `ENOUGH` images, or all.

    Parameters
    ----------
    folds : list of ndarray of int

    Returns
    -------
    list of ndarray of int
    """
    totals = np.cumsum([len(fold) for fold in folds])
    return folds[: 1 + int(np.searchsorted(totals, ENOUGH))]


@contextmanager
def warnings_name(what):
    """Context in which warnings say what their images are of."""
    before = _judged.set(f"{what}: ")
    try:
        yield
    finally:
        _judged.reset(before)


def warn_of_one(*_):
    """Say that one image gives no threshold."""
    _warn(
        "one normal image tells nothing of how others differ from it; the threshold comes from "
        "itself, moved by a pixel, and promises nothing. Rank images by score_samples, or pass "
        "normal ones as X_val or to calibrate"
    )


def warn_of_few(n_held_out, false_alarm_rate):
    """Say what a threshold cannot promise that rests on so few images.

    Parameters
    ----------
    n_held_out : int
    false_alarm_rate : float
    """
    if n_held_out * false_alarm_rate >= 1:
        return
    needed = math.ceil(1 / false_alarm_rate)
    lies = "is its score" if n_held_out == 1 else "is extrapolated from their scores"
    _warn(
        f"{n_held_out} normal image{'s' if n_held_out > 1 else ''} that had not been learnt from "
        f"can promise that about 1 in {n_held_out + 1} new ones is flagged, not "
        f"false_alarm_rate={false_alarm_rate:g}, for which {needed} or more are needed; the "
        f"threshold {lies}. Fit on more images, or pass {needed} normal ones as X_val or to "
        "calibrate"
    )


def warn_of_learnt(images, validation):
    """Say so if the images that are to set the threshold are those that are learnt from.

    Parameters
    ----------
    images, validation : ImageDataset
        As many of the one as of the other in such a case, in one order.
    """
    if len(images) != len(validation):
        return
    some = np.linspace(0, len(images) - 1, N_LOOKED_AT, dtype=int)
    if all(np.array_equal(_thumbnail(images, i), _thumbnail(validation, i)) for i in some):
        _warn(
            "X_val holds the images that are learnt from, whose scores are too good, so that the "
            "threshold will flag far more new images than was asked; pass others, or no X_val"
        )


def warn_of_duplicates(images, train, held_out):
    """Say so if images kept out of training have near-duplicates among those learnt from.

    Such images stand beside each other as a rule: the next frame of a video, another
    shot of the same part. So a few that are kept out are compared with their neighbours,
    and the distances with those of images that are far apart.

    Parameters
    ----------
    images : ImageDataset
    train, held_out : ndarray of int, sorted
        Positions in `images`.
    """
    some = held_out[np.linspace(0, len(held_out) - 1, N_LOOKED_AT, dtype=int)]
    others = train[np.linspace(0, len(train) - 1, 2 * N_LOOKED_AT, dtype=int)]
    at = np.searchsorted(train, some)
    beside = np.stack([train[(at - 1).clip(0)], train[at.clip(0, len(train) - 1)]], axis=1)
    if len(train) < 4:
        return
    thumbnails = {int(i): _thumbnail(images, i) for i in {*some, *others, *beside.flat}}

    def distance(i, j):
        return float(np.abs(thumbnails[int(i)] - thumbnails[int(j)]).mean())

    nearest = np.array([min(distance(i, j) for j in pair) for i, pair in zip(some, beside)])
    usual = np.median([distance(i, j) for i in some for j in others if i != j])
    if np.mean(nearest <= 0.1 * usual) > 0.5:
        _warn(
            "images kept out of training hardly differ from images beside them that are learnt "
            "from, as shots of one part do, so that the threshold promises too much; say by "
            "groups= which belong together, or pass images of other parts as X_val or to calibrate"
        )


def _warn(text):
    warnings.warn(_judged.get() + text, ThresholdWarning, stacklevel=_of_caller())


def _of_caller():
    """The stack level of who called the package."""
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("skanomaly."):
        frame, level = frame.f_back, level + 1
    return level


def _thumbnail(images, i):
    """A grey image of a few pixels, (SIDE, SIDE)."""
    pixels = images[int(i)].mean(dim=0)
    rows, columns = (np.linspace(0, n, SIDE + 1).astype(int)[:-1] for n in pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels.numpy(), rows, axis=0), columns, axis=1)
    return sums / (pixels.numel() / SIDE**2)
