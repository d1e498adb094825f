"""Images scored in batches, where one that cannot be used stops none of the others."""

from __future__ import annotations

from typing import NamedTuple

from .exceptions import InvalidImageError


class Judged(NamedTuple):
    """What came of an image: score, label and map, or an error."""

    found: tuple | None
    error: str | None


def judge(detector, images):
    """What comes of each image; one after the other where an error does not say of which it is.

    Parameters
    ----------
    detector : detector
    images : batch of images

    Returns
    -------
    list of Judged
    """
    from ._unwrap import detect  # whose import takes longer than the start of all else
    from .images import taken

    judged, left, found = [None] * len(images), list(range(len(images))), None
    while left and found is None:
        try:
            found = detect(detector, taken(images, left), with_maps=True)
        except InvalidImageError as error:
            if error.index is None and len(left) > 1:
                return [judge(detector, taken(images, [i]))[0] for i in range(len(images))]
            judged[left.pop(error.index or 0)] = Judged(None, error.reason)
    if found is not None:
        for i, *of_image in zip(left, found.scores, found.labels, found.maps):
            judged[i] = Judged(tuple(of_image), None)
    return judged


def batch_size_of(detector):
    """Images that a detector scores at once."""
    return getattr(detector, "batch_size", 8)
