from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skanomaly import (
    EnsembleDetector,
    MedianDifference,
    OnnxDetector,
    PaDiM,
    PatchCore,
    PatchReconstruction,
    SubspaceAD,
    export_onnx,
    load,
    make_ensemble,
    merge_detectors,
    save,
)
from skanomaly.compose.ensemble_detector import knots_of, log_rarity, pooled_knots
from skanomaly.datasets import make_texture_defects
from skanomaly.features import FeaturePyramid
from skanomaly.utils.estimator_checks import check_detector

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("gravel", n_normal=40, image_size=64, random_state=0).images


def members():
    return PatchCore(image_size=64, coreset=200), SubspaceAD(image_size=64, layers=(2, 3))


def ensemble(**parameters):
    return make_ensemble(*members(), **{"image_size": 64, "random_state": 0, **parameters})


def raw_maps(detector, X):
    return np.concatenate([m for m, _ in detector._raw_map_batches(detector._open(X))])


def test_maps_are_summed_in_units_of_images_held_out(images):
    train, held_out, test = np.split(images, [20, 30])
    found = ensemble(standardize=None, smoothing=0.0, detector_weights=(2, 0.5))
    found.fit(train, X_val=held_out)
    expected = 0
    for member, weight in zip(found.detectors_, (2, 0.5)):
        of_held_out = raw_maps(member, held_out)
        phi = (raw_maps(member, test) - of_held_out.mean()) / of_held_out.std()
        expected = expected + weight * phi
    combined = np.concatenate([m for m, _ in found._map_batches(found._open(test))])
    assert_allclose(combined, expected, rtol=1e-4, atol=1e-4)


def test_the_norm_is_of_what_lies_above_the_mean(images):
    found = ensemble(standardize=None, combination="norm", detector_weights=(2, 0.5)).fit(images)
    maps = found._compute_maps(torch.from_numpy(images[:3, None] / np.float32(255)))
    scaled = [
        w * (phi - m) / s
        for w, phi, m, s in zip((2, 0.5), maps, found.member_means_, found.member_deviations_)
    ]
    expected = np.sqrt(sum(np.clip(phi, 0, None) ** 2 for phi in scaled))
    assert_allclose(found._combined(maps), expected, rtol=1e-4, atol=1e-5)


def test_what_to_start_with(images):
    found = make_ensemble(image_size=64, random_state=0)
    memory, subspace, _ = found.fit(images).detectors_
    assert memory.image_size == subspace.image_size == 64
    assert memory.encoder_.network is subspace.encoder_.network
    assert np.isfinite(found.score_samples(images[:2])).all()


def test_members_learn_from_the_same_images(images):
    found = ensemble().fit(images)
    assert found.detectors_[0].bank_.n_seen == 40 * 64
    assert found.detectors_[1].subspace_.n_seen == 40 * 64
    assert len(found.validation_scores_) == 24


def test_one_pass_of_the_network_serves_all(images, monkeypatch):
    found = ensemble().fit(images)
    n_passes, forward = [], FeaturePyramid.forward
    monkeypatch.setattr(
        FeaturePyramid, "forward", lambda self, x: n_passes.append(len(x)) or forward(self, x)
    )
    found.score_samples(images[:5])
    assert sum(n_passes) == 5


def test_members_of_other_kinds(images):
    other = PatchReconstruction(image_size=64, max_epochs=1)
    found = EnsembleDetector([("texture", other), ("memory", members()[0])], image_size=64)
    assert np.isfinite(found.fit(images).score_samples(images[:3])).all()
    assert not found._holds_out_in_turn


@pytest.mark.parametrize("combination", ["sum", "norm", "p_value"])
def test_files_and_onnx(combination, images, tmp_path):
    found = ensemble(combination=combination).fit(images)
    save(found, tmp_path / "model.skanomaly")
    loaded = load(tmp_path / "model.skanomaly")
    assert_array_equal(loaded.transform(images[:3]), found.transform(images[:3]))
    export_onnx(found, tmp_path / "model.onnx", images[:3])
    exported = OnnxDetector(tmp_path / "model.onnx")
    assert_allclose(exported.transform(images[:3]), found.transform(images[:3]), atol=1e-3)


@pytest.mark.parametrize("combination", ["sum", "norm", "p_value"])
def test_contract(combination):
    check_detector(ensemble(combination=combination))


def test_parameters_of_members_are_searched(images):
    y = np.ones(len(images), int)
    search = GridSearchCV(
        ensemble(), {"patchcore__coreset": [50, 100]}, scoring=lambda d, X, y: d.offset_, cv=2
    )
    search.fit(images, y)
    assert len(search.best_estimator_.detectors_[0].bank_.patches) in (50, 100)
    assert clone(ensemble()).get_params()["patchcore__coreset"] == 200
    changed = ensemble().fit(images).set_params(patchcore__coreset=100)
    with pytest.raises(ValueError, match="patchcore__coreset of EnsembleDetector is 100 and was"):
        changed.predict(images)


def test_a_member_is_replaced_by_its_name(images):
    found = ensemble().set_params(subspacead=PaDiM(image_size=64, n_features=10))
    assert isinstance(found.fit(images).detectors_[1], PaDiM)


def test_the_ensembles_size_is_its_members(images):
    found = make_ensemble(PatchCore(coreset=100), SubspaceAD(image_size=128), image_size=64)
    assert [d.image_size for d in found.fit(images).detectors_] == [64, 64]
    assert np.isfinite(found.set_params(image_size=96).fit(images).score_samples(images[:1])).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.set_params(subspacead=PaDiM(image_size=64)),
        lambda d: d.set_params(detectors=d.detectors[:1]),
        lambda d: d.set_params(detectors=d.detectors[::-1]),
        lambda d: d.set_params(detectors=[("other", d.detectors[0][1]), d.detectors[1]]),
    ],
)
def test_members_that_changed_after_the_fit_are_refused(change, images):
    found = ensemble().fit(images)
    change(found)
    with pytest.raises(ValueError, match="fit anew"):
        found.predict(images)


