"""From what a model file holds to an estimator, without running code of the file's author."""

from __future__ import annotations

import json
from inspect import getattr_static
from pathlib import Path
from reprlib import repr as short_repr

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..features import pyramid_of_state
from ..training import AnomalyNet
from ._document import (
    MODULE_ATTRIBUTES,
    NOT_SAVED,
    Refused,
    class_name,
    is_fitted_attribute,
    known_class,
)

MAX_DEPTH = 100
_NUMBERS = ("offset_", "map_threshold_")


class Decoder:
    """Builds objects from what `Encoder` made of them.

    No more memory is taken than the tensors have: each may be named once, and a network is
    built when its tensors have been found to fit.

    Parameters
    ----------
    tensors : dict of ndarray
        Is emptied.
    classes : sequence of class
        Classes that may be built beside the known ones.

    Raises
    ------
    Refused
        If a node is none that the encoder makes; other exceptions where what it holds is
        not of the right type.
    """

    def __init__(self, tensors, classes):
        self.tensors = tensors
        self.classes = {class_name(cls): cls for cls in classes}
        self.depth = 0

    def decode(self, node):
        """The object that a node stands for."""
        if not isinstance(node, dict):
            if isinstance(node, list):
                raise Refused("it holds a list where an object is expected")
            return _finite(node)
        if node["kind"] not in _KINDS:
            raise Refused(f"{short_repr(node['kind'])} is no kind of object that a file holds")
        if self.depth == MAX_DEPTH:
            raise Refused(f"it is nested more than {MAX_DEPTH} deep")
        self.depth += 1
        made = getattr(self, f"_{node['kind']}")(node)
        self.depth -= 1
        return made

    def _list(self, node):
        return [self.decode(item) for item in node["items"]]

    def _tuple(self, node):
        return tuple(self._list(node))

    def _dict(self, node):
        # Numbers as keys could be chosen so that they collide, which takes for ever.
        if not all(isinstance(key, str) for key, _ in node["items"]):
            raise Refused("a key is no text")
        return {key: self.decode(value) for key, value in node["items"]}

    def _texts(self, node):
        items = self.decode(node["items"])
        if not all(isinstance(item, str) for item in items):
            raise Refused("a text is none")
        return np.array(items, dtype=object)

    def _array(self, node):
        stored = self.tensors.pop(node["tensor"], None)
        if stored is None:
            raise Refused(f"the tensor {short_repr(node['tensor'])} is not there, or named twice")
        if stored.dtype.kind not in "biuf":
            raise Refused(f"a tensor is of {stored.dtype}")
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise Refused("a tensor holds NaN or infinity")
        return stored.reshape(node["shape"]).copy()

    def _tensor(self, node):
        tensor = torch.from_numpy(self._array(node))
        if not node["channels_last"]:
            return tensor
        return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)

    def _parameter(self, node):
        return nn.Parameter(self._tensor(node), requires_grad=bool(node["requires_grad"]))

    def _device(self, node):
        return torch.device(node["is"])

    def _path(self, node):
        return Path(node["is"])

    def _pyramid(self, node):
        found = self.decode(node["arguments"])
        return pyramid_of_state(
            found["name"],
            found["layers"],
            self.decode(node["state"]),
            n_channels=found["n_channels"],
            engine=found["engine"],
        )

    def _net(self, node):
        module = self.decode(node["module"])
        if not isinstance(module, nn.Module):
            raise Refused(f"a net holds a {type(module).__name__}, expected a torch.nn.Module")
        history = json.loads(node["history"])
        if not all(isinstance(epoch, dict) for epoch in history):
            raise Refused("a training's history holds something else than epochs")
        return AnomalyNet.of_trained(module, history)

    def _module(self, node):
        cls = self._class(node["class"], nn.Module)
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        own = {k: self.decode(v) for k, v in node["own"].items()}
        if reserved := [k for k in own if _is_of_class(cls, k)]:
            raise Refused(
                f"a network sets {short_repr(reserved)}, which are its class's or PyTorch's own"
            )
        vars(module).update(own)
        for name, parameter in self.decode(node["parameters"]).items():
            module.register_parameter(name, parameter)
        for name, buffer in self.decode(node["buffers"]).items():
            module.register_buffer(name, buffer, persistent=name not in node["not_persistent"])
        for name, child in self.decode(node["modules"]).items():
            module.register_module(name, child)
        module.training = bool(node["training"])
        return module

    def _estimator(self, node):
        cls = self._class(node["class"], BaseEstimator)
        parameters = {k: self.decode(v) for k, v in node["parameters"].items()}
        fitted = {k: self.decode(v) for k, v in node["fitted"].items()}
        for name, value in fitted.items():
            if not is_fitted_attribute(cls, name):
                raise Refused(f"{short_repr(name)} is no fitted attribute of {cls.__name__}")
            if name in _NUMBERS and (
                isinstance(value, bool) or not isinstance(value, (int, float))
            ):
                raise Refused(f"{name} of {cls.__name__} is no number")
        # A cache holds pickles, so that a file must not say where one is.
        parameters.update({k: None for k in NOT_SAVED if k in parameters})
        estimator = cls(**parameters)
        if hasattr(cls, "_parameter_constraints"):
            estimator._validate_params()
        vars(estimator).update(fitted)
        return estimator

    def _class(self, name, kind):
        cls = self.classes.get(name) or known_class(name)
        if cls is None or not issubclass(cls, kind):
            raise Refused(
                f"{name!r:.200} is no class that may be built from a file; if it is yours, pass "
                "it as load(path, classes=[...])"
            )
        return cls


_KINDS = (
    *("list", "tuple", "dict", "texts", "array", "tensor", "parameter", "device", "path"),
    *("pyramid", "net", "module", "estimator"),
)


def _finite(value):
    if isinstance(value, float) and not np.isfinite(value):  # 1e999 is JSON
        raise Refused("it holds an infinite number")
    return value


def _is_of_class(cls, name):
    """Whether an attribute is a method or property, which an object's own would hide."""
    if name in MODULE_ATTRIBUTES or name.startswith("__"):
        return True
    found = getattr_static(cls, name, None)
    return callable(found) or hasattr(found, "__get__")
