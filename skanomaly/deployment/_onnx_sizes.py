"""What an ONNX file asks for while it scores, as far as shapes can be known without running."""

from __future__ import annotations

import math

# Of one tensor while an image of `_EXAMPLE_SIDE` is scored: 1 GiB in single precision.
# Files for one size of images may take more for large ones.
_MAX_NUMBERS = 2**28
_MAX_NUMBERS_A_PIXEL = 2**12
_EXAMPLE_SIDE = 64
_STORED = 1024  # numbers above which a constant cannot be the shape of a tensor
_DATA = (
    *("raw_data", "float_data", "int32_data", "int64_data"),
    *("double_data", "uint64_data", "string_data"),
)


def huge_tensor(content, metadata):
    """What is said of a file that asks for a huge tensor.

    Parameters
    ----------
    content : bytes
        Of a graph that computes nothing from constants alone.
    metadata : dict
        Of the file.

    Returns
    -------
    str or None
        None if it asks for none.
    """
    import onnx

    model = onnx.load_from_string(content)
    side = max(_EXAMPLE_SIDE, metadata["min_image_size"])
    shape, limit = [1, side, side], _MAX_NUMBERS
    if metadata["size"] is not None:
        shape = [1, *metadata["size"]]
        limit = max(limit, _MAX_NUMBERS_A_PIXEL * math.prod(shape))
    for value, example in zip(model.graph.input, ([*shape, metadata["n_channels"]], shape)):
        for dim, n in zip(value.type.tensor_type.shape.dim, example):
            dim.dim_value = n
    for graph in _graphs(model.graph):
        del graph.value_info[:]
        for tensor in graph.initializer:  # which would be copied several times
            if math.prod(tensor.dims) > _STORED:
                for field in _DATA:
                    tensor.ClearField(field)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    # The stored default of the regions is of another shape than the example.
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "regions"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for graph in _graphs(onnx.shape_inference.infer_shapes(model, data_prop=True).graph):
        for value in [*graph.value_info, *graph.output]:
            n_numbers = math.prod(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
            if n_numbers > limit:
                return (
                    f"for an image of {shape[1]} x {shape[2]} pixels it asks for a tensor of "
                    f"{n_numbers} numbers"
                )
    return None


def _graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for part in [attribute.g, *attribute.graphs]:
                if part.node:
                    yield from _graphs(part)
