"""A detector for each product: each as it is alone, results in the order of the images."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import (
    HierarchicalFeatureAE,
    ImageFiles,
    InvalidImageError,
    MedianDifference,
    MultiProductDetector,
    PaDiM,
    PatchCore,
    SubspaceAD,
    export_onnx,
    find_regions,
    load,
    make_ensemble,
    save,
)
from skanomaly.datasets import load_mvtec_ad, make_texture_defects
from skanomaly.exceptions import ExportError, ModelFileError, NonFiniteMapError, ThresholdWarning
from skanomaly.images import stack
from skanomaly.metrics import all_metrics, aupro, aupro_score, image_roc_auc
from skanomaly.model_selection import NormalKFold
from skanomaly.utils.estimator_checks import check_detector

METHODS = ("score_samples", "decision_function", "predict", "p_values", "transform")


def noise(n, size=(12, 10), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size), np.uint8)


def simple(**parameters):
    return DistanceToMean(**parameters)


def interleaved(n=8, other=(16, 9)):
    """Images of three products, of two sizes, and their products."""
    of_each = [noise(n, seed=1), noise(n, other, seed=2) // 2, noise(n, seed=3) // 4]
    X = [image for images in zip(*of_each) for image in images]
    return X, ["cap", "box", "lid"] * n


def of(name, values, product):
    return [value for value, own in zip(values, product) if own == name]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


@pytest.fixture(scope="module")
def textures():
    """Images of two products, 18 each, interleaved, and their products."""
    of_each = [
        make_texture_defects(name, n_normal=18, image_size=64, random_state=0).images
        for name in ("brick", "gravel")
    ]
    return np.stack(of_each, axis=1).reshape(-1, 64, 64), np.array(["brick", "gravel"] * 18)


@pytest.mark.parametrize("name", [*DETECTORS, "an ensemble"])
def test_a_products_detector_is_what_it_is_alone(name, textures):
    X, product = textures
    members = PatchCore(coreset=50), SubspaceAD()
    is_ensemble = name not in DETECTORS
    detector = (
        make_ensemble(*members, image_size=64, random_state=1) if is_ensemble else small(name)
    )
    train, of_train, new, of_new = X[:20], product[:20], X[28:], product[28:]
    found = MultiProductDetector(detector).fit(train, product=of_train)
    for own in ("gravel", "brick"):
        alone = clone(detector).fit(train[of_train == own])
        for method in ("decision_function", "p_values", "transform"):
            of_all = getattr(found, method)(new, product=of_new)[of_new == own]
            assert_array_equal(of_all, getattr(alone, method)(new[of_new == own]))
        assert found.offsets_[own] == alone.offset_
        assert found.map_thresholds_[own] == alone.map_threshold_


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2), min_size=8, max_size=14), st.randoms(use_true_random=False))
def test_neither_other_products_nor_their_order_matter(names, random):
    product = [0, 0, 0, 1, 1, 1, 2, 2, 2, *names]
    X = list(noise(len(product)))
    order = list(range(len(X)))
    random.shuffle(order)
    product = [product[i] for i in order]
    found = MultiProductDetector(simple()).fit(X, product=product)
    results = found.detect(X, product=product)
    for name in set(product):
        at = np.flatnonzero(np.array(product) == name)
        alone = simple().fit([X[i] for i in at])
        expected = alone.detect([X[i] for i in at])
        for key in ("scores", "labels", "maps"):
            assert_array_equal(results[key][at], expected[key])


@pytest.mark.parametrize("method", METHODS)
def test_results_are_in_the_order_of_the_images(method):
    X, product = interleaved()
    found = MultiProductDetector(simple(image_size=None)).fit(X, product=product)
    results = getattr(found, method)(X, product=product)
    assert len(results) == len(X)
    for name in set(product):
        alone = simple(image_size=None).fit(of(name, X, product))
        assert_same(of(name, results, product), getattr(alone, method)(of(name, X, product)))
    if method == "transform":
        assert results.dtype == object
        assert [m.shape for m in results] == [x.shape for x in X]
        same = getattr(found, method)(X[::3], product="cap")
        assert same.dtype == np.float32
        assert same.shape == (8, 12, 10)


def test_detect_gives_all_at_once():
    X, product = interleaved()
    found = MultiProductDetector(simple()).fit(X, product=product)
    results = found.detect(X, product=product)
    assert_array_equal(results.scores, found.score_samples(X, product=product))
    assert_array_equal(results.labels, found.predict(X, product=product))
    assert_same(results.maps, found.transform(X, product=product))
    assert results.labels.dtype == np.int64
    regions = find_regions(results.maps, [found.map_thresholds_[name] for name in product])
    assert set(regions.image) == set(np.flatnonzero(results.labels == -1))


def test_the_zero_of_decisions_is_each_products_threshold():
    X, product = interleaved()
    found = MultiProductDetector(simple()).fit(X, product=product)
    offsets = np.array([found.offsets_[name] for name in product])
    assert len(set(found.offsets_.values())) == 3
    expected = found.score_samples(X, product=product) - offsets
    assert_array_equal(found.decision_function(X, product=product), expected)
    assert_array_equal(found.predict(X, product=product), np.where(expected < 0, -1, 1))


@given(st.permutations(range(6)), st.booleans())
def test_maps_are_stacked_at_their_places(order, differ):
    maps = [np.full((2, 3 + differ * (i == 4)), i, np.float32) for i in range(6)]
    found = stack((maps[i] for i in order), 6, order)
    assert_same(found, maps)
    assert (found.dtype == object) == differ


def test_everything_of_a_fit_is_cut_to_the_product():
    X, product = interleaved(n=12)
    y = np.where(np.arange(len(X)) % 7 == 3, -1, 1)
    groups = [i // 6 for i in range(len(X))]
    roi = [None if i % 2 else np.ones(x.shape, bool) for i, x in enumerate(X)]
    for region in roi[::2]:
        region[:, :4] = False
    found = MultiProductDetector(simple()).fit(X, y, product=product, roi=roi, groups=groups)
    results = found.detect(X, product=product, roi=roi)
    for name in set(product):
        own = of(name, X, product)
        alone = simple().fit(
            own, of(name, y, product), roi=of(name, roi, product), groups=of(name, groups, product)
        )
        assert found.offsets_[name] == alone.offset_
        assert found.detectors_[name].n_left_out_ == alone.n_left_out_ > 0
        expected = alone.detect(own, roi=of(name, roi, product))
        assert_same(of(name, results.maps, product), expected.maps)
        assert_same(of(name, results.scores, product), expected.scores)


def test_images_for_thresholds_have_products_of_their_own():
    X, product = interleaved()
    X_val, product_val = interleaved(n=5)
    X_val = [x // 2 for x in X_val[::-1]]
    found = MultiProductDetector(simple())
    found.fit(X, product=product, X_val=X_val, product_val=product_val[::-1])
    for name in set(product):
        alone = simple().fit(of(name, X, product), X_val=of(name, X_val, product_val[::-1]))
        assert found.offsets_[name] == alone.offset_


def test_fit_predict_and_fit_transform():
    X, product = interleaved()
    y = [-1, *[1] * (len(X) - 1)]
    fitted = MultiProductDetector(simple()).fit(X, y, product=product)
    labels = MultiProductDetector(simple()).fit_predict(X, y, product=product)
    assert_array_equal(labels, fitted.predict(X, product=product))
    maps = MultiProductDetector(simple()).fit_transform(X, y, product=product)
    assert_same(maps, fitted.transform(X, product=product))


@pytest.mark.parametrize("names", [("3", "1", "2"), (3, 1, 2), (np.int64(3), 1, np.int8(2))])
def test_products_are_texts_or_numbers(names):
    X, product = interleaved()
    product = [dict(zip(("cap", "box", "lid"), names))[name] for name in product]
    found = MultiProductDetector(simple()).fit(X, product=product)
    assert found.products_.tolist() == sorted(product)[::8]
    assert list(found.detectors_) == sorted(set(product))
    assert len(found.predict(X[::3], product=names[0])) == 8


def test_files_are_read_once_each_and_not_kept(tmp_path, monkeypatch):
    X, product = interleaved()
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    files = ImageFiles.from_folder(tmp_path)
    found = MultiProductDetector(simple()).fit(files, product=product)
    expected = MultiProductDetector(simple()).fit(X, product=product)
    seen = []
    read = ImageFiles.__getitem__

    def counting(self, key):
        seen.append(key)
        return read(self, key)

    monkeypatch.setattr(ImageFiles, "__getitem__", counting)
    results = found.detect(files, product=product)
    assert sorted(seen) == list(range(len(X)))
    assert_array_equal(results.scores, expected.score_samples(X, product=product))


def test_arrays_are_not_copied(monkeypatch):
    X = noise(12)
    seen = []
    monkeypatch.setattr(
        DistanceToMean, "fit", lambda self, X, *_, **__: seen.append(X) or vars(self).update(a_=1)
    )
    monkeypatch.setattr(MultiProductDetector, "_become", lambda *_: None)
    MultiProductDetector(simple()).fit(X, product=["a", "b"] * 6)
    assert all(np.shares_memory(part[0], X) for part in seen)


class TestGrowing:
    def detector(self):
        return PaDiM(image_size=64, n_features=10, random_state=0)

    def test_a_new_product_joins_and_others_stay(self, textures):
        X, product = textures
        is_brick = product == "brick"
        found = MultiProductDetector(self.detector())
        found.partial_fit(X[is_brick], product=product[is_brick])  # the first call is fit
        before, member = (
            found.score_samples(X[is_brick], product="brick"),
            found.detectors_["brick"],
        )
        found.partial_fit(X[~is_brick], product="gravel")
        assert found.detectors_["brick"] is member
        assert_array_equal(found.score_samples(X[is_brick], product="brick"), before)
        expected = MultiProductDetector(self.detector()).fit(X, product=product)
        assert_array_equal(
            found.score_samples(X, product=product), expected.score_samples(X, product=product)
        )

    def test_a_known_product_learns_on_as_alone(self, textures):
        X, product = textures
        alone = {
            name: clone(self.detector()).fit(X[:28][product[:28] == name])
            for name in ("brick", "gravel")
        }
        found = MultiProductDetector(self.detector()).fit(X[:28], product=product[:28])
        old = found.detectors_["brick"]
        before = old.score_samples(X)
        found.partial_fit(X[28:], product=product[28:])
        for name, detector in alone.items():
            detector.partial_fit(X[28:][product[28:] == name])
            assert_array_equal(
                found.score_samples(X, product=name), detector.score_samples(X), err_msg=name
            )
        assert_array_equal(old.score_samples(X), before)  # whoever has it keeps it

    def test_what_cannot_learn_on_is_not_fitted_anew(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        state = dict(vars(found))
        with pytest.raises(ValueError, match=r"product\[1\] is 'cap', which is known already"):
            found.partial_fit(X[:2], product=["new", "cap"])
        with pytest.raises(ValueError, match=r"product\[0\] is 3 and a known product 'box'"):
            found.partial_fit(X[:2], product=3)
        assert vars(found) == state

    def test_one_that_fails_leaves_all(self, textures):
        X, product = textures
        found = MultiProductDetector(self.detector()).fit(X[:28], product=product[:28])
        before = found.score_samples(X, product=product)
        bad = X[28:].astype(float) / 255
        bad[-1, 3, 3] = np.nan
        with pytest.raises(InvalidImageError, match="image 7: holds nan at row 3"):
            found.partial_fit(bad, product=product[28:])
        assert_array_equal(found.score_samples(X, product=product), before)


class TestCalibrating:
    def test_without_images_all_are_set_anew(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        before = found.offsets_
        found.set_params(detector__false_alarm_rate=0.4).calibrate()
        for name in before:
            alone = simple().fit(of(name, X, product))
            assert (
                found.offsets_[name] == alone.set_params(false_alarm_rate=0.4).calibrate().offset_
            )
            assert found.offsets_[name] > before[name]

    def test_with_images_their_products_are(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        before = found.offsets_
        new = [x // 2 for x in X]
        found.calibrate(new[:2] * 3, product=product[:2] * 3)  # of cap and box
        assert found.offsets_["lid"] == before["lid"]
        alone = simple().fit(of("cap", X, product)).calibrate([new[0]] * 3)
        assert found.offsets_["cap"] == alone.offset_ != before["cap"]

    def test_a_parameter_of_scores_counts_when_they_are_calibrated(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        found.set_params(detector__smoothing=0.0)
        with pytest.raises(ValueError, match="smoothing of DistanceToMean is 0.0 and was 1.0"):
            found.predict(X, product=product)
        found.calibrate(X, product=product)
        alone = simple().fit(of("box", X, product)).set_params(smoothing=0.0)
        alone.calibrate(of("box", X, product))
        scores = found.score_samples(of("box", X, product), product="box")
        assert_array_equal(scores, alone.score_samples(of("box", X, product)))

    def test_how_results_are_computed_may_change(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        before = found.score_samples(X, product=product)
        seen = []
        found.set_params(detector__batch_size=3)
        compute = DistanceToMean._compute_maps
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                DistanceToMean,
                "_compute_maps",
                lambda self, pixels: seen.append(len(pixels)) or compute(self, pixels),
            )
            assert_allclose(found.score_samples(X, product=product), before, rtol=1e-6)
        assert max(seen) == 3

    def test_parameters_that_define_maps_need_a_fit(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        with pytest.raises(ValueError, match="image_size of DistanceToMean is 8 and was 16.*anew"):
            found.set_params(detector__image_size=8).calibrate(X, product=product)
        with pytest.raises(ValueError, match="detector is a PaDiM and was a DistanceToMean in fit"):
            found.set_params(detector=PaDiM()).predict(X, product=product)

    def test_products_without_images_are_an_error(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        with pytest.raises(ValueError, match="product is given without images"):
            found.calibrate(product="cap")


class TestRefusals:
    @pytest.mark.parametrize(
        ("product", "message"),
        [
            (None, r"product is None; pass the product of each image.*enable_metadata_routing"),
            (["cap"] * 3, "product is of length 3, X of length 24"),
            ([["cap"] * 24], r"product has shape \(1, 24\)"),
            (1.5, r"product has shape \(\)"),
            ([*["cap"] * 23, None], r"product\[23\] is None, expected a str or an int"),
            ([*["cap"] * 23, 1.0], r"product\[23\] is 1.0, expected"),
            ([*[1] * 22, True, 1], r"product\[22\] is True, expected"),
            ([*["1"] * 20, *[1] * 4], r"product\[20\] is 1 and product\[0\] '1'; expected all str"),
        ],
    )
    def test_products_that_are_none(self, product, message):
        X, names = interleaved()
        found = MultiProductDetector(simple())
        with pytest.raises(ValueError, match=message):
            found.fit(X, product=product)
        with pytest.raises(NotFittedError):
            found.predict(X, product=names)
        found.fit(X, product=names)
        for method in (*METHODS, "detect", "partial_fit"):
            with pytest.raises(ValueError, match=message):
                getattr(found, method)(X, product=product)

    @pytest.mark.parametrize("method", [*METHODS, "detect", "calibrate"])
    def test_products_without_a_detector(self, method):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        product[7] = "tin"
        with pytest.raises(
            ValueError, match=r"product\[7\] is 'tin', which has no .* 'box', 'cap', 'lid'; fit"
        ):
            getattr(found, method)(X, product=product)

    def test_of_many_known_products_some_are_listed(self):
        X = noise(75)
        found = MultiProductDetector(simple()).fit(X, product=list(range(25)) * 3)
        with pytest.raises(ValueError, match="18, 19 and 5 more; fit"):
            found.predict(X[:1], product=99)

    @pytest.mark.parametrize("method", [*METHODS, "detect", "fit", "calibrate"])
    def test_errors_name_the_image_by_its_place_among_all(self, method):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        state = dict(vars(found))
        X[16] = X[16].astype(float)
        X[16][0, 0] = np.inf  # the sixth of its product
        X[16] /= 255
        with pytest.raises(InvalidImageError, match="image 16: holds inf") as error:
            getattr(found, method)(X, product=product)
        assert error.value.index == 16
        assert vars(found) == state

    def test_errors_name_the_file(self, tmp_path):
        X, product = interleaved()
        for i, image in enumerate(X):
            Image.fromarray(image).save(tmp_path / f"{i:02}.png")
        (tmp_path / "13.png").write_bytes(b"no image")
        files = ImageFiles.from_folder(tmp_path)
        with pytest.raises(InvalidImageError, match=r"image 13 \(.*13.png\)"):
            MultiProductDetector(simple()).fit(files, product=product)

    def test_regions_of_interest_are_those_of_all(self):
        X, product = interleaved()
        roi = [np.ones(x.shape, bool) for x in X]
        found = MultiProductDetector(simple()).fit(X, product=product, roi=roi)
        roi[10] = np.ones((3, 3), bool)
        for method in ("detect", "calibrate"):
            with pytest.raises(InvalidImageError, match="image 10: its region of interest has"):
                getattr(found, method)(X, product=product, roi=roi)
        with pytest.raises(ValueError, match="roi holds 8 regions, X 24 images"):
            found.predict(X, product=product, roi=roi[:8])

    def test_maps_that_are_not_finite_name_the_image(self, monkeypatch):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        compute = DistanceToMean._compute_maps

        def damaged(self, pixels):
            maps = compute(self, pixels)
            maps[pixels.amax(dim=(1, 2, 3)) == 0] = torch.nan
            return maps

        monkeypatch.setattr(DistanceToMean, "_compute_maps", damaged)
        X[11] = np.zeros_like(X[11])
        for method in ("score_samples", "transform", "calibrate"):
            with pytest.raises(NonFiniteMapError, match="image 11:"):
                getattr(found, method)(X, product=product)

    def test_images_for_thresholds_are_named_among_themselves(self):
        X, product = interleaved()
        X_val = [*X]
        X_val[9] = X[9].astype(float)  # beyond 1
        with pytest.raises(InvalidImageError, match="image 9: holds values from"):
            MultiProductDetector(simple()).fit(X, product=product, X_val=X_val, product_val=product)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"X_val": noise(2)}, "product_val is None"),
            ({"product_val": ["cap"]}, "product_val is given without X_val"),
            ({"X_val": noise(2), "product_val": "cap"}, "X_val holds no image of product 'box'"),
            (
                {"X_val": noise(4), "product_val": ["cap", "box", "lid", "tin"]},
                r"product_val\[3\] is 'tin', and X holds no image",
            ),
            ({"y": [1, 0]}, "y is of length 2, X of length 24"),
            ({"groups": [1, 2]}, "groups is of length 2, X of length 24"),
        ],
    )
    def test_what_does_not_match(self, parameters, message):
        X, product = interleaved()
        with pytest.raises(ValueError, match=message):
            MultiProductDetector(simple()).fit(X, product=product, **parameters)

    def test_too_few_images_of_a_product(self):
        X, product = interleaved()
        with pytest.raises(
            InvalidImageError, match="product 'tin': DistanceToMean was given 1 nor"
        ):
            MultiProductDetector(simple()).fit([*X, X[0]], product=[*product, "tin"])
        y = [-1 if name == "box" else 1 for name in product]
        with pytest.raises(InvalidImageError, match=r"product 'box': .* given 0 .*\(8 more are"):
            MultiProductDetector(simple()).fit(X, y, product=product)

    def test_other_errors_have_a_note_of_the_product(self):
        X, product = interleaved()
        groups = [name == "cap" and i for i, name in enumerate(product)]
        with pytest.raises(ValueError, match="groups holds one group") as error:
            MultiProductDetector(simple()).fit(X, product=product, groups=groups)
        assert error.value.__notes__ == ["This is of product 'box'."]

    @pytest.mark.parametrize(
        ("detector", "found"),
        [
            (DistanceToMean, "DistanceToMean"),
            (make_pipeline(FunctionTransformer(), PaDiM()), "Pipeline"),
            (MultiProductDetector(PaDiM()), "MultiProductDetector"),
        ],
    )
    def test_what_is_no_detector(self, detector, found):
        X, product = interleaved()
        with pytest.raises(ValueError, match=f"must be a detector of images, .*, got {found};"):
            MultiProductDetector(detector).fit(X, product=product)


@pytest.mark.filterwarnings("default::skanomaly.exceptions.ThresholdWarning")
def test_warnings_name_the_product_and_the_caller():
    X, product = interleaved()
    with pytest.warns(ThresholdWarning) as found:
        MultiProductDetector(simple(false_alarm_rate=0.3)).fit(
            [*X, *X[:1] * 3], product=[*product, *["tin"] * 3]
        )
    texts = [str(warning.message) for warning in found]
    assert [text.split(":")[0] for text in texts][-1] == "product 'tin'"
    assert all(warning.filename == __file__ for warning in found)
    with warnings.catch_warnings(record=True) as found:  # none is left for others
        warnings.simplefilter("always")
        simple().fit(X[:2])
    assert not any("product" in str(warning.message) for warning in found)


class TestStreams:
    def test_one_product_or_one_for_each_frame(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)
        results = list(found.stream(iter(X), product=iter(product)))
        expected = found.detect(X, product=product)
        assert [r.index for r in results] == list(range(len(X)))
        assert [r.product for r in results] == product
        assert_allclose([r.score for r in results], expected.scores, rtol=1e-6)
        assert [r.label for r in results] == expected.labels.tolist()
        assert [r.product for r in found.stream(X[:2], product="cap")] == ["cap", "cap"]

    def test_frames_are_asked_for_one_by_one(self):
        X, product = interleaved()
        found = MultiProductDetector(simple()).fit(X, product=product)

        def endless():
            while True:
                yield X[0]

        stream = found.stream(endless(), product="cap")
        assert [next(stream).index for _ in range(3)] == [0, 1, 2]

    def test_refusals(self):
        X, product = interleaved()
        with pytest.raises(NotFittedError):
            MultiProductDetector(simple()).stream(X, product="cap")
        found = MultiProductDetector(simple()).fit(X, product=product)
        with pytest.raises(ValueError, match="product is None"):
            found.stream(X)
        with pytest.raises(ValueError, match=r"product\[1\] is 'tin', which has no detector"):
            list(found.stream(X, product=["cap", "tin"]))
        with pytest.raises(ValueError, match=r"product\[1\] is None, expected a str"):
            list(found.stream(X, product=["cap", None]))
        with pytest.raises(ValueError, match="product ends before frame 2"):
            list(found.stream(X, product=["cap", "box"]))
        with pytest.raises(InvalidImageError, match="image 1: holds"):
            list(found.stream([X[0], X[0].astype(float)], product="cap"))


@pytest.fixture(scope="module", params=[str, int])
def fitted(request, textures):
    """A fitted detector, images and products, which are texts or numbers."""
    X, product = textures
    product = product if request.param is str else (product == "gravel").astype(int)
    detector = PaDiM(image_size=64, n_features=10, random_state=0)
    return MultiProductDetector(detector).fit(X, product=product), X, product


def with_one_product(name):
    def method(self, *args, **kwargs):
        return getattr(MultiProductDetector, name)(self, *args, **{"product": "a", **kwargs})

    method.__name__ = name  # by which other processes find it
    return method


class OneProduct(MultiProductDetector):
    """A detector to which nobody says that there are products, as the common checks do not."""

    _holds_out_in_turn = True

    for method in (
        "fit",
        "partial_fit",
        "fit_predict",
        "fit_transform",
        "stream",
        "detect",
        *METHODS,
    ):
        vars()[method] = with_one_product(method)

    @property
    def offset_(self):
        return self.offsets_["a"]

    @property
    def n_channels_in_(self):
        return self.detectors_["a"].n_channels_in_


def test_with_one_product_it_keeps_the_contract_of_detectors():
    check_detector(OneProduct(MedianDifference(image_size=32, random_state=0)))


class TestKeeping:
    @pytest.mark.parametrize("way", ["pickle", "joblib", "save"])
    def test_kept_and_read_again(self, way, fitted, tmp_path):
        found, X, product = fitted
        path = tmp_path / "products"
        if way == "pickle":
            again = pickle.loads(pickle.dumps(found))
        elif way == "joblib":
            joblib.dump(found, path)
            again = joblib.load(path)
        else:
            save(found, path)
            again = load(path)
        assert list(again.detectors_) == list(found.detectors_)
        assert again.products_.dtype == found.products_.dtype
        for method in METHODS:
            expected = getattr(found, method)(X, product=product)
            assert_array_equal(getattr(again, method)(X, product=product), expected)

    def test_a_file_may_hold_nothing_else(self, fitted, tmp_path):
        found, _, _ = fitted
        other = pickle.loads(pickle.dumps(found))
        other.extra_ = 3
        with pytest.raises(TypeError, match="holds extra_, which is no documented"):
            save(other, tmp_path / "products")
        (tmp_path / "damaged").write_bytes(b"skanomaly model\n")
        with pytest.raises(ModelFileError):
            load(tmp_path / "damaged")

    def test_one_product_is_exported_at_a_time(self, fitted, tmp_path):
        found, X, product = fitted
        with pytest.raises(ExportError, match=r"export detectors_\[name\]"):
            export_onnx(found, tmp_path / "a.onnx", X)
        name = found.products_[0]
        report = export_onnx(found.detectors_[name], tmp_path / "a.onnx", X[product == name][:4])
        assert report.n_images == 4

    def test_parameters_are_reached(self):
        found = MultiProductDetector(PaDiM(n_features=10))
        found.set_params(detector__image_size=32)
        assert found.get_params()["detector__image_size"] == 32
        other = clone(found)
        assert other.detector is not found.detector
        assert other.get_params()["detector__n_features"] == 10


def test_a_generator_is_not_drawn_from(textures):
    X, product = textures
    state = np.random.RandomState(5)
    detector = PaDiM(image_size=64, n_features=10, random_state=state)
    found = MultiProductDetector(detector).fit(X, product=product)
    assert state.randint(1000) == np.random.RandomState(5).randint(1000)
    fresh = PaDiM(image_size=64, n_features=10, random_state=np.random.RandomState(5))
    alone = fresh.fit(X[product == "gravel"])
    assert found.offsets_["gravel"] == alone.offset_


def test_threads(textures):
    X, product = textures
    detector = PaDiM(image_size=64, n_features=10, random_state=0)
    found = MultiProductDetector(detector).fit(X, product=product)
    expected = found.detect(X, product=product)
    orders = [np.random.default_rng(i).permutation(len(X)) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        fits = [pool.submit(found.fit, X, product=product) for _ in range(2)]
        results = pool.map(lambda o: found.detect(X[o], product=product[o]), orders)
        for order, result in zip(orders, results):
            assert_allclose(result.scores, expected.scores[order], rtol=1e-4)
            assert_array_equal(result.labels, expected.labels[order])
        assert all(fit.result() is found for fit in fits)


def test_a_checkpoint_is_a_products_own(tmp_path, textures):
    X, product = textures
    path = tmp_path / "training.pt"
    parameters = {"image_size": 64, "max_epochs": 2, "random_state": 0}

    class Stopped(Exception):
        pass

    fitted = []
    fit = HierarchicalFeatureAE._fit_images

    def stopped(self, images, validation):
        fitted.append(str(self.checkpoint))
        if len(fitted) == 2:
            self.max_epochs, epochs = 1, self.max_epochs
            fit(self, images, validation)
            self.max_epochs = epochs
            raise Stopped
        return fit(self, images, validation)

    found = MultiProductDetector(HierarchicalFeatureAE(checkpoint=path, **parameters))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HierarchicalFeatureAE, "_fit_images", stopped)
        with pytest.raises(Stopped):
            found.fit(X, product=product)
    assert len(set(fitted)) == 2
    assert all(name.startswith(f"{path}.") for name in fitted)
    found.fit(X, product=product)
    expected = MultiProductDetector(HierarchicalFeatureAE(**parameters)).fit(X, product=product)
    assert found.offsets_ == expected.offsets_


class TestRouting:
    """As little has to be said as can be."""

    @pytest.fixture(autouse=True)
    def routing(self):
        with config_context(enable_metadata_routing=True):
            yield

    @pytest.fixture
    def labelled(self):
        """Images, masks and products; defects are far larger in one product's maps."""
        X, product = noise(40), np.array(["cap", "box"] * 20)
        X[product == "box"] //= 8
        masks = np.zeros(X.shape, bool)
        masks[28:, 3:8, 2:7] = True
        X[28:][masks[28:]] = 255
        X[28:][product[28:] == "box"] //= 8
        return X, masks, product

    def detector(self):
        return MultiProductDetector(simple(image_size=None, smoothing=0.5))

    @pytest.mark.parametrize("scorer", [aupro, image_roc_auc, all_metrics])
    def test_cross_validation_is_the_mean_over_products(self, scorer, labelled):
        X, masks, product = labelled
        cv = NormalKFold(2, shuffle=True, random_state=0)
        found = cross_validate(
            self.detector(),
            X,
            masks,
            scoring=scorer,
            cv=cv,
            params={"product": product},
            error_score="raise",
        )
        for fold, (train, test) in enumerate(cv.split(X, masks)):
            of_each = []
            for name in ("cap", "box"):
                own, new = train[product[train] == name], test[product[test] == name]
                alone = clone(self.detector().detector).fit(X[own])
                of_each.append(scorer(alone, X[new], masks[new]))
            if scorer is all_metrics:
                for metric in of_each[0]:
                    expected = np.mean([values[metric] for values in of_each])
                    assert found[f"test_{metric}"][fold] == expected
            else:
                assert found["test_score"][fold] == np.mean(of_each)

    def test_a_search_needs_no_more_than_product(self, labelled):
        X, masks, product = labelled
        search = GridSearchCV(
            self.detector(),
            {"detector__smoothing": [0.0, 2.0]},
            scoring=aupro,
            cv=NormalKFold(2, shuffle=True, random_state=0),
            error_score="raise",
        )
        search.fit(X, masks, product=product)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        best = clone(self.detector()).set_params(**search.best_params_)
        expected = best.fit(X, masks, product=product).predict(X, product=product)
        # Methods of searches take nothing beside the images.
        assert_array_equal(search.best_estimator_.predict(X, product=product), expected)

    def test_a_pipeline_hands_it_on(self, labelled):
        X, masks, product = labelled
        pipeline = make_pipeline(FunctionTransformer(np.flip, kw_args={"axis": 1}), self.detector())
        pipeline.fit(X, masks, product=product)
        expected = self.detector().fit(X[:, ::-1], masks, product=product)
        assert_array_equal(
            pipeline.predict(X, product=product), expected.predict(X[:, ::-1], product=product)
        )
        scores = [
            scorer(pipeline, X, np.flip(masks, axis=1), product=product)
            for scorer in (aupro, image_roc_auc)
        ]
        scores_of_last = [
            scorer(expected, X[:, ::-1], masks[:, ::-1], product=product)
            for scorer in (aupro, image_roc_auc)
        ]
        assert scores == scores_of_last

    def test_regions_go_along(self, labelled):
        X, masks, product = labelled
        roi = np.ones_like(masks)
        roi[:, :, :3] = False
        detector = self.detector().set_fit_request(roi=True)
        cv = NormalKFold(2, shuffle=True, random_state=0)
        found = cross_validate(
            detector,
            X,
            masks,
            scoring=aupro.set_score_request(roi=True),
            cv=cv,
            params={"product": product, "roi": roi},
            error_score="raise",
        )
        train, test = next(iter(cv.split(X, masks)))
        of_each = []
        for name in ("cap", "box"):
            own, new = train[product[train] == name], test[product[test] == name]
            alone = clone(self.detector().detector).fit(X[own], roi=roi[own])
            maps = alone.transform(X[new], roi=roi[new])
            of_each.append(aupro_score(masks[new], maps, roi=roi[new]))
        assert found["test_score"][0] == np.mean(of_each)

    def test_one_detector_for_all_is_compared_in_the_same_way(self, labelled):
        X, masks, product = labelled
        alone = clone(self.detector().detector).fit(X[:20])
        expected = [aupro(alone, X[product == n], masks[product == n]) for n in ("cap", "box")]
        assert aupro(alone, X, masks, product=product) == np.mean(expected)

    def test_other_names_and_none(self):
        other = aupro.set_score_request(product="part")
        assert other.get_metadata_routing().score.requests == {"roi": None, "product": "part"}
        assert aupro.get_metadata_routing().score.requests["product"] is True
        kept = other.set_score_request(roi=True).get_metadata_routing().score.requests
        assert kept == {"roi": True, "product": "part"}


