"""Detectors from names, settings and pipeline files: classes of the project, nothing else."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from .._public import public_classes
from ._output import CommandError, text_of
from ._yaml import parsed_yaml

TO_START_WITH = "make_ensemble"


def names_of_detectors():
    """Names that --detector takes."""
    return [TO_START_WITH, *public_classes("detectors")]


def detector_named(name):
    """A detector with its defaults, by name."""
    if name not in names_of_detectors():
        raise CommandError(
            f"--detector: there is no detector {name}{_nearest(name, names_of_detectors())}"
        )
    return _known()[name]()


def class_named(name):
    """What a pipeline file may name: a class of detectors, composites or steps."""
    known = _known()
    if name not in known:
        raise CommandError(f"there is no {name} in skanomaly{_nearest(name, known)}")
    return known[name]


def detector_of_file(path):
    """The detector that a YAML file describes."""
    with open(path, "rb") as file:
        content = parsed_yaml(file.read(), path)
    if isinstance(content, dict) and "class" not in content and "steps" in content:
        content = {"class": "TransformedImageDetector", **content}
    try:
        estimator = _built(content, "", must=True)
    except CommandError as error:
        raise CommandError(f"{path}: {error}") from None
    from .._image_detector import ImageDetector

    if not isinstance(estimator, ImageDetector):
        raise CommandError(
            f"{path}: it describes a {type(estimator).__name__}, expected a detector of images, or "
            "one around others"
        )
    return estimator


def with_settings(estimator, settings):
    """An estimator with ``name=value`` set, each checked by the constraints of its owner."""
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or not name:
            raise CommandError(f"--set {setting}: expected name=value")
        value = _built(parsed_yaml(text, f"--set {setting}"), f"--set {name}")
        known = estimator.get_params()
        if name not in known:
            kind = type(estimator).__name__
            raise CommandError(
                f"--set {setting}: {kind} has no parameter {name}{_nearest(name, known)}"
            )
        estimator.set_params(**{name: value})
        owner, _, _ = name.rpartition("__")
        _check(estimator.get_params()[owner] if owner else estimator, f"--set {setting}")
    return estimator


def assign(estimator, option, **value):
    """Set a parameter where it is: of the estimator, or else of those that it is around."""
    ((name, new),) = value.items()
    if _assigned(estimator, name, new) == 0:
        raise CommandError(f"{option}: {type(estimator).__name__} has no {name}")
    _check(estimator, f"{option} {new}")


def fill(estimator, **values):
    """Set parameters that are None where they are."""
    for name, value in values.items():
        _assigned(estimator, name, value, only_none=True)


def _assigned(estimator, name, value, only_none=False):
    own = estimator.get_params(deep=False)
    if name in own:
        if not only_none or own[name] is None:
            estimator.set_params(**{name: value})
        return 1
    return sum(_assigned(part, name, value, only_none) for part in _parts(own))


def _parts(own):
    """Estimators among the values of parameters."""
    for value in own.values():
        if isinstance(value, list):
            yield from (part for _, part in value if hasattr(part, "get_params"))
        elif hasattr(value, "get_params") and not isinstance(value, type):
            yield value


def _known():
    """What may be built, by name."""
    from .. import preprocessing, synthesis
    from ..compose.ensemble_detector import make_ensemble

    found = {TO_START_WITH: make_ensemble, "DefectGenerator": synthesis.DefectGenerator}
    for name, module in public_classes("detectors", "compose").items():
        found[name] = getattr(import_module(f"skanomaly.{module}"), name)
    for name in preprocessing.__all__:
        cls = getattr(preprocessing, name)
        if isinstance(cls, type) and hasattr(cls, "get_params") and not name.startswith("Base"):
            found[name] = cls
    return found


def _built(content, where, must=False):
    """What a part of a description stands for: an estimator if it names a class."""
    if isinstance(content, dict):
        if "class" in content:
            return _built_class(content, where)
        if not must:
            return {key: _built(value, f"{where}.{key}") for key, value in content.items()}
    if isinstance(content, str) and (must or content in _known()):
        return _built_class({"class": content}, where)
    if must:
        raise CommandError(
            f"{_at(where)}expected the name of a class, or a mapping with class: and its "
            f"parameters, found {content!r:.60}"
        )
    if isinstance(content, list):
        return [_built(value, f"{where}[{i}]") for i, value in enumerate(content)]
    return content


def _built_class(content, where):
    name, known = content["class"], _known()
    if name not in known:
        raise CommandError(
            f"{_at(where)}there is no class {name!s:.60} of skanomaly{_nearest(str(name), known)}"
        )
    given = {str(key): value for key, value in content.items() if key != "class"}
    if "steps" in given and name == "TransformedImageDetector":
        given["transformer"] = given.pop("steps")
    parameters = {key: _value(key, value, where) for key, value in given.items()}
    make = known[name]
    cls = make if isinstance(make, type) else known["EnsembleDetector"]
    allowed = [p for p in cls._get_param_names() if cls is make or p != "detectors"]
    for key in parameters:
        if key not in allowed:
            raise CommandError(f"{_at(where)}{name} has no parameter {key}{_nearest(key, allowed)}")
    try:
        estimator = make(**parameters)
    except TypeError as error:
        raise CommandError(f"{_at(where)}{name}: {text_of(error)}") from None
    _check(estimator, _at(where).removesuffix(": ") or name)
    return estimator


def _value(key, value, where):
    """A parameter's value; some that are estimators are written shorter than others."""
    where = f"{where}.{key}".lstrip(".")
    if key == "transformer" and isinstance(value, (list, tuple)):
        from sklearn.pipeline import make_pipeline

        steps = [_built(step, f"{where}[{i}]", must=True) for i, step in enumerate(value)]
        if not steps:
            raise CommandError(f"{where}: there is no step; leave it out, or name one")
        return make_pipeline(*steps)
    if key == "detectors" and isinstance(value, dict):
        return [(str(n), _built(v, f"{where}.{n}", must=True)) for n, v in value.items()]
    return _built(value, where, must=key in ("detector", "transformer", "detectors"))


def _check(estimator, where):
    """Have an estimator check its parameters; the error names what set them."""
    validate = getattr(estimator, "_validate_params", None)
    if validate is None:
        return
    try:
        validate()
    except (ValueError, TypeError) as error:
        raise CommandError(f"{where}: {text_of(error)}") from None


def _at(where):
    return f"{where}: " if where else ""


def _nearest(name, known):
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
