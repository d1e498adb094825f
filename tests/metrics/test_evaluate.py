import csv
import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import small
from PIL import Image
from scipy.stats import binomtest
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch

from skanomaly import ImageFiles, InvalidImageError, MultiProductDetector
from skanomaly import metrics as m
from skanomaly.metrics import evaluate
from skanomaly.metrics._bootstrap import (
    Histograms,
    draw_weights,
    image_scores_of_draws,
    interval,
    scores_of_draws,
)
from skanomaly.metrics._defects import Contrasts, contrasts_of, describe_defects
from skanomaly.metrics._pixels import pixel_scores
from skanomaly.metrics._scorers import image_scores


class Given:
    """A detector whose maps are given."""

    def __init__(self, maps, threshold=1.0):
        self.maps, self.map_threshold_, self.n_passes = maps, threshold, 0

    @property
    def offset_(self):
        return -self.map_threshold_

    def score_samples(self, X):
        return -np.array([anomaly_map.max() for anomaly_map in self.maps], dtype=float)

    def detect(self, X):
        self.n_passes += 1
        scores = self.score_samples(X)
        return Bunch(scores=scores, labels=np.where(scores < self.offset_, -1, 1), maps=self.maps)


def make_data(n=30, seed=0, size=(40, 50)):
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, *size), bool)
    for mask in masks[n // 3 :]:
        for _ in range(rng.integers(1, 3)):
            row, column = rng.integers(0, size[0] - 10), rng.integers(0, size[1] - 10)
            mask[row : row + rng.integers(3, 10), column : column + rng.integers(3, 10)] = True
    maps = rng.normal(size=masks.shape) + rng.uniform(0, 3, (n, 1, 1)) * masks
    X = (100 + 50 * masks + rng.normal(size=masks.shape)).astype(np.uint8)
    types = np.where(masks.any(axis=(1, 2)), np.array(["dent", "hole"])[np.arange(n) % 2], "good")
    return X, masks, maps, types


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def report(data):
    X, masks, maps, types = data
    return evaluate(Given(maps, 3.0), X, masks, defect_types=types, random_state=0)


def rows_of(report, group):
    return {row.name: row for row in report.rows if row.group == group}


# Values -------------------------------------------------------------------------------


def test_overall_scores_are_the_exact_metrics(data, report):
    _, masks, maps, _ = data
    labels, scores = np.where(masks.any(axis=(1, 2)), -1, 1), -maps.max(axis=(1, 2))
    assert report["aupro"] == m.aupro_score(masks, maps)
    assert report["aupimo"] == m.aupimo_score(masks, maps)
    assert report["pixel_roc_auc"] == m.pixel_roc_auc_score(masks, maps)
    assert report["pixel_average_precision"] == m.pixel_average_precision_score(masks, maps)
    assert report["pixel_f1_max"] == m.pixel_f1_max_score(masks, maps)
    assert report["image_f1_max"] == m.image_f1_max_score(labels, scores)
    assert report["false_alarm_rate"] == np.mean(maps[:10].max(axis=(1, 2)) > 3)
    assert report["detection_rate"] == np.mean(maps[10:].max(axis=(1, 2)) > 3)


def test_a_defect_type_is_scored_with_all_normal_images(data, report):
    X, masks, maps, types = data
    rows = rows_of(report, "defect type")
    assert list(rows) == ["dent", "hole"]
    for kind, row in rows.items():
        chosen = np.isin(types, ["good", kind])
        alone = evaluate(Given(maps[chosen], 3.0), X[chosen], masks[chosen], n_resamples=10)
        assert row.scores["aupro"].value == alone["aupro"]
        assert row.scores["image_roc_auc"].value == alone["image_roc_auc"]
        assert row.scores["detection_rate"] == alone.rows[0].scores["detection_rate"]
        assert (row.n_normal, row.n_anomalous) == (10, np.count_nonzero(types == kind))


@pytest.mark.parametrize("group", ["defect size", "defect contrast"])
def test_thirds_of_the_regions_average_to_aupro(report, group):
    rows = rows_of(report, group).values()
    n_regions = np.array([row.n_regions for row in rows])
    parts = np.array([row.scores["aupro"].value for row in rows])
    assert n_regions.sum() == report.rows[0].n_regions
    assert n_regions @ parts / n_regions.sum() == pytest.approx(report["aupro"], abs=1e-12)


def test_larger_defects_are_in_a_larger_third(report):
    rows = rows_of(report, "defect size")
    assert list(rows) == ["small", "medium", "large"]
    limits = [tuple(map(int, row.extent[:-3].split(" to "))) for row in rows.values()]
    assert limits == sorted(limits)


def test_a_third_that_is_all_regions_has_their_interval():
    rng = np.random.default_rng(0)
    masks = np.zeros((40, 20, 20), bool)
    masks[20:, 5:11, 5:11] = True
    maps = rng.normal(size=masks.shape) + 2 * rng.normal(size=(40, 1, 1)) + masks
    report = evaluate_given(masks.astype(np.uint8), masks, maps)
    overall, small = report.rows[0].scores["aupro"], rows_of(report, "defect size")["small"]
    assert small.scores["aupro"] == pytest.approx(overall, abs=1e-9)
    assert overall.high - overall.low > 0.1


def test_defects_one_by_one():
    masks = np.zeros((2, 12, 20), bool)
    masks[0, 2:4, 2:6] = masks[0, 8:11, 12:15] = masks[1, 5, 5] = True
    maps = np.where(masks, 0.0, 0.5)
    maps[0, 2, 2] = 2.0
    maps[1, 5, 5] = 1.0
    contrasts = Contrasts(np.where(masks, 0.75, 0.5), masks, masks, None)
    defects = describe_defects(list(masks), list(maps), contrasts, 1.0, 0.3)
    assert defects.image.tolist() == [0, 0, 1]
    assert defects.size.tolist() == [8, 9, 1]
    assert defects.contrast == pytest.approx([0.25] * 3)
    assert defects.aupro == pytest.approx([1 / 8, 0, 1])
    assert defects.is_found.tolist() == [True, False, False]


def test_contrast_is_the_distance_to_the_surroundings_only():
    mask = np.zeros((30, 30), bool)
    mask[10:14, 10:14] = mask[10:14, 15:19] = True  # each lies in the other's surroundings
    pixels = np.full((3, 30, 30), 0.25)
    pixels[0, 10:14, 10:14] = 0.55
    pixels[:, 10:14, 15:19] = 0.05
    pixels[:, 25:] = 1.0
    image = pixels.transpose(1, 2, 0)
    assert contrasts_of(mask, image) == pytest.approx([0.3 / np.sqrt(3), 0.2])
    left = mask & (np.arange(30) < 15)  # what lies in no region of interest is no surroundings
    assert contrasts_of(left, image, mask) == pytest.approx([0.3 / np.sqrt(3)])
    assert np.isnan(contrasts_of(np.ones((4, 4), bool), image[:4, :4])).all()


# Intervals ----------------------------------------------------------------------------


def test_draws_in_bins_are_close_to_the_exact_metrics_of_the_drawn_images(data):
    _, masks, maps, _ = data
    labels, scores = np.where(masks.any(axis=(1, 2)), -1, 1), -maps.max(axis=(1, 2))
    weights = draw_weights(labels, 8, np.random.default_rng(0))
    histograms = Histograms.of_maps(list(masks), list(maps))
    of_pixels = scores_of_draws(histograms, weights, 0.3, (1e-3, 0.1))
    of_images = image_scores_of_draws(Histograms.of_scores(labels, scores), weights)
    for draw, times in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(len(masks)), times)
        exact = pixel_scores(masks[drawn], maps[drawn], max_fpr=0.3, fpr_bounds=(1e-3, 0.1))
        for name, value in exact.items():
            assert of_pixels[name][draw] == pytest.approx(value, abs=0.01), name
        for name, value in image_scores(labels[drawn], scores[drawn]).items():
            assert of_images[name][draw] == pytest.approx(value, abs=1e-12), name


