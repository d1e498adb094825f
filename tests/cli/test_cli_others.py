"""What goes on around a model: evaluation, reports, calibration, export, audit, comparisons."""

import csv
import json
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image
from sklearn.utils import Bunch

import skanomaly
from skanomaly.calibration import false_alarm_interval
from skanomaly.cli import main
from skanomaly.datasets import load_image_folder
from skanomaly.metrics import evaluate


def document(capsys, *arguments, status=0):
    """What a command says as JSON."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


# info


@pytest.mark.parametrize("kind", ["skanomaly", "onnx", "pickle", "compressed pickle"])
def test_info(kind, models, capsys):
    trust = ["--trust-pickle"] if "pickle" in kind else []
    found = document(capsys, "info", models[kind], *trust)
    detector = skanomaly.load(models["skanomaly"])
    assert found["detector"] == "LocalContrast"
    assert found["threshold"] == pytest.approx(-detector.offset_)
    assert found["n_validation"] == len(detector.validation_scores_)
    assert found["bytes"] == models[kind].stat().st_size
    if kind == "onnx":
        assert found["versions"].keys() == {"skanomaly"}
        assert "false_alarm_rate" not in found
    else:
        expected = false_alarm_interval(found["n_validation"], 0.05)
        assert found["false_alarm_interval"] == pytest.approx(expected)
        assert found["parameters"]["scales"] == [2, 4]
    if kind == "skanomaly":
        assert {"skanomaly", "torch"} <= found["versions"].keys()
    assert main(["info", str(models[kind]), *trust]) == 0
    shown = capsys.readouterr().out
    assert found["sha256"] in shown
    assert f"{found['n_validation']} images" in shown


def test_info_of_what_is_not_fitted_and_of_parts(tmp_path, capsys):
    skanomaly.save(skanomaly.make_ensemble(image_size=64), tmp_path / "m")
    assert main(["info", str(tmp_path / "m")]) == 0
    shown = capsys.readouterr().out
    assert "not fitted" in shown
    assert "detectors = memory: PatchCore, subspace: SubspaceAD" in shown
    assert "memory__coreset = 4000" in shown
    assert "memory__metric" not in shown  # as its class has it


# evaluate


def test_evaluate(model, parts, tmp_path, capsys):
    test = load_image_folder(parts, split="test")
    expected = evaluate(
        skanomaly.load(model),
        test.images,
        test.masks,
        y=test.target,
        defect_types=test.defect_types,
        random_state=0,
    )
    paths = tmp_path / "e.csv", tmp_path / "e.html"
    command = ["evaluate", str(model), str(parts)]
    assert main([*command, "--csv", str(paths[0]), "--html", str(paths[1])]) == 0
    assert str(expected) in capsys.readouterr().out
    assert paths[0].read_text() == expected.to_csv()
    assert expected._repr_html_() in paths[1].read_text()
    found = document(capsys, *command)
    assert found["rows"] == json.loads(json.dumps(expected.to_dict()))["rows"]


def test_evaluate_fails_under_what_is_asked(model, parts, capsys):
    command = ["evaluate", str(model), str(parts), "--fail-under"]
    assert main([*command, "image_roc_auc=0.01"]) == 0
    assert main([*command, "image_roc_auc=1.01"]) == 1
    assert "image_roc_auc is" in capsys.readouterr().err
    assert main([*command, "auroc=1"]) == 2
    assert "no metric auroc here; there are image_roc_auc" in capsys.readouterr().err
    assert main([*command, "aupro"]) == 2
    assert "expected metric=number" in capsys.readouterr().err


def test_evaluate_needs_a_test_split(model, good_parts, capsys):
    assert main(["evaluate", str(model), str(good_parts)]) == 2
    assert "there is no split 'test'" in capsys.readouterr().err


# report


@pytest.fixture
def reports(monkeypatch):
    """Stands for the package that writes pages and reads decisions."""
    calls = []

    def inspection_report(detector, X, out, *, y=None, masks=None, defect_types=None, groups=None,
                          names=None, title=None):  # fmt: skip
        calls.append(Bunch(**locals()))

    module = types.ModuleType("skanomaly.reports")
    module.inspection_report = inspection_report
    monkeypatch.setitem(sys.modules, "skanomaly.reports", module)
    return module, calls


def test_report(model, parts, new_parts, reports, tmp_path, capsys):
    _, calls = reports
    (new_parts / "text.png").write_text("no image")
    out = str(tmp_path / "r.html")
    assert main(["report", str(model), str(new_parts), "-o", out, "--title", "Line 2"]) == 3
    assert "text.png: the file's content is not an image" in capsys.readouterr().err
    (call,) = calls
    assert (len(call.X), call.out, call.title, call.y) == (12, out, "Line 2", None)
    assert call.groups == ["." if "/" not in name else "line 2" for name in call.names]
    assert all((new_parts / name).is_file() for name in call.names)
    assert main(["report", str(model), str(parts), "-o", out, "--split", "test"]) == 0
    test = load_image_folder(parts, split="test")
    assert list(calls[1].y) == list(test.target)
    assert calls[1].names == test.filenames
    np.testing.assert_array_equal(calls[1].masks, test.masks)
    assert main(["report", str(model), str(new_parts), "-o", "-"]) == 2


# calibrate


def test_calibrate_by_good_images(model, good_parts, tmp_path, capsys):
    out = tmp_path / "m"
    found = document(capsys, "calibrate", model, good_parts, "-o", out)
    expected = skanomaly.load(model).calibrate(sorted(map(str, good_parts.iterdir())))
    assert skanomaly.load(out).offset_ == expected.offset_ == -found["threshold"]
    assert found["n_good"] == found["n_validation"] == 24
    rate = document(capsys, "calibrate", model, "-o", out, "--false-alarm-rate", 0.3)
    assert rate["threshold"] < rate["threshold_before"]
    assert skanomaly.load(out).false_alarm_rate == 0.3


def test_calibrate_keeps_the_kind_of_file(models, good_parts, tmp_path, capsys):
    command = ["calibrate", str(models["pickle"]), str(good_parts), "-o", str(tmp_path / "m")]
    assert main([*command, "--trust-pickle"]) == 0
    assert main(["info", str(tmp_path / "m")]) == 2
    assert "is a pickle" in capsys.readouterr().err


def test_calibrate_by_decisions(model, new_parts, reports, tmp_path, capsys):
    names = sorted(p.relative_to(new_parts).as_posix() for p in new_parts.rglob("*.png"))
    decisions = ["good"] * 6 + ["defect"] * 4 + ["unsure"] * 2
    module, _ = reports
    module.load_decisions = lambda path: Bunch(names=names, decisions=np.array(decisions))
    found = document(
        capsys, "calibrate", model, new_parts, "-o", tmp_path / "m", "--decisions", "d.csv"
    )
    expected = skanomaly.load(model).calibrate([str(new_parts / name) for name in names[:6]])
    assert found["threshold"] == -expected.offset_
    assert (found["n_good"], found["n_defects"]) == (6, 4)
    defects = [str(new_parts / name) for name in names[6:10]]
    assert found["n_defects_flagged"] == (expected.predict(defects) == -1).sum()
    command = ["calibrate", str(model), "-o", str(tmp_path / "n"), "--decisions", "d.csv"]
    assert main(command) == 2
    assert "which is not there; name the folder" in capsys.readouterr().err
    decisions[:6] = ["unsure"] * 6
    assert main([*command, str(new_parts)]) == 2
    assert "calls no image good" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}"], "nothing to set the threshold from"),
        (["{model}", "{parts}"], "cannot be told .*there is no split None; found .*train"),
        (["{model}", "{parts}/test"], "cannot be told .*may hold good images or defects"),
        (["{onnx}", "{good}"], "is an exported detector"),
        (["{model}", "{tmp}"], "holds no image"),
    ],
)
def test_mistakes_of_calibrate(
    arguments, message, model, models, parts, good_parts, tmp_path, capsys
):
    names = {"model": model, "onnx": models["onnx"], "parts": parts, "good": good_parts}
    arguments = [argument.format(**names, tmp=tmp_path) for argument in arguments]
    assert main(["calibrate", *arguments, "-o", str(tmp_path / "m")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "m").exists()


# export


def test_export_says_how_alike_the_file_is(model, good_parts, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    found = document(capsys, "export", model, good_parts, "-o", out, "--images", 4)
    assert found["n_images"] == 4
    assert found["score_difference"] <= found["tolerance"]
    served, image = skanomaly.OnnxDetector(out), [str(good_parts / "00.png")]
    expected = skanomaly.load(model).score_samples(image)
    np.testing.assert_allclose(served.score_samples(image), expected, rtol=1e-3)
    assert main(["export", str(out), str(good_parts), "-o", str(tmp_path / "n")]) == 2
    assert "is an exported detector already" in capsys.readouterr().err
    command = ["export", str(model), str(good_parts), "-o", str(tmp_path / "n")]
    assert main([*command, "--tolerance", "1e-30"]) == 2
    assert "differs from the detector by" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()


# audit


def test_audit(good_parts, tmp_path, monkeypatch, capsys):
    found = skanomaly.audit_images([str(p) for p in sorted(good_parts.iterdir())], random_state=0)
    monkeypatch.setattr("skanomaly.preprocessing.audit_images", lambda X, random_state: found)
    paths = tmp_path / "a.csv", tmp_path / "a.html"
    command = ["audit", good_parts, "--csv", paths[0], "--html", paths[1]]
    said = document(capsys, *command, status=1 if found.flagged.any() else 0)
    assert said["n_flagged"] == found.flagged.sum()
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [r["name"] for r in found.to_records()]
    assert "<html" in paths[1].read_text()
    found.flagged[:] = True
    assert main(list(map(str, command))) == 1
    assert str(found) in capsys.readouterr().out
    assert main([*map(str, command), "--exit-zero"]) == 0
    found.flags["unreadable"][0] = True
    assert main(list(map(str, command))) == 3


# recommend and benchmark


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.SelectionWarning")
def test_recommend(good_parts, tmp_path, capsys):
    out = tmp_path / "m"
    command = ["recommend", good_parts, "--detectors", "MedianDifference, LocalContrast"]
    found = document(capsys, *command, "-o", out)
    names = {row["detector"] for row in found["detectors"]}
    assert names == {"MedianDifference", "LocalContrast"}
    assert type(skanomaly.load(out)).__name__ == found["best"]
    assert main([*map(str, command[:2]), "--detectors", ","]) == 2
    assert main([*map(str, command[:2]), "--detectors", "PaDim"]) == 2
    assert "did you mean PaDiM" in capsys.readouterr().err


def test_benchmark(parts, tmp_path, capsys):
    command = ["benchmark", parts, "--detectors", "LocalContrast,MedianDifference"]
    found = document(capsys, *command, "--csv", tmp_path / "b.csv")
    assert (found["n_train"], found["n_test_good"], found["n_test_defects"]) == (24, 6, 6)
    one = found["detectors"][0]
    assert one["image_roc_auc_low"] is None or one["image_roc_auc_low"] <= one["image_roc_auc"]
    train, test = (load_image_folder(parts, split=s) for s in ("train", "test"))
    detector = skanomaly.LocalContrast(random_state=0).fit(train.images)
    expected = evaluate(detector, test.images, test.masks, y=test.target)
    assert one["image_roc_auc"] == pytest.approx(expected["image_roc_auc"])
    assert one["aupro"] == pytest.approx(expected["aupro"])
    assert one["fit_seconds"] > 0
    with (tmp_path / "b.csv").open() as file:
        assert [r["detector"] for r in csv.DictReader(file)] == [
            "LocalContrast",
            "MedianDifference",
        ]
    assert main(list(map(str, command))) == 0
    shown = capsys.readouterr().out
    assert "measured on 6 good ones and 6 with defects, once, seed 0" in shown


def test_benchmark_says_what_failed(parts, monkeypatch, capsys):
    def fail(self, X):
        raise ValueError("no fit today")

    monkeypatch.setattr(skanomaly.LocalContrast, "fit", fail)
    command = ["benchmark", parts, "--detectors", "LocalContrast,MedianDifference"]
    found = document(capsys, *command)
    assert found["detectors"][0]["error"] == "no fit today"
    assert found["detectors"][1]["image_roc_auc"] is not None
    assert main(list(map(str, command))) == 0
    assert "LocalContrast: no fit today" in capsys.readouterr().out


# demo


@pytest.fixture
def small_demo(monkeypatch):
    """The demo with few images, and a detector that needs no network."""
    monkeypatch.setattr("skanomaly.cli._demo.N_TRAIN", 6)
    monkeypatch.setattr("skanomaly.cli._demo.N_VALIDATION", 10)
    monkeypatch.setattr(
        "skanomaly.compose.ensemble_detector.make_ensemble",
        lambda random_state: skanomaly.LocalContrast(image_size=64, random_state=random_state),
    )


def test_demo(small_demo, tmp_path, capsys):
    out = tmp_path / "demo.png"
    assert main(["demo", "--out", str(out), "--texture", "gravel"]) == 0
    shown = capsys.readouterr().out
    for name in ("scratch", "crack", "spot", "stain", "missing", "foreign", "all", "AUPRO"):
        assert name in shown
    low, high = false_alarm_interval(10, 0.05, n_new=40)
    assert f"of 40 new good crops {40 * low:.0f} to {40 * high:.0f}" in shown
    with Image.open(out) as sheet:
        assert min(sheet.size) > 800


def test_demo_without_matplotlib(small_demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    found = document(capsys, "demo")
    assert found["out"] == "skanomaly-demo.png"
    assert found["n_defects"] == 60
    assert [path.name for path in tmp_path.iterdir()] == ["skanomaly-demo.png"]


def test_demo_checks_its_seed(capsys):
    assert main(["demo", "--seed", "-1"]) == 2
    assert "--seed -1" in capsys.readouterr().err
