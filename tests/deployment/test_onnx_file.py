"""Files that are no exported detector, or one that was changed, are refused before they run."""

import contextlib
import json
import os
import resource
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import DistanceToMean
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from onnx import TensorProto, helper

from skanomaly import OnnxDetector, export_onnx
from skanomaly.exceptions import ModelFileError

X = np.random.default_rng(0).integers(0, 256, (12, 24, 24), np.uint8)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A detector's file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(DistanceToMean().fit(X), path, X)
    return path.read_bytes()


def refused(content, message="no detector that export_onnx writes"):
    with pytest.raises(ModelFileError, match=message):
        OnnxDetector(content)


def changed(content, change):
    model = onnx.load_from_string(content)
    change(model)
    return model.SerializeToString()


def with_metadata(content, **entries):
    def change(model):
        document = json.loads(model.metadata_props[0].value) | entries
        document = {key: value for key, value in document.items() if value != "missing"}
        helper.set_model_props(model, {"skanomaly": json.dumps(document)})

    return changed(content, change)


def test_what_was_written_is_taken(content):
    detector = OnnxDetector(content)
    OnnxDetector(with_metadata(content, offset=1, of_a_later_version=[None]))
    assert detector.metadata_["dtype"] == "uint8"
    assert detector.value_range == (0, 255)


# Metadata -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "offset",
        "map_threshold",
        "validation_scores",
        "seed",
        "dtype",
        "input_dtype",
        "value_range",
        "n_channels",
        "size",
        "min_image_size",
        "detector",
        "skanomaly",
    ],
)
def test_incomplete_metadata(content, key):
    refused(with_metadata(content, **{key: "missing"}), f"its metadata lacks '{key}'")
    refused(with_metadata(content, **{key: {}}), f"its metadata has '{key}': {{}}, expected")


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": float("nan")},
        {"offset": float("-inf")},
        {"offset": "-1"},
        {"offset": True},
        {"map_threshold": float("inf")},
        {"validation_scores": []},
        {"validation_scores": [-1.0, float("nan")]},
        {"validation_scores": -1.0},
        {"seed": -1},
        {"seed": 2**32},
        {"dtype": "object"},
        {"dtype": "complex64"},
        {"dtype": "uint8, (1000000000,)"},
        {"input_dtype": "str"},
        {"value_range": [0, 0]},
        {"value_range": [255, 0]},
        {"value_range": [0, float("nan")]},
        {"value_range": [0]},
        {"n_channels": 0},
        {"n_channels": 1.0},
        {"size": [0, 4]},
        {"size": 24},
        {"min_image_size": -1},
        {"min_image_size": None},
        {"detector": None},
    ],
)
def test_metadata_of_another_type(content, entries):
    (key,) = entries
    refused(with_metadata(content, **entries), f"its metadata has '{key}': .*, expected")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"n_channels": 3}, "input 'images' has not the type or shape"),
        ({"size": [24, 24]}, "input 'images' has not the type or shape"),
        ({"dtype": "float32", "input_dtype": "float32"}, "input 'images' has not the type"),
        ({"dtype": "float32"}, "'input_dtype': 'uint8', which does not hold 'dtype': 'float32'"),
    ],
)
def test_metadata_that_contradict_the_graph(content, entries, message):
    refused(with_metadata(content, **entries), message)


@pytest.mark.parametrize("value", ["", "{", "[]", "null", "1", "[" * 100_000])
def test_metadata_that_are_none(content, value):
    refused(changed(content, lambda m: helper.set_model_props(m, {"skanomaly": value})))


# Other files --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no model", bytes(100), b"\x0a" * 1000])
def test_no_model(content):
    refused(content)


