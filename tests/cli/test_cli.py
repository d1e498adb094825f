import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
from PIL import Image

import skanomaly
from skanomaly import HierarchicalFeatureAE, MultiProductDetector
from skanomaly._console import stopping_on_signals
from skanomaly.cli import main
from skanomaly.exceptions import InvalidImageError

needs_posix = pytest.mark.skipif(os.name != "posix", reason="links, signals and pipes of POSIX")


@pytest.fixture(scope="module")
def good_parts(textures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(textures[0].images):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def model(good_parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.skanomaly"
    arguments = ["--image-size", "64", "--max-epochs", "2", "--seed", "0"]
    assert main(["fit", str(good_parts), "-o", str(path), *arguments]) == 0
    return path


@pytest.fixture(scope="module")
def models(model, textures, tmp_path_factory):
    """The same model in each format, under names that say nothing of it."""
    folder, detector = tmp_path_factory.mktemp("models"), skanomaly.load(model)
    shutil.copy(model, folder / "a.joblib")
    skanomaly.export_onnx(detector, folder / "a", textures[1].images[:2])
    joblib.dump(detector, folder / "a.skanomaly")
    joblib.dump(detector, folder / "a.onnx", compress=3)
    return {
        "skanomaly": folder / "a.joblib",
        "onnx": folder / "a",
        "pickle": folder / "a.skanomaly",
        "compressed pickle": folder / "a.onnx",
    }


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
    detector = skanomaly.load(model)
    assert isinstance(detector, HierarchicalFeatureAE)
    assert (detector.image_size, detector.max_epochs) == (64, 2)
    assert len(list(model.parent.iterdir())) == 1


def test_fit_reads_the_training_split_of_a_laid_out_folder(good_parts, tmp_path, monkeypatch):
    seen = []

    def remember(self, X):
        seen.extend(X.paths)
        self.offset_ = -1.0
        return self

    monkeypatch.setattr(HierarchicalFeatureAE, "fit", remember)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "good").symlink_to(good_parts)
    assert main(["fit", str(tmp_path), "-o", str(tmp_path / "m")]) == 0
    assert len(seen) == 24


def test_score_is_what_the_detector_says(model, new_parts, tmp_path, capsys):
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    assert main(["score", str(model), str(new_parts), "--out", str(out), "--maps", str(maps)]) == 0
    detector, rows = skanomaly.load(model), rows_of(out)
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
        (["fit", "{good}", "-o", "{tmp}/none/m"], "none: there is no such folder, to write m"),
        (["fit", "{good}", "-o", "{tmp}"], "is a folder"),
        (["fit", "{good}", "-o", "{tmp}/m", "--weights", "{tmp}/w"], "there is no weight file"),
        (["fit", "{good}", "-o", "{tmp}/m", "--backbone", "resnet19"], "no network 'resnet19'"),
        (["fit", "{good}", "-o", "{tmp}/m", "--backbone", "hf-hub:a/b"], "knows no network"),
        (["fit", "{good}", "-o", "{tmp}/m", "--image-size", "-3"], "image_size.* -3"),
        (["fit", "{good}", "-o", "{tmp}/m", "--image-size", "0"], "image_size.* 0"),
        (["fit", "{good}", "-o", "{tmp}/m", "--image-size", "4"], "smaller than the 16 pixels"),
        (["fit", "{good}", "-o", "{tmp}/m", "--max-epochs", "0"], "max_epochs.* 0"),
        (["fit", "{good}", "-o", "{tmp}/m", "--false-alarm-rate", "nan"], "false_alarm_rate.* nan"),
        (["fit", "{good}", "-o", "{tmp}/m", "--false-alarm-rate", "1"], "false_alarm_rate.* 1"),
        (["fit", "{good}", "-o", "{tmp}/m", "--seed", "-1"], "random_state.* -1"),
        (["fit", "{good}", "-o", "{tmp}/m", "--device", "gpu"], "--device gpu cannot be used"),
        (["fit", "{good}", "-o", "{tmp}/m", "--device", "cuda:99"], "--device cuda:99 cannot"),
        (["fit", "{good}", "-o", "{tmp}/m", "--device", "meta"], "--device meta cannot be used"),
        (["demo", "--seed", "-1", "--out", "{tmp}/m"], "Seed must be"),
        (["score", "{tmp}/none", "{good}"], "there is no model"),
        (["score", "{good}", "{good}"], "there is no model"),
        (["score", "/dev/zero", "{good}"], "there is no model"),
        (["score", "{good}/00.png", "{good}"], "00.png is no model"),
        (["score", "{model}", "{tmp}"], "holds no image"),
        (["score", "{model}", "{good}", "--out", "{tmp}/none/s"], "there is no such folder"),
    ],
)
def test_mistakes_are_explained(arguments, message, good_parts, model, tmp_path, capsys):
    names = {"tmp": tmp_path, "good": good_parts, "model": model}
    assert main([argument.format(**names) for argument in arguments]) == 2
    (line,) = re.findall("^skanomaly: error: .*", capsys.readouterr().err, flags=re.MULTILINE)
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--image-size", "x"], ["--no-such", "1"]])
def test_usage(arguments, good_parts, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fit", str(good_parts), "-o", str(tmp_path / "m"), *arguments])
    assert caught.value.code == 2
    assert "usage: skanomaly" in capsys.readouterr().err


# Models of every kind, whatever they are called.


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "m"])
def test_fit_writes_no_pickle_unless_asked(name, good_parts, tmp_path, monkeypatch):
    def fit(self, X):
        self.offset_ = -1.0
        return self

    monkeypatch.setattr(HierarchicalFeatureAE, "fit", fit)
    path = tmp_path / name
    assert main(["fit", str(good_parts), "-o", str(path), "--seed", "3"]) == 0
    assert skanomaly.load(path).random_state == 3
    assert main(["fit", str(good_parts), "-o", str(path), "--seed", "4", "--pickle"]) == 0
    assert joblib.load(path).random_state == 4