def test_draws_keep_the_size_of_each_stratum():
    strata = np.array(["", "a", "a", "b", "", ""])
    weights = draw_weights(strata, 50, np.random.default_rng(0))
    assert (weights[0] == 1).all()
    for stratum in ("", "a", "b"):
        of_stratum = weights[:, strata == stratum]
        assert (of_stratum.sum(axis=1) == of_stratum.shape[1]).all()
    assert weights[1:, strata == "a"].std() > 0


def test_interval_lies_around_the_value():
    draws = np.append(0.5, np.random.default_rng(0).normal(0.5, 0.1, 10_000))
    low, high = interval(0.6, draws, 0.9)
    assert (low, high) == pytest.approx((0.6 - 0.1645, 0.6 + 0.1645), abs=0.01)
    assert interval(0.99, draws, 0.9)[1] == 1
    assert np.isnan(interval(np.nan, draws, 0.9)).all()


def test_intervals_hold_the_value_of_many_images():
    """The truth is that of a large sample; nine of ten 80 % intervals or more hold it."""
    truth = evaluate_given(*make_data(900, seed=99)[:3], n_resamples=1)
    held = dict.fromkeys(("aupro", "pixel_roc_auc", "image_roc_auc", "pixel_average_precision"), 0)
    n_sets = 40
    for seed in range(n_sets):
        report = evaluate_given(*make_data(45, seed)[:3], confidence_level=0.8, n_resamples=100)
        for name in held:
            estimate = report.rows[0].scores[name]
            held[name] += estimate.low <= truth[name] <= estimate.high
    assert all(0.6 <= n / n_sets <= 0.95 for n in held.values()), held


