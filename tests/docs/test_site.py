"""The site's sources, as far as they can be checked without building it."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from numpydoc.validate import validate

import skanomaly
from skanomaly.utils import all_detectors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if not {"_build", "measurements", "project", "gallery"} & set(path.relative_to(DOCS).parts)
)
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")

sys.path.insert(0, str(DOCS / "_ext"))
generated_pages = importlib.import_module("generated_pages")
public_names = importlib.import_module("public_names")
check_site = importlib.import_module("check_site")
sys.path.pop(0)

DOCUMENTED = public_names.documented_names()
PAGES = generated_pages.reference_pages()
# What numpydoc would like of every docstring and the project does not ask for: sections that
# have nothing to say, and descriptions of what a name and a type tell.
NOT_ASKED = {"ES01", "EX01", "SA01", "PR01", "PR03", "PR04", "PR07", "PR08"}
NOT_ASKED |= {"RT01", "RT02", "RT03", "RT04", "RT05", "SA04", "SS02", "SS05", "YD01"}


def _value(module, name):
    return getattr(importlib.import_module(module), name)


def _slug(heading):
    """A heading's anchor, as code hosts and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _prose(path):
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)


# The reference.


def test_every_public_name_has_one_page():
    documented = [_value(module, name) for module, names in DOCUMENTED.items() for name in names]
    modules = [skanomaly]
    for found in pkgutil.walk_packages(skanomaly.__path__, "skanomaly."):
        left_out = ("skanomaly.cli", "skanomaly.utils.stubs", "skanomaly.utils.tables")
        if "._" not in found.name and not found.name.startswith(left_out):
            modules.append(importlib.import_module(found.name))
    for module in modules:
        for name in getattr(module, "__all__", ()):
            if not name.startswith("_"):
                value = getattr(module, name)
                times = sum(value is other for other in documented)
                assert times == 1, f"{module.__name__}.{name} is documented {times} times"
    for module, names in DOCUMENTED.items():
        for name in names:
            assert f"reference/generated/{module}.{name}.rst" in PAGES
            assert f"   {name}\n" in PAGES[f"reference/{module}.rst"]
        assert f"   {module}\n" in PAGES["reference/index.rst"]


def test_every_detector_and_its_methods_are_on_its_page():
    for name, cls in all_detectors():
        page = PAGES[f"reference/generated/skanomaly.{name}.rst"]
        for method in ("fit", "predict", "detect", "calibrate"):
            assert f".. automethod:: {name}.{method}\n" in page
        assert (f".. automethod:: {name}.partial_fit\n" in page) == hasattr(cls, "partial_fit")
        assert "get_metadata_routing" not in page


def test_a_page_is_written_once_and_goes_with_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(generated_pages, "reference_pages", lambda: {"reference/a.rst": "a"})
    monkeypatch.setattr(generated_pages, "copied_pages", dict)
    stale, kept = tmp_path / "reference" / "b.rst", tmp_path / "reference" / "used_in" / "c.rst"
    kept.parent.mkdir(parents=True)
    stale.write_text("b")
    kept.write_text("c")
    generated_pages.write(tmp_path)
    written = (tmp_path / "reference" / "a.rst").stat().st_mtime_ns
    generated_pages.write(tmp_path)
    assert (tmp_path / "reference" / "a.rst").stat().st_mtime_ns == written
    assert not stale.exists()
    assert kept.exists()


@pytest.mark.parametrize("module", DOCUMENTED)
def test_see_also_names_what_there_is(module):
    known = {name for names in DOCUMENTED.values() for name in names}
    for name in DOCUMENTED[module]:
        value = _value(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        doc = (ClassDoc if inspect.isclass(value) else FunctionDoc)(value)
        for functions, _ in doc["See Also"]:
            for other, _ in functions:
                if other.startswith("sklearn."):
                    assert _value(*other.rsplit(".", 1))
                    continue
                is_known = other in DOCUMENTED or known & set(other.split("."))
                assert is_known or hasattr(value, other), f"{name}: {other}"


@pytest.mark.parametrize("module", DOCUMENTED)
def test_docstrings_are_numpydoc(module):
    for name in DOCUMENTED[module]:
        value = _value(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            found = validate(f"{module}.{name}")["errors"]
            assert not [error for error in found if error[0] not in NOT_ASKED], name


# Guides.


def test_every_guide_is_in_a_list_of_contents():
    listed = []
    for path in GUIDES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.S | re.M):
            entries = [e for e in block.split("\n") if e and not e.startswith(":")]
            listed += [(path.parent / entry).relative_to(DOCS).as_posix() for entry in entries]
    for path in GUIDES:
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        assert name == "index" or any(fnmatch(name, entry) for entry in listed), path


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_links_lead_to_files_and_headings_as_on_a_code_host(path):
    for link in LINK.findall(_prose(path)):
        if re.match(r"\w+:", link):
            continue
        target, _, anchor = link.partition("#")
        target = path.parent / target if target else path
        assert target.exists(), f"{link} of {path.name} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", _prose(target), re.M)
            assert anchor in map(_slug, headings), f"{link} of {path.name}: no such heading"


def test_links_to_files_beside_docs_lead_to_their_pages(tmp_path):
    text = (
        "[a](../benchmarks/results/accuracy.md#x) [b](thresholds.md) [c](https://a.b/c.md) [d](#e)"
    )
    found = generated_pages._with_links("docs/choosing.md", "choosing.md", text)
    assert found == text.replace("../benchmarks/results/accuracy.md", "measurements/accuracy.md")
    found = generated_pages._with_links(
        "benchmarks/README.md",
        "measurements/index.md",
        "[a](results/costs.md) [b](../docs/images.md)",
    )
    assert found == "[a](costs.md) [b](../images.md)"


def test_faults_of_a_built_site_are_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">b</p><img src="c%20d.png">')
    (tmp_path / "c d.png").touch()
    good = '<a href="b.html#here">b</a><a href="#">up</a><a href="https://a.b/c">c</a>'
    (tmp_path / "a.html").write_text(good)
    assert check_site.faults(tmp_path) == []
    bad = '<a href="x.html"></a><a href="b.html#there"></a><script src="https://a.b/c.js"></script>'
    (tmp_path / "a.html").write_text(good + bad)
    assert check_site.faults(tmp_path) == [
        "a.html: x.html leads nowhere",
        "a.html: b.html#there leads to no place on that page",
        "a.html: https://a.b/c.js is loaded from a network",
    ]


# The gallery.


def test_there_are_enough_examples():
    assert len(EXAMPLES) >= 12
    assert all(path.name.startswith("plot_") for path in EXAMPLES)  # others are not run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_a_picture_and_needs_no_download(path):
    text = path.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)).splitlines()
    assert len(doc[0]) == len(doc[1]) == doc[1].count("=")
    assert re.search(r"plt\.subplots|Display\.from_|plot_sheet\(", text)
    assert not re.search(r"load_mvtec_ad|load_visa|load_one_class|fetch_\w+\(|https?:", text)
    assert "random_state=0" in text
    for module, names in re.findall(
        r"^from (skanomaly[\w.]*) import \(?([\w, \n]+)\)?$", text, re.M
    ):
        for name in filter(None, re.split(r"[,\s]+", names)):
            assert hasattr(importlib.import_module(module), name)
