"""What a detector is, what it was fitted on, and what it promises, as a Markdown file."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._markdown import code, escaped, table
from .._unwrap import steps_of, value_range_of
from ..calibration import false_alarm_interval
from ..deployment import kind_of
from ..images import ImageDataset
from ._provenance import versions

_MISSING = "[More Information Needed]"
_LOADED_BY = {
    "skanomaly": "import skanomaly\n\ndetector = skanomaly.load({name!r})",
    "onnx": "from skanomaly import OnnxDetector\n\ndetector = OnnxDetector({name!r})",
    "pickle": (
        "import joblib\n\n# A pickle runs code of its author: load it only if you trust them.\n"
        "detector = joblib.load({name!r})"
    ),
}
_SCORED = """
found = detector.detect(["new/part_17.png"])
found.labels  # (n,)      +1 normal, -1 anomalous
found.scores  # (n,)      higher = more normal
found.maps  # (n, H, W) higher = more anomalous"""


def model_card(
    detector,
    evaluation=None,
    *,
    X=None,
    path=None,
    intended_use=None,
    limitations=None,
    authors=None,
    contact=None,
    citation=None,
    license=None,
):
    """A card of a fitted detector: what it is, what it was fitted on, what it promises.

    Parameters
    ----------
    detector : fitted detector, OnnxDetector, or a Pipeline or search around one
    evaluation : EvaluationReport or None, default=None
        What `skanomaly.metrics.evaluate` found on images that it was not fitted on.
    X : batch of images or None, default=None
        The images that it was fitted on, for their number, sizes and checksum; of files
        only heads are read, and the checksum is of their names, sizes and times.
    path : str, path-like or None, default=None
        The model's file, for its checksum and how it is loaded.
    intended_use, limitations, authors, contact, citation : str or None, default=None
        Markdown of your own. Where None, the card says what is known, or that
        information is needed.
    license : str or None, default=None
        Identifier of the model's licence, as Hugging Face has them, such as "bsd-3-clause".

    Returns
    -------
    str
        Markdown with front matter in YAML, as Hugging Face's model cards have it, and the
        headings of skops' cards.

    Raises
    ------
    NotFittedError
        If the detector is not fitted.
    TypeError
        If it is no detector, or `evaluation` is no report.
    InvalidImageError
        If an image of `X` cannot be used.
    OSError
        If there is no file at `path`.

    References
    ----------
    M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, arXiv:1810.03993.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> from skanomaly.reports import model_card
    >>> X = make_texture_defects("brick", n_normal=40, image_size=64).images
    >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
    >>> card = model_card(detector, X=X, license="bsd-3-clause")
    >>> print(*[line for line in card.splitlines() if line.startswith("#")], sep="\\n")
    # Model description
    ## Intended uses & limitations
    ## Training Procedure
    ### Training data
    ### Threshold
    ### Hyperparameters
    ### Versions
    ## Evaluation Results
    # How to Get Started with the Model
    # Model Card Authors
    # Model Card Contact
    # Citation
    """
    steps, inner = _checked(detector, evaluation)
    kind = type(inner).__name__
    made_by = getattr(inner, "metadata_", {}).get("detector")
    sections = [
        ("# Model description", _description(inner, kind, made_by, steps)),
        ("## Intended uses & limitations", _limits(inner, intended_use, limitations)),
        ("## Training Procedure", ""),
        ("### Training data", _training_data(inner, X)),
        ("### Threshold", _thresholds(inner)),
        ("### Hyperparameters", _parameters(detector)),
        ("### Versions", _versions(inner)),
        ("## Evaluation Results", _MISSING if evaluation is None else evaluation.to_markdown()),
        ("# How to Get Started with the Model", _how_to_load(detector, path)),
        ("# Model Card Authors", authors or _MISSING),
        ("# Model Card Contact", contact or _MISSING),
        ("# Citation", citation or _MISSING),
    ]
    front = _front_matter(made_by or kind, evaluation, license)
    return "\n\n".join([front, *(part for pair in sections for part in pair if part)]) + "\n"


def _checked(detector, evaluation):
    """Names of the steps before a fitted detector, and the detector."""
    if not hasattr(detector, "fit"):
        raise TypeError(f"detector is a {type(detector).__name__}, expected a fitted detector")
    check_is_fitted(detector)
    steps, inner = steps_of(detector)
    check_is_fitted(inner)
    if not hasattr(inner, "offset_") and not hasattr(inner, "offsets_"):
        raise TypeError(
            f"detector is or ends in a {type(inner).__name__}, expected a detector of anomalies"
        )
    if evaluation is not None and not hasattr(evaluation, "to_markdown"):
        raise TypeError(
            f"evaluation is a {type(evaluation).__name__}, expected what "
            "skanomaly.metrics.evaluate returns"
        )
    return steps, inner


def _front_matter(kind, evaluation, license):
    """Values are JSON, which YAML takes."""
    tags = ["anomaly-detection", "visual-anomaly-detection", "image-segmentation", kind]
    entries = {"library_name": "skanomaly", "license": license, "tags": tags}
    entries["metrics"] = None if evaluation is None else list(evaluation)
    lines = [f"{key}: {json.dumps(value)}" for key, value in entries.items() if value is not None]
    return "\n".join(["---", *lines, "---"])