def test_cut_short_or_damaged(content):
    for stop in range(0, len(content), 499):
        refused(content[:stop], "no detector that|cannot be run")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ModelFileError):
        OnnxDetector(bytes(damaged))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file.onnx: there is no such file"):
        OnnxDetector("no such file.onnx")
    with pytest.raises(ModelFileError, match="no regular file"):
        OnnxDetector(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_what_would_never_end(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", "/dev/zero"):
        with pytest.raises(ModelFileError, match="no regular file"):
            OnnxDetector(path)
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(ModelFileError, match="8589934592 bytes; no ONNX file is that large"):
        OnnxDetector(tmp_path / "huge.onnx")


# Graphs that ask for more than the file holds -------------------------------------------


def large_constant(*shape):
    """Nodes that fill an array of this shape, from constants."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [len(shape)], shape)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    return [
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["large"], value=value),
    ]


def graph_of(nodes, metadata):
    ends = [
        ("images", TensorProto.UINT8, ["n", "h", "w", 1]),
        ("regions", TensorProto.BOOL, ["a", "b", "c"]),
        ("maps", TensorProto.FLOAT, ["n", "h", "w"]),
        ("scores", TensorProto.FLOAT, ["n"]),
    ]
    images, regions, maps, scores = (helper.make_tensor_value_info(*end) for end in ends)
    whole = helper.make_tensor("regions", TensorProto.BOOL, [1, 1, 1], [True])
    graph = helper.make_graph(nodes, "graph", [images, regions], [maps, scores], [whole])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"skanomaly": json.dumps(metadata)})
    return model.SerializeToString()


def finish(large):
    """Nodes that make outputs of the images and something large."""
    return [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", [large], ["largest"], keepdims=0),
        helper.make_node("Add", ["x", "largest"], ["sum"]),
        helper.make_node("ReduceMax", ["sum"], ["maps"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["maps"], ["scores"], axes=[1, 2], keepdims=0),
    ]


def constant(name, values):
    values = np.asarray(values)
    return helper.make_node(
        "Constant", [], [name], value=onnx.numpy_helper.from_array(values, name)
    )


SHAPED_BY_IMAGES = [
    helper.make_node("Shape", ["images"], ["n_pixels"]),
    constant("many", np.array([1, 2000, 2000, 3000])),
    helper.make_node("Mul", ["n_pixels", "many"], ["shape"]),
    helper.make_node("ConstantOfShape", ["shape"], ["large"]),
]
EXPANDED = [
    helper.make_node("Cast", ["images"], ["y"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMax", ["y"], ["one"], keepdims=0),
    constant("shape", np.array([40_000, 40_000])),
    helper.make_node("Expand", ["one", "shape"], ["large"]),
]
TILED = [
    helper.make_node("Cast", ["images"], ["y"], to=TensorProto.FLOAT),
    constant("repeats", np.array([1, 1000, 1000, 1])),
    helper.make_node("Tile", ["y", "repeats"], ["large"]),
]
PADDED = [
    helper.make_node("Cast", ["images"], ["y"], to=TensorProto.FLOAT),
    constant("pads", np.array([0, 40_000, 40_000, 0, 0, 0, 0, 0])),
    helper.make_node("Pad", ["y", "pads"], ["large"]),
]
COUNTED = [
    constant("start", np.array(0.0)),
    constant("stop", np.array(2e9)),
    constant("step", np.array(1.0)),
    helper.make_node("Range", ["start", "stop", "step"], ["large_double"]),
    helper.make_node("Cast", ["large_double"], ["large"], to=TensorProto.FLOAT),
]
DRAWN = [helper.make_node("RandomUniform", [], ["large"], shape=[40_000, 40_000])]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (large_constant(40_000, 40_000), "computes ConstantOfShape from constants"),
        (COUNTED, "computes Range from constants"),
        (DRAWN, "holds the operator RandomUniform"),
        (SHAPED_BY_IMAGES, "pixels it asks for a tensor of .* numbers"),
        (EXPANDED, "pixels it asks for a tensor of 1600000000 numbers"),
        (TILED, "pixels it asks for a tensor of .* numbers"),
        (PADDED, "pixels it asks for a tensor of .* numbers"),
    ],
)
def test_small_files_that_ask_for_gigabytes(content, nodes, message, tmp_path):
    """Also those that were given the metadata of an exported detector."""
    metadata = OnnxDetector(content).metadata_
    refused(graph_of(nodes + finish("large"), metadata), message)
    refused(graph_of(nodes + finish("large"), {}), "its metadata lacks 'detector'")
    small = [helper.make_node("Cast", ["images"], ["large"], to=TensorProto.FLOAT)]
    OnnxDetector(graph_of(small + finish("large"), metadata)).predict(X)


def test_numbers_stored_in_few_bits_are_taken(content):
    metadata = OnnxDetector(content).metadata_
    stored = [
        constant("few", np.array([3], np.int8)),
        constant("scale", np.float32(0.5)),
        helper.make_node("DequantizeLinear", ["few", "scale"], ["large"]),
    ]
    computed = helper.make_node("Identity", ["few"], ["others"])
    others = [
        *stored[:2],
        computed,
        helper.make_node("DequantizeLinear", ["others", "scale"], ["large"]),
    ]
    added = [node for node in finish("large") if node.output[0] != "largest"]
    added[1] = helper.make_node("Add", ["x", "large"], ["sum"])
    served = OnnxDetector(graph_of(stored + added, metadata))
    assert_allclose(served.score_samples(X[:1]), [X[0].max() + 1.5])
    refused(graph_of(others + added, metadata), "computes Identity from constants")
    refused(graph_of(stored + finish("large"), metadata), "computes ReduceMax from constants")


def test_what_is_hidden_in_a_branch(content):
    def change(model):
        branch = next(n for n in model.graph.node if n.op_type == "If").attribute[0].g
        branch.node.extend(large_constant(40_000, 40_000))

    refused(changed(content, change), "computes ConstantOfShape from constants")


def test_refusing_takes_no_memory(content):
    """In a process that may not take what the file asks for."""
    metadata = OnnxDetector(content).metadata_
    limit = 3 * 2**30

    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    code = (
        "import sys; from skanomaly import OnnxDetector; from skanomaly.exceptions import *\n"
        "try: OnnxDetector(sys.stdin.buffer.read())\n"
        "except ModelFileError as error: print('from constants' in str(error))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=graph_of(large_constant(40_000, 40_000) + finish("large"), metadata),
        capture_output=True,
        preexec_fn=limited,
        check=True,
    )
    assert run.stdout.strip() == b"True"


# Parts that an exported detector does not have --------------------------------------------


def external(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def oversized(model):
    model.graph.initializer[0].dims[:] = [2**20, 2**20]


def negative(model):
    model.graph.initializer[0].dims[:] = [-1, -1]


def sparse(model):
    model.graph.sparse_initializer.add().dims[:] = [2**20, 2**20]


def function(model):
    model.functions.add(name="f", domain="")


def foreign(model):
    model.graph.node[0].domain = "com.microsoft"


def looped(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["images", ""], ["a"], body=body))


def another_input(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def another_output(model):
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def doubles(model):
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "lies in another file"),
        (oversized, "is of 1099511627776 numbers that it does not hold"),
        (negative, "numbers that it does not hold"),
        (sparse, "sparse tensors"),
        (function, "defines functions"),
        (foreign, "holds the operator com.microsoft"),
        (looped, "holds the operator Loop"),
        (another_input, r"its inputs are \['images', 'regions', 'more'\]"),
        (another_output, r"its outputs are \['maps', 'scores', 'more'\]"),
        (doubles, "its output 'scores' has not the type"),
    ],
)
def test_parts_that_no_exported_detector_has(content, change, message):
    refused(changed(content, change), message)
