"""The guide for contributors shows the package as it is built; run as a program, this writes it."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_layout import FILES, STOREYS, imports, room  # noqa: E402

COMMAND = "python tests/docs/test_architecture.py"
START, END = f"<!-- {COMMAND} -->\n", "<!-- end -->\n"
PAGE = ROOT / "docs" / "architecture.md"


def house():
    """The storeys from the roof to the ground, and what each folder holds and stands on."""
    storeys = [", ".join(rooms) for rooms in reversed(STOREYS)]
    parts = ["```text", *storeys, "```", "", "| folder | what it holds | stands on |"]
    parts.append("| --- | --- | --- |")
    for name in (name for rooms in reversed(STOREYS) for name in rooms):
        if FILES.get(name) is not None and FILES[name].parent.name == name:
            below = [other for other in stands_on(name) if not other.startswith("_")]
            known = ", ".join(f"`{other}`" for other in below)
            parts.append(f"| `{name}` | {what_it_holds(name)} | {known} |")
    return "\n".join(parts) + "\n"


def stands_on(name):
    """The rooms that a room imports from, from the roof to the ground."""
    found = {
        room(target)
        for file in FILES
        if room(file) == name
        for target, _ in imports(file)
        if room(target) != name
    }
    return [other for rooms in reversed(STOREYS) for other in rooms if other in found]


def what_it_holds(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    return ast.get_docstring(tree).splitlines()[0].rstrip(".").replace("``", "`")


def rewritten(text):
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    assert start and end, f"{PAGE} has no {START.strip()} followed by {END.strip()}"  # noqa: PT018
    return before + start + house() + end + after


def test_the_guide_shows_the_package_as_it_is():
    text = PAGE.read_text(encoding="utf-8")
    assert rewritten(text) == text, f"run {COMMAND}"


def test_a_folder_stands_on_what_it_imports():
    assert {"base", "features", "training"} <= set(stands_on("detectors"))
    assert not {"cli", "detectors"} & set(stands_on("features"))


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
