"""``skanomaly watch``: never a file that is being written, never a row twice, nothing lost."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import skanomaly
from skanomaly import LocalContrast
from skanomaly._rows import COLUMNS, read_rows
from skanomaly.cli import main
from skanomaly.cli._arrivals import Arrivals
from skanomaly.cli._growing_table import GrowingTable

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "camera").mkdir()
    return tmp_path / "camera"


@pytest.fixture
def png(new_parts):
    return (new_parts / "01.png").read_bytes()


def until(true, seconds=30):
    """Wait for something, which comes."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def names(arrivals, limit=100):
    return [arrival.name for arrival in arrivals.ready(limit)]


# When a file is complete.


def written(path, content, age=0.0):
    """A file that was not renamed, modified so many seconds ago."""
    path.write_bytes(content)
    if age:  # its status is newer then, as if it had been renamed into place
        past = time.time() - age
        os.utime(path, (past, past))


def test_a_file_that_is_being_written_is_waited_for(folder, png):
    arrivals = Arrivals(folder, lambda *_: False, settle=0.2, patience=60)
    path = folder / "a.png"
    with path.open("wb", buffering=0) as file:
        for part in (png[:100], png[100:200], png[200:300]):
            file.write(part)
            arrivals.notice(path)
            assert names(arrivals) == []
            time.sleep(0.25)
            assert names(arrivals) == []  # it has not changed for long, but is no image
        file.write(png[300:])
    assert names(arrivals) == []
    until(lambda: names(arrivals) == ["a.png"])
    assert len(arrivals) == 0


def test_a_whole_image_that_still_changes_is_waited_for(folder, png):
    arrivals = Arrivals(folder, lambda *_: False, settle=0.5)
    path = folder / "a.png"
    for _ in range(3):
        path.write_bytes(png)
        os.utime(path)
        arrivals.notice(path)
        status = os.stat(path)
        if status.st_ctime_ns == status.st_mtime_ns:
            assert names(arrivals) == []
        time.sleep(0.1)
    until(lambda: names(arrivals) == ["a.png"] or len(arrivals) == 0)


def test_a_rename_into_place_is_at_once(folder, tmp_path, png):
    arrivals = Arrivals(folder, lambda *_: False, settle=3600)
    (tmp_path / "part").write_bytes(png)
    time.sleep(0.05)
    os.rename(tmp_path / "part", folder / "a.png")
    arrivals.notice(folder / "a.png")
    assert names(arrivals) == ["a.png"]


def test_files_of_before_are_at_once(folder, png):
    written(folder / "a.png", png, age=100)
    (folder / "b").mkdir()
    written(folder / "b" / "c.png", png, age=100)
    arrivals = Arrivals(folder, lambda *_: False, settle=10)
    arrivals.look()
    assert names(arrivals, limit=1) == ["a.png"]
    assert names(arrivals) == [os.path.join("b", "c.png")]


@pytest.mark.parametrize("name", [".a.png", "a.png.tmp", ".new/a.png", "@eaDir/a.png", "a.txt"])
def test_other_files_are_none(name, folder, png):
    (folder / name).parent.mkdir(exist_ok=True)
    written(folder / name, png, age=100)
    arrivals = Arrivals(folder, lambda *_: False)
    arrivals.look()
    assert len(arrivals) == 0


def test_what_is_no_image_is_given_up_once_and_taken_when_it_changes(folder, png):
    path = folder / "a.png"
    written(path, b"no image")
    arrivals = Arrivals(folder, lambda *_: False, settle=0.05, patience=0.3)
    arrivals.notice(path)
    assert arrivals.ready(9) == []
    found = []
    until(lambda: found.extend(arrivals.ready(9)) or found)
    assert "not an image" in found[0].error
    arrivals.look()
    assert arrivals.ready(9) == []
    assert len(arrivals) == 0
    written(path, png)
    arrivals.notice(path)
    until(lambda: names(arrivals) == ["a.png"])


def test_files_that_go_and_files_that_are_done(folder, png):
    written(folder / "a.png", png, age=100)
    written(folder / "b.png", png, age=100)
    arrivals = Arrivals(folder, lambda name, stamp: name == "b.png" and stamp[0] == len(png))
    arrivals.look()
    (folder / "a.png").unlink()
    assert names(arrivals) == []
    assert len(arrivals) == 0


# The table.


def row(name):
    return dict.fromkeys(COLUMNS) | {"file": name}


@pytest.mark.parametrize("torn", [b"c.pn", b'"c', b'"c\nd,', b'"c\r\n', b"c.png,OK,1\r"])
def test_a_torn_row_is_mended(torn, tmp_path):
    path = tmp_path / "s.csv"
    with GrowingTable(path) as table:
        table.append([row("a.png"), row("b\nb.png")])
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert [r["file"] for r in read_rows(path)[0]] == ["a.png", "b\nb.png"]
    with GrowingTable(path).open() as table:
        assert path.read_bytes() == whole
        table.append([row("c.png")])
    assert [r["file"] for r in rows_of(path)] == ["a.png", "b\nb.png", "c.png"]