def test_score_takes_models_of_every_kind(models, new_parts, tmp_path):
    scores = {}
    for kind, path in models.items():
        out = tmp_path / f"{kind}.csv"
        trust = ["--trust-pickle"] if "pickle" in kind else []
        assert main(["score", str(path), str(new_parts), "--out", str(out), *trust]) == 0
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
            command = ["score", str(models["onnx"]), str(new_parts), "--out", str(tmp_path / out)]
            assert main(command) == 0
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "null").is_symlink()
    assert len(rows_of(tmp_path / "out" / "scores.csv")) == 12
    assert (tmp_path / "out" / "scores.csv").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "new", "null", "out"]


@needs_posix
def test_odd_names(models, textures, tmp_path, capsys):
    folder, out, maps = tmp_path / "new", tmp_path / "scores.csv", tmp_path / "maps"
    folder.mkdir()
    names = ["=1+1.png", "+x.png", "-x.png", "@x.png", "\tx.png", "\rx.png", 'a=,"b".png']
    names += [os.fsdecode(b"\xff\xe4.png"), "\u96ea.png", "new\nline.png"]
    for name in names:
        Image.fromarray(textures[1].images[0]).save(folder / name)
    (folder / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    command = ["score", str(models["onnx"]), str(folder), "--out", str(out), "--maps", str(maps)]
    assert main(command) == 1
    content = out.read_bytes()
    for name in (b"\xff\xe4.png,-", b"\xfe.png,,", "\u96ea.png,-".encode()):
        assert b"\n" + name in content
    rows = list(csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")))
    found = {row[0] for row in rows[1:]}
    quoted = {f"'{name}" if name[0] in "=+-@\t\r" else name for name in names}
    assert found == {*quoted, os.fsdecode(b"\xfe.png")}
    assert sorted(os.listdir(maps)) == sorted(f"{name}.map.png" for name in names)
    assert "fe.png: the file's content is not an image" in capsys.readouterr().err


@needs_posix
def test_a_map_that_cannot_be_written_costs_no_scores(models, new_parts, tmp_path, capsys):
    blocked = tmp_path / "maps" / "01.png.map.png"
    blocked.mkdir(parents=True)
    out = tmp_path / "scores.csv"
    command = ["score", str(models["onnx"]), str(new_parts), "--out", str(out)]
    assert main([*command, "--maps", str(tmp_path / "maps")]) == 1
    assert len(rows_of(out)) == 12
    assert all(row["score"] for row in rows_of(out))
    shown = capsys.readouterr()
    assert "01.png: its map cannot be written" in shown.err
    assert "12 scored" in shown.out
    assert "1 failed" in shown.out


def test_an_error_that_names_no_image_is_that_of_one(model, new_parts, tmp_path, monkeypatch):
    detect = HierarchicalFeatureAE.score_samples

    def fail(self, X):
        if any("03.png" in path for path in X):
            raise InvalidImageError("somewhere in the batch")
        return detect(self, X)

    monkeypatch.setattr(HierarchicalFeatureAE, "score_samples", fail)
    out = tmp_path / "scores.csv"
    assert main(["score", str(model), str(new_parts), "--out", str(out)]) == 1
    assert [row["file"] for row in rows_of(out) if row["error"]] == ["03.png"]


# As a process: pipes and signals. An exported model is scored, which starts fastest.


@pytest.fixture
def scoring(models, new_parts):
    """The command that scores a few images."""
    return [sys.executable, "-m", "skanomaly", "score", str(models["onnx"]), str(new_parts)]


@needs_posix
@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_scores_on_standard_output(out, scoring):
    run = subprocess.run([*scoring, "--out", out], capture_output=True, text=True, check=True)
    assert len(list(csv.DictReader(run.stdout.splitlines()))) == 12
    assert "12 scored" in run.stderr


@needs_posix
def test_readers_that_leave(scoring, tmp_path):
    """Of the scores: the rest is not wanted. Of the messages: the scores still are."""
    command = [*scoring, "--out", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, shown = process.communicate()
    assert process.returncode == 141
    assert b"Traceback" not in shown
    assert b"BrokenPipe" not in shown
    out = tmp_path / "scores.csv"
    read, written = os.pipe()
    os.close(read)
    run = subprocess.run([*scoring, "--out", out], stdout=written, stderr=written)
    os.close(written)
    assert run.returncode == 0
    assert len(rows_of(out)) == 12


@needs_posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(number, status, models, textures, tmp_path):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored here, and so by every process that is started")
    folder, out = tmp_path / "new", tmp_path / "out" / "scores.csv"
    folder.mkdir()
    out.parent.mkdir()
    out.write_text("old")
    Image.fromarray(textures[1].images[0]).save(folder / "0.png")
    for i in range(1, 5000):
        os.link(folder / "0.png", folder / f"{i}.png")
    command = [sys.executable, "-m", "skanomaly", "score", models["onnx"], folder, "--out", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    while len(os.listdir(out.parent)) < 2:  # it has begun to write
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    _, shown = process.communicate()
    # CPython ends by SIGINT if the interrupt passed through an exec of text, as of a class
    # that is being imported then, though it was caught afterwards.
    assert process.returncode in (status, -signal.SIGINT)
    assert b"Traceback" not in shown
    assert f"stopped by {number.name}".encode() in shown
    assert out.read_text() == "old"
    assert os.listdir(out.parent) == ["scores.csv"]


def test_a_signal_that_falls_into_a_destructor():
    """There an exception comes to nothing, and the work would go on."""

    class Dropped:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work():
        Dropped()
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt), stopping_on_signals() as received:
        work()
    assert received == [signal.SIGTERM]


def test_signals_have_their_handlers_again(capsys):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["score", "none", "none"]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_help_says_what_a_program_needs_to_know(capsys):
    with pytest.raises(SystemExit):
        main(["score", "--help"])
    shown = capsys.readouterr().out
    assert "exit status" in shown
    assert "formula" in shown


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
