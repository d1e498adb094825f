"""``skanomaly info``: what a model file holds, and what its threshold promises."""

from __future__ import annotations

import inspect
import os

import click

from .._parameters import equal_values
from ._app import command, trust_pickle
from ._models import digest_of, kind_of_model, load_estimator, promise_in_words, threshold_facts


@command()
@click.argument("model")
@trust_pickle
def info(output, model, trust_pickle):
    """Say what MODEL is: detector, parameters, versions, threshold and what it promises."""
    kind = kind_of_model(model)
    estimator = load_estimator(model, trust_pickle)
    facts = {
        "model": model,
        "kind": {"skanomaly": "skanomaly.save", "onnx": "ONNX", "pickle": "pickle"}[kind],
        "detector": _name_of(estimator),
        "bytes": os.path.getsize(model),
        "sha256": digest_of(model),
        "versions": _versions(model, kind, estimator),
        "is_fitted": hasattr(estimator, "offset_") or hasattr(estimator, "offsets_"),
    }
    if hasattr(estimator, "offset_"):
        facts |= threshold_facts(estimator)
        facts["map_threshold"] = float(estimator.map_threshold_)
        facts["n_channels"] = int(estimator.n_channels_in_)
    if hasattr(estimator, "offsets_"):
        facts["products"] = {str(name): -float(v) for name, v in estimator.offsets_.items()}
    facts["parameters"] = _parameters(estimator)
    _print(output, facts, _worth_saying(estimator, facts["parameters"]))
    output.document(facts)


def _name_of(estimator):
    metadata = getattr(estimator, "metadata_", {})
    return metadata.get("detector", type(estimator).__name__)


def _versions(model, kind, estimator):
    if kind == "skanomaly":
        from ..deployment.files import versions_in

        return versions_in(model)
    if kind == "onnx":
        return {"skanomaly": estimator.metadata_["skanomaly"]}
    return {}  # a pickle says at most that they differ, as a warning


def _parameters(estimator):
    """Parameters as text, those of parts as part__name; of an exported detector what it states."""
    if not hasattr(estimator, "get_params"):
        stated = ("dtype", "value_range", "n_channels", "size", "min_image_size")
        return {name: estimator.metadata_.get(name) for name in stated}
    found = {}
    for name, value in estimator.get_params().items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if any(hasattr(p[1] if isinstance(p, tuple) else p, "get_params") for p in parts if p):
            value = ", ".join(map(_named, parts))
        found[name] = value if _is_plain(value) else repr(value)
    return found


def _worth_saying(estimator, parameters):
    """Without those of parts that are as their classes have them."""
    if not hasattr(estimator, "get_params"):
        return parameters
    values, found = estimator.get_params(), {}
    for name, value in parameters.items():
        owner, _, own = name.rpartition("__")
        if owner:
            known = inspect.signature(type(values[owner])).parameters
            if own in known and equal_values(values[name], known[own].default):
                continue
        elif hasattr(values[name], "get_params") and name not in estimator.get_params(deep=False):
            continue  # a named part, which stands among the estimator's own
        found[name] = value
    return found


def _named(part):
    if isinstance(part, (tuple, list)):
        return f"{part[0]}: {type(part[1]).__name__}"
    return type(part).__name__


def _is_plain(value):
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _print(output, facts, parameters):
    lines = [
        f"{facts['model']}: {facts['detector']}, a file of {facts['kind']}",
        f"size        {facts['bytes'] / 2**20:.1f} MiB",
        f"SHA-256     {facts['sha256']}",
    ]
    if facts["versions"]:
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        lines.append(f"versions    {versions}")
    if "threshold" in facts:
        lines.append(f"threshold   {facts['threshold']:.6g}, {promise_in_words(facts)}")
        lines.append(f"map values  above {facts['map_threshold']:.6g} are marked")
    elif not facts["is_fitted"]:
        lines.append("not fitted")
    for name, value in facts.get("products", {}).items():
        lines.append(f"product     {name}: threshold {value:.6g}")
    lines.append("parameters")
    lines += [f"  {name} = {value}" for name, value in parameters.items()]
    output.report("\n".join(lines))
