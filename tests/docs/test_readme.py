"""The README: from top to bottom on fewer images, and its first lines as printed."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from skanomaly import cli
from skanomaly.cli._app import FLAGGED

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PRINTED = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
SHELL = re.findall(r"^skanomaly (.*)$", README, re.MULTILINE)
SMALLER = {
    "n_normal=100, n_defective=0": "n_normal=4, n_defective=0, image_size=64",
    "n_normal=100": "n_normal=8, image_size=64",
    "n_normal=40": "n_normal=4, n_defective=6, image_size=64",
}


def printed_by(code, names):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "README.md", "exec"), names)
    return out.getvalue()


def test_all_of_it_on_fewer_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, printed = {"__name__": "readme"}, []
    for code in PYTHON:
        for n_images, fewer in SMALLER.items():
            code = code.replace(n_images, fewer)
        printed.append(printed_by(code, names))
    assert "of 6 defects flagged" in printed[0]
    assert len(names["new"]) == len(list(Path("new_parts").iterdir())) == len(names["test"].images)
    assert Path("report.html").stat().st_size > 50_000
    assert names["search"].best_params_["layers"] in [(1, 2), (2, 3)]
    check_commands(len(names["new"]))


@pytest.mark.slow
def test_the_first_lines_print_what_is_shown():
    assert printed_by(PYTHON[0], {"__name__": "readme"}) == PRINTED


def check_commands(n_images):
    assert [line.split()[0] for line in SHELL] == ["fit", "score", "report"]
    assert [cli.main(line.split()) for line in SHELL] == [0, FLAGGED, 0]
    assert len(Path("scores.csv").read_text().splitlines()) == 1 + n_images
    assert len(list(Path("maps").iterdir())) == n_images
    assert Path("report.html").stat().st_size > 50_000
