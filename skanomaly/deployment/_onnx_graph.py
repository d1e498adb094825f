"""A fitted detector as an ONNX graph: what it computes of raw pixels, with or without regions.

PyTorch traces three parts: the detector's own maps, and what makes finished maps and scores
of them, once for whole images and once within regions; the graph runs one of the latter. A plain
graph has no regions.
"""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from .._process import exporting
from ..compose.transformed_image_detector import TransformedImageDetector
from ..features import FeaturePyramid
from ..images import range_of
from ..maps import assemble_maps, reduce_maps, resize_matrix

_OPSET = 17
_FREE = {0: "n", 1: "height", 2: "width"}


def graph_of(detector, raw, regions=True):
    """The graph of a fitted detector.

    Parameters
    ----------
    detector : BaseImageDetector
        Is left as it is.
    raw : ndarray, shape (n, H, W, C)
        Images, of which the dtype counts, and the size where the detector sees each
        image's own.
    regions : bool, default=True
        Whether there is a second input, the pixels that count.

    Returns
    -------
    onnx.ModelProto
    """
    steps = detector._steps() if isinstance(detector, TransformedImageDetector) else []
    if steps:
        detector = detector.detector_
        seen = _through(steps, torch.from_numpy(raw.astype(input_dtype(raw.dtype))))
        detector = _prepared(detector, seen.numpy().astype(raw.dtype))
    else:
        detector = _prepared(detector, raw)
    images = np.resize(raw, (2, *raw.shape[1:])).astype(input_dtype(raw.dtype))
    images = torch.from_numpy(images)
    free = {0: "n"} if detector._seen_size is None else _FREE
    own_maps = _OwnMaps(detector, raw.dtype, steps).eval()
    with torch.inference_mode():
        found = {f"map_{i}": phi.clone() for i, phi in enumerate(own_maps(images))}
    axes = {name: {0: "n"} for name in found} | {
        "images": free,
        "regions": free,
        "maps": free,
        "scores": {0: "n"},
    }
    finished = _Finished(detector, steps)
    model = _traced(own_maps, {"images": images}, list(found), axes)
    whole = _traced(finished, {**found, "images": images}, ["maps", "scores"], axes)
    if not regions:
        return _one_after_the_other(model, whole)
    everywhere = torch.ones(images.shape[:3], dtype=torch.bool)
    within = _traced(finished, {**found, "regions": everywhere}, ["maps", "scores"], axes)
    return _joined(model, whole, within)


def input_dtype(dtype):
    """That of the graph's images: their own, but for uint16, which PyTorch cannot export."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype.newbyteorder("=")


def _prepared(detector, raw):
    detector = copy.deepcopy(detector)
    for module in detector._modules_fitted():
        if isinstance(module, FeaturePyramid):
            module.engine, module.memory = "torch", None
    detector._prepare_export()
    # What is computed once is computed now.
    detector.set_params(device="cpu").score_samples(raw[:1])
    return detector


class _OwnMaps(nn.Module):
    """From raw pixels to the maps that the method gives, of its own resolutions."""

    def __init__(self, detector, dtype, steps):
        super().__init__()
        self.detector, self.steps = detector, steps
        self.modules_of_detector = nn.ModuleList(detector._modules_fitted())
        self.low, self.high = range_of(dtype, detector.value_range)

    def forward(self, images):
        detector, images = self.detector, _through(self.steps, images)
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = (pixels - self.low) / (self.high - self.low)
        if (seen_size := detector._seen_size) is not None:
            sizes = zip(images.shape[1:3], seen_size)
            rows, columns = (resize_matrix(n, m).float() for n, m in sizes)
            pixels = rows @ pixels @ columns.T
            # Sizes are fixed from here on, which some operators need to know.
            pixels = pixels.reshape(-1, detector.n_channels_in_, *seen_size)
        maps = detector._own_maps(pixels)
        return (maps,) if isinstance(maps, torch.Tensor) else tuple(maps)


class _Finished(nn.Module):
    """From the method's maps to those of the images' own size and to scores.

    The last input gives that size: the images, or their regions, which then count.
    """

    def __init__(self, detector, steps):
        super().__init__()
        self.detector, self.steps = detector, steps

    def forward(self, *inputs):
        *maps, whole = inputs
        last = whole
        for box in (step._cut for step in self.steps if step._cut is not None):
            top, left, bottom, right = box
            last = last[:, top:bottom, left:right]
        total, scores = self._finished(maps, last)
        if last is not whole:
            total = _placed_back(total, whole.shape[1:3], self.steps)
            if whole.ndim == 3:
                lowest = total.masked_fill(~whole, torch.inf).amin(dim=(1, 2), keepdim=True)
                total = torch.where(whole, total, lowest)
        return total, scores

    def _finished(self, maps, last):
        detector = self.detector
        regions = last if last.ndim == 3 else None
        own_size = last.shape[1:3]
        if (seen_size := detector._seen_size) is None:  # then all images are of one
            seen_size = own_size = [int(n) for n in own_size]
        smoothing = detector._smoothing_at(seen_size)
        total = assemble_maps(maps, seen_size, own_size, smoothing, regions)
        if regions is None:
            scores = reduce_maps(total, detector.score_reduction)
        else:
            scores = _reduced_within(total, regions, detector.score_reduction)
        return total, -scores.float()


def _through(steps, images):
    for step in steps:
        images = step._traced(images)
    return images


def _placed_back(maps, size, steps):
    """Maps of what is left of images, on all of these, whose size is known when a file is run."""
    top = sum(step._cut[0] for step in steps if step._cut is not None)
    left = sum(step._cut[1] for step in steps if step._cut is not None)
    rows, columns = (
        (torch.arange(n)[:, None] == torch.arange(m) + start).float()
        for n, m, start in zip(size, maps.shape[1:], (top, left))
    )
    lowest = maps.amin(dim=(1, 2), keepdim=True)
    return rows @ (maps - lowest) @ columns.T + lowest


def _reduced_within(maps, regions, reduction):
    """As `reduce_maps` of the pixels of each map's region."""
    if reduction == "max":
        return reduce_maps(maps, "max")  # outside, maps have their smallest value inside
    pixels, counted = maps.flatten(1).double(), regions.flatten(1)
    n_pixels = counted.sum(dim=1)
    if reduction in ("sum", "mean"):
        total = torch.where(counted, pixels, 0.0).sum(dim=1)
        return total / n_pixels if reduction == "mean" else total
    pixels = pixels.masked_fill(~counted, -torch.inf)
    n_highest = (n_pixels * float(reduction)).round().clamp(min=1)[:, None]
    ranks = torch.arange(torch.as_tensor(pixels.shape[1]))
    highest = torch.where(ranks < n_highest, pixels.sort(dim=1, descending=True).values, 0.0)
    return highest.sum(dim=1) / n_highest[:, 0]


