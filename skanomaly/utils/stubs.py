"""Signatures for editors, which cannot see constructors that are made when a class is.

``python -m skanomaly.utils.stubs`` rewrites ``skanomaly/__init__.pyi``.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import skanomaly

from .._public import public_classes

_HEADER = '''"""What can be imported, as python -m skanomaly.utils.stubs has written it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin

from ._image_detector import ImageDetector
from .base import BaseImageDetector
from .synthesis import DefectGenerator
'''


def stub():
    """What ``skanomaly/__init__.pyi`` is to hold.

    Returns
    -------
    str
    """
    classes = public_classes("detectors", "compose")
    others = {
        name: getattr(skanomaly, name)
        for name in skanomaly.__all__
        if name not in (*classes, "__version__")
    }
    imports = sorted(
        f"from .{value.__module__.removeprefix('skanomaly.')} import {name} as {name}"
        for name, value in others.items()
    )
    bodies = [_class_stub(getattr(skanomaly, name)) for name in classes]
    return "\n".join([_HEADER + "\n".join(imports), "", "__version__: str = ...", "", *bodies])


def _class_stub(cls):
    from .._image_detector import ImageDetector
    from ..base import BaseImageDetector

    kinds = (BaseImageDetector, ImageDetector)
    inherited = next((kind for kind in kinds if issubclass(cls, kind)), object)
    bases = "OutlierMixin, TransformerMixin, BaseEstimator"
    bases = bases if inherited is object else inherited.__name__
    lines = [f"class {cls.__name__}({bases}):", f'    """{cls.__doc__.splitlines()[0]}"""', ""]
    lines += [f"    {name}: {p.annotation}" for name, p in _signature(cls.__init__).items()]
    lines += [f"    {name}: Any" for name in cls._documented["Attributes"]]
    lines += ["", *_callable_stub("__init__", cls.__init__)]
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or not _is_own(member, name, inherited):
            continue
        if isinstance(member, property):
            lines += ["    @property", f"    def {name}(self): ..."]
        elif inspect.isfunction(member):
            lines += _callable_stub(name, member)
    return "\n".join([*lines, ""])


def _is_own(member, name, inherited):
    """Whether a member is of the package, and not what the stub's bases have already."""
    function = getattr(member, "fget", member)
    module = getattr(function, "__module__", None) or ""
    return module.startswith("skanomaly.") and getattr(inherited, name, None) is not member


def _callable_stub(name, function):
    # Annotations are text here, as modules postpone them; a text's quotes are not a type's.
    parameters = [re.sub(r": '([^']*)'", r": \1", str(p)) for p in _parameters(function)]
    returns = " -> None" if name == "__init__" else ""
    return [
        f"    def {name}(",
        "        self,",
        *(f"        {parameter}," for parameter in parameters),
        f"    ){returns}: ...",
    ]


def _parameters(function):
    marked = False
    for parameter in _signature(function).values():
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            marked = True
            yield "*"
        yield parameter


def _signature(function):
    """Parameters by name, without self."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if name != "self"}


if __name__ == "__main__":
    Path(skanomaly.__file__).with_suffix(".pyi").write_text(stub(), encoding="utf-8")
