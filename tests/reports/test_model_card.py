"""Cards of models: every statement is the detector's, and programs can read them."""

import hashlib
import re

import joblib
import numpy as np
import pytest
import yaml
from conftest import small
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skanomaly
from skanomaly.calibration import false_alarm_interval
from skanomaly.metrics import evaluate
from skanomaly.preprocessing import Crop
from skanomaly.reports import model_card

X = np.random.default_rng(0).integers(0, 256, (24, 64, 64), np.uint8)
MASKS = np.zeros((24, 64, 64), bool)
MASKS[12:, 20:30, 20:30] = True


@pytest.fixture(scope="module")
def detector():
    return small("SubspaceAD", validation_fraction=0.5).fit(X)


@pytest.fixture(scope="module")
def report(detector):
    types = np.array(["good"] * 12 + ["a|b <i>"] * 6 + ["dent"] * 6)
    return evaluate(detector, X, MASKS, defect_types=types, random_state=0)


def parts(card):
    """Front matter as a dict, and text by heading."""
    _, front, body = card.split("---\n", 2)
    headings = re.split(r"^(#+ .*)\n", body, flags=re.MULTILINE)
    return yaml.safe_load(front), dict(zip(headings[1::2], map(str.strip, headings[2::2])))


def rows(text):
    """Cells of the tables in a text, without their escapes."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line] for line in cells]


def test_what_it_was_fitted_on_and_what_it_promises(detector):
    front, card = parts(model_card(detector, X=X, license="mit"))
    assert front["library_name"] == "skanomaly"
    assert front["license"] == "mit"
    assert "SubspaceAD" in front["tags"]
    data = dict(rows(card["### Training data"]))
    n = len(detector.validation_scores_)
    assert data["images"] == "24"
    assert data["height x width"] == "24 of 64 x 64 pixels"
    assert data["channels, dtype of the first"] == "1, uint8"
    assert data["normal images that set the threshold"] == str(n)
    low, high = false_alarm_interval(n, 0.05)
    said = card["### Threshold"]
    assert f"{detector.offset_:.6g}" in said
    assert f"between {low:.1%} and {high:.1%}" in said
    assert f"p-values are {1 / (n + 1):.3g} or higher" in said
    parameters = dict(rows(card["### Hyperparameters"])[2:])
    assert parameters == {key: repr(value) for key, value in detector.get_params().items()}
    assert dict(rows(card["### Versions"]))["skanomaly"] == skanomaly.__version__
    assert card["## Evaluation Results"] == "[More Information Needed]"
    assert "64 x 64 pixels" in card["## Intended uses & limitations"]


def test_headings_are_those_of_skops(detector):
    templates = pytest.importorskip("skops.card._templates")
    skops = {name.split("/")[-1] for name in templates.SKOPS_TEMPLATE}
    own = {heading.lstrip("# ") for heading in parts(model_card(detector))[1]}
    assert skops - own == {"Model Plot"}


def test_an_evaluation_with_its_intervals(detector, report):
    front, card = parts(model_card(detector, report))
    assert front["metrics"] == list(report)
    found = {line[0]: line[1:] for line in rows(card["## Evaluation Results"])}
    for metric, estimate in report.rows[0].scores.items():
        assert found[metric][0] == f"{estimate.value:.3f}"
    assert "a|b <i>" in found
    assert r"a\|b \<i\>" in card["## Evaluation Results"]


def test_texts_of_ones_own(detector):
    own = {"intended_use": "Bricks.", "limitations": "- No moss.", "authors": "A. B."}
    own |= {"contact": "a@b.example", "citation": "@misc{c}"}
    _, card = parts(model_card(detector, **own))
    assert card["## Intended uses & limitations"].startswith("Bricks.")
    assert card["## Intended uses & limitations"].endswith("- No moss.")
    assert card["# Model Card Authors"] == "A. B."
    assert card["# Model Card Contact"] == "a@b.example"
    assert card["# Citation"] == "@misc{c}"


def test_files_and_how_they_are_loaded(detector, tmp_path):
    skanomaly.save(detector, tmp_path / "a.model")
    skanomaly.export_onnx(detector, tmp_path / "b`.onnx", X[:2])
    joblib.dump(detector, tmp_path / "c")
    for name, how in (("a.model", "skanomaly.load"), ("b`.onnx", "OnnxDetector"), ("c", "joblib")):
        path = tmp_path / name
        card = model_card(detector, path=path)
        said = card.split("# How to Get Started with the Model")[1]
        assert f"{how}" in said
        assert repr(name) in said
        assert hashlib.sha256(path.read_bytes()).hexdigest() in said
        assert f"{path.stat().st_size:,} bytes" in said
        code = re.search(r"```python\n(.*?)found =", said, re.DOTALL)[1]
        names = {}
        exec(code.replace(repr(name), repr(str(path))), names)
        assert names["detector"].predict(X[:1]).shape == (1,)
    (tmp_path / "d").write_text("nothing")
    with pytest.raises(ValueError, match="d' holds no model"):
        model_card(detector, path=tmp_path / "d")
    with pytest.raises(FileNotFoundError):
        model_card(detector, path=tmp_path / "e")


def test_an_exported_detector(detector, tmp_path):
    skanomaly.export_onnx(detector, tmp_path / "a.onnx", X[:2])
    front, card = parts(model_card(skanomaly.OnnxDetector(tmp_path / "a.onnx")))
    assert "SubspaceAD" in front["tags"]
    assert "exported from a `SubspaceAD`" in card["# Model description"]
    assert f"{detector.offset_:.6g}" in card["### Threshold"]
    assert "OnnxDetector" in card["# How to Get Started with the Model"]


def test_composites_and_pipelines(detector):
    inside = make_pipeline(Crop((0, 0, 60, 60)), detector).fit(X)
    _, card = parts(model_card(inside))
    assert "`crop`" in card["# Model description"]
    assert "subspacead__image_size" in dict(rows(card["### Hyperparameters"]))
    wrapped = skanomaly.TransformedImageDetector(Crop((0, 0, 60, 60)), detector).fit(X)
    assert "`false_alarm_rate` of 0.05" in parts(model_card(wrapped))[1]["### Threshold"]
    ensemble = skanomaly.make_ensemble(small("SubspaceAD"), small("LocalContrast")).fit(X)
    assert f"{ensemble.offset_:.6g}" in model_card(ensemble)
    product = np.repeat(["left", "*right*"], 12)
    several = skanomaly.MultiProductDetector(small("SubspaceAD")).fit(X, product=product)
    _, card = parts(model_card(several))
    assert r"(`offset_`) of \*right\* are flagged" in card["### Threshold"]
    data = dict(rows(card["### Training data"]))
    assert data["normal images that set the threshold of left"] == "12"


def test_what_is_no_fitted_detector():
    with pytest.raises(NotFittedError):
        model_card(small("SubspaceAD"))
    with pytest.raises(TypeError, match="detector is a str"):
        model_card("model.skanomaly")
    with pytest.raises(TypeError, match="ends in a StandardScaler"):
        model_card(StandardScaler().fit([[0.0], [1.0]]))
    fitted = IsolationForest(n_estimators=2).fit([[0.0], [1.0]])
    with pytest.raises(TypeError, match="evaluation is a dict"):
        model_card(fitted, {"auroc": 1})