def _description(detector, kind, made_by, steps):
    what = (type(detector).__doc__ or "").strip().splitlines()
    lines = [f"A `{kind}` of [skanomaly](https://github.com/skanomaly/skanomaly)"]
    if made_by:
        lines[0] += f", exported from a `{made_by}`"
    lines[0] += f". {escaped(what[0])}" if what else "."
    if steps:
        lines.append(f"Images go through these steps first: {', '.join(map(code, steps))}.")
    lines.append(
        "It gives each image a score (higher = more normal), a verdict (+1 normal, -1 anomalous) "
        "and a map of where it is anomalous."
    )
    return "\n\n".join(lines)


def _limits(detector, intended_use, limitations):
    n_channels = getattr(detector, "n_channels_in_", None)
    size = getattr(detector, "image_size", None)
    known = [
        "It learns from normal images alone, and flags what differs from them: also what is "
        "harmless, such as other light, another camera or another batch of material.",
        "Threshold and p-values hold for new images of the source that set the threshold.",
    ]
    if n_channels is not None:
        s = "" if n_channels == 1 else "s"
        known.append(f"It takes images of {n_channels} channel{s} only.")
    if size is not None:
        known.append(
            f"Images are resized to {_as_size(size)} pixels: defects of a few pixels there are "
            "easily missed."
        )
    uses = intended_use or f"Intended use: {_MISSING}"
    return "\n\n".join(filter(None, [uses, "\n".join(f"- {line}" for line in known), limitations]))


def _as_size(size):
    return f"{size} x {size}" if np.isscalar(size) else " x ".join(map(str, size))


def _training_data(detector, X):
    found = []
    if X is not None:
        images = ImageDataset(X, value_range=value_range_of(detector))
        first = images.as_stored(0)
        sizes = Counter(tuple(map(int, images.size_of(i))) for i in range(len(images)))
        said = ", ".join(f"{n} of {_as_size(size)} pixels" for size, n in sizes.most_common(5))
        more = f", {len(sizes) - 5} further sizes" if len(sizes) > 5 else ""
        found += [
            ("images", len(images)),
            ("height x width", said + more),
            ("channels, dtype of the first", f"{first.shape[2]}, {first.dtype}"),
            ("checksum (SHA-256 of what names them)", images.digest()),
        ]
    elif hasattr(detector, "n_images_"):
        found.append(("images", detector.n_images_))
    if X is None and hasattr(detector, "n_channels_in_"):
        found.append(("channels", detector.n_channels_in_))
    if getattr(detector, "n_left_out_", 0):
        found.append(("anomalous images, left out", detector.n_left_out_))
    if getattr(detector, "n_defects_", 0):
        found.append(("anomalous images, learnt from as such", detector.n_defects_))
    for name, scores in _validation_scores(detector):
        found.append((f"normal images that set the threshold {name}".strip(), len(scores)))
    return table(["", "value"], found) if found else _MISSING


def _of_products(detector):
    """(name, detector) of each product, or the one detector without a name."""
    members = getattr(detector, "fitted_detectors_", None)
    if members is None:
        return [("", detector)]
    return [(f"of {name}", member) for name, member in zip(detector.products_, members)]


def _validation_scores(detector):
    for name, member in _of_products(detector):
        scores = getattr(member, "validation_scores_", None)
        if scores is not None:
            yield name, scores


def _thresholds(detector):
    return "\n\n".join(_threshold(name, member) for name, member in _of_products(detector))


def _threshold(name, detector):
    of_product = f" {escaped(name)}" if name else ""
    said = f"Scores below {detector.offset_:.6g} (`offset_`){of_product} are flagged."
    rates = {
        value
        for key, value in _all_parameters(detector).items()
        if key.split("__")[-1] == "false_alarm_rate"
    }
    scores = getattr(detector, "validation_scores_", None)
    if scores is None or len(rates) != 1:
        return said
    (rate,) = rates
    if getattr(detector, "is_provisional_", False):
        return f"{said} It is provisional, set from a single image that was moved by a pixel."
    low, high = false_alarm_interval(len(scores), rate)
    return (
        f"{said} It is set for a `false_alarm_rate` of {rate:g} by the scores of {len(scores)} "
        f"normal images: of new normal images from the same source between {low:.1%} and "
        f"{high:.1%} will be flagged in the long run (19 of 20 such thresholds). p-values are "
        f"{1 / (len(scores) + 1):.3g} or higher."
    )


def _all_parameters(detector):
    return detector.get_params() if hasattr(detector, "get_params") else {}


def _parameters(detector):
    found = _all_parameters(detector)
    if not found:
        return "Those of the detector that was exported; they are part of the file."
    lines = [(key, repr(value)) for key, value in sorted(found.items())]
    return table(["Hyperparameter", "Value"], lines)


def _versions(detector):
    lines = list(versions().items())
    exported = getattr(detector, "metadata_", {}).get("skanomaly")
    if exported is not None:
        lines.append(("skanomaly that exported it", exported))
    return table(["package", "version, when the card was written"], lines)


def _how_to_load(detector, path):
    if path is None:
        kind, name = ("skanomaly" if hasattr(detector, "get_params") else "onnx"), None
    else:
        kind, name = kind_of(path), os.path.basename(os.fsdecode(path))
        if kind is None:
            raise ValueError(
                f"path={os.fsdecode(path)!r} holds no model: neither what skanomaly.save or "
                "export_onnx writes nor a pickle"
            )
    default = {"skanomaly": "model.skanomaly", "onnx": "model.onnx"}
    loaded = _LOADED_BY[kind].format(name=name or default[kind])
    parts = [f"```python\n{loaded}\n{_SCORED}\n```"]
    if path is not None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.path.getsize(path)
        parts.append(f"File {code(name)}: {size:,} bytes, SHA-256 `{digest}`.")
    return "\n\n".join(parts)
