"""What stands beside the package is whole, and agrees with it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import skanomaly

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RUNTIME = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text("utf-8"))["project"]
PAGES = [*ROOT.glob("*.md"), ROOT / "docs" / "installation.md", ROOT / "docs" / "versions.md"]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == skanomaly.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]


def test_both_distributions_say_the_same_of_themselves():
    for key in ("license", "requires-python", "urls"):
        assert RUNTIME[key] == PROJECT[key]
    light = {re.split(">=", line)[0]: line for line in RUNTIME["dependencies"]}
    own = {re.split(">=", line)[0]: line for line in PROJECT["dependencies"]}
    assert light.items() <= own.items()
    tried = [c for c in PROJECT["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", c)]
    said = re.findall(r"^\| (3\.\d+) \|.*tests", text("docs/versions.md"), re.MULTILINE)
    assert [c.rpartition(" ")[2] for c in tried] == said


def test_the_change_log_is_kept():
    log = text("CHANGELOG.md")
    assert re.search(r"^## \[Unreleased\]$", log, re.MULTILINE)
    kinds = set(re.findall(r"^### (\w+)$", log, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    missing = [name for name in skanomaly.__all__ if name[0].isupper() and name not in log]
    assert missing == ["InvalidImageError"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_forms_are_forms(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert all({"name", "url", "about"} == set(link) for link in content["contact_links"])
        return
    assert {"name", "description", "body"} <= set(content)
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
    assert len(set(ids)) == len(ids) > 0
    for part in content["body"]:
        assert part["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert part["attributes"].get("label") or part["type"] == "markdown"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http", "mailto", "#")):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name}: {target}"
