"""What is taken for an exported detector: checked and bounded before ONNX Runtime sees it.

ONNX Runtime computes what depends on nothing but constants when it opens a file, so 600
bytes can ask for gigabytes. A file of `export_onnx` holds nothing of the kind: whatever it
computes depends on the images, and its constants are stored as they are. What it asks for
while it scores is estimated where the package onnx is installed, as it always is beside skanomaly.
"""

from __future__ import annotations

import json
import math
import os
import stat
from importlib.util import find_spec

import numpy as np

from ..exceptions import ModelFileError
from ._onnx_sizes import huge_tensor

METADATA_KEY = "skanomaly"

_MAX_BYTES = 2**31  # protocol buffers are shorter
_NUMBERS = (
    *("float_data", "int32_data", "int64_data"),
    *("double_data", "uint64_data", "string_data"),
)

# Operators that give no more numbers than the file holds.
_STORED_NUMBERS = {"Constant", "DequantizeLinear"}

# Operators that run others as often as they like, draw numbers, or read files.
_REFUSED = {
    *("Loop", "Scan", "SequenceMap"),
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
    *("RandomUniform", "RandomUniformLike", "ImageDecoder"),
}


class _Refused(Exception):
    """Why a content is no exported detector."""


def read_file(path):
    """Content of a regular file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    bytes

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ModelFileError
        If it is a folder, a pipe or a device, or too large to be a model.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: there is no such file")
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError(f"{path} is no regular file; pass the file that export_onnx wrote")
    if found.st_size >= _MAX_BYTES:
        raise ModelFileError(f"{path} is of {found.st_size} bytes; no ONNX file is that large")
    with open(path, "rb") as file:
        return file.read(found.st_size)


def check_content(content, name):
    """Check that a content is an exported detector.

    Parameters
    ----------
    content : bytes
    name : str
        What errors call it.

    Returns
    -------
    dict
        Its metadata, complete and of the types that scoring needs.

    Raises
    ------
    ModelFileError
        If it is not; it says why.
    """
    from ._onnx_messages import ModelProto

    try:
        model = ModelProto.FromString(content)
        metadata = _metadata(model)
        _check_ends(model, metadata)
        _check_graph(model.graph, set())
        del model
        if find_spec("onnx") is not None and (huge := huge_tensor(content, metadata)):
            raise _Refused(huge)
    except _Refused as refused:
        raise ModelFileError(f"{name} is no detector that export_onnx writes: {refused}") from None
    except Exception as error:  # what parses and infers shapes raises in many ways
        raise ModelFileError(
            f"{name} is no detector that export_onnx writes, or damaged ({error})"
        ) from error
    return metadata


def _is_int(value, least=1):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_range(value):
    return _is_pair(value, _is_number) and value[0] < value[1]


def _is_pair(value, is_item):
    return isinstance(value, list) and len(value) == 2 and all(map(is_item, value))


def _is_seed(value):
    return _is_int(value, least=0) and value < 2**32


def _are_numbers(value):
    return isinstance(value, list) and len(value) > 0 and all(map(_is_number, value))


def _is_dtype(value):
    return isinstance(value, str) and value in {
        "bool",
        *(f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
    }


_FIELDS = {
    "detector": (lambda value: isinstance(value, str), "the detector's class"),
    "offset": (_is_number, "a finite number"),
    "map_threshold": (_is_number, "a finite number"),
    "validation_scores": (_are_numbers, "finite numbers"),
    "seed": (_is_seed, "a whole number of 32 bits"),
    "dtype": (_is_dtype, "a dtype of real numbers"),
    "input_dtype": (_is_dtype, "a dtype of real numbers"),
    "value_range": (_is_range, "two ascending finite numbers"),
    "n_channels": (_is_int, "a positive integer"),
    "size": (lambda value: value is None or _is_pair(value, _is_int), "two sizes, or null"),
    "min_image_size": (_is_int, "a positive integer"),
    "skanomaly": (lambda value: isinstance(value, str), "the version that wrote it"),
}


def _metadata(model):
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in entries:
        raise _Refused(f'it has no metadata under "{METADATA_KEY}"')
    metadata = json.loads(entries[METADATA_KEY])
    if not isinstance(metadata, dict):
        raise _Refused(f"its metadata is a {type(metadata).__name__}, expected an object")
    for key, (is_valid, expected) in _FIELDS.items():
        if key not in metadata:
            raise _Refused(f"its metadata lacks {key!r}, {expected}")
        if not is_valid(metadata[key]):
            raise _Refused(f"its metadata has {key!r}: {metadata[key]!r:.80}, expected {expected}")
    if not np.can_cast(metadata["dtype"], metadata["input_dtype"]):
        raise _Refused(
            f"its metadata has 'input_dtype': {metadata['input_dtype']!r}, which does not hold "
            f"'dtype': {metadata['dtype']!r}"
        )
    return metadata


def _check_ends(model, metadata):
    """What goes in and comes out."""
    from ._onnx_messages import ELEMENT_TYPES

    size = metadata["size"] or [None, None]
    pixels = ELEMENT_TYPES[metadata["input_dtype"]]
    expected = {
        "input": {
            "images": (pixels, [None, *size, metadata["n_channels"]]),
            "regions": (ELEMENT_TYPES["bool"], 3 * [None]),
        },
        "output": {
            "maps": (ELEMENT_TYPES["float32"], 3 * [None]),
            "scores": (ELEMENT_TYPES["float32"], [None]),
        },
    }
    if [value.name for value in model.graph.input] == ["images"]:
        del expected["input"]["regions"]
    for end, values in expected.items():
        found = {value.name: value.type.tensor_type for value in getattr(model.graph, end)}
        if list(found) != list(values):
            raise _Refused(f"its {end}s are {list(found)}, expected {list(values)}")
        for name, (dtype, dims) in values.items():
            shape = found[name].shape.dim
            fits = len(shape) == len(dims) and all(
                n is None or found_n.dim_value == n for n, found_n in zip(dims, shape)
            )
            if found[name].elem_type != dtype or not fits:
                raise _Refused(f"its {end} {name!r} has not the type or shape of its metadata")
    if model.functions or model.training_info:
        raise _Refused("it defines functions")


def _check_graph(graph, varying):
    """That nothing is computed from constants alone, and constants are what the file holds."""
    if graph.sparse_initializer:
        raise _Refused("it holds sparse tensors")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    varying = varying.union(value.name for value in graph.input)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in _REFUSED:
            raise _Refused(
                f"it holds the operator {node.domain}{'.' * bool(node.domain)}{node.op_type}"
            )
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise _Refused("it holds sparse tensors")
            for tensor in [attribute.t] * attribute.HasField("t") + [*attribute.tensors]:
                _check_tensor(tensor)
            for part in [attribute.g, *attribute.graphs]:
                _check_graph(part, varying)
        if node.op_type in _STORED_NUMBERS and varying.isdisjoint(node.input):
            continue
        if varying.isdisjoint(node.input):
            raise _Refused(f"it computes {node.op_type} from constants, whatever the images are")
        varying.update(node.output)


def _check_tensor(tensor):
    from ._onnx_messages import EXTERNAL

    if tensor.data_location == EXTERNAL or tensor.external_data:
        raise _Refused(f"its tensor {tensor.name!r} lies in another file")
    held = len(tensor.raw_data) or sum(len(getattr(tensor, field)) for field in _NUMBERS)
    n_numbers = math.prod(tensor.dims)
    if min(tensor.dims, default=1) < 0 or n_numbers > 2 * held:  # of 4 bits or more
        raise _Refused(
            f"its tensor {tensor.name!r} is of {n_numbers} numbers that it does not hold"
        )