def evaluate_given(X, masks, maps, **parameters):
    return evaluate(Given(maps), X, masks, random_state=0, **parameters)


def test_a_perfect_score_has_no_interval():
    masks = np.zeros((8, 6, 6), bool)
    masks[4:, 2:4, 2:4] = True
    report = evaluate_given(masks.astype(np.uint8), masks, masks.astype(float))
    estimate = report.rows[0].scores["image_roc_auc"]
    assert estimate.value == 1
    assert np.isnan([estimate.low, estimate.high]).all()
    assert "no errors to draw from" in str(report)


def test_shares_have_exact_binomial_intervals(report, data):
    estimate = report.rows[0].scores["detection_rate"]
    n_flagged = round(estimate.value * 20)
    expected = binomtest(n_flagged, 20).proportion_ci(0.95)
    assert (estimate.low, estimate.high) == (expected.low, expected.high)


def test_equal_seeds_give_equal_intervals(data, report):
    X, masks, maps, types = data
    again = evaluate(Given(maps, 3.0), X, masks, defect_types=types, random_state=0)
    assert again.to_dict() == report.to_dict()
    other = evaluate(Given(maps, 3.0), X, masks, defect_types=types, random_state=1)
    assert other.rows[0].scores["aupro"].low != report.rows[0].scores["aupro"].low
    assert other["aupro"] == report["aupro"]


# What may be passed -------------------------------------------------------------------


def test_one_pass(data):
    X, masks, maps, types = data
    detector = Given(maps)
    evaluate(detector, X, masks, defect_types=types, n_resamples=5)
    assert detector.n_passes == 1


@pytest.fixture
def files(tmp_path, fitted, textures):
    """Images and masks of a test set, in files, and how often each has been read."""
    images, masks = textures[1].images, textures[1].masks
    paths = [str(tmp_path / f"{i}.png") for i in range(len(images))]
    for image, path in zip(images, paths):
        Image.fromarray(image).save(path)
    return paths, images, masks


