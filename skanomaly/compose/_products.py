"""Which images are of which product, and what is refused of their names."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from .._holdout import warnings_name
from ..exceptions import InvalidImageError

# Of the known products, how many an error lists.
_MAX_LISTED = 20


def places_of(names):
    """Where each product's images are.

    Parameters
    ----------
    names : list of str or int
        The product of each image.

    Returns
    -------
    dict
        By product, in the order of its first image, an ascending array of int.
    """
    places = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return {name: np.array(at) for name, at in places.items()}


def check_known(names, detectors, start=0):
    """Raise ValueError if a product has no detector; `start` is the first one's index."""
    for i, name in enumerate(names, start):
        if name not in detectors:
            listed = ", ".join(map(repr, list(detectors)[:_MAX_LISTED]))
            more = len(detectors) - _MAX_LISTED
            raise ValueError(
                f"product[{i}] is {name!r}, which has no detector; known are {listed}"
                f"{f' and {more} more' if more > 0 else ''}; fit it with partial_fit"
            )


def check_can_join(names, detectors):
    """Raise ValueError unless images of these products can be learnt beside what is known."""
    for name in detectors:
        if isinstance(name, str) != isinstance(names[0], str):
            raise ValueError(
                f"product[0] is {names[0]!r} and a known product {name!r}; expected all str or "
                "all int"
            )
    for i, name in enumerate(names):
        if name in detectors and not hasattr(detectors[name], "partial_fit"):
            raise ValueError(
                f"product[{i}] is {name!r}, which is known already, and its detector, a "
                f"{type(detectors[name]).__name__}, cannot learn further images; leave those of "
                "known products out, or fit all anew"
            )


def check_validation(validation, places):
    """Raise ValueError unless there are images that set the threshold of each product."""
    for name in places:
        if name not in validation:
            raise ValueError(
                f"X_val holds no image of product {name!r}; pass some of each product of X"
            )
    for name, part in validation.items():
        if name not in places:
            raise ValueError(
                f"product_val[{part.indices[0]}] is {name!r}, and X holds no image of that product"
            )


@contextmanager
def at_work_on(name):
    """Context in which errors and warnings that name no image name the product."""
    with warnings_name(f"product {name!r}"):
        try:
            yield
        except InvalidImageError as error:
            if error.index is not None:
                raise
            reason = f"product {name!r}: {error.reason}"
            raise type(error)(reason, path=error.path) from error.__cause__
        except Exception as error:
            error.add_note(f"This is of product {name!r}.")
            raise
