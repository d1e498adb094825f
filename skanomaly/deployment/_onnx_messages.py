"""As much of ONNX's protocol buffers as tells what a file holds, read without the package onnx."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

#: Where a tensor's numbers lie, if not in the file itself.
EXTERNAL = 1
#: Numbers of the types of tensors, by NumPy's names.
ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}

# Field by name: number, type, and whether there may be several. Other fields are skipped; what
# is never looked into is bytes, which is written in the same way as a message.
_FIELDS = {
    "ModelProto": {
        "graph": (7, "GraphProto"),
        "metadata_props": (14, "StringStringEntryProto", "several"),
        "training_info": (20, "bytes", "several"),
        "functions": (25, "bytes", "several"),
    },
    "StringStringEntryProto": {"key": (1, "string"), "value": (2, "string")},
    "GraphProto": {
        "node": (1, "NodeProto", "several"),
        "initializer": (5, "TensorProto", "several"),
        "input": (11, "ValueInfoProto", "several"),
        "output": (12, "ValueInfoProto", "several"),
        "sparse_initializer": (15, "bytes", "several"),
    },
    "NodeProto": {
        "input": (1, "string", "several"),
        "output": (2, "string", "several"),
        "op_type": (4, "string"),
        "attribute": (5, "AttributeProto", "several"),
        "domain": (7, "string"),
    },
    "AttributeProto": {
        "t": (5, "TensorProto"),
        "g": (6, "GraphProto"),
        "tensors": (10, "TensorProto", "several"),
        "graphs": (11, "GraphProto", "several"),
        "sparse_tensor": (22, "bytes"),
        "sparse_tensors": (23, "bytes", "several"),
    },
    "TensorProto": {
        "dims": (1, "int64", "several"),
        "float_data": (4, "float", "several"),
        "int32_data": (5, "int32", "several"),
        "string_data": (6, "bytes", "several"),
        "int64_data": (7, "int64", "several"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
        "double_data": (10, "double", "several"),
        "uint64_data": (11, "uint64", "several"),
        "external_data": (13, "bytes", "several"),
        "data_location": (14, "int32"),
    },
    "ValueInfoProto": {"name": (1, "string"), "type": (2, "TypeProto")},
    "TypeProto": {
        "tensor_type": (1, "Tensor"),
        "sequence_type": (4, "bytes"),
        "map_type": (5, "bytes"),
        "opaque_type": (7, "bytes"),
        "sparse_tensor_type": (8, "bytes"),
        "optional_type": (9, "bytes"),
    },
    "Tensor": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (1, "Dimension", "several")},
    "Dimension": {"dim_value": (1, "int64"), "dim_param": (2, "string")},
}
# Of whose fields a message holds but one.
_ALTERNATIVES = {"TypeProto", "Dimension"}


def _model_class():
    file = FileDescriptorProto(name="skanomaly/onnx.proto", package="skanomaly", syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        if name in _ALTERNATIVES:
            message.oneof_decl.add(name="value")
        for field_name, (number, kind, *several) in fields.items():
            field = message.field.add(name=field_name, number=number)
            label = "LABEL_REPEATED" if several else "LABEL_OPTIONAL"
            field.label = FieldDescriptorProto.Label.Value(label)
            if kind in _FIELDS:
                field.type, field.type_name = (
                    FieldDescriptorProto.TYPE_MESSAGE,
                    f".skanomaly.{kind}",
                )
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
            if name in _ALTERNATIVES:
                field.oneof_index = 0
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("skanomaly.ModelProto"))


ModelProto = _model_class()