@pytest.mark.parametrize("kind", [ImageFiles, list, lambda paths: np.array(paths, object), "mixed"])
def test_each_file_is_read_once(files, fitted, kind, monkeypatch):
    paths, images, masks = files
    n_read = dict.fromkeys(paths, 0)
    open_file = Image.open

    def counting_open(path, *args, **kwargs):
        n_read[str(path)] += 1
        return open_file(path, *args, **kwargs)

    monkeypatch.setattr(Image, "open", counting_open)
    is_mixed = kind == "mixed"
    X = [*paths[:-2], *images[-2:]] if is_mixed else kind(paths)
    report = evaluate(fitted, X, masks, n_resamples=5, random_state=0)
    assert list(n_read.values()) == [1] * (len(paths) - 2 * is_mixed) + [0] * 2 * is_mixed
    expected = evaluate(fitted, images, masks, n_resamples=5, random_state=0)
    assert [(r.name, r.extent, r.n_regions) for r in report.rows] == [
        (r.name, r.extent, r.n_regions) for r in expected.rows
    ]
    assert report["aupro"] == expected["aupro"]


def test_files_are_converted_as_they_say(files, fitted):
    paths, images, masks = files
    for path, image in zip(paths, images):
        Image.fromarray(image).convert("RGB").save(path)
    grey = ImageFiles(paths, convert="grey")
    found = evaluate(fitted, grey, masks, n_resamples=5, random_state=0)
    assert found["aupro"] == evaluate(fitted, images, masks, n_resamples=5, random_state=0)["aupro"]
    with pytest.raises(InvalidImageError, match=r"image 0 \(.*0\.png\): has 3 channels"):
        evaluate(fitted, ImageFiles(paths), masks)


def test_a_file_that_cannot_be_read_is_named(files, fitted):
    paths, _, masks = files
    Path(paths[3]).write_bytes(b"no image")
    with pytest.raises(InvalidImageError, match=r"image 3 \(.*3\.png\): the file's content"):
        evaluate(fitted, paths, masks)
    Image.new("LA", (64, 64)).save(paths[3])
    with pytest.raises(InvalidImageError, match=r"image 3 \(.*3\.png\): has 2 channels"):
        evaluate(fitted, paths, masks)


class GivenWithin(Given):
    """The same, whose maps outside a region are what is lowest inside."""

    def detect(self, X, *, roi=None):
        maps = [
            m if r is None else np.where(r, m, m[r].min())
            for m, r in zip(self.maps, [None] * len(X) if roi is None else roi)
        ]
        return Given(np.array(maps), self.map_threshold_).detect(X)

    def score_samples(self, X, *, roi=None):
        return self.detect(X, roi=roi).scores


def test_a_region_of_interest(data):
    X, masks, maps, types = data
    roi = np.zeros(masks.shape, bool)
    roi[:, 5:30, 8:45] = True
    report = evaluate(GivenWithin(maps, 3.0), X, masks, roi=roi, defect_types=types, random_state=0)
    # As if there were nothing else: the images cut to it, as it is a rectangle.
    X, masks, maps = (a[:, 5:30, 8:45] for a in (X, masks, maps))
    expected = evaluate(Given(maps, 3.0), X, masks, defect_types=types, random_state=0)
    assert (report.rows[0].n_normal, report.rows[0].n_regions) != (10, 0)
    for row, of_cut in zip(report.rows, expected.rows, strict=True):
        if row.group != "defect contrast":  # whose surroundings may lie outside the region
            assert row == of_cut


def test_a_region_of_one_image_only(data):
    X, masks, maps, _ = data
    roi = [None] * len(X)
    roi[-1] = np.zeros(masks[0].shape, bool)
    roi[-1][:2, :2] = True
    assert not masks[-1][roi[-1]].any()
    report = evaluate(GivenWithin(maps), X, masks, roi=roi, n_resamples=5)
    assert (report.rows[0].n_normal, report.rows[0].n_anomalous) == (11, 19)
    assert report["aupro"] == m.aupro_score(masks, maps, roi=roi)
    y = np.where(masks.any(axis=(1, 2)), -1, 1)
    with pytest.raises(
        ValueError, match=r"y\[29\] is -1, .* masks\[29\] marks nothing in the region"
    ):
        evaluate(GivenWithin(maps), X, masks, y=y, roi=roi)
    report = evaluate(GivenWithin(maps), X, y=y, roi=roi, n_resamples=5)
    assert report.rows[0].n_anomalous == 20
    with pytest.raises(ValueError, match="roi holds 3 regions, X 30 images"):
        evaluate(GivenWithin(maps), X, masks, roi=roi[:3])


