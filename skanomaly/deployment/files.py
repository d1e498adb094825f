"""Models in files without pickle: parameters as JSON, tensors as safetensors, a checksum over all.

A pickle runs whatever code its author wrote. What is read here is data, from which
objects of a fixed list of classes are built.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from torch import nn

from .._atomic import replaced
from .._random import drawing_from
from ..exceptions import ModelFileError
from ..features import FeaturePyramid, FrozenNetwork
from ..training import AnomalyNet

MAGIC = b"skanomaly model\n"
FORMAT = 1
DIGEST_SIZE = hashlib.sha256().digest_size
PACKAGES = ("skanomaly", "torch", "timm", "scikit-learn")

# Where classes of the project may come from, and which of PyTorch's may be built.
_MODULES = re.compile(r"skanomaly\.((detectors|compose|features)\.\w+|synthesis)")
_LAYERS = (
    *("BatchNorm1d", "BatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "GELU"),
    *("GroupNorm", "Identity", "LayerNorm", "LeakyReLU", "Linear", "ModuleList", "ReLU"),
    *("Sequential", "SiLU", "Sigmoid", "Softplus", "Tanh", "Upsample"),
)
# Parameters that concern where and how a fit runs, and may name files or hold code.
_NOT_SAVED = ("callbacks", "checkpoint", "memory")
# What estimators keep under names that are neither parameters' nor those of fitted attributes.
_PRIVATE = ("_n_features_out", "_sklearn_output_config")


def save(estimator, path):
    """Write a detector to a file that can be read without trust in its author.

    If it is interrupted, a file that was there stays as it was.

    Parameters
    ----------
    estimator : detector, FlattenedImages, or Pipeline of such
        Fitted or not. `callbacks`, `checkpoint` and `memory`, which concern a fit
        on this machine, are saved as None.
    path : str or path-like
        Customary suffix: ``.skanomaly``.

    Raises
    ------
    TypeError
        If it holds something that is neither data nor of a known class; the
        message says where.

    Examples
    --------
    >>> import skanomaly, tempfile
    >>> from pathlib import Path
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = skanomaly.PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "brick.skanomaly"
    ...     skanomaly.save(detector, path)
    ...     again = skanomaly.load(path)
    >>> bool((again.score_samples(X) == detector.score_samples(X)).all())
    True
    """
    encoder = _Encoder()
    document = {
        "format": FORMAT,
        "versions": {package: version(package) for package in PACKAGES},
        "estimator": encoder.encode(estimator, type(estimator).__name__),
    }
    head = json.dumps(document).encode()
    body = len(head).to_bytes(8, "little") + head + safetensors.numpy.save(encoder.tensors)
    with replaced(Path(path)) as file:
        file.write(MAGIC + hashlib.sha256(body).digest())
        file.write(body)


def load(path, *, classes=()):
    """Read a detector that `save` has written.

    Nothing but objects of known classes is built from it; no code of the file's
    author runs.

    Parameters
    ----------
    path : str or path-like
    classes : sequence of class, default=()
        Further classes that may be built: detectors, networks and estimators of
        your own.

    Returns
    -------
    estimator
        On the CPU until it scores.

    Raises
    ------
    ModelFileError
        If the file is damaged, cut short, no model, of a newer format, or asks for
        an unknown class.
    FileNotFoundError
        If there is no file.

    Warns
    -----
    UserWarning
        If it was written by other versions of the libraries.
    """
    path = Path(path)
    body = _checked(path, path.read_bytes())
    try:
        size = int.from_bytes(body[:8], "little")
        document = json.loads(body[8 : 8 + size])
        if document["format"] != FORMAT:
            raise ModelFileError(
                f"{path} is of format {document['format']}, this version reads {FORMAT}; update "
                "skanomaly"
            )
        tensors = safetensors.numpy.load(body[8 + size :])
        estimator = _Decoder(tensors, classes).decode(document["estimator"])
        versions = {package: str(document["versions"][package]) for package in PACKAGES}
    except ModelFileError:
        raise
    except Exception as error:  # its checksum is right, so somebody has made it so
        raise ModelFileError(f"{path} is no model that `save` writes ({error!r})") from error
    if not isinstance(estimator, BaseEstimator):
        raise ModelFileError(f"{path} holds a {type(estimator).__name__}, expected an estimator")
    _warn_of_versions(path, versions)
    return estimator


def _checked(path, content):
    """What follows the checksum, which is right."""
    start = len(MAGIC) + DIGEST_SIZE
    if not content.startswith(MAGIC):
        raise ModelFileError(
            f"{path} is no skanomaly model; it was not written by skanomaly.save, or is damaged"
        )
    body = content[start:]
    if hashlib.sha256(body).digest() != content[len(MAGIC) : start]:
        raise ModelFileError(f"{path} is damaged or cut short; copy or save it again")
    return body


def _warn_of_versions(path, saved):
    other = {p: (saved[p], version(p)) for p in PACKAGES if saved[p] != version(p)}
    if other:
        found = ", ".join(f"{p} {old} (here {here})" for p, (old, here) in other.items())
        warnings.warn(
            f"{path} was written with {found}; scores may differ, so check them or fit anew",
            stacklevel=3,
        )


class _Encoder:
    """Turns objects into what JSON can hold, and puts their tensors aside."""

    def __init__(self):
        self.tensors = {}

    def encode(self, value, where):
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, (list, tuple)):
            items = [self.encode(v, f"{where}[{i}]") for i, v in enumerate(value)]
            return {"kind": "list" if isinstance(value, list) else "tuple", "items": items}
        if isinstance(value, dict):
            items = [
                [self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()
            ]
            return {"kind": "dict", "items": items}
        if isinstance(value, (np.ndarray, np.generic)):
            return self._array(np.asarray(value), where)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, (torch.device, os.PathLike)):
            kind = "device" if isinstance(value, torch.device) else "path"
            return {"kind": kind, "is": str(value)}
        if isinstance(value, FeaturePyramid):
            return self._pyramid(value, where)
        if isinstance(value, AnomalyNet):
            module = self.encode(value.module_, f"{where}.module_")
            history = self.encode(list(value.history), f"{where}.history")
            return {"kind": "net", "module": module, "history": history}
        if isinstance(value, nn.Module):
            return self._module(value, where)
        if isinstance(value, BaseEstimator):
            return self._estimator(value, where)
        raise TypeError(
            f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be "
            "saved without pickle; leave it out, or use joblib.dump for those who trust you"
        )

    def _array(self, array, where):
        if array.dtype.kind in "OU":  # names of columns
            return {"kind": "texts", "items": self.encode(array.tolist(), where)}
        name = str(len(self.tensors))
        self.tensors[name] = np.ascontiguousarray(array)
        return {"kind": "array", "tensor": name, "shape": list(array.shape)}

    def _tensor(self, tensor):
        name = str(len(self.tensors))
        self.tensors[name] = tensor.detach().cpu().contiguous().numpy()
        return {
            "kind": "parameter" if isinstance(tensor, nn.Parameter) else "tensor",
            "tensor": name,
            "shape": list(tensor.shape),
            "requires_grad": tensor.requires_grad,
            "channels_last": _is_channels_last(tensor),  # for equal bits later
        }

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
        own = {k: v for k, v in state.items() if k not in _MODULE_ATTRIBUTES}
        return {
            "kind": "module",
            "class": _name(module),
            "training": module.training,
            "parameters": self.encode(dict(module._parameters), where),
            "buffers": self.encode(dict(module._buffers), where),
            "not_persistent": sorted(module._non_persistent_buffers_set),
            "modules": self.encode(dict(module._modules), where),
            "own": {k: self.encode(v, f"{where}.{k}") for k, v in own.items()},
        }

    def _estimator(self, estimator, where):
        parameters = estimator.get_params(deep=False)
        left_out = (*parameters, *getattr(estimator, "_not_saved", ()))
        fitted = {k: v for k, v in vars(estimator).items() if k not in left_out}
        parameters.update({k: None for k in _NOT_SAVED if k in parameters})
        return {
            "kind": "estimator",
            "class": _name(estimator),
            "parameters": {k: self.encode(v, f"{where}.{k}") for k, v in parameters.items()},
            "fitted": {k: self.encode(v, f"{where}.{k}") for k, v in fitted.items()},
        }


class _Decoder:
    """Builds objects from what `_Encoder` made of them."""

    def __init__(self, tensors, classes):
        self.tensors = tensors
        self.classes = {_class_name(cls): cls for cls in classes}

    def decode(self, node):
        if not isinstance(node, dict):
            return node
        if node["kind"] not in _KINDS:
            raise ModelFileError(f"{node['kind']!r} is no kind of object that a model file holds")
        return getattr(self, f"_{node['kind']}")(node)

    def _list(self, node):
        return [self.decode(item) for item in node["items"]]

    def _tuple(self, node):
        return tuple(self._list(node))

    def _dict(self, node):
        return {self.decode(key): self.decode(value) for key, value in node["items"]}

    def _texts(self, node):
        return np.array(self.decode(node["items"]), dtype=object)

    def _array(self, node):
        return self.tensors[node["tensor"]].reshape(node["shape"]).copy()

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
        with drawing_from(torch.Generator()):
            network = FrozenNetwork(found["name"], found["layers"], found["n_channels"], None)
        network.load_state_dict(self.decode(node["state"]))
        network.settle()
        return FeaturePyramid.of_network(network, found["engine"])

    def _net(self, node):
        return AnomalyNet.of_trained(
            self._of(nn.Module, node["module"]), self.decode(node["history"])
        )

    def _module(self, node):
        cls = self._class(node["class"], nn.Module)
        module = cls.__new__(cls)
        nn.Module.__init__(module)
        own = {k: self.decode(v) for k, v in node["own"].items()}
        if reserved := [k for k in own if k in _MODULE_ATTRIBUTES or k.startswith("__")]:
            raise ModelFileError(f"a network sets {reserved}, which are PyTorch's own")
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
        for name in fitted:
            if name not in _PRIVATE and (name.startswith("_") or not name.endswith("_")):
                raise ModelFileError(f"{name} of {cls.__name__} is no fitted attribute")
        # A cache holds pickles, so that a file must not say where one is.
        parameters.update({k: None for k in _NOT_SAVED if k in parameters})
        estimator = cls(**parameters)
        vars(estimator).update(fitted)
        return estimator

    def _of(self, kind, node):
        value = self.decode(node)
        if not isinstance(value, kind):
            raise ModelFileError(f"found a {type(value).__name__}, expected {kind.__name__}")
        return value

    def _class(self, name, kind):
        cls = self.classes.get(name) or _known_class(name)
        if cls is None or not issubclass(cls, kind):
            raise ModelFileError(
                f"{name} is no class that may be built from a file; if it is yours, pass it as "
                "load(path, classes=[...])"
            )
        return cls


_KINDS = (
    *("list", "tuple", "dict", "texts", "array", "tensor", "parameter", "device", "path"),
    *("pyramid", "net", "module", "estimator"),
)
_MODULE_ATTRIBUTES = set(vars(nn.Module()))


def _is_channels_last(tensor):
    if tensor.ndim != 4 or not tensor.is_contiguous(memory_format=torch.channels_last):
        return False
    other = torch.empty(tensor.shape, device="meta", memory_format=torch.channels_last)
    return tensor.stride() == other.stride()  # `is_contiguous` overlooks sides of one


def _name(instance):
    cls = type(instance)
    if cls.__module__.startswith("torch.nn.modules.") and cls.__name__ in _LAYERS:
        return f"torch.nn.{cls.__name__}"
    return "sklearn.pipeline.Pipeline" if cls is Pipeline else _class_name(cls)


def _class_name(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def _known_class(name):
    module, _, name = name.rpartition(".")
    if module == "torch.nn" and name in _LAYERS:
        return getattr(nn, name)
    if (module, name) == ("sklearn.pipeline", "Pipeline"):
        return Pipeline
    if not _MODULES.fullmatch(module):
        return None
    found = getattr(import_module(module), name, None)
    is_own = isinstance(found, type) and found.__module__ == module
    return found if is_own else None
