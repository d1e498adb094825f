import pytest
from sklearn.pipeline import Pipeline, make_pipeline

from skanomaly import (
    LocalContrast,
    MedianDifference,
    PaDiM,
    PatchAE,
    PatchCore,
    SelfSupervisedAE,
    make_ensemble,
)
from skanomaly.model_selection import _candidates as candidates
from skanomaly.synthesis import DefectGenerator


def names(pairs):
    return [name for name, _ in pairs]


def test_names_are_the_classes_numbered_where_equal():
    found = candidates.named([PaDiM(), PatchCore(), ("mine", PaDiM()), PaDiM(n_features=10)])
    assert names(found) == ["PaDiM-1", "PatchCore", "mine", "PaDiM-2"]


def test_a_pipeline_is_named_after_its_detector():
    assert names(candidates.named([make_pipeline("passthrough", PaDiM())])) == ["PaDiM"]


@pytest.mark.parametrize(
    ("detectors", "match"),
    [
        ([], "detectors is empty; pass one or more"),
        ([PaDiM], r"detectors\[0\] is a class"),
        ([PaDiM(), 3], r"detectors\[1\] is without fit \(3\)"),
        ([("a", PaDiM(), 2)], r"detectors\[0\] is \('a'.*expected a pair"),
        ([(3, PaDiM())], r"detectors\[0\] is \(3.*expected a pair"),
        ([("a", PaDiM()), ("a", PatchCore())], "the name 'a' stands twice"),
    ],
)
def test_what_is_no_detector(detectors, match):
    with pytest.raises(ValueError, match=match):
        candidates.named(detectors)


def test_baselines_come_first_unless_they_are_there():
    pairs = candidates.named([PaDiM(), ("floor", LocalContrast(smoothing=1.0))])
    assert names(candidates.with_baselines(pairs)) == ["MedianDifference", "PaDiM", "floor"]
    with pytest.raises(ValueError, match="'MedianDifference' is the name of a baseline"):
        candidates.with_baselines([("MedianDifference", PaDiM())])
    assert candidates.is_baseline(make_pipeline("passthrough", MedianDifference()))
    assert not candidates.is_baseline(PaDiM())


def test_baselines_see_the_same_range():
    pairs = candidates.with_baselines(candidates.named([PaDiM(value_range=(0, 4095))]))
    assert {d.value_range for _, d in pairs} == {(0, 4095)}
    with pytest.raises(ValueError, match=r"value_range of PaDiM is \(0, 4095\) and of PatchCore"):
        candidates.value_range_of(
            candidates.named([PaDiM(value_range=(0, 4095)), PatchCore(value_range=(0, 1))])
        )


def test_default_detectors_are_distinct_and_hold_the_baselines():
    found = candidates.default_detectors()
    assert len(set(names(found))) == len(found) == 9
    assert candidates.with_baselines(found) == found


TRAINED_WITH = {"image", "noise", "flat", "tint"}


@pytest.mark.parametrize(
    ("detector", "surfaces"),
    [
        (PaDiM(), set()),
        (make_ensemble(), set()),
        (PatchAE(), TRAINED_WITH),
        (SelfSupervisedAE(defects=DefectGenerator(types=["crack"])), {"hole"}),
        (PatchAE(defects=DefectGenerator(opacity=(0, 0))), set()),
        (
            Pipeline([("none", "passthrough"), ("last", PatchAE())]),
            {"image", "noise", "flat", "tint"},
        ),
        (make_ensemble(PaDiM(), PatchAE()), TRAINED_WITH),
    ],
)
def test_surfaces_that_a_detector_is_trained_with(detector, surfaces):
    assert candidates.surfaces_learnt(detector) == surfaces


def test_seeds_go_where_there_is_none():
    pipeline = make_pipeline("passthrough", PaDiM())
    assert candidates.seeded(pipeline, 3)[-1].random_state == 3
    assert pipeline[-1].random_state is None
    assert candidates.seeded(PaDiM(random_state=5), 3).random_state == 5