def test_a_region_reaches_detectors_in_pipelines_and_searches(fitted, textures):
    X, masks = textures[1].images, textures[1].masks
    roi = np.ones(X.shape[1:3], bool)
    roi[:, :20] = False
    expected = m.all_metrics(fitted, X, masks, roi=roi)
    pipeline = Pipeline([("same", FunctionTransformer()), ("detector", fitted)])
    search = Bunch(best_estimator_=pipeline)
    for estimator in (fitted, pipeline, search, FrozenEstimator(pipeline)):
        report = evaluate(estimator, X, masks, roi=roi, n_resamples=5)
        for name in ("aupro", "image_roc_auc", "pixel_f1_max", "aupimo"):
            assert report[name] == expected[name]


def test_labels_alone_give_image_metrics(data):
    X, masks, maps, types = data
    labels = np.where(masks.any(axis=(1, 2)), -1, 1)
    detector = Given(maps, 3.0)
    report = evaluate(detector, X, y=labels, defect_types=types, n_resamples=5)
    assert detector.n_passes == 0  # no map is asked for
    assert report["detection_rate"] == np.mean(maps[10:].max(axis=(1, 2)) > 3)
    assert set(report.rows[0].scores) == {
        "image_roc_auc",
        "image_average_precision",
        "image_f1_max",
        "false_alarm_rate_at_detection_rate",
        "detection_rate_at_false_alarm_rate",
        "false_alarm_rate",
        "detection_rate",
    }
    assert report.rows[0].n_regions is None
    assert [row.group for row in report.rows] == ["all", "defect type", "defect type"]
    assert "regions" not in str(report)


def test_without_a_map_threshold_there_is_no_share_found(data):
    X, masks, maps, _ = data
    detector = Given(maps)
    detector.map_threshold_ = float("nan")
    report = evaluate(detector, X, masks, n_resamples=5)
    assert list(rows_of(report, "defect size")["small"].scores) == ["aupro"]


def test_an_outlier_detector_on_features_is_evaluated_by_labels():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(40, 3)), rng.normal(6, size=(10, 3))])
    labels = np.where(np.arange(50) < 40, 1, -1)
    report = evaluate(IsolationForest(random_state=0).fit(X[:30]), X, y=labels, n_resamples=5)
    assert report["image_roc_auc"] == 1
    assert "aupro" not in report
    assert list(report) == list(report.rows[0].scores)


def test_boolean_maps(data):
    X, masks, maps, _ = data
    report = evaluate(Given(maps > 1, 0.5), X, masks, n_resamples=5)
    expected = m.aupro_score(masks, (maps > 1).astype(float))
    assert report["aupro"] == pytest.approx(expected, abs=1e-12)


def test_mixed_sizes(data):
    X, masks, maps, _ = data
    X, masks, maps = list(X), list(masks), list(maps)
    X[3], masks[3], maps[3] = X[3][:20], masks[3][:20], maps[3][:20]
    report = evaluate(Given(maps), X, masks, n_resamples=5)
    assert report["aupro"] == m.aupro_score(masks, maps)


def test_no_anomalous_image_leaves_metrics_undefined(data):
    X, masks, maps, _ = data
    report = evaluate(Given(maps[:5]), X[:5], masks[:5], n_resamples=5)
    assert np.isnan(report["aupro"])
    assert np.isnan(report["detection_rate"])
    assert report["false_alarm_rate"] == np.mean(maps[:5].max(axis=(1, 2)) > 1)
    assert "undefined" in str(report)


