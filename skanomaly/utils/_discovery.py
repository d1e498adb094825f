"""Which detectors there are."""

from __future__ import annotations

from importlib import import_module

from .._public import public_classes


def all_detectors():
    """All detectors of the package.

    Returns
    -------
    list of (str, class)
        Name and class of each, by name.

    Examples
    --------
    >>> from skanomaly.utils import all_detectors
    >>> dict(all_detectors())["PaDiM"]
    <class 'skanomaly.detectors.padim.PaDiM'>
    """
    modules = sorted(public_classes("detectors").items())
    return [(name, getattr(import_module(f"skanomaly.{m}"), name)) for name, m in modules]


def small_detector(detector_class, **parameters):
    """A detector with parameters under which a fit on a few small images takes a second.

    Parameters
    ----------
    detector_class : class
        Its ``_small_parameters`` and those of its base classes say which.
    **parameters
        Further ones, which go before those; what the class does not have is left out.

    Returns
    -------
    detector
        Unfitted, for images of 64 x 64 pixels or more.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.utils import small_detector
    >>> small_detector(PaDiM)
    PaDiM(image_size=64, n_features=20, random_state=0)
    """
    found = {"random_state": 0}
    for cls in reversed(detector_class.__mro__):
        found |= vars(cls).get("_small_parameters", {})
    known = detector_class._get_param_names()
    return detector_class(**{k: v for k, v in (found | parameters).items() if k in known})
