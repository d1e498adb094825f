"""A fitted detector as one ONNX file, from raw image to map and score."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from .._atomic import replaced
from .._image_detector import ImageDetector
from .._unwrap import steps_of
from ..compose.flattened_images import FlattenedImages
from ..compose.multi_product_detector import MultiProductDetector
from ..compose.transformed_image_detector import TransformedImageDetector
from ..exceptions import ExportError
from ..images import ImageDataset, range_of
from ._onnx_file import METADATA_KEY
from ._onnx_graph import graph_of, input_dtype
from .onnx_detector import OnnxDetector


class ParityReport(NamedTuple):
    """How an exported detector compares with the one it was made of."""

    n_images: int  #: images that both scored
    score_difference: float  #: largest difference of scores, relative to their scale
    map_difference: float  #: largest difference of maps, relative to their scale
    n_other_labels: int  #: images at the threshold whose verdicts differ


def export_onnx(detector, path, images, *, tolerance=1e-4, regions=True):
    """Write a fitted detector as an ONNX file that needs neither PyTorch nor skanomaly.

    Input "images" are raw pixels, (n, H, W, C) of the dtype of `images` (int32 for
    uint16, which PyTorch's exporter does not know). Input "regions" may be left out:
    the pixels that count, bool (n, H, W). Outputs are "maps", float32 (n, H, W), and
    "scores", float32 (n,), as of `transform` and `score_samples`. The threshold is in
    the file's metadata, as JSON under "skanomaly". n is free, and so are H and W for a
    detector with `image_size`; others take images of the size of the first of `images`.

    Parameters
    ----------
    detector : fitted detector, or a Pipeline or search around one
        Of a pipeline whose earlier steps change images only the last step can be
        exported.
    path : str or path-like
        Customary suffix: ``.onnx``.
    images : batch of images
        Of your own, of one size, as the detector scores them: both score them,
        with and without a region, and nothing is written if they differ.
    tolerance : float, default=1e-4
        Largest difference of scores and maps, relative to the largest of each among
        these images, the validation images and the thresholds (to 1 where all are 0).
        An image whose score is this near to the threshold may get another label, as
        often one of the images that set it does; the report counts them.
    regions : bool, default=True
        Whether the file has the input "regions". Without it, it holds no branch, which
        quantisers and other engines than ONNX Runtime may not know.

    Returns
    -------
    ParityReport

    Raises
    ------
    ExportError
        If what is handed over is not, or holds more than, a detector of images; if
        the method cannot be expressed in ONNX (the message says why); or if the file
        would differ from the detector by more than `tolerance`.
    NotFittedError
        If the detector is not fitted.

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
    detector = _exportable(detector)
    name = type(detector).__name__
    raw = _raw_images(detector, images)
    metadata = _metadata(detector, raw)
    try:
        model = graph_of(detector, raw, regions)
    except Exception as error:  # exporters fail in many ways
        raise ExportError(f"{name} cannot be exported: {error}") from error
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata, allow_nan=False)})
    content = model.SerializeToString()
    try:
        report = _compare(detector, OnnxDetector(content), raw, regions)
    except Exception as error:  # what the exporter wrote need not be what runs
        raise ExportError(f"the exported {name} does not run: {error}") from error
    differences = report.score_difference, report.map_difference
    if not all(difference <= tolerance for difference in differences):  # NaN is no parity
        raise ExportError(
            f"the exported {name} differs from the detector by {report.score_difference:.1e} in "
            f"scores and {report.map_difference:.1e} in maps, more than tolerance={tolerance:g}; "
            "if so much does not matter, pass a larger tolerance"
        )
    with replaced(Path(path)) as file:
        file.write(content)
    return report


