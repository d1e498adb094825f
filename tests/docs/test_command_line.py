"""The commands of docs/command-line.md, on few small images and with quick detectors."""

import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import pytest
from conftest import QUICK_FIT
from sklearn.utils import Bunch

from skanomaly._rows import COLUMNS
from skanomaly.cli import main
from skanomaly.cli._app import ORDER

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
(YAML,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMPARED = ["--detectors", "LocalContrast,MedianDifference"]


@pytest.fixture
def folder(good_parts, new_parts, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, source in {"good": good_parts, "good_later": good_parts, "parts": parts}.items():
        shutil.copytree(source, name)
    Path("pipeline.yaml").write_text(YAML, encoding="utf-8")
    reports = types.ModuleType("skanomaly.reports")
    reports.inspection_report = lambda detector, X, out, **_: Path(out).write_text("page")
    reports.load_decisions = lambda path: Bunch(names=["01.png", "03.png"], decisions=["good"] * 2)
    monkeypatch.setitem(sys.modules, "skanomaly.reports", reports)
    return tmp_path


def smaller(command):
    """A command with what makes it quick."""
    if command[0] == "fit" and "--config" not in command:
        return [word for word in command if "__" not in word and word != "--set"][:4] + QUICK_FIT
    if command[0] in ("recommend", "benchmark"):
        return command + COMPARED
    return [*command, "--once"] if command[0] == "watch" else command


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.SelectionWarning")
def test_commands(folder, capsys):
    for line in LINES:
        program, *command = shlex.split(line, comments=True)
        assert program == "skanomaly"
        main([command[0], "--help"])
        known = capsys.readouterr().out
        assert all(word.split("=")[0] in known for word in command if word.startswith("--")), line
        if command[0] != "demo":  # which has its own test
            assert main(smaller(command)) == 0, line
    made = {path.name for path in folder.iterdir()}
    assert {
        "report.html",
        "model.onnx",
        "best.skanomaly",
        "line.csv",
        "values",
        "audit.html",
    } <= made


def test_all_commands_and_columns_are_on_the_page():
    assert {shlex.split(line)[1] for line in LINES} == set(ORDER)
    table = PAGE[PAGE.index("| column |") : PAGE.index("By detectors whose score")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == COLUMNS