def test_without_routing_a_search_says_what_is_missing():
    X, product = interleaved()
    search = GridSearchCV(
        MultiProductDetector(simple()),
        {"detector__smoothing": [1.0]},
        scoring=image_roc_auc,
        cv=NormalKFold(2),
        error_score="raise",
    )
    with pytest.raises(ValueError, match="product is None.*enable_metadata_routing=True"):
        search.fit(X, [1] * 20 + [-1] * 4, product=product)


def test_pictures_are_of_one_product():
    plotting = pytest.importorskip("skanomaly.plotting")
    pytest.importorskip("matplotlib").use("Agg")
    X, product = interleaved()
    found = MultiProductDetector(simple()).fit(X, product=product)
    for draw in (
        lambda: plotting.AnomalyMapDisplay.from_estimator(found, X[:2]),
        lambda: plotting.ScoreHistogramDisplay.from_estimator(found, X),
        lambda: plotting.PROCurveDisplay.from_estimator(found, X, [x > 3 for x in X]),
    ):
        with pytest.raises(ValueError, match=r"draw one product, by .* detectors_\[name\]"):
            draw()
    plotting.AnomalyMapDisplay.from_estimator(found.detectors_["cap"], X[:1])


def test_real_images(shared):
    """Two real products in one set are found as well as each is alone."""
    roots = {"bottle": shared / "data" / "mvtec_ad", "leather_tile": shared / "data" / "textures"}
    train, test, target, of_train, of_test = [], [], [], [], []
    for name, root in roots.items():
        if not (root / name).is_dir():
            pytest.skip(f"needs images of {name} in {root}")
        normal = load_mvtec_ad(root, name, split="train").images.paths[:10]
        new = load_mvtec_ad(root, name, split="test")
        train, of_train = [*train, *normal], [*of_train, *[name] * len(normal)]
        test, target = [*test, *new.images.paths[::9]], [*target, *new.target[::9]]
        of_test += [name] * (len(test) - len(of_test))
    order = np.random.default_rng(0).permutation(len(test))
    test, target = ImageFiles(test)[order], np.array(target)[order]
    of_test = np.array(of_test)[order]
    detector = SubspaceAD(image_size=96, random_state=0)
    found = MultiProductDetector(detector).fit(ImageFiles(train), product=of_train)
    results = found.detect(test, product=of_test)
    of_each = []
    for name in roots:
        own = [path for path, of_it in zip(train, of_train) if of_it == name]
        alone = clone(detector).fit(ImageFiles(own))
        expected = alone.detect(test[of_test == name])
        assert_array_equal(results.scores[of_test == name], expected.scores)
        assert_same(results.maps[of_test == name], expected.maps)
        of_each.append(roc_auc_score(target[of_test == name], expected.scores))
    assert image_roc_auc(found, test, target, product=of_test) == np.mean(of_each) > 0.8
