import csv
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image

from skanomaly import HierarchicalFeatureAE, cli
from skanomaly.cli import main


@pytest.fixture(scope="module")
def good_parts(textures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(textures[0].images):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model(good_parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.joblib"
    arguments = ["--image-size", "64", "--max-epochs", "2", "--seed", "0"]
    assert main(["fit", str(good_parts), "-o", str(path), *arguments]) == 0
    return path


@pytest.fixture
def new_parts(textures, tmp_path):
    folder = tmp_path / "new"
    (folder / "line 2").mkdir(parents=True)
    for i, image in enumerate(textures[1].images):
        place = folder if i % 2 else folder / "line 2"
        Image.fromarray(image).save(place / f"{i:02d}.png")
    return folder


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_fit_writes_a_detector(model):
    detector = joblib.load(model)
    assert isinstance(detector, HierarchicalFeatureAE)
    assert (detector.image_size, detector.max_epochs) == (64, 2)
    assert len(list(model.parent.iterdir())) == 1


def test_fit_reads_the_training_split_of_a_laid_out_folder(good_parts, tmp_path, monkeypatch):
    seen = []

    def remember(self, X):
        seen.extend(X.paths)
        return self

    monkeypatch.setattr(HierarchicalFeatureAE, "fit", remember)
    monkeypatch.setattr(HierarchicalFeatureAE, "offset_", -1.0, raising=False)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "good").symlink_to(good_parts)
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "m")]) == 0
    assert len(seen) == 24


def test_score_is_what_the_detector_says(model, new_parts, tmp_path, capsys):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    assert main(["score", str(model), str(new_parts), "--out", str(out), "--maps", str(maps)]) == 0
    detector, rows = joblib.load(model), rows_of(out)
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert len(rows) == 12
    for row in rows:
        image = [str(new_parts / row["file"])]
        assert float(row["score"]) == pytest.approx(detector.score_samples(image)[0], rel=1e-5)
        assert float(row["decision"]) == pytest.approx(
            detector.decision_function(image)[0], rel=1e-3, abs=1e-8
        )
        assert int(row["label"]) == detector.predict(image)[0]
        assert row["error"] == ""
        with Image.open(maps / f"{row['file']}.map.png") as picture:
            assert picture.size == (64, 64)
    assert "12 scored" in capsys.readouterr().out


def test_unreadable_files_are_marked_and_the_rest_is_scored(model, new_parts, tmp_path, capsys):
    whole = sorted(new_parts.glob("*.png"))[0].read_bytes()
    (new_parts / "cut.png").write_bytes(whole[: len(whole) // 2])
    (new_parts / "text.png").write_text("no image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(new_parts / "colour.png")
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), str(new_parts), "--out", str(out)]) == 1
    rows = {row["file"]: row for row in rows_of(out)}
    assert len(rows) == 15
    assert "cut short" in rows["cut.png"]["error"]
    assert "not an image" in rows["text.png"]["error"]
    assert "has 3 channels, expected 1" in rows["colour.png"]["error"]
    bad = [rows.pop(name) for name in ("cut.png", "text.png", "colour.png")]
    assert all(row["score"] == row["label"] == "" for row in bad)
    assert all(row["error"] == "" and float(row["score"]) < 0 for row in rows.values())
    shown = capsys.readouterr()
    assert "12 scored" in shown.out
    assert "3 failed" in shown.out
    assert "text.png" in shown.err


def test_only_unreadable_files(model, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), str(tmp_path), "--out", str(out)]) == 1
    assert [row["label"] for row in rows_of(out)] == [""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "{tmp}/none", "-o", "m"], "not a folder"),
        (["fit", "{tmp}", "-o", "m"], "holds no image"),
        (["fit", "{good}", "-o", "{tmp}/none/m"], "there is no folder"),
        (["fit", "{good}", "-o", "{tmp}/m", "--weights", "{tmp}/w"], "there is no weight file"),
        (["score", "{tmp}/none", "{good}"], "there is no model"),
        (["score", "{good}/00.png", "{good}"], "cannot be loaded as a model"),
        (["score", "{model}", "{tmp}"], "holds no image"),
    ],
)
def test_mistakes_are_explained(arguments, message, good_parts, model, tmp_path, capsys):
    names = {"tmp": tmp_path, "good": good_parts, "model": model}
    assert main([argument.format(**names) for argument in arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_something_else(good_parts, tmp_path, capsys):
    joblib.dump({"a": 1}, tmp_path / "dict.joblib")
    assert main(["score", str(tmp_path / "dict.joblib"), str(good_parts)]) == 2
    assert "holds a dict, expected a detector" in capsys.readouterr().err


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")

    def interrupted():
        with cli._replacing(path) as part:
            Path(part).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_missing_matplotlib_is_explained(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo"]) == 2
    assert "skanomaly[plot]" in capsys.readouterr().err


def test_demo(tmp_path, monkeypatch, capsys):
    """The whole demo, with a shorter training."""
    init = HierarchicalFeatureAE.__init__
    monkeypatch.setattr(
        HierarchicalFeatureAE, "__init__", lambda self, **p: init(self, max_epochs=3, **p)
    )
    out = tmp_path / "demo.png"
    assert main(["demo", "--out", str(out), "--texture", "gravel"]) == 0
    shown = capsys.readouterr().out
    for name in ("scratch", "crack", "spot", "stain", "missing", "foreign", "all", "AUPRO"):
        assert name in shown
    with Image.open(out) as sheet:
        assert min(sheet.size) > 800


def test_the_command_is_installed():
    run = subprocess.run([sys.executable, "-m", "skanomaly", "--version"], capture_output=True)
    assert run.stdout.startswith(b"skanomaly ")