@pytest.mark.parametrize("combination", ["sum", "norm", "p_value"])
def test_members_that_grow_make_an_ensemble_that_grows(combination, images):
    train, further, test = np.split(images, [20, 30])
    make = partial(make_ensemble, PaDiM(n_features=20), SubspaceAD(), combination=combination)
    make = partial(make, image_size=64, random_state=0)
    whole = make().fit(train, X_val=further)
    grown = make().fit(train[:8], X_val=further).partial_fit(train[8:15])
    early = vars(grown).copy()
    grown.partial_fit(train[15:])
    assert grown.n_images_ == len(train)
    assert [member.n_images_ for member in early["detectors_"]] == [15, 15]
    merged = merge_detectors([make().fit(part, X_val=further) for part in (train[:7], train[7:])])
    assert [member.n_images_ for member in merged.detectors_] == [20, 20]
    expected = whole.transform(test)
    for found in (grown, merged):
        maps = found.calibrate(further).transform(test)
        assert_allclose(maps, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_scales_of_members_are_pooled(images):
    train, further, test = np.split(images, [20, 30])
    parts = [ensemble().fit(train, X_val=part) for part in (further, test[:5])]
    merged = merge_detectors(parts)
    values = [
        np.concatenate([raw_maps(d, part) for part in (further, test[:5])])
        for d in parts[0].detectors_
    ]
    assert_allclose(merged.member_means_, [v.mean() for v in values], rtol=1e-3)
    assert_allclose(merged.member_deviations_, [v.std() for v in values], rtol=1e-3)


def test_an_ensemble_grows_only_if_all_members_do(images):
    still = make_ensemble(SubspaceAD(), MedianDifference(), image_size=64)
    assert hasattr(ensemble(), "partial_fit")
    assert not hasattr(still, "partial_fit")
    with pytest.raises(ValueError, match="0 is an? EnsembleDetector, whose state cannot be merged"):
        merge_detectors([still.fit(images)])
    other = ensemble().set_params(subspacead__layers=(1, 2))
    with pytest.raises(ValueError, match="another subspacead__layers"):
        merge_detectors([ensemble().fit(images), other.fit(images)])


@pytest.mark.parametrize("wrong", [[PatchCore()], PatchCore, "PatchCore"])
def test_what_is_no_detector_makes_no_ensemble(wrong):
    with pytest.raises(ValueError, match=r"takes detectors one by one, as in .*, not "):
        make_ensemble(SubspaceAD(), wrong)


def test_a_member_that_cannot_grow_is_named():
    still = make_ensemble(SubspaceAD(), MedianDifference())
    with pytest.raises(AttributeError) as found:
        still.partial_fit([])
    assert "its member mediandifference is a MedianDifference, which cannot" in str(
        found.value.__cause__
    )


def test_weights_and_combination_may_follow_the_fit(images):
    train, held_out = np.split(images, [20])
    found = ensemble().fit(train, X_val=held_out)
    for change in ({"detector_weights": (1, 3)}, {"combination": "p_value"}):
        with pytest.raises(ValueError, match="call calibrate"):
            found.set_params(**change).predict(held_out)
        expected = EnsembleDetector(**found.get_params(deep=False)).fit(train, X_val=held_out)
        assert_array_equal(
            found.calibrate(held_out).transform(held_out), expected.transform(held_out)
        )
        assert found.offset_ == expected.offset_


def test_knots_of_parts_give_the_p_values_of_all():
    rng = np.random.default_rng(0)
    parts = [rng.exponential(size=60_000), 2 * rng.exponential(size=20_000)]
    pooled = pooled_knots([knots_of(values) for values in parts], [3, 1])
    x = torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0, 9.0])
    values = np.concatenate(parts)
    expected = -np.log([(values >= v).mean() for v in x.numpy()])
    assert_allclose(log_rarity(x, pooled), expected, rtol=0.05, atol=0.02)


def test_p_values_are_shares_of_normal_pixels():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=100_000)
    knots = knots_of(values)
    x = np.array([0.1, 0.5, 1.0, 2.0, 5.0])
    found = log_rarity(torch.from_numpy(x).float(), knots)
    expected = -np.log([(values >= v).mean() for v in x])
    assert_allclose(found, expected, rtol=0.05, atol=0.02)
    beyond = log_rarity(torch.tensor([20.0, 30.0]), knots)  # -log p of these is 20 and 30
    assert 5 < beyond[1] - beyond[0] < 20


@pytest.mark.parametrize(
    ("detectors", "parameters", "message"),
    [
        ([], {}, "detectors is empty"),
        ([("a", PatchCore()), ("a", SubspaceAD())], {}, "not unique"),
        ([("a", "PatchCore")], {}, "a is a str"),
        ([PatchCore(), SubspaceAD()], {}, "holds a PatchCore, expected pairs"),
        ([("a", PatchCore())], {"detector_weights": (0,)}, "are all 0"),
        ([("a", PatchCore())], {"detector_weights": (1, 2)}, "2 numbers for 1 detectors"),
    ],
)
def test_members_that_cannot_be(detectors, parameters, message, images):
    with pytest.raises(ValueError, match=message):
        EnsembleDetector(detectors, **parameters).fit(images)
