"""Model files: read, written, and what they say of themselves."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path

from .._atomic import replaced
from ._output import CommandError, text_of


def load_detector(path, trust_pickle=False):
    """The fitted detector in a file, whose kind is seen from its content."""
    detector = load_estimator(path, trust_pickle)
    from ..deployment.onnx_detector import OnnxDetector

    if isinstance(detector, OnnxDetector):
        return detector
    from .._image_detector import ImageDetector

    if not isinstance(detector, ImageDetector):
        has_products = hasattr(type(detector), "offsets_")
        hint = "; save one product's, detectors_[name]" if has_products else ""
        raise CommandError(f"{path} holds a {type(detector).__name__}, expected a detector{hint}")
    if not hasattr(detector, "offset_"):
        raise CommandError(f"{path} holds a {type(detector).__name__} that is not fitted; fit it")
    return detector


def load_estimator(path, trust_pickle=False):
    """What a model file holds, whatever that is."""
    kind = kind_of_model(path)
    if kind == "onnx":
        from ..deployment.onnx_detector import OnnxDetector

        return OnnxDetector(path)
    if kind == "skanomaly":
        from ..deployment.files import load

        return load(path)
    return _load_pickle(path, trust_pickle)


def kind_of_model(path):
    """ "skanomaly", "onnx" or "pickle"; an error if a file is no model."""
    from ..deployment import kind_of

    if not Path(path).is_file():
        raise CommandError(f"there is no model {path}; make one with skanomaly fit")
    kind = kind_of(path)
    if kind is None:
        raise CommandError(
            f"{path} is no model: neither of skanomaly fit, skanomaly.save or export_onnx, nor a "
            "pickle"
        )
    return kind


def _load_pickle(path, is_trusted):
    import joblib

    if not is_trusted:
        raise CommandError(
            f"{path} is a pickle, which runs whatever code its author wrote; add --trust-pickle if "
            "you trust them, or have them write it with skanomaly.save"
        )
    try:
        return joblib.load(path)
    except Exception as error:
        raise CommandError(f"{path} cannot be loaded as a model ({text_of(error)})") from error


def write_model(detector, file, as_pickle=False):
    """Write a detector to a binary file."""
    if as_pickle:
        import joblib

        joblib.dump(detector, file)
    else:
        from ..deployment.files import save

        save(detector, file)


@contextmanager
def opened(path):
    """A binary file to write, where - is standard output."""
    if path != "-":
        with replaced(path) as file:
            yield file
        return
    with os.fdopen(os.dup(1), "wb") as file:
        yield file


def digest_of(path):
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def threshold_facts(detector):
    """What set the threshold, and what it promises, as a dict."""
    from .._unwrap import parameter_of
    from ..calibration import false_alarm_interval

    n = len(detector.validation_scores_)
    facts = {"threshold": -float(detector.offset_), "n_validation": n}
    rate = parameter_of(detector, "false_alarm_rate")
    if rate is not None:
        facts["false_alarm_rate"] = float(rate)
        provisional = getattr(detector, "is_provisional_", False)
        interval = None if provisional else false_alarm_interval(n, float(rate))
        facts["false_alarm_interval"] = interval
    return facts


def promise_in_words(facts):
    """What may be said of a threshold, from `threshold_facts`."""
    n, rate = facts["n_validation"], facts.get("false_alarm_rate")
    images, promise = (f"{n} image", "promises") if n == 1 else (f"{n} images", "promise")
    if rate is None:
        return f"set by {images}"
    if facts["false_alarm_interval"] is None:
        return f"asked for {rate:.1%} false alarms; one image, learnt from too, promises nothing"
    low, high = facts["false_alarm_interval"]
    return f"asked for {rate:.1%} false alarms; {images} {promise} {low:.1%} to {high:.1%} (95 %)"
