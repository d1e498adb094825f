"""``skanomaly score``: rows, maps, models of every kind, runs that are gone on with."""

import csv
import io
import json
import os
import re
import sys

import joblib
import numpy as np
import pytest
from PIL import Image

import skanomaly
from skanomaly import HierarchicalFeatureAE, LocalContrast, MultiProductDetector, find_regions
from skanomaly.cli import main
from skanomaly.exceptions import InvalidImageError
from skanomaly.plotting import finding_picture

needs_posix = pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")
COLUMNS = (
    "file,verdict,score,threshold,times_threshold,p_value,n_regions,left,top,width,height,area,"
    "error,bytes,modified,model"
)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def scored(model, folder, out, *more):
    return main(["score", str(model), str(folder), "--out", str(out), *more])


def test_rows_are_what_the_detector_says(model, new_parts, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert scored(model, new_parts, out) == 1
    assert out.read_text().splitlines()[0] == COLUMNS
    detector, rows = skanomaly.load(model), rows_of(out)
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert len(rows) == 12
    for row in rows:
        image = [str(new_parts / row["file"])]
        found = detector.detect(image)
        score, threshold = -found.scores[0], -detector.offset_
        assert float(row["score"]) == pytest.approx(score, rel=1e-8)
        assert float(row["threshold"]) == pytest.approx(threshold, rel=1e-8)
        assert float(row["times_threshold"]) == pytest.approx(score / threshold, rel=1e-8)
        assert float(row["p_value"]) == pytest.approx(detector.p_values(image)[0])
        assert row["verdict"] == ("NG" if found.labels[0] == -1 else "OK")
        assert row["error"] == ""
        regions = find_regions(found.maps, detector.map_threshold_)
        assert int(row["n_regions"]) == len(regions.area)
        if len(regions.area):
            largest = int(np.argmax(regions.area))
            assert int(row["area"]) == regions.area[largest]
            top, left = int(row["top"]), int(row["left"])
            box = np.s_[top : top + int(row["height"]), left : left + int(row["width"])]
            assert (found.maps[0][box] > detector.map_threshold_).sum() >= int(row["area"])
            assert left + int(row["width"]) == regions.right[largest]
        else:
            assert row["area"] == row["left"] == ""
        assert int(row["bytes"]) == os.path.getsize(image[0])
    n_flagged = sum(row["verdict"] == "NG" for row in rows)
    assert 0 < n_flagged < 12
    assert f"12 scored, {n_flagged} flagged, 0 failed" in capsys.readouterr().out


def test_exit_status(model, new_parts, good_parts, tmp_path):
    assert scored(model, new_parts, tmp_path / "a") == 1
    assert scored(model, new_parts, tmp_path / "a", "--exit-zero") == 0
    (tmp_path / "one").mkdir()
    image = Image.open(good_parts / "00.png")
    image.save(tmp_path / "one" / "a.png")
    assert scored(model, tmp_path / "one", tmp_path / "a") == 0
    (new_parts / "text.png").write_text("no image")
    assert scored(model, new_parts, tmp_path / "a") == 3
    assert scored(model, new_parts, tmp_path / "a", "--exit-zero") == 3
    assert scored(tmp_path / "none", new_parts, tmp_path / "a") == 2


def test_unreadable_files_are_marked_and_the_rest_is_scored(model, new_parts, tmp_path, capsys):
    whole = sorted(new_parts.glob("*.png"))[0].read_bytes()
    (new_parts / "cut.png").write_bytes(whole[: len(whole) // 2])
    (new_parts / "text.png").write_text("no image")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(new_parts / "colour.png")
    out = tmp_path / "scores.csv"
    assert scored(model, new_parts, out) == 3
    rows = {row["file"]: row for row in rows_of(out)}
    assert len(rows) == 15
    assert "cut short" in rows["cut.png"]["error"]
    assert "not an image" in rows["text.png"]["error"]
    assert "has 3 channels, expected 1" in rows["colour.png"]["error"]
    bad = [rows.pop(name) for name in ("cut.png", "text.png", "colour.png")]
    assert all(row["score"] == row["verdict"] == "" for row in bad)
    assert all(row["error"] == "" and float(row["score"]) > 0 for row in rows.values())
    shown = capsys.readouterr()
    assert "12 scored" in shown.out
    assert "3 failed" in shown.out
    assert "text.png" in shown.err


def test_only_unreadable_files(model, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    assert scored(model, tmp_path, tmp_path / "s") == 3
    assert [row["verdict"] for row in rows_of(tmp_path / "s")] == [""]


def test_an_error_that_names_no_image_is_that_of_one(model, new_parts, tmp_path, monkeypatch):
    detect = LocalContrast.detect

    def fail(self, X):
        if any("03.png" in path for path in X):
            raise InvalidImageError("somewhere in the batch")
        return detect(self, X)

    monkeypatch.setattr(LocalContrast, "detect", fail)
    assert scored(model, new_parts, tmp_path / "s") == 3
    assert [row["file"] for row in rows_of(tmp_path / "s") if row["error"]] == ["03.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none", "{good}"], "there is no model"),
        (["{good}", "{good}"], "there is no model"),
        (["/dev/zero", "{good}"], "there is no model"),
        (["{good}/00.png", "{good}"], "00.png is no model"),
        (["{model}", "{tmp}"], "holds no image"),
        (["{model}", "{good}", "--out", "{tmp}/none/s"], "there is no such folder"),
        (["{model}", "{good}", "--out", "{tmp}"], "is a folder"),
        (["{model}", "{good}", "--maps", "{good}/maps"], "lies in .*, whose images are scored"),
    ],
)
def test_mistakes_are_explained(arguments, message, good_parts, model, tmp_path, capsys):
    names = {"tmp": tmp_path, "good": good_parts, "model": model}
    assert main(["score", *(argument.format(**names) for argument in arguments)]) == 2
    (line,) = re.findall("^skanomaly: error: .*", capsys.readouterr().err, flags=re.MULTILINE)
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


# Models of every kind, whatever they are called.


def test_score_takes_models_of_every_kind(models, new_parts, tmp_path):
    scores = {}
    for kind, path in models.items():
        out = tmp_path / f"{kind}.csv"
        trust = ["--trust-pickle"] if "pickle" in kind else []
        assert scored(path, new_parts, out, *trust) == 1
        scores[kind] = [float(row["score"]) for row in rows_of(out)]
    assert scores["pickle"] == scores["compressed pickle"] == scores["skanomaly"]
    assert len(scores["onnx"]) == 12
    np.testing.assert_allclose(scores["onnx"], scores["skanomaly"], rtol=1e-3)


@pytest.mark.parametrize("kind", ["pickle", "compressed pickle"])
def test_pickles_are_not_loaded_unless_trusted(kind, models, new_parts, monkeypatch, capsys):
    monkeypatch.setattr(joblib, "load", lambda _: pytest.fail("was loaded"))
    assert main(["score", str(models[kind]), str(new_parts)]) == 2
    assert re.search("is a pickle, which runs .*--trust-pickle", capsys.readouterr().err)


def test_models_that_hold_something_else(good_parts, tmp_path, capsys):
    joblib.dump({"a": 1}, tmp_path / "dict")
    skanomaly.save(HierarchicalFeatureAE(), tmp_path / "unfitted")
    skanomaly.save(MultiProductDetector(HierarchicalFeatureAE()), tmp_path / "products")
    (tmp_path / "damaged").write_bytes((tmp_path / "unfitted").read_bytes()[:-1])
    (tmp_path / "onnx").write_bytes(b"\x08\x01")
    (tmp_path / "cut").write_bytes((tmp_path / "dict").read_bytes()[:-3])
    for name, message in {
        "dict": "holds a dict, expected a detector",
        "products": "expected a detector; save one product's, detectors_[name]",
        "unfitted": "HierarchicalFeatureAE that is not fitted",
        "damaged": "damaged or cut short",
        "onnx": "onnx",
        "cut": "cannot be loaded as a model",
    }.items():
        assert main(["score", str(tmp_path / name), str(good_parts), "--trust-pickle"]) == 2
        assert message in capsys.readouterr().err


# Where results go.


@needs_posix
def test_links_devices_and_modes(models, new_parts, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out/scores.csv")
    (tmp_path / "null").symlink_to(os.devnull)
    before = os.umask(0o027)
    try:
        for out in ("link", "null"):
            assert scored(models["onnx"], new_parts, tmp_path / out) == 1
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "null").is_symlink()
    assert len(rows_of(tmp_path / "out" / "scores.csv")) == 12
    assert (tmp_path / "out" / "scores.csv").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "new", "null", "out"]
    assert os.listdir(tmp_path / "out") == ["scores.csv"]


