"""The README's examples, with fewer images and epochs."""

import re
from pathlib import Path

import pytest
from PIL import Image
from sklearn.model_selection import ParameterGrid

from skanomaly import cli
from skanomaly.datasets import make_texture_defects

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"^skanomaly (.*)$", README, re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which the examples run: images of good parts, and new ones."""
    monkeypatch.chdir(tmp_path)
    for name, split in (("good_parts", "train"), ("new", "test"), ("new_parts", "test")):
        (tmp_path / name).mkdir()
        images = make_texture_defects(
            "brick", split=split, n_normal=6, n_defective=0, image_size=64, random_state=0
        ).images
        for i, image in enumerate(images, start=12):
            Image.fromarray(image).save(tmp_path / name / f"part_{i}.png")
    return tmp_path


def test_python_examples(folder, capsys):
    code = "".join(PYTHON)
    smaller = {
        "n_normal=100": "n_normal=8, image_size=64",
        "n_normal=40": "n_normal=4, n_defective=6, image_size=64",
        "max_epochs=20": "max_epochs=1, image_size=64",
    }
    for printed, replacement in smaller.items():
        assert printed in code
        code = code.replace(printed, replacement)
    names = {"__name__": "readme"}
    exec(code, names)
    assert "maps, image AUROC" in capsys.readouterr().out
    for parameters in ParameterGrid(names["search"].param_grid):
        names["search"].estimator.set_params(**parameters)._validate_params()


def test_commands(folder):
    assert [line.split()[0] for line in SHELL] == ["fit", "score"]
    for line, more in zip(SHELL, (["--set", "image_size=64"], [])):
        cli.main([*line.split(), *more])
    assert len((folder / "scores.csv").read_text().splitlines()) == 1 + 6
    assert len(list((folder / "maps").iterdir())) == 6
