"""Figures in the guides are those of the results, and every detector has a guide."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from skanomaly.utils import all_detectors

ROOT = Path(__file__).parents[2]
DETECTORS = dict(all_detectors())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
IMAGES = ROOT / "docs" / "images" / "methods"
HEADINGS = [
    "The method",
    "Settings that matter",
    "Where it differs from the paper",
    "When not to use it",
    "What it costs",
    "Example",
    "References",
]
WITHOUT_A_PAPER = {"LocalContrast", "MedianDifference"}


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import guide_tables
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return guide_tables


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_are_those_of_the_results(page, tables):
    """If this fails, run python benchmarks/guide_tables.py."""
    text = page.read_text(encoding="utf-8")
    assert tables.written(text, page) == text


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_a_guide(name, tables):
    page = tables.guide_of(name)
    assert page.is_file(), f"{name} has no guide: write docs/methods/{page.name}"
    text = page.read_text(encoding="utf-8")
    wanted = [
        heading
        for heading in HEADINGS
        if name not in WITHOUT_A_PAPER or ("paper" not in heading and heading != "References")
    ]
    assert re.findall("^## (.*)$", text, re.MULTILINE) == wanted
    assert f"# {name}: " in text.splitlines()[0] + " "
    assert tables.strength(name)
    assert f": accuracy {name} -->" in text
    assert f": costs {name} " in text


@pytest.mark.parametrize("name", DETECTORS)
def test_parameters_in_a_guide_are_parameters(name, tables):
    """What a guide sets in examples and lists beside a paper's symbols exists."""
    text = tables.guide_of(name).read_text(encoding="utf-8")
    table = re.search(r"^\| --- \| --- \|\n((?:\| .*\n)+)", text, re.MULTILINE)
    listed = {
        parameter
        for line in (table[1].splitlines() if table else [])
        for parameter in re.findall(r"`(\w+)[`=]", line.split(" | ")[1])
    }
    set_to = set(re.findall(r"`(\w+)=", text))
    known = {p for cls in DETECTORS.values() for p in cls._get_param_names()}
    assert listed <= set(DETECTORS[name]._get_param_names())
    assert set_to <= known


@pytest.mark.parametrize("name", DETECTORS)
def test_a_guide_has_a_small_picture(name, tables):
    page = tables.guide_of(name)
    assert f"(../images/methods/{page.stem}.png)" in page.read_text(encoding="utf-8")
    assert (IMAGES / f"{page.stem}.png").stat().st_size < 120_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_guides_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
        path = page.parent / target if target else page
        assert path.exists(), f"leads to {target}"
        if anchor:
            assert anchor in anchors(path), f"leads to {target}#{anchor}"


def anchors(page):
    """Of its headings, as code hosts make them."""
    headings = re.findall("^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]


def test_a_mean_is_one_over_seeds_then_categories(tables):
    rows = json.loads((tables.RESULTS / "accuracy.json").read_text())["rows"]
    means = [
        np.mean(
            [
                row["AUPRO"]
                for key, row in rows.items()
                if key.startswith(f"PaDiM, {category}, tf_efficientnet_lite0, default, ")
            ]
        )
        for category in ("paper_flr01", "paper_fvn01")
    ]
    page = tables.guide_of("PaDiM").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("| `PaDiM`, ")]
    of_paper = line.split("|")[-2].split("/")[1]
    assert float(of_paper) == pytest.approx(np.mean(means), abs=6e-4)


def test_every_detector_has_a_row_in_the_readme(tables):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"| [`{name}`](" in readme for name in tables.NAMES)


def test_what_is_not_measured_is_said(tables):
    accuracy = tables.Accuracy(
        {"PaDiM, grid, none, default, seed 0": {"image AUROC": 1.0, "AUPRO": 0.5}}
    )
    assert accuracy.at_defaults("PaDiM", ("grid",)) == {"image AUROC": 1.0, "AUPRO": 0.5}
    assert accuracy.at_defaults("PaDiM", ("grid", "bottle")) is None
    assert tables._cell(None) == "not measured"


def test_what_is_asked_for_must_be_known(tables):
    page = ROOT / "docs" / "choosing.md"
    mark = "<!-- python benchmarks/guide_tables.py: {} -->\n<!-- end -->\n"
    with pytest.raises(ValueError, match="asks for 'costs Nothing'; known are accuracy"):
        tables.written(mark.format("costs Nothing"), page)
    with pytest.raises(ValueError, match="asks for 'colours'"):
        tables.written(mark.format("colours"), page)