def test_a_fitted_detector_and_a_pipeline_around_it(fitted, textures):
    _, test = textures
    report = evaluate(fitted, test.images, test.masks, n_resamples=20, random_state=0)
    maps = fitted.transform(test.images)
    assert report["aupro"] == m.aupro_score(test.masks, maps)
    found = fitted.predict(test.images[test.target == -1]) == -1
    assert report["detection_rate"] == found.mean()
    pipeline = Pipeline([("same", FunctionTransformer()), ("detector", fitted)])
    again = evaluate(pipeline, test.images, test.masks, n_resamples=20, random_state=0)
    assert again.rows == report.rows
    assert again.detector_name == "Pipeline"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"masks": None}, "evaluate needs masks or y"),
        ({"y": np.ones(30, int)}, r"y\[10\] is \+1, normal, but masks\[10\] marks a defect"),
        ({"masks": None, "y": np.zeros(30, int)}, r"y\[0\] is 0, expected"),
        ({"defect_types": ["dent"]}, r"defect_types has shape \(1,\), expected \(30,\)"),
        ({"max_fpr": 0}, "max_fpr must lie in"),
        ({"fpr_bounds": (0, 1)}, "fpr_bounds must be"),
        ({"confidence_level": 95}, "confidence_level must lie in"),
        ({"confidence_level": 1.0}, "confidence_level must lie in"),
        ({"n_resamples": 0}, "n_resamples must be an int of at least 1, got 0"),
        ({"n_resamples": 10.0}, "n_resamples must be an int of at least 1, got 10.0"),
        ({"y": -np.ones(30, int)}, r"y\[0\] is -1, anomalous, but masks\[0\] marks nothing"),
        ({"masks": np.zeros((3, 2, 2), bool)}, "masks is of length 3, X of length 30"),
        ({"masks": np.full((30, 40, 50), 2)}, r"mask masks\[0\] holds other values than 0 and 1"),
    ],
)
def test_bad_arguments(data, arguments, message):
    X, masks, maps, _ = data
    with pytest.raises(ValueError, match=message):
        evaluate(Given(maps), X, **{"masks": masks, **arguments})


# How it is shown ----------------------------------------------------------------------


def test_prints_as_a_table(report):
    text = str(report)
    assert text.startswith("Given: 10 normal and 20 anomalous images, ")
    assert f"aupro                               {report['aupro']:.3f}" in text
    assert "by defect type" in text
    assert "by defect contrast" in text
    assert max(map(len, text.splitlines())) <= 100
    assert repr(report) == text


def test_html_holds_every_cell_and_escapes_names(data):
    X, masks, maps, types = data
    types = np.where(types == "dent", "<dent & co>", types)
    report = evaluate(Given(maps, 3.0), X, masks, defect_types=types, random_state=0)

    class Cells(HTMLParser):
        cells, open_tags = [], []

        def handle_starttag(self, tag, attributes):
            self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

        def handle_data(self, text):
            self.cells.append(text)

    parser = Cells()
    parser.feed(report._repr_html_())
    assert not parser.open_tags
    assert "<dent & co>" in parser.cells
    for row in report.rows:
        assert f"{row.scores['aupro'].value:.3f}" in parser.cells