@needs_posix
def test_odd_names(models, textures, tmp_path, capsys):
    folder, out, maps = tmp_path / "new", tmp_path / "scores.csv", tmp_path / "maps"
    folder.mkdir()
    names = ["=1+1.png", "+x.png", "-x.png", "@x.png", "\tx.png", "\rx.png", 'a=,"b".png']
    names += [os.fsdecode(b"\xff\xe4.png"), "\u96ea.png", "new\nline.png"]
    for name in names:
        Image.fromarray(textures[1].images[0]).save(folder / name)
    (folder / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    options = ["--maps", str(maps), "--map-format", "npy"]
    assert scored(models["onnx"], folder, out, *options) == 3
    content = out.read_bytes()
    for name in (b"\xff\xe4.png,OK", b"\xfe.png,,", "\u96ea.png,OK".encode()):
        assert b"\n" + name in content
    rows = list(csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")))
    found = {row[0] for row in rows[1:]}
    quoted = {f"'{name}" if name[0] in "=+-@\t\r" else name for name in names}
    assert found == {*quoted, os.fsdecode(b"\xfe.png")}
    assert sorted(os.listdir(maps)) == sorted(f"{name}.map.npy" for name in names)
    assert "fe.png: the file's content is not an image" in capsys.readouterr().err
    # And they are known again.
    before = {row["file"]: row for row in rows_of_bytes(content)}
    assert scored(models["onnx"], folder, out, "--resume", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert {row["file"] for row in found["images"]} == {*names, os.fsdecode(b"\xfe.png")}
    assert {row["file"]: row for row in rows_of_bytes(out.read_bytes())} == before


def rows_of_bytes(content):
    text = content.decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_maps_of_each_format(model, new_parts, tmp_path):
    detector = skanomaly.load(model)
    expected = detector.transform([str(new_parts / "01.png")])[0]
    threshold = detector.map_threshold_
    for kind, name in {"picture": "map.png", "png16": "map16.png", "npy": "map.npy"}.items():
        maps = tmp_path / kind
        options = ["--maps", str(maps), "--map-format", kind]
        assert scored(model, new_parts, tmp_path / "s", *options) == 1
        found = sorted(p.relative_to(maps).as_posix() for p in maps.rglob("*.*.*"))
        assert len(found) == 12
        assert f"line 2/00.png.{name}" in found
    np.testing.assert_array_equal(np.load(tmp_path / "npy" / "01.png.map.npy"), expected)
    with Image.open(tmp_path / "png16" / "01.png.map16.png") as picture:
        values, scale = np.asarray(picture), json.loads(picture.text["skanomaly"])
    assert values.dtype == np.uint16
    assert scale == {"map_threshold": threshold, "white": 4 * threshold}
    clipped = np.clip(expected, 0, scale["white"])
    np.testing.assert_allclose(
        values / 65535 * scale["white"], clipped, atol=scale["white"] / 65535
    )
    drawn = finding_picture(
        new_parts / "01.png",
        expected,
        score=detector.score_samples([new_parts / "01.png"])[0],
        offset=detector.offset_,
        map_threshold=threshold,
        title="01.png",
    )
    with Image.open(tmp_path / "picture" / "01.png.map.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(drawn))


@needs_posix
def test_a_map_that_cannot_be_written_costs_no_scores(models, new_parts, tmp_path, capsys):
    (tmp_path / "maps" / "01.png.map.npy").mkdir(parents=True)
    out = tmp_path / "scores.csv"
    options = ["--maps", str(tmp_path / "maps"), "--map-format", "npy"]
    assert scored(models["onnx"], new_parts, out, *options) == 3
    assert len(rows_of(out)) == 12
    assert all(row["score"] for row in rows_of(out))
    shown = capsys.readouterr()
    assert "01.png: its map cannot be written" in shown.err
    assert "12 scored" in shown.out
    assert "1 failed" in shown.out


def test_maps_need_no_matplotlib(model, new_parts, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert scored(model, new_parts, tmp_path / "s", "--maps", str(tmp_path / "maps")) == 1


# Gone on with.


@pytest.fixture
def seen(monkeypatch):
    """The files that are scored."""
    files, detect = [], LocalContrast.detect

    def remember(self, X):
        files.extend(os.path.basename(path) for path in X)
        return detect(self, X)

    monkeypatch.setattr(LocalContrast, "detect", remember)
    return files


def test_an_interrupted_run_is_gone_on_with(model, new_parts, tmp_path, monkeypatch, seen):
    whole, out = tmp_path / "whole", tmp_path / "scores.csv"
    scored(model, new_parts, whole)
    remembering, calls = LocalContrast.detect, []

    def interrupted(self, X):
        calls.append(X)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return remembering(self, X)

    monkeypatch.setattr(LocalContrast, "detect", interrupted)
    assert scored(model, new_parts, out) == 130
    assert not out.exists()
    partial = tmp_path / "scores.csv.partial"
    n_done = len(rows_of(partial))
    assert 0 < n_done < 12
    with partial.open("ab") as file:  # cut off by a crash
        file.write(b'x.png,OK,"1')
    monkeypatch.setattr(LocalContrast, "detect", remembering)
    seen.clear()
    assert scored(model, new_parts, out, "--resume") == 1
    assert len(seen) == 12 - n_done
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_what_changed_is_scored_anew(model, good_parts, new_parts, tmp_path, seen):
    out = tmp_path / "scores.csv"
    scored(model, new_parts, out)
    seen.clear()
    assert scored(model, new_parts, out, "--resume") == 1
    assert seen == []
    Image.open(good_parts / "00.png").save(new_parts / "01.png")
    Image.open(good_parts / "00.png").save(new_parts / "new.png")
    (new_parts / "03.png").unlink()
    scored(model, new_parts, out, "--resume")
    assert sorted(seen) == ["01.png", "new.png"]
    names = [row["file"] for row in rows_of(out)]
    assert "03.png" not in names
    assert names.count("01.png") == 1
    seen.clear()  # by another model
    other = tmp_path / "m"
    main(["calibrate", str(model), "--false-alarm-rate", "0.2", "-o", str(other)])
    scored(other, new_parts, out, "--resume")
    assert len(seen) == 12
    seen.clear()  # maps that are missing are made
    scored(other, new_parts, out, "--resume", "--maps", str(tmp_path / "m2"), "--map-format", "npy")
    assert len(seen) == 12


def test_without_resume_all_is_scored(model, new_parts, tmp_path, seen):
    out = tmp_path / "scores.csv"
    (tmp_path / "scores.csv.partial").write_text("of an earlier run")
    scored(model, new_parts, out)
    scored(model, new_parts, out)
    assert len(seen) == 24
    assert not (tmp_path / "scores.csv.partial").exists()


@pytest.mark.parametrize("content", ["a,b\r\n1,2\r\n", f"{COLUMNS}\r\nx.png,OK\r\n", "some text\n"])
def test_other_tables_are_not_gone_on_with(content, model, new_parts, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    out.write_text(content)
    assert scored(model, new_parts, out, "--resume") == 2
    assert "is no table of scores of this version" in capsys.readouterr().err
    assert out.read_text().splitlines() == content.splitlines()


def test_a_number_that_is_none_is_named(model, new_parts, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    scored(model, new_parts, out)
    out.write_bytes(re.sub(rb"(?m)^(01.png,\w+),[^,]+", rb"\1,many", out.read_bytes()))
    assert scored(model, new_parts, out, "--resume") == 2
    message = "in the row of 01.png score is 'many', expected a number"
    assert message in capsys.readouterr().err


def test_text_is_no_model(good_parts, tmp_path, capsys):
    for text in ("x", "x\n", "xylophone"):  # as zlib's streams begin
        (tmp_path / "m").write_text(text)
        assert main(["score", str(tmp_path / "m"), str(good_parts)]) == 2
        assert "m is no model" in capsys.readouterr().err
