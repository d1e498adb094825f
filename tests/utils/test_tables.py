import re
from pathlib import Path

import pytest

from skanomaly.base import BaseImageDetector
from skanomaly.utils import all_detectors, tables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [name for name, _ in all_detectors()])
def test_every_detector_is_in_the_documentation_as_it_is(name):
    """If this fails, run python -m skanomaly.utils.tables."""
    found = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8").splitlines()
    named = re.compile(rf"\| \[?`{name}`")
    lines = [line for line in tables.page().splitlines() if named.match(line)]
    assert len(lines) == 3
    assert set(lines) <= set(found)


def test_the_documentation_has_nothing_else(tmp_path):
    """If this fails, run python -m skanomaly.utils.tables."""
    (tmp_path / "docs").mkdir()
    names = ("docs/conformance.md", "docs/detectors.md")
    (tmp_path / names[0]).write_bytes((ROOT / names[0]).read_bytes())
    tables.main(tmp_path)
    for name in names:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_the_page_needs_a_place_for_the_table():
    with pytest.raises(ValueError, match=r"there is no <!--.*in docs/conformance\.md"):
        tables.conformance("# A page\n")


def source_of(reference):
    doc = f"Detect defects.\n\nReferences\n----------\n.. [1] {reference}\n"
    return tables._source(type("Method", (BaseImageDetector,), {"__doc__": doc}))


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (
            'A. One, "T", arXiv:2011.08785, 2020.',
            "One, [arXiv 2011.08785](https://arxiv.org/abs/2011.08785)",
        ),
        ('A. One, B. Two, "A title, of\n       two lines", CVPR 2022.', "One and Two"),
        (
            'A. One, B. Two, C. Three, "T", doi:10.1000/a.b-1.',
            "One et al., [doi 10.1000/a.b-1](https://doi.org/10.1000/a.b-1)",
        ),
        ('A. One, "T", 2020.\n.. [2] B. Two, "U", arXiv:2011.08785.', "One"),
        ("no reference that can be read", ""),
    ],
)
def test_source_of_a_method(reference, expected):
    assert source_of(reference) == expected