def test_exports_agree(report, tmp_path):
    records = report.to_records()
    assert len(records) == sum(len(row.scores) for row in report.rows)
    text = report.to_csv(tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text() == text
    read = list(csv.DictReader(io.StringIO(text)))
    assert [float(r["value"]) for r in read] == [r["value"] for r in records]
    as_dict = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert as_dict["rows"][0]["scores"]["aupro"]["value"] == report["aupro"]
    assert len(as_dict["rows"]) == len(report.rows)


def test_undefined_is_none_in_the_dict(data):
    X, masks, maps, _ = data
    report = evaluate(Given(maps[:5]), X[:5], masks[:5], n_resamples=5)
    assert (
        json.loads(json.dumps(report.to_dict(), allow_nan=False))["rows"][0]["scores"]["aupro"][
            "value"
        ]
        is None
    )


def test_data_frame(report):
    pd = pytest.importorskip("pandas")
    frame = report.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(report.to_records())


def test_data_frame_without_pandas_says_what_to_do(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas: pip install pandas"):
        report.to_frame()


# Several products ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def products():
    """Data of two products, one of whose maps are a hundred times as large, interleaved."""
    X, masks, maps, types = make_data(n=40, seed=3)
    product = np.array(["lid", "cap"] * 20)
    maps[product == "cap"] *= 100
    return X, masks, maps, types, product


def test_products_are_evaluated_apart_and_averaged(products):
    X, masks, maps, types, product = products
    found = evaluate(
        Given(maps, 3.0), X, masks, defect_types=types, product=product, random_state=0
    )
    of_each = rows_of(found, "product")
    assert list(of_each) == ["lid", "cap"]
    for name, row in of_each.items():
        own = product == name
        alone = evaluate(Given(maps[own], 3.0), X[own], masks[own], random_state=0).rows[0]
        assert (row.n_normal, row.n_anomalous, row.n_regions) == alone[3:6]
        for metric, estimate in row.scores.items():
            assert estimate.value == alone.scores[metric].value
            assert estimate.low <= estimate.value <= estimate.high or np.isnan(estimate.low)
    for metric in m.all_metrics(Given(maps), X, masks):
        metric = metric.removeprefix("neg_")
        expected = np.mean([row.scores[metric].value for row in of_each.values()])
        assert found[metric] == pytest.approx(expected, abs=1e-15)
        pooled = found.rows[0].scores[metric]
        widths = [r.scores[metric].high - r.scores[metric].low for r in of_each.values()]
        assert pooled.high - pooled.low < max(widths)
    flagged = maps.max(axis=(1, 2)) > 3
    assert found["false_alarm_rate"] == flagged[~masks.any(axis=(1, 2))].mean()
    kinds = [
        f"{name}, {kind}" for name in ("lid", "cap") for kind in np.unique(types[product == name])
    ]
    assert list(rows_of(found, "defect type")) == [k for k in kinds if "good" not in k]
    assert "metrics are means over 2 products" in str(found)
    assert {row.group for row in found.rows} == {"all", "product", "defect type"}


def test_a_detector_of_several_products_is_evaluated_by_them(textures):
    train, test = textures
    product = np.array([7, 3] * (len(train.images) // 2))
    detector = MultiProductDetector(small("PaDiM")).fit(train.images, product=product)
    of_test = np.array([3, 7] * (len(test.images) // 2))
    for masks, y in ((test.masks, None), (None, test.target)):
        found = evaluate(detector, test.images, masks, y=y, product=of_test, n_resamples=5)
        of_each = rows_of(found, "product")
        assert list(of_each) == ["3", "7"]
        for name in (3, 7):
            own = of_test == name
            alone = evaluate(
                detector.detectors_[name],
                test.images[own],
                None if masks is None else masks[own],
                y=None if y is None else y[own],
                n_resamples=5,
            )
            for metric in alone:
                assert of_each[str(name)].scores[metric].value == alone[metric]
    with pytest.raises(ValueError, match="product is None; pass the product of each image"):
        evaluate(detector, test.images, test.masks)
    with pytest.raises(ValueError, match="product is of length 1, X of length 12"):
        evaluate(detector, test.images, test.masks, product=[3])


def test_a_defect_at_the_threshold_is_not_rounded_to_be_missed():
    masks = [np.array([[True, False]])] * 2
    maps = [np.array([[value, 0]], np.float32) for value in (0.1, np.nextafter(np.float32(0.1), 0))]
    assert float(maps[0][0, 0]) > 0.1 > float(maps[1][0, 0])
    defects = describe_defects(masks, maps, [np.zeros(1)] * 2, 0.1, 0.3)
    assert defects.is_found.tolist() == [True, False]
