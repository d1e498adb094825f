"""What a model file is made of, beside its tensors: JSON of bounded size, and names of classes."""

from __future__ import annotations

import json
import re
from importlib import import_module

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from .._parameters import documented_attributes

# A description of this many values takes a few hundred MB once it is parsed; trainings of
# a million batches stay below.
MAX_VALUES = 4_000_000
MAX_BYTES = 2**28

# Where classes of the project may come from, and which of PyTorch's may be built.
_MODULES = re.compile(r"skanomaly\.((detectors|compose|features|preprocessing)\.\w+|synthesis)")
LAYERS = (
    *("BatchNorm1d", "BatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "GELU"),
    *("GroupNorm", "Identity", "LayerNorm", "LeakyReLU", "Linear", "ModuleList", "ReLU"),
    *("Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh", "Upsample"),
)
# Built whole, from a network's name and tensors, and not from parts, such as the place of a
# cache of pickles.
_NOT_OF_PARTS = ("FeaturePyramid", "FrozenNetwork")

# What estimators keep under names that are neither parameters' nor those of fitted attributes.
_PRIVATE = ("_n_features_out", "_sklearn_output_config")

# Parameters that concern where and how a fit runs, and may name files or hold code.
NOT_SAVED = ("callbacks", "checkpoint", "memory")
MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


class Refused(ValueError):
    """What a file holds is not what `save` writes; the message says why, without its name."""


def to_json(document):
    """A document as bytes that `parsed` takes; ValueError if it is too large."""
    text = json.dumps(document, allow_nan=False).encode()
    check_size(text)
    return text


def parsed(text):
    """What JSON stands for, if it is of bounded size and holds no NaN or infinity."""
    check_size(text)
    return json.loads(text.decode(), parse_constant=_refuse_constant)


def check_size(text):
    """Raise Refused before a parser makes an object of each of too many values."""
    n_values = sum(text.count(sign) for sign in (b",", b"[", b"{"))
    if n_values > MAX_VALUES or len(text) > MAX_BYTES:
        raise Refused(
            f"its description has {n_values} values and {len(text)} bytes, more than {MAX_VALUES} "
            f"and {MAX_BYTES}; a training's history may be cut before saving"
        )


def _refuse_constant(name):
    raise Refused(f"its description holds {name}")


def name_of(instance):
    """The name under which an object's class stands in a file."""
    cls = type(instance)
    if cls.__module__.startswith("torch.nn.modules.") and cls.__name__ in LAYERS:
        return f"torch.nn.{cls.__name__}"
    return "sklearn.pipeline.Pipeline" if cls is Pipeline else class_name(cls)


def class_name(cls):
    """The full name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def known_class(name):
    """The class of this name, if files may name it, else None."""
    module, _, name = name.rpartition(".")
    if module == "torch.nn" and name in LAYERS:
        return getattr(nn, name)
    if (module, name) == ("sklearn.pipeline", "Pipeline"):
        return Pipeline
    if not _MODULES.fullmatch(module) or name in _NOT_OF_PARTS:
        return None
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return None
    is_own = isinstance(found, type) and found.__module__ == module
    if not is_own or hasattr(found, "_only_pickled"):
        return None
    return found if issubclass(found, (BaseEstimator, nn.Module)) else None


def is_fitted_attribute(cls, name):
    """Whether a file may hold this attribute of a fitted estimator."""
    if name in _PRIVATE:
        return True
    documented = documented_attributes(cls)
    if documented and known_class(class_name(cls)) is cls:
        return name in documented
    return name.endswith("_") and not name.startswith("_") and not hasattr(cls, name)
