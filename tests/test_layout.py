"""How the package is built: arrows point one way, and what is private stays where it is."""

import ast
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

import skanomaly

ROOT = Path(skanomaly.__file__).parent
# From the ground to the roof; what stands in one line may import each other without a circle.
STOREYS = [
    [
        "exceptions",
        "_version",
        "_public",
        "_sklearn",
        "_site",
        "_atomic",
        "_console",
        "_process",
        "_random",
        "_device",
        "_markdown",
    ],
    ["_parameters", "_validation"],
    ["images"],
    ["maps", "_map_units", "regions", "synthesis", "calibration"],
    ["features", "training"],
    ["_modules", "_holdout"],
    ["_judging", "_fitting"],
    ["_image_detector"],
    ["base", "growing"],
    ["detectors"],
    ["compose", "preprocessing", "_unwrap", "_scoring", "_rows"],
    ["metrics", "model_selection", "datasets"],
    ["plotting"],
    ["deployment"],
    ["reports", "distributed"],
    ["utils"],
    ["cli"],
    ["__init__", "__main__"],
]
STOREY = {room: i for i, rooms in enumerate(STOREYS) for room in rooms}
# The tool that writes the stub of all that is public looks at the roof from outside.
TOOLS = {"utils.stubs"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(name):
    """(module, name or None) of all that a file imports from the package, wherever it does."""
    path = FILES[name]
    folder = list(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "skanomaly":
                    yield alias.name.removeprefix("skanomaly").lstrip(".") or "__init__", None
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = folder[: len(folder) - node.level + 1]
            elif (node.module or "").split(".")[0] == "skanomaly":
                base, node.module = [], node.module.removeprefix("skanomaly").lstrip(".")
            else:
                continue
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                below = f"{target}.{alias.name}".lstrip(".")
                yield (below, None) if below in FILES else (target or "__init__", alias.name)


def room(name):
    return name.split(".")[0]


@pytest.mark.parametrize("name", FILES)
def test_arrows_point_down(name):
    if name in TOOLS:
        return
    upwards = [target for target, _ in imports(name) if STOREY[room(target)] > STOREY[room(name)]]
    assert not upwards, f"{name} imports {upwards}, which stand above it"


def test_there_is_no_circle():
    graph = {name: {target for target, _ in imports(name) if target in FILES} for name in FILES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", FILES)
def test_nothing_private_is_taken_from_elsewhere(name):
    """Neither a private name of another module, nor a private module of another folder."""
    for target, imported in imports(name):
        folder, _, module = target.rpartition(".")
        own_folder = name.rpartition(".")[0] if FILES[name].stem != "__init__" else name
        if module.startswith("_") and folder and name not in TOOLS:
            assert folder == own_folder, f"{name} imports {target}, private to {folder}"
        if imported and imported.startswith("_") and not imported.startswith("__"):
            raise AssertionError(f"{name} imports {imported}, private to {target}")


def test_private_parts_of_scikit_learn_are_met_in_one_module():
    found = set()
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            parts = chain.from_iterable(m.split(".") for m in modules if m.startswith("sklearn"))
            if any(part.startswith("_") for part in parts):
                found.add(name)
    assert found == {"_sklearn"}


def test_every_room_has_its_storey():
    rooms = {room(name) for name in FILES}
    assert rooms == set(STOREY)
    for folder in (path.parent for path in ROOT.rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert docstring, f"{folder} does not say what belongs there"


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_of_detectors_can_be_read_at_one_sitting():
    for path in (ROOT / "detectors").glob("*.py"):
        assert lines(path) <= (450 if path.stem.startswith("_") else 350), path.name
