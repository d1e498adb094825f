"""Light, contrast and sharpness of a stream of images, beside those of reference images."""

from __future__ import annotations

from collections import deque

import numpy as np

from ..images import ImageDataset, grey_of, sharpness_of

# Side in pixels of what is measured, whatever the image's own.
MEASURED = 512

PROPERTIES = ("brightness", "contrast", "sharpness")
_WORDS = (("darker", "brighter"), ("poorer in contrast", "richer in contrast"), ("less", "more"))

# A change is told if it is above so many standard errors and above that share.
N_ERRORS, LEAST_CHANGE = 3.0, 0.01


def appearances_of(X, value_range, n_channels):
    """Brightness, contrast and sharpness of each image, (n, 3), float64.

    Brightness is the mean grey value, contrast its standard deviation relative to the mean
    and sharpness the variance of the Laplacian relative to the mean square, all at 512 x 512:
    in another light the last two stay as they are.
    """
    images = ImageDataset(X, image_size=MEASURED, value_range=value_range, n_channels=n_channels)
    return np.array([_appearance(images[i].clamp(0, 1)) for i in range(len(images))])


def _appearance(pixels):
    grey = grey_of(pixels)
    mean = grey.mean()
    return mean, grey.std() / mean if mean > 0 else 0.0, sharpness_of(grey)


class AppearanceLog:
    """What the latest images look like beside the reference.

    Parameters
    ----------
    reference : ndarray, shape (n, 3), or None
        None: the first `window` images that are added.
    window : int
    """

    def __init__(self, reference, window):
        self.window, self.first, self.latest = window, [], deque(maxlen=window)
        self.reference = None if reference is None else _moments(reference)

    def add(self, appearance):
        """Take an image into account, by its brightness, contrast and sharpness."""
        if self.reference is None:
            self.first.append(appearance)
            if len(self.first) == self.window:
                self.reference, self.first = _moments(np.array(self.first)), []
        else:
            self.latest.append(appearance)

    def forget(self, window):
        """Forget the latest images, and keep the reference."""
        self.window, self.latest = window, deque(maxlen=window)

    def changes(self):
        """By property, its share of change and whether chance does not explain it, or None."""
        if self.reference is None or not self.latest:
            return None
        mean, variance, n = self.reference
        latest, _, m = _moments(np.array(self.latest))
        error = np.sqrt(variance / n + variance / m)
        change = np.divide(latest - mean, mean, out=np.zeros(3), where=mean > 0)
        is_told = (np.abs(latest - mean) > N_ERRORS * error) & (np.abs(change) >= LEAST_CHANGE)
        return {name: (float(c), bool(t)) for name, c, t in zip(PROPERTIES, change, is_told)}

    def in_words(self):
        """A sentence on what has moved and what has not, or "" if nothing can be said."""
        changes = self.changes()
        if changes is None:
            return ""
        moved = [
            f"{abs(c):.0%} {words[c > 0]}{' sharp' if name == 'sharpness' else ''}"
            for (name, (c, is_told)), words in zip(changes.items(), _WORDS)
            if is_told
        ]
        same = [name for name, (_, is_told) in changes.items() if not is_told]
        stay = f"{_listed(same)} as in the reference" if same else ""
        if not moved:
            return f"{stay}.".capitalize()
        return f"Images are {_listed(moved)} than the reference{'; ' if same else ''}{stay}."


def _moments(appearances):
    n = len(appearances)
    variance = appearances.var(axis=0, ddof=1) if n > 1 else np.zeros(3)
    return appearances.mean(axis=0), variance, n


def _listed(words):
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
