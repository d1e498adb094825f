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
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, dataclass_transform

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
class DeclaredParameters:
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


def _annotate_new_defaults(cls):
    """Make ``name = value`` a new default of an inherited parameter, which dataclasses ignore."""
    annotations = inspect.get_annotations(cls)
    for base in cls.__mro__[1:]:
        for inherited in fields(base) if is_dataclass(base) else ():
            if inherited.name in vars(cls) and inherited.name not in annotations:
                annotations[inherited.name] = inherited.type
    cls.__annotations__ = annotations


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
        for name, declared in base.__dict__.get("__dataclass_fields__", {}).items():
            if value := declared.metadata.get(key):
                merged[name] = value
    return {f.name: merged.get(f.name, default) for f in fields(cls)}


def _documented(cls, section):
    """Entries of a section by name, (type, description): the class's own, then its bases'."""
    merged = dict(_entries(_sections(cls.__dict__.get("__doc__") or "").get(section, "")))
    for base in cls.__mro__[1:]:
        for name, entry in getattr(base, "_documented", {}).get(section, {}).items():
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
