"""From an estimator to what a model file holds: a document for JSON, and tensors."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..features import FeaturePyramid
from ..training import AnomalyNet
from ._document import MODULE_ATTRIBUTES, NOT_SAVED, class_name, is_fitted_attribute, name_of


class Encoder:
    """Turns objects into what JSON can hold, and puts their tensors aside.

    Attributes
    ----------
    tensors : dict of ndarray
        By the names that the document gives them, each of which it uses once.
    """

    def __init__(self):
        self.tensors = {}

    def encode(self, value, where):
        """The node that stands for a value; `where` is what an error calls it."""
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which no model file holds; fit again")
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            items = [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
            return {"kind": "list" if isinstance(value, list) else "tuple", "items": items}
        if isinstance(value, dict):
            return {"kind": "dict", "items": [self._item(k, v, where) for k, v in value.items()]}
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value), where)
        if isinstance(value, torch.Tensor):
            return self._tensor(value, where)
        if isinstance(value, (torch.device, os.PathLike)):
            kind = "device" if isinstance(value, torch.device) else "path"
            return {"kind": kind, "is": str(value)}
        if isinstance(value, FeaturePyramid):
            return self._pyramid(value, where)
        if isinstance(value, AnomalyNet):
            return {
                "kind": "net",
                "module": self.encode(value.module_, f"{where}.module_"),
                # A text of its own, since losses of some epoch may have been infinite.
                "history": json.dumps(value.history.to_list(), default=lambda v: v.item()),
            }
        if isinstance(value, nn.Module):
            return self._module(value, where)
        if isinstance(value, BaseEstimator):
            return self._estimator(value, where)
        raise TypeError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be "
            "saved without pickle; leave it out, or use joblib.dump for those who trust you"
        )

    def _item(self, key, value, where):
        if not isinstance(key, str):
            raise TypeError(
                f"{where} has the key {key!r}, and keys that are no text cannot be saved without "
                "pickle; use joblib.dump for those who trust you"
            )
        return [key, self.encode(value, f"{where}[{key!r}]")]

    def _array(self, array, where):
        if array.dtype.kind in "OU":  # names of columns
            items = array.tolist()
            if array.ndim != 1 or not all(isinstance(item, str) for item in items):
                raise TypeError(f"{where} is an array of objects, which cannot be saved")
            return {"kind": "texts", "items": self.encode(items, where)}
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{where} is an array of {array.dtype}, which no model file holds")
        return {"kind": "array", **self._put_aside(array, where)}

    def _tensor(self, tensor, where):
        try:
            array = tensor.detach().cpu().contiguous().numpy()
        except TypeError:
            raise TypeError(
                f"{where} is a tensor of {tensor.dtype}, which no model file holds; convert it to "
                "float32"
            ) from None
        return {
            "kind": "parameter" if isinstance(tensor, nn.Parameter) else "tensor",
            **self._put_aside(array, where),
            "requires_grad": tensor.requires_grad,
            "channels_last": _is_channels_last(tensor),  # for equal bits later
        }

    def _put_aside(self, array, where):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{where} holds NaN or infinity, which no model file holds; fit again")
        name = str(len(self.tensors))
        self.tensors[name] = np.ascontiguousarray(array)
        return {"tensor": name, "shape": list(array.shape)}

    def _pyramid(self, pyramid, where):
        network = pyramid.network
        state = {"name": network.name, "layers": network.layers, "n_channels": network.n_channels}
        return {
            "kind": "pyramid",
            "arguments": self.encode({**state, "engine": pyramid.engine}, where),
            "state": self.encode(dict(network.state_dict()), where),
        }

    def _module(self, module, where):
        state = module.__getstate__()  # without what can be computed anew
        own = {k: v for k, v in state.items() if k not in MODULE_ATTRIBUTES}
        return {
            "kind": "module",
            "class": name_of(module),
            "training": module.training,
            "parameters": self.encode(dict(module._parameters), where),
            "buffers": self.encode(dict(module._buffers), where),
            "not_persistent": sorted(module._non_persistent_buffers_set),
            "modules": self.encode(dict(module._modules), where),
            "own": {k: self.encode(v, f"{where}.{k}") for k, v in own.items()},
        }

    def _estimator(self, estimator, where):
        if reason := getattr(estimator, "_only_pickled", None):
            raise TypeError(
                f"{where} cannot be saved without pickle, as {reason}; use joblib.dump, for those "
                "only who trust you, as loading a pickle runs whatever code is in it"
            )
        parameters = estimator.get_params(deep=False)
        left_out = (*parameters, *getattr(estimator, "_not_saved", ()))
        fitted = {k: v for k, v in vars(estimator).items() if k not in left_out}
        parameters.update({k: None for k in NOT_SAVED if k in parameters})
        best = "save its best_estimator_, or " if "best_estimator_" in fitted else ""
        for name in fitted:
            if not is_fitted_attribute(type(estimator), name):
                raise TypeError(
                    f"{where} is a {class_name(type(estimator))} and holds {name}, which is no "
                    f"documented fitted attribute, so that no model file sets it; {best}use "
                    "joblib.dump for those who trust you"
                )
        return {
            "kind": "estimator",
            "class": name_of(estimator),
            "parameters": {k: self.encode(v, f"{where}.{k}") for k, v in parameters.items()},
            "fitted": {k: self.encode(v, f"{where}.{k}") for k, v in fitted.items()},
        }


def _is_channels_last(tensor):
    if tensor.ndim != 4 or not tensor.is_contiguous(memory_format=torch.channels_last):
        return False
    other = torch.empty(tensor.shape, device="meta", memory_format=torch.channels_last)
    return tensor.stride() == other.stride()  # `is_contiguous` overlooks sides of one
