"""Which names of the package are public, and where each of them is documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import skanomaly

# The command line has a guide of its own, and what writes the repository's own tables no users.
_NOT_FOR_IMPORT = ("skanomaly.cli", "skanomaly.utils.stubs", "skanomaly.utils.tables")


def public_modules():
    """Public modules of the package, those nearest to its top first."""
    names = [skanomaly.__name__]
    for found in pkgutil.walk_packages(skanomaly.__path__, "skanomaly."):
        private = any(part.startswith("_") for part in found.name.split("."))
        if not private and not found.name.startswith(_NOT_FOR_IMPORT):
            names.append(found.name)
    return [importlib.import_module(name) for name in sorted(names, key=lambda n: n.count("."))]


def offered(module):
    """Names that a module offers: those it lists, or else the classes and functions it defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not name.startswith("_")]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_defined_in(value, module)
    ]


def _is_defined_in(value, module):
    known = inspect.isclass(value) or inspect.isfunction(value)
    return known and value.__module__ == module.__name__


def documented_names():
    """What each public module documents, by its name: whatever no module before it offers."""
    seen, names = [], {}
    for module in public_modules():
        names[module.__name__] = []
        for name in offered(module):
            value = getattr(module, name)
            if isinstance(value, ModuleType) or any(value is other for other in seen):
                continue
            seen.append(value)
            names[module.__name__].append(name)
    return {module: found for module, found in names.items() if found}


def offered_elsewhere(module):
    """Full names of what a module offers and another one, nearer to the top, documents."""
    documented = documented_names()
    here = importlib.import_module(module)
    for name in offered(here):
        for other, names in documented.items():
            is_there = other != module and name in names
            if is_there and getattr(importlib.import_module(other), name) is getattr(here, name):
                yield f"{other}.{name}"
