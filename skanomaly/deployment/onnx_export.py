"""A fitted detector as one ONNX file, from raw image to map and score."""

from __future__ import annotations

import copy
import io
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._atomic import replaced
from ..exceptions import ExportError
from ..features import FeaturePyramid
from ..images import range_of
from ..maps import assemble_maps, reduce_maps, resize_matrix
from .onnx_detector import METADATA_KEY, OnnxDetector

OPSET = 17


class ParityReport(NamedTuple):
    """How an exported detector compares with the one it was made of."""

    n_images: int  #: images that both scored
    score_difference: float  #: largest difference of scores, relative to the largest score
    map_difference: float  #: largest difference of maps, relative to the largest map value
    n_other_labels: int  #: images whose verdicts differ


def export_onnx(detector, path, images, *, tolerance=1e-4):
    """Write a fitted detector as an ONNX file that needs neither PyTorch nor skanomaly.

    Input "images" are raw pixels, (n, H, W, C) of the dtype of `images` (int32 for
    uint16, which PyTorch's exporter does not know); outputs are "maps", float32
    (n, H, W), and "scores", float32 (n,), as of `transform` and `score_samples`. The
    threshold is in the file's metadata, as JSON under "skanomaly". n is free, and so
    are H and W for a detector with `image_size`; others take images of the size of
    the first of `images`.

    Parameters
    ----------
    detector : fitted detector
    path : str or path-like
        Customary suffix: ``.onnx``.
    images : batch of images
        Of your own, of one size, as the detector scores them: both score them,
        and nothing is written if they differ.
    tolerance : float, default=1e-4
        Largest difference of scores and maps, relative to the largest of each.

    Returns
    -------
    ParityReport

    Raises
    ------
    ExportError
        If the method cannot be expressed in ONNX (the message says why), or the
        file would differ from the detector by more than `tolerance` or in a label.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skanomaly import OnnxDetector, PaDiM, export_onnx
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=10, random_state=0).images
    >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "brick.onnx"
    ...     report = export_onnx(detector, path, X[:4])
    ...     served = OnnxDetector(path)
    >>> report.n_other_labels, served.predict(X[:4]).shape
    (0, (4,))
    """
    check_is_fitted(detector)
    if reason := getattr(detector, "_not_exportable", None):
        raise ExportError(f"{type(detector).__name__} cannot be exported: {reason}")
    raw = _raw_images(detector, images)
    model = _with_metadata(_traced(detector, raw), detector, raw)
    name = type(detector).__name__
    try:
        report = _compare(detector, model, raw)
    except Exception as error:  # what the exporter wrote need not be what runs
        raise ExportError(f"the exported {name} does not run: {error}") from error
    if not max(report.score_difference, report.map_difference) <= tolerance:  # NaN is no parity
        raise ExportError(
            f"the exported {name} differs from the detector by {report.score_difference:.1e} in "
            f"scores and {report.map_difference:.1e} in maps, more than tolerance={tolerance:g}"
        )
    if report.n_other_labels:
        raise ExportError(
            f"the exported {name} gives {report.n_other_labels} of {report.n_images} images "
            "another label; their scores lie at the threshold"
        )
    with replaced(Path(path)) as file:
        file.write(model)
    return report


def _raw_images(detector, images):
    """The images as one array (n, H, W, C)."""
    dataset = detector._open(images)
    raw = [dataset._read(i) for i in range(len(dataset))]
    for i, image in enumerate(raw):
        if (image.shape, image.dtype) != (raw[0].shape, raw[0].dtype):
            raise ExportError(
                f"image {i} is {image.dtype} of shape {image.shape}, image 0 {raw[0].dtype} of "
                f"{raw[0].shape}; export takes images of one kind and size"
            )
    return np.stack(raw)


class _Graph(nn.Module):
    """What is exported: the detector between raw pixels and its own-sized map."""

    def __init__(self, detector, dtype):
        super().__init__()
        self.detector = detector
        self.modules_of_detector = nn.ModuleList(detector._modules_fitted())
        self.low, self.high = range_of(dtype, detector.value_range)

    def forward(self, images):
        detector, own_size = self.detector, images.shape[1:3]
        seen_size = detector._seen_size
        if seen_size is None:  # then all images are of one
            seen_size = own_size = [int(n) for n in own_size]
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = (pixels - self.low) / (self.high - self.low)
        if seen_size is not own_size:
            rows, columns = (resize_matrix(n, m).float() for n, m in zip(own_size, seen_size))
            pixels = rows @ pixels @ columns.T
            # Sizes are fixed from here on, which some operators need to know.
            pixels = pixels.reshape(-1, detector.n_channels_in_, *seen_size)
        maps = detector._compute_maps(pixels)
        total = assemble_maps(maps, seen_size, own_size, detector.smoothing)
        return total, -reduce_maps(total, detector.score_reduction).float()


def _traced(detector, raw):
    detector = copy.deepcopy(detector)
    for module in detector._modules_fitted():
        if isinstance(module, FeaturePyramid):
            module.engine, module.memory = "torch", None
    detector._prepare_export()
    detector.set_params(device="cpu").score_samples(
        raw[:1]
    )  # what is computed once is computed now
    free = {0: "n"}
    images = dict(free) if detector._seen_size is None else {**free, 1: "height", 2: "width"}
    buffer = io.BytesIO()
    example = np.resize(raw, (2, *raw.shape[1:])).astype(_input_dtype(raw.dtype))
    example = torch.from_numpy(example)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing's notices; the comparison decides
        try:
            torch.onnx.export(
                _Graph(detector, raw.dtype).eval(),
                (example,),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["maps", "scores"],
                dynamic_axes={"images": images, "maps": images, "scores": free},
            )
        except Exception as error:  # exporters fail in many ways
            raise ExportError(f"{type(detector).__name__} cannot be exported: {error}") from error
    return buffer.getvalue()


def _input_dtype(dtype):
    """That of the graph's input: the images' own, but for uint16, which PyTorch cannot export."""
    return np.dtype(np.int32) if dtype == np.uint16 else dtype.newbyteorder("=")


def _with_metadata(content, detector, raw):
    model = onnx.load_from_string(content)
    low, high = range_of(raw.dtype, detector.value_range)
    document = {
        "detector": type(detector).__name__,
        "offset": detector.offset_,
        "map_threshold": detector.map_threshold_,
        "dtype": raw.dtype.name,
        "input_dtype": _input_dtype(raw.dtype).name,
        "value_range": [low, high],
        "n_channels": raw.shape[3],
        "size": None if detector._seen_size is not None else list(raw.shape[1:3]),
        "min_image_size": _smallest_size(detector),
        "skanomaly": version("skanomaly"),
    }
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(document)})
    return model.SerializeToString()


def _smallest_size(detector):
    """Pixels that an image must have a side; what is resized first may have any."""
    return 1 if detector._seen_size is not None else getattr(detector, "min_image_size_", 1)


def _compare(detector, model, raw):
    served, expected = OnnxDetector(model), detector.detect(raw)
    found = served.detect(raw)
    single = served.detect(raw[:1])  # another number of images than it was traced with
    scores = np.append(found.scores, single.scores), np.append(expected.scores, expected.scores[0])
    maps = (np.concatenate([a, b[:1]]) for a, b in ((found.maps, single.maps), 2 * [expected.maps]))
    return ParityReport(
        len(raw),
        *(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in (scores, maps)),
        int((found.labels != expected.labels).sum()),
    )