def _exportable(estimator):
    """The detector in what was handed over, if the whole of it can be a file."""
    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
        before, detector = steps_of(estimator)
    except NotFittedError:
        raise
    except Exception as error:  # of what is no estimator, or holds none
        raise ExportError(
            f"what was handed over is a {kind}, expected a fitted detector ({error})"
        ) from error
    name = type(detector).__name__
    if isinstance(detector, OnnxDetector):
        raise ExportError("OnnxDetector is an exported detector already; copy its file")
    if isinstance(detector, FlattenedImages):
        raise ExportError(
            "FlattenedImages takes rows, and a file takes images: export its detector_, with "
            "images as that one sees them, of image_shape_, enlarged to min_side, in the "
            "detector_'s value_range"
        )
    if isinstance(detector, MultiProductDetector):
        raise ExportError(
            "MultiProductDetector holds a detector for each product, and a file one: export "
            "detectors_[name], with images of that product"
        )
    if not isinstance(detector, ImageDetector):
        raise ExportError(
            f"{kind} is or ends in a {name}, which is no detector of images that can be exported; "
            "pass a fitted detector, or a search with refit=True"
        )
    check_is_fitted(detector)
    if before:
        raise ExportError(
            f"{kind} changes images by {', '.join(before)} before {name} sees "
            "them, which cannot be in the file: export the last step alone, with images as these "
            "steps give them, and apply the steps before the file"
        )
    if reason := getattr(detector, "_not_exportable", None):
        raise ExportError(f"{name} cannot be exported: {reason}")
    return detector


def _raw_images(detector, images):
    """The images as one array (n, H, W, C)."""
    if isinstance(detector, TransformedImageDetector):
        dataset = ImageDataset(images, value_range=_seen_by(detector).value_range)
    else:
        dataset = detector._open(images)
    raw = [dataset._read(i) for i in range(len(dataset))]
    for i, image in enumerate(raw):
        if (image.shape, image.dtype) != (raw[0].shape, raw[0].dtype):
            raise ExportError(
                f"image {i} is {image.dtype} of shape {image.shape}, image 0 {raw[0].dtype} of "
                f"{raw[0].shape}; export takes images of one kind and size"
            )
    return np.stack(raw)


def _metadata(detector, raw):
    innermost = _seen_by(detector)
    low, high = range_of(raw.dtype, innermost.value_range)
    for name in ("offset_", "map_threshold_"):
        if not np.isfinite(getattr(detector, name)):
            raise ExportError(
                f"{type(detector).__name__} has {name}={getattr(detector, name)}, with which there "
                "are no verdicts; fit it anew"
            )
    return {
        "detector": type(detector).__name__,
        "offset": float(detector.offset_),
        "map_threshold": float(detector.map_threshold_),
        "validation_scores": sorted(map(float, detector.validation_scores_)),
        "seed": detector._seed_of_ties(),
        "dtype": raw.dtype.name,
        "input_dtype": input_dtype(raw.dtype).name,
        "value_range": [float(low), float(high)],
        "n_channels": raw.shape[3],
        "size": None if innermost._seen_size is not None else list(raw.shape[1:3]),
        "min_image_size": _smallest_size(innermost),
        "skanomaly": version("skanomaly"),
    }


def _seen_by(detector):
    """The detector that sees what transformers make of images, if there are any."""
    return detector.detector_ if isinstance(detector, TransformedImageDetector) else detector


def _smallest_size(detector):
    """Pixels that an image must have a side; what is resized first may have any."""
    return 1 if detector._seen_size is not None else int(getattr(detector, "min_image_size_", 1))


def _compare(detector, served, raw, regions):
    found, expected = served.detect(raw), detector.detect(raw)
    pairs = [
        (found, expected),
        (served.detect(raw[:1]), detector.detect(raw[:1])),  # another number than was traced
    ]
    if regions:
        roi = np.ones(raw.shape[1:3], bool)
        roi[: len(roi) // 2, : roi.shape[1] // 2] = False
        pairs.append((served.detect(raw[:1], roi=roi), detector.detect(raw[:1], roi=roi)))
    scores = _scale(expected.scores, detector.offset_, detector.validation_scores_)
    maps = _scale(expected.maps, detector.map_threshold_, detector.validation_maxima_)
    return ParityReport(
        len(raw),
        float(np.max([np.abs(a.scores - b.scores).max() for a, b in pairs]) / scores),
        float(np.max([np.abs(a.maps - b.maps).max() for a, b in pairs]) / maps),
        int(np.count_nonzero(found.labels != expected.labels)),
    )


def _scale(*values):
    """The largest absolute value, or 1 where all are 0."""
    return max(float(np.abs(v).max()) for v in values) or 1.0
