"""What a report holds, whom it takes, and what it refuses."""

import hashlib
import json
import re
import weakref
from base64 import b64encode
from html import unescape
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skanomaly
from skanomaly import (
    ImageFiles,
    MultiProductDetector,
    PaDiM,
    find_regions,
    make_ensemble,
)
from skanomaly.exceptions import InvalidImageError
from skanomaly.images import LazyImages, read_image
from skanomaly.metrics import evaluate
from skanomaly.reports import _watching, inspection_report


@pytest.fixture(scope="session")
def report(brick_report):
    return brick_report


def page_of(report):
    file = BytesIO()
    report.write(file)
    return file.getvalue().decode("utf-8")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def content_of(page):
    (text,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', page, re.S)
    return json.loads(text, parse_constant=refuse)


def test_it_holds_what_the_detector_says(report, brick_padim, bricks):
    found = brick_padim.detect(bricks.images)
    assert np.array_equal(report.scores, found.scores)
    assert np.array_equal(report.labels, found.labels)
    assert np.array_equal(report.p_values, brick_padim.p_values(bricks.images))
    assert np.array_equal(report.truth, bricks.target)
    regions = find_regions(found.maps, brick_padim.map_threshold_)
    assert {k: v.tolist() for k, v in report.regions.items()} == {
        k: v.tolist() for k, v in regions.items()
    }
    figures = evaluate(
        brick_padim, bricks.images, bricks.masks, defect_types=bricks.defect_types, random_state=0
    )
    assert report.evaluation.to_csv() == figures.to_csv()
    assert report.evaluation.detector_name == "PaDiM"


def test_the_page_holds_it_too(report, brick_padim):
    content = content_of(page_of(report))
    assert content["offset"] == brick_padim.offset_
    assert content["mapThreshold"] == brick_padim.map_threshold_
    assert [image["score"] for image in content["images"]] == report.scores.tolist()
    assert [image["name"] for image in content["images"]] == report.names.tolist()
    assert sum(image["nRegions"] for image in content["images"]) == len(report.regions.image)
    assert content["settings"]["n_features"] == "60"


def test_batches_are_small_and_results_the_same(report, brick_padim, bricks, monkeypatch):
    monkeypatch.setattr(_watching, "IMAGES_AT_ONCE", 1)
    scored, detect = [], PaDiM.detect

    def noted(self, X, **options):
        scored.append(len(X))
        return detect(self, X, **options)

    monkeypatch.setattr(PaDiM, "detect", noted)
    again = inspection_report(brick_padim, bricks.images, min_area=3)
    assert scored == [8, 8, 8]
    assert np.array_equal(again.scores, report.scores)
    assert set(again.regions.area) == {area for area in report.regions.area if area >= 3}


class Counted(LazyImages):
    """Images that know how many of them there are at a time, and which were made."""

    def __init__(self, n):
        self.n, self.alive, self.most, self.made = n, weakref.WeakSet(), 0, []

    def __len__(self):
        return self.n

    def _image(self, i):
        image = np.random.default_rng(i).integers(0, 256, (64, 64, 1), np.uint8).view(Tracked)
        self.made.append(i)
        self.alive.add(image)
        self.most = max(self.most, len(self.alive))
        return image

    def _subset(self, indices):
        raise AssertionError("not needed")


class Tracked(np.ndarray):
    __hash__ = object.__hash__


def test_images_are_made_once_and_not_kept(brick_padim):
    images = Counted(150)
    report = inspection_report(brick_padim, images)
    assert sorted(images.made) == list(range(150))
    assert images.most < 60
    assert not images.alive
    assert len(report.scores) == 150


@pytest.fixture
def files(bricks, tmp_path):
    for i, image in enumerate(bricks.images):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    return ImageFiles.from_folder(tmp_path)


def test_files_are_read_once_and_called_by_their_paths(
    files, brick_padim, bricks, report, monkeypatch
):
    reads = []
    for module in ("images._files", "metrics._defects"):

        def noted(path, *, convert=None):
            reads.append(path)
            return read_image(path, convert=convert)

        monkeypatch.setattr(f"skanomaly.{module}.read_image", noted)
    found = inspection_report(brick_padim, files, masks=bricks.masks)
    assert found.names.tolist() == list(files.paths)
    assert np.array_equal(found.scores, report.scores)
    assert found.data_sha256 == report.data_sha256
    assert found.id != report.id
    assert sorted(reads) == sorted(files.paths)
    inspection_report(brick_padim, files)
    assert len(reads) == 2 * len(files)


def test_converted_files_reach_the_detector_converted(files, brick_padim, bricks):
    grey, colours = (ImageFiles(files, convert=kind) for kind in ("grey", "rgb"))
    detector = PaDiM(image_size=64, n_features=5, random_state=0).fit(colours)
    with pytest.raises(InvalidImageError, match="has 1 channels, expected 3"):
        inspection_report(detector, grey, masks=bricks.masks)
    found = inspection_report(detector, colours, masks=bricks.masks)
    assert np.array_equal(found.scores, detector.score_samples(colours))


def test_a_bad_file_is_named_and_nothing_is_written(files, brick_padim, tmp_path):
    (tmp_path / "20.png").write_bytes(b"no image")
    out = tmp_path / "report.html"
    for X in (files, list(files.paths)):
        with pytest.raises(InvalidImageError, match=r"image 20 .*20\.png") as error:
            inspection_report(brick_padim, X, out)
        assert error.value.index == 20
    assert not out.exists()
    assert len(list(tmp_path.iterdir())) == 24


def test_a_bad_region_is_named(brick_padim, bricks, monkeypatch):
    monkeypatch.setattr(_watching, "IMAGES_AT_ONCE", 1)
    roi = [np.ones((64, 64), bool)] * 24
    roi[17] = np.ones((5, 5), bool)
    with pytest.raises(InvalidImageError, match=r"image 17: its region of interest has shape"):
        inspection_report(brick_padim, bricks.images, roi=roi)


def test_regions_of_interest_reach_the_detector(brick_padim, bricks):
    roi = np.zeros((24, 64, 64), bool)
    roi[:, :, 30:] = True
    found = inspection_report(brick_padim, bricks.images, roi=roi, masks=bricks.masks)
    assert np.array_equal(found.scores, brick_padim.score_samples(bricks.images, roi=roi))
    expected = find_regions(
        brick_padim.transform(bricks.images, roi=roi), brick_padim.map_threshold_, roi=roi
    )
    assert found.regions.left.tolist() == expected.left.tolist()
    inside = np.array([mask[:, 30:].any() for mask in bricks.masks])
    assert found.truth.tolist() == np.where(inside, -1, 1).tolist()


def test_a_place_that_cannot_be_written_to_costs_no_work(brick_padim, tmp_path):
    images = Counted(4)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        inspection_report(brick_padim, images, tmp_path / "missing" / "report.html")
    assert images.made == []


def test_it_takes_pipelines_and_ensembles_and_exported_ones(brick_padim, bricks, tmp_path, report):
    pipeline = make_pipeline(FunctionTransformer(np.flip), brick_padim)
    assert np.array_equal(
        inspection_report(pipeline, np.flip(bricks.images)).scores,
        brick_padim.score_samples(bricks.images),
    )
    ensemble = make_ensemble(PaDiM(image_size=64, n_features=5), PaDiM(image_size=64, n_features=8))
    ensemble.set_params(random_state=0).fit(bricks.images[bricks.target == 1])
    found = inspection_report(ensemble, bricks.images, masks=bricks.masks)
    assert np.array_equal(found.scores, ensemble.score_samples(bricks.images))
    skanomaly.export_onnx(brick_padim, tmp_path / "m.onnx", bricks.images)
    served = skanomaly.OnnxDetector(tmp_path / "m.onnx")
    roi = np.zeros((24, 64, 64), bool)
    roi[:, :, 20:] = True
    found = inspection_report(served, bricks.images, roi=roi)
    assert np.array_equal(found.scores, served.score_samples(bricks.images, roi=roi))
    assert found.model_sha256 is None
    assert "OnnxDetector" in found.why_no_model_sha256


def test_the_truth_may_be_labels_alone(brick_padim, bricks):
    found = inspection_report(brick_padim, bricks.images, y=bricks.target)
    assert found.truth.tolist() == bricks.target.tolist()
    assert "pixel_roc_auc" not in found.evaluation
    assert inspection_report(brick_padim, bricks.images).evaluation is None


def test_images_of_several_sizes_and_kinds(bricks):
    images = [bricks.images[0], bricks.images[1][:40], *bricks.images[2:12]]
    detector = PaDiM(image_size=64, n_features=5, random_state=0).fit(images)
    found = inspection_report(detector, images)
    assert [image["size"] for image in content_of(page_of(found))["images"]][:2] == [
        [64, 64],
        [40, 64],
    ]


def test_checksums_are_of_the_model_file_and_of_pixels(report, brick_padim, bricks, tmp_path):
    skanomaly.save(brick_padim, tmp_path / "m.skanomaly")
    content = (tmp_path / "m.skanomaly").read_bytes()
    assert report.model_sha256 == hashlib.sha256(content).hexdigest()
    loaded = skanomaly.load(tmp_path / "m.skanomaly")
    again = inspection_report(loaded, list(bricks.images), names=report.names)
    assert (again.model_sha256, again.data_sha256) == (report.model_sha256, report.data_sha256)
    assert again.id == report.id
    other = bricks.images.copy()
    other[3, 0, 0] ^= 1
    assert inspection_report(brick_padim, other).data_sha256 != report.data_sha256
    turned = inspection_report(brick_padim, bricks.images[::-1])
    assert turned.data_sha256 != report.data_sha256


def test_no_name_ends_the_script_or_becomes_part_of_the_page(report):
    page = page_of(report)
    assert page.count("</script>") == 3
    assert page.lower().count("<script") == 3
    assert "<img" not in page
    assert "<b>Bricks" not in page
    assert "&lt;b&gt;Bricks&lt;/b&gt; &amp; &quot;more&quot;" in page


def test_the_policy_allows_the_pages_own_script_and_style_and_no_network(report):
    page = page_of(report)
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    policy = unescape(policy)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    outside = re.sub(r'id="report">.*?</script>', "", page, flags=re.S)
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", outside)


def test_saving_writes_the_page_and_says_where_it_cannot(report, tmp_path):
    report.save(tmp_path / "a.html")
    assert content_of((tmp_path / "a.html").read_text("utf-8"))["id"] == report.id
    with pytest.raises(FileNotFoundError):
        report.save(tmp_path / "missing" / "a.html")


def test_it_shows_as_a_small_table(report):
    shown = report._repr_html_()
    assert len(shown) < 2000
    assert "<b>" not in shown
    assert f"{report.n_flagged} (" in shown
    assert repr(report).startswith("InspectionReport(images: 24, flagged: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"] * 24}, "images 0 and 1 are both called 'a'"),
        ({"names": ["a"]}, "names is of length 1, X of length 24"),
        ({"names": range(24)}, r"names\[0\] is 0, expected a str"),
        ({"groups": [1]}, "groups is of length 1, X of length 24"),
        ({"defect_types": ["a"]}, "defect_types is of length 1, X of length 24"),
        ({"y": [1, 2]}, "y is of length 2"),
        ({"y": [0] * 24}, r"y\[0\] is 0"),
        ({"masks": [np.zeros((64, 64))] * 3}, "masks is of length 3"),
        ({"masks": [np.zeros((4, 4))] * 24}, "mask 0 has shape"),
        ({"roi": [None] * 3}, "roi holds 3 regions"),
        ({"min_area": 0}, "min_area must be an int of at least 1"),
        ({"thumbnail_size": 1000}, "thumbnail_size must be an int from 64 to 512"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, brick_padim, bricks):
    with pytest.raises(ValueError, match=message):
        inspection_report(brick_padim, bricks.images, **options)


def test_files_given_twice_need_names(files, brick_padim):
    twice = files + files
    with pytest.raises(ValueError, match=r"images 0 and 24 are both called .*pass names="):
        inspection_report(brick_padim, twice)


def test_detectors_that_cannot_be_shown_are_refused(bricks, brick_padim):
    with pytest.raises(NotFittedError):
        inspection_report(PaDiM(), bricks.images)
    good = bricks.images[bricks.target == 1]
    several = MultiProductDetector(PaDiM(image_size=64, n_features=5)).fit(good, product="a")
    with pytest.raises(ValueError, match=r"MultiProductDetector, whose.*detectors_\[name\]"):
        inspection_report(several, bricks.images)
    forest = make_pipeline(FunctionTransformer(lambda X: X.reshape(len(X), -1)), IsolationForest())
    forest.fit(good)
    with pytest.raises(ValueError, match="ends in a IsolationForest, which has no detect"):
        inspection_report(forest, bricks.images)