def test_a_torn_header_is_mended(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(b"file,ver")
    with GrowingTable(path).open() as table:
        table.append([row("c.png")])
    assert [r["file"] for r in rows_of(path)] == ["c.png"]


@needs_posix
def test_two_do_not_write_to_one_table(model, folder, tmp_path, capsys):
    with GrowingTable(tmp_path / "s.csv").open():
        command = ["watch", str(model), str(folder), "--once", "--out", str(tmp_path / "s.csv")]
        assert main(command) == 2
    assert "another process writes" in capsys.readouterr().err


# The command.


def watched(model, folder, out, *more):
    return main(["watch", str(model), str(folder), "--out", str(out), "--once", *more])


def test_what_is_there_is_scored_once(model, new_parts, tmp_path, capsys):
    out, scores = tmp_path / "w.csv", tmp_path / "s.csv"
    options = ["--maps", str(tmp_path / "maps"), "--map-format", "npy"]
    assert watched(model, new_parts, out, *options) == 1
    assert "12 scored" in capsys.readouterr().out
    main(["score", str(model), str(new_parts), "--out", str(scores)])
    assert sorted(map(str, rows_of(out))) == sorted(map(str, rows_of(scores)))
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 12
    before = out.read_bytes()
    assert watched(model, new_parts, out, "--json") == 0
    assert out.read_bytes() == before
    written(new_parts / "99.png", (new_parts / "01.png").read_bytes(), age=10)
    assert watched(model, new_parts, out, "--exit-zero") == 0
    assert len(rows_of(out)) == 13
    assert out.read_bytes().startswith(before)


def test_what_cannot_be_scored_is_a_row(model, folder, tmp_path, capsys):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "colour.png")
    (folder / "text.png").write_text("no image")
    out = tmp_path / "w.csv"
    assert watched(model, folder, out, "--settle", "0.05", "--patience", "0.1") == 3
    found = {r["file"]: r["error"] for r in rows_of(out)}
    assert "3 channels" in found["colour.png"]
    assert "not an image" in found["text.png"]
    capsys.readouterr()
    assert watched(model, folder, out, "--settle", "0.05", "--patience", "0.1") == 0
    assert len(rows_of(out)) == 2


def test_drift_is_told_and_remembered(model, folder, good_parts, tmp_path, capsys):
    image = np.asarray(Image.open(good_parts / "00.png"))
    noise = np.random.default_rng(0).integers(0, 256, (60, *image.shape), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    out = tmp_path / "w.csv"
    detector = skanomaly.load(model).calibrate(
        [np.asarray(Image.open(path)) for path in sorted(good_parts.iterdir())]
    )
    skanomaly.save(detector, tmp_path / "m")
    options = ["--settle", "0.05", "--drift"]
    assert watched(tmp_path / "m", folder, out, *options, "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["drift"]["alarm"] is True
    assert shown.err.count("skanomaly: drift: Alarm with image") == 1
    assert watched(tmp_path / "m", folder, out, *options) == 1  # nothing new, but the alarm holds
    assert "drift: Alarm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{model}", "{tmp}/none"], "none is no folder"),
        (["{model}", "{tmp}/camera", "--out", "-"], "rows are appended to a file"),
        (["{model}", "{tmp}/camera", "--maps", "{tmp}/camera/maps"], "lies in"),
        (["{model}", "{tmp}/camera", "--drift", "--defect-share", "2"], "defect_share"),
    ],
)
def test_mistakes_are_explained(arguments, message, model, folder, tmp_path, capsys):
    names = {"tmp": tmp_path, "model": model}
    command = ["watch", *(a.format(**names) for a in arguments), "--once"]
    if "--out" not in command:
        command += ["--out", str(tmp_path / "s.csv")]
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err)


def heeding_interrupts():
    """What runs in the background inherits that they are ignored, which is heeded too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@needs_posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("poll", [[], ["--poll"]])
def test_a_camera(number, poll, models, new_parts, folder, tmp_path):
    """Renamed into place, written slowly, into a new folder; then the end, and another start."""
    out = tmp_path / "w.csv"
    command = [sys.executable, "-m", "skanomaly", "watch", models["onnx"], folder, "--out", out]
    command += ["--exit-zero", "--settle", "0.4", *poll]

    def n_rows():
        return len(rows_of(out)) if out.exists() else -1

    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding_interrupts,
    )
    try:
        until(lambda: n_rows() == 0)
        first, second = new_parts / "01.png", new_parts / "03.png"
        shutil.copy(first, folder / ".part")
        os.rename(folder / ".part", folder / "a.png")
        until(lambda: n_rows() == 1)
        with (folder / "b.png").open("wb", buffering=0) as file:
            file.write(second.read_bytes()[:300])
            time.sleep(1)
            assert n_rows() == 1
            file.write(second.read_bytes()[300:])
        until(lambda: n_rows() == 2)
        (folder / "new").mkdir()
        shutil.copy(first, folder / "new" / "c.png")
        until(lambda: n_rows() == 3)
        process.send_signal(number)
        shown, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "3 scored" in shown
    shutil.copy(second, folder / "d.png")
    assert main(["watch", *map(str, command[4:]), "--once"]) == 0
    assert [r["file"] for r in rows_of(out)] == ["a.png", "b.png", "new/c.png", "d.png"]


@needs_posix
def test_killed_between_and_within(model, new_parts, tmp_path, monkeypatch):
    """Whatever was not written is scored again, and nothing twice."""
    out, detect = tmp_path / "w.csv", LocalContrast.detect
    monkeypatch.setattr(LocalContrast, "batch_size", 2, raising=False)

    def interrupted(self, X):
        if len(rows_of(out)) >= 3:
            raise KeyboardInterrupt
        return detect(self, X[:1] if len(X) == 1 else X)

    monkeypatch.setattr(LocalContrast, "detect", interrupted)
    watched(model, new_parts, out, "--exit-zero")
    n = len(rows_of(out))
    monkeypatch.setattr(LocalContrast, "detect", detect)
    watched(model, new_parts, out)
    found = [r["file"] for r in rows_of(out)]
    assert n < 12
    assert len(found) == len(set(found)) == 12
