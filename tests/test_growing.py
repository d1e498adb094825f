"""Detectors that go on learning, and several made one; for all that can."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly import InvalidImageError, LocalContrast, PatchCore, SubspaceAD, merge_detectors
from skanomaly.calibration import quantile_of_new
from skanomaly.datasets import make_texture_defects
from skanomaly.growing import GrowingDetector
from skanomaly.utils import all_detectors, small_detector

GROWING = [cls for _, cls in all_detectors() if issubclass(cls, GrowingDetector)]
EXACT = [cls for cls in GROWING if cls is not PatchCore]

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("brick", n_normal=40, image_size=64, random_state=0).images


@pytest.fixture(scope="module")
def further():
    return make_texture_defects("brick", n_normal=6, image_size=64, random_state=1).images


def named(cls):
    return cls.__name__


def relative(maps, expected):
    return np.abs(maps - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("cls", EXACT, ids=named)
@pytest.mark.parametrize("cuts", [[20], [3, 4, 30]])
def test_parts_give_the_maps_of_one_fit(cls, cuts, images, further):
    whole = small_detector(cls).fit(images, X_val=further)
    parts = np.split(images, cuts)
    grown = small_detector(cls).fit(parts[0], X_val=further)
    for part in parts[1:]:
        assert grown.partial_fit(part) is grown
    merged = merge_detectors([small_detector(cls).fit(p, X_val=further) for p in parts])
    for detector in (grown, merged):
        detector.calibrate(further)  # in whose units maps are
    expected = whole.transform(further)
    assert relative(grown.transform(further), expected) < 1e-6
    assert relative(merged.transform(further), expected) < 1e-6


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_further_images_set_the_threshold_before_they_are_learnt_from(cls, images):
    detector = small_detector(cls, false_alarm_rate=0.3).fit(images[:10])
    early = detector.validation_scores_
    before = detector.score_samples(images[10:20])
    detector.partial_fit(images[10:20])
    assert_allclose(detector.validation_scores_, [*early, *before], rtol=1e-5)
    assert detector.offset_ == quantile_of_new(detector.validation_scores_, 0.3)
    after = detector.score_samples(images[10:20])
    if cls is LocalContrast:  # which learns nothing
        assert_array_equal(after, before)
    else:
        assert after.mean() > before.mean()


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_a_stream_of_single_images_moves_the_threshold(cls, images):
    detector = small_detector(cls, false_alarm_rate=0.1).fit(images[:1])
    assert detector.is_provisional_
    for n, image in enumerate(images[1:30], start=2):
        detector.partial_fit(image[np.newaxis])
        assert detector.n_images_ == n
        assert (detector.n_before_ >= n / 2).all()
    assert not detector.is_provisional_
    assert len(detector.validation_scores_) == len(detector.n_before_) == 15
    assert (detector.predict(images[30:]) == -1).mean() <= 0.3


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_one_image_is_no_threshold_for_others(cls, images):
    single = [small_detector(cls).fit(images[i : i + 1]) for i in range(2)]
    whole = small_detector(cls).fit(images[2:12])
    merged = merge_detectors([*single, whole])
    assert_array_equal(merged.validation_scores_, whole.validation_scores_)
    assert merge_detectors(single).is_provisional_


def test_equal_parameters_in_another_form_are_equal(images):
    parts = [small_detector(SubspaceAD, layers=layers).fit(images) for layers in ((1, 2), [1, 2])]
    assert merge_detectors(parts).n_images_ == 80


def test_maps_of_another_shape_are_refused(images):
    from skanomaly import PaDiM

    wide, high = images[:6, :32], images[:6, :, :32]
    parts = [small_detector(PaDiM, image_size=None).fit(X) for X in (wide, high)]
    with pytest.raises(ValueError, match="another size of the images"):
        merge_detectors(parts)


@pytest.mark.parametrize("cls", [PatchCore, SubspaceAD], ids=named)
def test_maps_in_units_of_other_positions_are_refused(cls, images):
    parts = [
        small_detector(cls, image_size=None).fit(X) for X in (images[:6, :32], images[:6, :48])
    ]
    with pytest.raises(ValueError, match=r"detectors 1 and 0 .*other sizes; set image_size"):
        merge_detectors(parts)


def test_detectors_are_merged_from_a_list(images):
    with pytest.raises(ValueError, match=r"takes a list of detectors: merge_detectors\(\[a, b"):
        merge_detectors(small_detector(SubspaceAD).fit(images[:2]))


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_first_partial_fit_is_fit(cls, images, further):
    fitted, grown = small_detector(cls).fit(images), small_detector(cls).partial_fit(images)
    assert_array_equal(grown.transform(further), fitted.transform(further))
    assert grown.offset_ == fitted.offset_


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_a_failure_leaves_the_detector_as_it_was(cls, images):
    detector = small_detector(cls, batch_size=2).fit(images[:6])
    before, maps = dict(vars(detector)), detector.transform(images[:2])
    bad = [*images[6:12], np.zeros((64, 64, 3), np.uint8)]
    with pytest.raises(InvalidImageError, match="image 6: has 3 channels, expected 1"):
        detector.partial_fit(bad)
    assert vars(detector).keys() == before.keys()
    assert all(vars(detector)[name] is before[name] for name in before)
    assert_array_equal(detector.transform(images[:2]), maps)


@pytest.mark.parametrize("cls", GROWING, ids=named)
def test_merging_changes_none_and_keeps_all_scores(cls, images, further):
    parts = [small_detector(cls).fit(images[:12]), small_detector(cls).fit(images[12:])]
    before = [p.transform(further) for p in parts]
    merged = merge_detectors(parts)
    for part, maps in zip(parts, before):
        assert_array_equal(part.transform(further), maps)
    scores = np.concatenate([p.validation_scores_ for p in parts])
    assert_array_equal(merged.validation_scores_, scores)
    assert merged.offset_ == quantile_of_new(scores, merged.false_alarm_rate)
    assert merged.get_params() == parts[0].get_params()


def test_a_merged_memory_holds_what_its_parts_hold(images, further):
    parts = [small_detector(PatchCore, coreset=0.2).fit(p) for p in np.split(images, 2)]
    merged = merge_detectors(parts)
    n_patches = [len(p.bank_.patches) for p in (*parts, merged)]
    assert n_patches[2] == n_patches[0] + n_patches[1]
    assert merged.bank_.radius <= 1.1 * max(p.bank_.radius for p in parts)
    for detector in (*parts, merged):
        detector.standardize = None
        detector.fitted_parameters_["standardize"] = None
    nearest = np.minimum(*(p.transform(further) for p in parts))
    # Levels are brought to one scale, so that distances change by little more than rounding.
    assert_allclose(merged.transform(further), nearest, rtol=0.2)


def test_a_memory_of_a_number_of_patches_stays_that_large(images):
    parts = [small_detector(PatchCore, coreset=100).fit(p) for p in np.split(images, 2)]
    merged = merge_detectors(parts)
    assert len(merged.bank_.patches) == 100
    grown = parts[0].partial_fit(images[20:])
    assert len(grown.bank_.patches) == 100
    assert grown.bank_.radius > 0


def test_the_channels_drawn_do_not_depend_on_the_number_of_images(images):
    from skanomaly import PaDiM

    one, other = (small_detector(PaDiM).fit(images[:n]) for n in (5, 30))
    assert [list(c) for c in one.channels_] == [list(c) for c in other.channels_]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighborhood": 1}, "detector 1 has another neighborhood than detector 0: 1 and 3"),
        ({"layers": (1, 2)}, "another layers"),
        ({"weights": None}, "another weights"),
        ({"standardize": None}, "another standardize"),
    ],
)
def test_a_detector_fitted_otherwise_is_refused(change, message, images):
    parts = [small_detector(SubspaceAD).fit(images[:6])]
    parts.append(small_detector(SubspaceAD).set_params(**change).fit(images[:6]))
    with pytest.raises(ValueError, match=message):
        merge_detectors(parts)


def test_other_networks_channels_and_classes_are_refused(images):
    from skanomaly import PaDiM, PatchReconstruction

    random = [
        small_detector(SubspaceAD, weights=None, random_state=i).fit(images[:6]) for i in range(2)
    ]
    with pytest.raises(ValueError, match="another pretrained network"):
        merge_detectors(random)
    drawn = [small_detector(PaDiM, random_state=i).fit(images[:6]) for i in range(2)]
    with pytest.raises(ValueError, match=r"another draw of features \(by random_state\)"):
        merge_detectors(drawn)
    with pytest.raises(ValueError, match="detector 1 is a PaDiM, detector 0 a SubspaceAD"):
        merge_detectors([random[0], drawn[0]])
    with pytest.raises(ValueError, match="detector 0 is a PatchReconstruction, whose state"):
        merge_detectors([PatchReconstruction()])
    with pytest.raises(ValueError, match="no detectors"):
        merge_detectors([])


def test_units_of_a_merged_detector_are_those_of_all(images, further):
    """Pooled from parts whose own units come from shares of the images that tell the whole's."""
    parts = [
        small_detector(SubspaceAD, standardize="global").fit(images, X_val=part)
        for part in (further[:2], further[2:])
    ]
    whole = small_detector(SubspaceAD, standardize="global").fit(images, X_val=further)
    merged = merge_detectors(parts)
    assert_allclose(merged.map_mean_, whole.map_mean_, rtol=1e-5)
    assert_allclose(merged.map_deviation_, whole.map_deviation_, rtol=1e-5)


def test_the_oldest_scores_give_way(images, monkeypatch):
    monkeypatch.setattr("skanomaly._judging.MAX_SCORES_KEPT", 8)
    detector = small_detector(SubspaceAD).fit(images[:10])
    latest = detector.validation_scores_[4:]
    scores = detector.score_samples(images[10:14])
    detector.partial_fit(images[10:14])
    assert_allclose(detector.validation_scores_, [*latest, *scores], rtol=1e-5)


def test_scores_of_a_calibration_are_not_taken_for_earlier_ones(images):
    detector = small_detector(SubspaceAD).fit(images[:4])
    for image in images[4:10]:
        detector.partial_fit(image[np.newaxis])
    n_scores = len(detector.validation_scores_)
    detector.calibrate(images[-n_scores:])
    calibrated = detector.validation_scores_
    detector.partial_fit(images[10:12])
    assert_array_equal(detector.validation_scores_[:n_scores], calibrated)
    assert (detector.n_before_ == 10).all()
