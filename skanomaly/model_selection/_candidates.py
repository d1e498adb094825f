"""The detectors that a search compares, by name."""

from __future__ import annotations

from collections import Counter

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._unwrap import steps_of

_METHODS = ("fit", "score_samples", "transform")


def named(detectors):
    """Pairs (name, detector) from detectors, or such pairs.

    Names are those of the classes, numbered where several are equal.

    Raises
    ------
    ValueError
        If there is none, an item is neither, or names are not unique.
    """
    if not len(detectors):
        raise ValueError("detectors is empty; pass one or more, or None for those to begin with")
    pairs = [_pair(i, item) for i, item in enumerate(detectors)]
    counts, seen = Counter(name for name, _ in pairs), Counter()
    given = [isinstance(item, (tuple, list)) for item in detectors]
    for i, (name, detector) in enumerate(pairs):
        if counts[name] == 1:
            continue
        if given[i]:
            raise ValueError(f"the name {name!r} stands twice in detectors; give each its own")
        seen[name] += 1
        pairs[i] = f"{name}-{seen[name]}", detector
    return pairs


def _pair(i, item):
    if isinstance(item, (tuple, list)):
        if len(item) != 2 or not isinstance(item[0], str):
            raise ValueError(f"detectors[{i}] is {item!r:.60}, expected a pair (name, detector)")
        name, detector = item
    else:
        name, detector = _name_of(item), item
    missing = [method for method in _METHODS if not hasattr(detector, method)]
    if isinstance(detector, type) or missing:
        what = "a class" if isinstance(detector, type) else f"without {missing[0]}"
        raise ValueError(
            f"detectors[{i}] is {what} ({detector!r:.60}); pass detectors of images, such as "
            "PaDiM(), or pipelines that end in one"
        )
    return name, detector


def _name_of(item):
    return type(steps_of(item)[1]).__name__


def default_detectors():
    """Pairs (name, detector) to begin with: fast ones, and some that are trained.

    Returns
    -------
    list of (str, detector)
    """
    from ..compose.ensemble_detector import make_ensemble
    from ..detectors.fast_flow import FastFlow
    from ..detectors.hierarchical_feature_ae import HierarchicalFeatureAE
    from ..detectors.padim import PaDiM
    from ..detectors.patch_ae import PatchAE
    from ..detectors.patch_core import PatchCore
    from ..detectors.subspace_ad import SubspaceAD

    learning = [SubspaceAD(), PaDiM(), PatchCore(), PatchAE(), FastFlow(), HierarchicalFeatureAE()]
    pairs = [*baselines(None), *named(learning)]
    return [*pairs[:5], ("make_ensemble()", make_ensemble()), *pairs[5:]]


def baselines(value_range):
    """Pairs (name, detector) of those that learn nothing, or next to nothing."""
    from ..detectors.local_contrast import LocalContrast
    from ..detectors.median_difference import MedianDifference

    kinds = (LocalContrast, MedianDifference)
    return named([kind(value_range=value_range) for kind in kinds])


def with_baselines(pairs):
    """The pairs, and before them those baselines that are not among them."""
    there = {type(steps_of(detector)[1]) for _, detector in pairs}
    names = {name for name, _ in pairs}
    missing = [
        (name, detector)
        for name, detector in baselines(value_range_of(pairs))
        if type(detector) not in there
    ]
    for name, _ in missing:
        if name in names:
            raise ValueError(f"{name!r} is the name of a baseline, and of another detector; rename")
    return [*missing, *pairs]


def is_baseline(detector):
    """Whether a detector, or the last step of a pipeline, is one of the baselines."""
    return type(steps_of(detector)[1]).__name__ in dict(baselines(None))


def value_range_of(pairs):
    """The detectors' common `value_range`, by which defects are drawn.

    Raises
    ------
    ValueError
        If they differ.
    """
    found = {}
    for name, detector in pairs:
        value_range = getattr(steps_of(detector)[1], "value_range", None)
        found.setdefault(None if value_range is None else tuple(value_range), name)
    if len(found) > 1:
        (first, a), (second, b) = list(found.items())[:2]
        raise ValueError(
            f"value_range of {a} is {first} and of {b} {second}; defects are drawn onto the "
            "same images for all, so that they must agree"
        )
    return next(iter(found))


def surfaces_learnt(detector):
    """Surfaces of the drawn defects that a detector is trained with; empty if with none."""
    found = set()
    for part in [detector, *detector.get_params().values()]:
        if hasattr(type(part), "defects") and hasattr(part, "defects"):
            found |= _surfaces(part.defects)
    return found


def _surfaces(generator):
    from ..synthesis import CORRUPTION_TYPES, DEFECT_TYPES

    if generator is not None and generator.opacity is not None and not max(generator.opacity):
        return set()  # nothing is drawn
    types = None if generator is None else generator.types
    known = {**CORRUPTION_TYPES, **DEFECT_TYPES}
    return {known[name].texture for name in (CORRUPTION_TYPES if types is None else types)}


def seeded(detector, seed):
    """A clone in which each ``random_state`` that was None is a number."""
    copied = clone(detector)
    undecided = [
        name
        for name, value in copied.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    return copied.set_params(**dict.fromkeys(undecided, seed))


def fit_parameters(estimator, given):
    """Parameters of `fit` as a detector, or a pipeline around one, takes them."""
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(estimator, Pipeline):
        return given
    from sklearn import get_config

    if get_config()["enable_metadata_routing"]:
        return given
    last = estimator.steps[-1]
    inner = fit_parameters(last[1], given)
    return {f"{last[0]}__{name}": value for name, value in inner.items()}
