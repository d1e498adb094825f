"""Blocks of Python in guides that are no doctests: run too, or marked with what they need."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import skanomaly
from skanomaly import ImageFiles, LocalContrast, OnnxDetector, PatchAE, export_onnx, save

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(<!-- needs .*? -->\n+)?```python\n(.*?)```", re.DOTALL)
ELSEWHERE = {"writing-a-detector"}  # its blocks are files of a copy of the package
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "methods").glob("*.md"))]


def plain_blocks(page):
    """(what it needs or "", code) of blocks that are no doctests."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(needs, code) for needs, code in found if ">>>" not in code]


BLOCKS = [
    pytest.param(page.stem, needs, code, id=f"{page.stem}-{i}")
    for page in [*PAGES, ROOT / "runtime" / "README.md"]
    if page.stem not in ELSEWHERE
    for i, (needs, code) in enumerate(plain_blocks(page))
]


@pytest.fixture
def names(textures, tmp_path, monkeypatch):
    """Folders and names that pages speak of; detectors are small."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    train, test = textures
    for folder in ("good_parts", "new_parts", "textures"):
        Path(folder).mkdir()
        for i, image in enumerate(train.images[:6]):
            Image.fromarray(image).save(f"{folder}/{i}.png")
    detector = LocalContrast(image_size=64).fit(train.images)
    export_onnx(detector, "bottle.onnx", train.images)
    save(detector, "model.skanomaly")
    monkeypatch.setattr(skanomaly, "make_ensemble", lambda random_state: detector)
    monkeypatch.setattr(PatchAE, "fit", lambda self, images: self._validate_params())
    light = SimpleNamespace(ImageFiles=ImageFiles, OnnxDetector=OnnxDetector)
    monkeypatch.setitem(sys.modules, "skanomaly_runtime", light)
    known = {name: getattr(skanomaly, name) for name in ("PaDiM", "PatchCore")}
    known["DefectGenerator"] = skanomaly.synthesis.DefectGenerator
    return known | {"detector": detector, "test": test, "images": train.images}


@pytest.fixture
def earlier():
    """What earlier blocks of a page have imported."""
    from skanomaly import plotting

    return {name: getattr(plotting, name) for name in plotting.__all__}


@pytest.mark.parametrize(("page", "needs", "code"), BLOCKS)
def test_it_runs(page, needs, code, names, earlier):
    compiled = compile(code, page, "exec")
    if not needs:
        exec(compiled, earlier | names)


def test_few_need_what_is_not_here():
    needing = [(param.values[0], param.values[1]) for param in BLOCKS if param.values[1]]
    pages = ["deployment", "edge", *["large-sets"] * 3, "several-cards"]
    assert [page for page, _ in needing] == pages
    assert "mlflow" in needing[0][1]