def _traced(module, inputs, output_names, axes):
    """One part as an ONNX model, without anything that is computed from constants alone."""
    buffer = io.BytesIO()
    with exporting(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing's notices; the comparison decides
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=output_names,
            dynamic_axes={name: axes[name] for name in [*inputs, *output_names]},
        )
    model = onnx.load_from_string(buffer.getvalue())
    del model.graph.value_info[:]
    _fold_constants(model)
    _share_constants(model.graph)
    return model


def _fold_constants(model):
    """Compute what depends on no input, as a file with such parts is refused."""
    import onnxruntime

    graph = model.graph
    varying = {value.name for value in graph.input}
    constant, others = [], []
    for node in graph.node:
        is_constant = varying.isdisjoint(node.input)
        (constant if is_constant else others).append(node)
        varying.update([] if is_constant else node.output)
    used = {name for node in others for name in node.input} | {v.name for v in graph.output}
    names = [name for node in constant for name in node.output if name in used]
    stored = [tensor for tensor in graph.initializer if tensor.name in used]
    if names:
        needed = {name for node in constant for name in node.input}
        part = helper.make_graph(
            constant,
            "constants",
            [],
            [onnx.ValueInfoProto(name=name) for name in names],
            [tensor for tensor in graph.initializer if tensor.name in needed],
        )
        part = helper.make_model(
            part, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        session = onnxruntime.InferenceSession(
            part.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        stored += map(onnx.numpy_helper.from_array, session.run(names, {}), names)
    for field, values in ((graph.node, others), (graph.initializer, stored)):
        kept = list(values)
        del field[:]
        field.extend(kept)


def _share_constants(graph):
    """Store equal constants once, such as the matrices of rows and columns."""
    first, same_as = {}, {}
    for tensor in graph.initializer:
        content = tensor.data_type, tuple(tensor.dims), tensor.raw_data
        if tensor.raw_data:
            same_as[tensor.name] = first.setdefault(content, tensor.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same_as.get(name, name)
    kept = [t for t in graph.initializer if same_as.get(t.name, t.name) == t.name]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _one_after_the_other(model, finished):
    """One model: the maps of the first part, finished by the other, without any branch."""
    part = onnx.compose.add_prefix_graph(
        finished.graph,
        "finished/",
        rename_inputs=False,
        rename_outputs=False,
    )
    model.graph.node.extend(part.node)
    model.graph.initializer.extend(part.initializer)
    del model.graph.output[:]
    model.graph.output.extend(part.output)
    return model


def _joined(model, whole, within):
    """One model: the maps of the first part, finished by one of the other two."""
    graph, branches = model.graph, {}
    for name, part in (("then_branch", whole), ("else_branch", within)):
        branches[name] = onnx.compose.add_prefix_graph(part.graph, f"{name}/", rename_inputs=False)
        del branches[name].input[:]  # a branch sees the names around it
    graph.node.extend(
        [
            helper.make_node("Size", ["regions"], ["n_region_pixels"]),
            helper.make_node("Equal", ["n_region_pixels", "one"], ["is_whole"]),
            helper.make_node("If", ["is_whole"], ["maps", "scores"], **branches),
        ]
    )
    # What an input has as its initial value need not be passed: one pixel stands for all.
    graph.initializer.extend(
        [
            helper.make_tensor("regions", TensorProto.BOOL, [1, 1, 1], [True]),
            helper.make_tensor("one", TensorProto.INT64, [], [1]),
        ]
    )
    axes = [f"region_{axis}" for axis in _FREE.values()]
    graph.input.append(helper.make_tensor_value_info("regions", TensorProto.BOOL, axes))
    del graph.output[:]
    graph.output.extend(whole.graph.output)
    return model
