"""The part of ONNX's protocol buffers that is declared here is ONNX's own."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from skanomaly import OnnxDetector, export_onnx
from skanomaly.deployment import _onnx_file
from skanomaly.deployment._onnx_messages import ELEMENT_TYPES, EXTERNAL, ModelProto
from skanomaly.exceptions import ModelFileError

OWN = ModelProto.DESCRIPTOR.file.message_types_by_name
THEIRS = {
    "Tensor": onnx.TypeProto.Tensor.DESCRIPTOR,
    "Dimension": onnx.TensorShapeProto.Dimension.DESCRIPTOR,
}


@pytest.mark.parametrize("name", OWN)
def test_fields_are_those_of_onnx(name):
    theirs = THEIRS.get(name) or getattr(onnx, name).DESCRIPTOR
    for field in OWN[name].fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.is_repeated) == (other.number, other.is_repeated)
        assert (field.containing_oneof is None) == (other.containing_oneof is None)
        length_or_number = {field.TYPE_BYTES: field.TYPE_MESSAGE, field.TYPE_INT32: field.TYPE_ENUM}
        assert other.type in (field.type, length_or_number.get(field.type))
    for oneof in theirs.oneofs:
        if oneof.fields[0].name in OWN[name].fields_by_name:
            assert {f.name for f in oneof.fields} == {f.name for f in OWN[name].oneofs[0].fields}


def test_types_of_elements_are_those_of_onnx():
    assert {
        name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in ELEMENT_TYPES
    } == ELEMENT_TYPES
    assert all(_onnx_file._is_dtype(name) for name in ELEMENT_TYPES)
    assert EXTERNAL == TensorProto.EXTERNAL


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    from conftest import DistanceToMean

    X = np.random.default_rng(0).integers(0, 256, (12, 24, 24), np.uint8)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(DistanceToMean().fit(X), path, X)
    return path


def test_a_file_is_read_as_onnx_reads_it(path):
    own, theirs = ModelProto.FromString(path.read_bytes()), onnx.load(path)
    assert [n.op_type for n in own.graph.node] == [n.op_type for n in theirs.graph.node]
    assert [list(n.input) for n in own.graph.node] == [list(n.input) for n in theirs.graph.node]
    for a, b in zip(own.graph.initializer, theirs.graph.initializer, strict=True):
        assert (a.name, list(a.dims), a.raw_data) == (b.name, list(b.dims), b.raw_data)


def test_what_is_written_twice_counts_as_it_does_for_those_who_run_it(path):
    """Protocol buffers merge a message that stands in a file several times."""
    content = path.read_bytes()
    hidden = onnx.ModelProto()
    hidden.graph.node.append(helper.make_node("Loop", [], ["x"]))
    with pytest.raises(ModelFileError, match="it holds the operator Loop"):
        OnnxDetector(content + hidden.SerializeToString())


def test_all_but_sizes_is_checked_without_onnx(path, tmp_path):
    """In a process that cannot import it, as beside the light runtime."""
    looped = onnx.load(path)
    looped.graph.node.append(helper.make_node("Loop", [], ["x"]))
    onnx.save(looped, tmp_path / "looped.onnx")
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from skanomaly.deployment.onnx_detector import OnnxDetector\n"
        "print(OnnxDetector(sys.argv[1]).n_channels_in_)\n"
        "OnnxDetector(sys.argv[2])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "looped.onnx"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "1"
    assert "it holds the operator Loop" in run.stderr
