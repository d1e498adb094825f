"""Parameters that are declared once, in the class they belong to, and inherited.

scikit-learn asks for an explicit ``__init__`` that assigns each parameter, and for a
docstring that names all of them. Both follow from the declarations::

    class Blur(DeclaredParameters, BaseEstimator):
        '''Blur images.

        Parameters
        ----------
        sigma : float
            Standard deviation in pixels.
        '''

        sigma: float = parameter(4.0, Interval(Real, 0, None, closed="left"))


    class StrongBlur(Blur):
        '''Blur images strongly.'''

        sigma = 16.0
"""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, dataclass_transform

import numpy as np

from ._site import DocumentedOnSite

_SECTIONS = ("Parameters", "Attributes")


def parameter(default=MISSING, *constraints, kw_only=True, affects=None) -> Any:
    """Declare a parameter of a class that is a `DeclaredParameters`.

    Parameters
    ----------
    default : object, optional
        Immutable. Without one the parameter must be given.
    *constraints : object
        What it may be, as in scikit-learn's ``_parameter_constraints``: types, None,
        `Interval`, `StrOptions`. A subclass that gives none keeps its base's.
    kw_only : bool, default=True
        Whether it can be given by name only.
    affects : {"maps", "scores", "threshold", "training", "nothing"} or None, default=None
        What depends on it: what is fitted and the maps, how maps become scores, where the
        threshold lies, what is fitted alone, or how results are computed and not which.
        After a fit a change of the first is refused, of the second until `calibrate`.
        None is what a base class says, or else "maps".

    Returns
    -------
    dataclasses.Field
    """
    metadata = {"constraints": list(constraints), "affects": affects}
    return field(default=default, kw_only=kw_only, metadata=metadata)


@dataclass_transform(kw_only_default=True, eq_default=False)
class DeclaredParameters(DocumentedOnSite):
    """Gives a class an ``__init__``, constraints and a docstring of all its parameters.

    A parameter is an annotated class attribute, as in a dataclass. A subclass inherits it, may
    give another default (``sigma = 16.0``) and, in its docstring, another description. In
    docstrings the sections Parameters and Attributes are completed by those of the base
    classes, and each parameter by its default. A class with an ``__init__`` of its own keeps it.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _annotate_new_defaults(cls)
        if _has_written_init(cls):
            return
        dataclass(init=True, repr=False, eq=False, kw_only=True)(cls)
        cls.__init__.is_generated = True
        cls._parameter_constraints = _inherited(cls, "constraints", [object])
        cls._affects = _inherited(cls, "affects", "maps")
        sections = _sections(cls.__dict__.get("__doc__") or "")
        cls._documented_here = {name: dict(_entries(sections.get(name, ""))) for name in _SECTIONS}
        cls._documented = {name: _documented(cls, name) for name in _SECTIONS}
        if "__doc__" in vars(cls) and cls.__doc__ is not None:
            cls.__doc__ = _completed(cls)


def documented_attributes(cls):
    """Names of the fitted attributes that a class and its bases document.

    Parameters
    ----------
    cls : type

    Returns
    -------
    frozenset of str
        Empty for other classes, and where Python drops docstrings.
    """
    return frozenset(getattr(cls, "_documented", {}).get("Attributes", ()))


def equal_values(value, other):
    """Whether two values of a parameter are the same, arrays among them.

    Parameters
    ----------
    value, other : object

    Returns
    -------
    bool
    """
    if value is other:
        return True
    try:
        return bool(value == other)
    except ValueError:  # arrays
        return bool(np.array_equal(value, other))


def _annotate_new_defaults(cls):
    """Make each parameter's default that of the nearest class which states one.

    Dataclasses ignore ``name = value``, and of several base classes they take the first that has
    a parameter, though the second may be the one that gives it another default.
    """
    annotations = inspect.get_annotations(cls)
    nearest, of_dataclasses = {}, {}
    for base in reversed(cls.__mro__[1:]):
        nearest |= _declared_here(base)
        of_dataclasses |= _parameters(base)
    for name, inherited in nearest.items():
        if name in annotations:
            continue
        if name not in vars(cls) and inherited.default is not of_dataclasses[name].default:
            setattr(cls, name, inherited.default)
        if name in vars(cls):
            annotations[name] = inherited.type
    cls.__annotations__ = annotations


def _declared_here(cls):
    """Parameters, by name, that a class declares or gives another default."""
    here = inspect.get_annotations(cls)
    return {name: f for name, f in _parameters(cls).items() if name in here}


def _parameters(cls):
    """All parameters, by name, of a class that has declared some or inherited them."""
    return {f.name: f for f in fields(cls)} if "__dataclass_fields__" in vars(cls) else {}


def _has_written_init(cls):
    """Whether the ``__init__`` that holds for a class was typed, by its author or a base's."""
    for base in cls.__mro__:
        init = vars(base).get("__init__")
        if base is DeclaredParameters:
            return False
        if init is not None:
            return not getattr(init, "is_generated", False)
    return False


def _inherited(cls, key, default):
    """What is declared of each parameter, by the nearest class that says it."""
    merged = {}
    for base in reversed(cls.__mro__):
        for name, declared in _declared_here(base).items():
            if value := declared.metadata.get(key):
                merged[name] = value
    return {f.name: merged.get(f.name, default) for f in fields(cls)}


def _documented(cls, section):
    """Entries of a section by name, (type, description): the class's own, then its bases'."""
    merged = {}
    for base in cls.__mro__:
        for name, entry in vars(base).get("_documented_here", {}).get(section, {}).items():
            merged.setdefault(name, entry)
    return merged


def _completed(cls):
    """The docstring with all parameters, their defaults, and all attributes."""
    parts = _sections(cls.__doc__)
    summary = parts.pop("")
    by_name = {f.name: f for f in fields(cls)}
    documented = [name for name in cls._documented["Parameters"] if name in by_name]
    lines = []
    for name in documented:
        kind, description = cls._documented["Parameters"][name]
        default = by_name[name].default
        kind += "" if default is MISSING else f", default={default!r}"
        lines += [f"{name} : {kind}", *description]
    attributes = []
    for name, (kind, description) in cls._documented["Attributes"].items():
        attributes += [f"{name} : {kind}", *description]
    parts = {"Parameters": "\n".join(lines), "Attributes": "\n".join(attributes)} | {
        name: text for name, text in parts.items() if name not in _SECTIONS
    }
    texts = [f"{name}\n{'-' * len(name)}\n{text}" for name, text in parts.items() if text]
    return "\n\n".join([summary, *texts]) + "\n"


def _sections(doc):
    """The sections of a numpydoc docstring by their names; "" is what stands before them."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    names = ["", *parts[1::2]]
    return {name: text.strip("\n") for name, text in zip(names, parts[::2])}


def _entries(text):
    """(name, (type, description)) of each entry of a section."""
    entry = None
    for line in text.splitlines():
        if line and not line.startswith(" "):
            name, _, kind = line.partition(" : ")
            entry = name, (kind, [])
            yield entry
        elif entry is not None:
            entry[1][1].append(line)
