"""Which classes are public, and that they are documented and declare what is their own."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import ClassDoc, FunctionDoc
from sklearn.base import OutlierMixin

import skanomaly
from skanomaly import _public
from skanomaly._parameters import DeclaredParameters, parameter
from skanomaly.base import BaseImageDetector
from skanomaly.utils import all_detectors, small_detector

ESTIMATORS = {
    name: getattr(skanomaly, name) for name in _public.public_classes("detectors", "compose")
}
# Whose functions people call; what images, training and features offer is for authors of detectors.
FOR_USERS = (
    "",
    ".calibration",
    ".datasets",
    ".distributed",
    ".maps",
    ".metrics",
    ".model_selection",
    ".plotting",
    ".preprocessing",
    ".regions",
    ".reports",
    ".synthesis",
    ".utils",
)


def _offered(module):
    """Classes and functions of the package under public names of a module, by name."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        own = getattr(value, "__module__", None) or ""
        if name.startswith("_") or not own.startswith("skanomaly."):
            continue
        if hasattr(module, "__all__") or own == module.__name__:
            yield f"{own}.{name}", value


def _public_modules():
    yield skanomaly
    for found in pkgutil.walk_packages(skanomaly.__path__, "skanomaly."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


# Errors and named tuples are made by the package, not by those who use it.
CLASSES = {
    name: value
    for module in _public_modules()
    for name, value in _offered(module)
    if inspect.isclass(value) and not issubclass(value, (Exception, tuple))
}
FUNCTIONS = {
    name: value
    for module in FOR_USERS
    for name, value in _offered(importlib.import_module(f"skanomaly{module}"))
    if inspect.isfunction(value)
} | {
    f"{name}.{method}": value
    for name, cls in ESTIMATORS.items()
    for method, value in inspect.getmembers(cls, inspect.isfunction)
    if value.__module__.startswith("skanomaly.") and not method.startswith("_")
}


def _parameters(function):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return {p.name for p in found if p.kind not in kinds} - {"self"}


def _documented(doc, *sections):
    entries = [entry for section in sections for entry in doc[section]]
    return {name.strip() for entry in entries for name in entry.name.split(",")}


@pytest.mark.parametrize("name", CLASSES)
def test_every_parameter_of_a_class_is_documented(name):
    doc, parameters = ClassDoc(CLASSES[name]), _parameters(CLASSES[name])
    documented = _documented(doc, "Parameters", "Attributes")
    if "**kwargs" in documented:  # another library's, and those handed on to its parts
        parameters = {p for p in parameters if "__" not in p}
    assert parameters <= documented
    assert doc["Summary"] != [""]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_function_is_documented(name):
    doc = FunctionDoc(FUNCTIONS[name])
    assert _parameters(FUNCTIONS[name]) <= _documented(doc, "Parameters")
    assert doc["Summary"] != [""]
    gives = re.search(r"^\s+return \S", inspect.getsource(FUNCTIONS[name]), flags=re.MULTILINE)
    assert doc["Returns"] or doc["Yields"] or not gives


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_documents_parameters_with_defaults_attributes_and_an_example(name):
    cls, doc = ESTIMATORS[name], ClassDoc(ESTIMATORS[name])
    signature = inspect.signature(cls).parameters
    assert [entry.name for entry in doc["Parameters"]]
    assert {entry.name for entry in doc["Parameters"]} == set(signature)
    for entry in doc["Parameters"]:
        default = signature[entry.name].default
        assert entry.desc, f"{entry.name} has no description"
        if default is not inspect.Parameter.empty:
            assert entry.type.endswith(f", default={default!r}")
    is_detector = issubclass(cls, OutlierMixin)
    attributes = {entry.name for entry in doc["Attributes"]}
    assert is_detector == bool(attributes & {"offset_", "offsets_"})  # one, or one a product
    assert doc["Examples"]


@pytest.mark.parametrize("name", dict(all_detectors()))
def test_a_detector_declares_what_is_its_own_and_has_no_constructor(name):
    """A parameter of a base class may have another default or description, and no more."""
    cls = ESTIMATORS[name]
    inherited = {p for base in cls.__bases__ for p in getattr(base, "__dataclass_fields__", ())}
    (body,) = [
        node.body
        for node in ast.parse(Path(inspect.getfile(cls)).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    declared = {node.target.id for node in body if isinstance(node, ast.AnnAssign)}
    assert not declared & inherited, "give another default as `name = value`"
    assert "__init__" not in vars(cls) or cls.__init__.is_generated
    assert issubclass(cls, DeclaredParameters)


@pytest.mark.parametrize("name", dict(all_detectors()))
def test_another_default_is_another(name):
    cls = ESTIMATORS[name]
    (base, *_) = [c for c in cls.__mro__[1:] if "__dataclass_fields__" in vars(c)]
    before = {p.name: p.default for p in inspect.signature(base).parameters.values()}
    here = inspect.get_annotations(cls).keys() & before.keys()
    assert not [p for p in here if inspect.signature(cls).parameters[p].default == before[p]]


# Which classes are public, and which detectors there are.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stands for the package's folder."""
    monkeypatch.setattr(_public, "files", lambda _: tmp_path)
    (tmp_path / "methods").mkdir()
    return tmp_path / "methods"


def test_the_class_that_a_file_is_named_after_is_public(folder):
    code = (
        "raise RuntimeError('imported')\nclass Net:\n    class MyPaDiM: ...\nclass MyPADiM(Net):\n"
    )
    (folder / "my_padim.py").write_text(code, encoding="utf-8")
    (folder / "cfa.py").write_text("class Other: pass\nclass CFA: pass\n", encoding="utf-8")
    (folder / "_shared.py").write_text("class Shared: pass\n", encoding="utf-8")
    (folder / "__init__.py").write_text("class Init: pass\n", encoding="utf-8")
    (folder / "notes.md").write_text("class Notes:\n", encoding="utf-8")
    (folder / "__pycache__").mkdir()
    found = _public.public_classes("methods")
    assert list(found.items()) == [("CFA", "methods.cfa"), ("MyPADiM", "methods.my_padim")]


@pytest.mark.parametrize("code", ["", "x = 1\n", "class Other: pass\n", "  class MyMethod: pass\n"])
def test_a_file_without_the_class_it_is_named_after_is_an_error(folder, code):
    (folder / "my_method.py").write_text(code, encoding="utf-8")
    found = "Other" if "Other" in code else "no class"
    with pytest.raises(
        ImportError, match=rf"my_method.py defines {found}.*such as MyMethod\).*rename"
    ):
        _public.public_classes("methods")


def test_every_subclass_in_the_folder_is_public_and_nothing_else():
    found = all_detectors()
    assert [name for name, _ in found] == sorted(name for name, _ in found)
    for name, cls in found:
        assert (cls.__name__, issubclass(cls, BaseImageDetector)) == (name, True)
        assert name in skanomaly.__all__
    for info in pkgutil.iter_modules([Path(skanomaly.__file__).parent / "detectors"]):
        module = importlib.import_module(f"skanomaly.detectors.{info.name}")
        own = [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, BaseImageDetector)
            and cls.__module__ == module.__name__
        ]
        if not info.name.startswith("_"):
            assert own == [cls for _, cls in found if cls.__module__ == module.__name__]


NEW_DETECTOR = """
from .._parameters import parameter
from ..base import BaseImageDetector


class BrightnessDetector(BaseImageDetector):
    \"\"\"Bright is anomalous.\"\"\"

    def _fit_images(self, images, validation):
        pass

    def _compute_maps(self, pixels):
        return pixels.mean(dim=1)
"""
USE_IT = """
import sys, numpy as np, skanomaly
assert "torch" not in sys.modules
assert "BrightnessDetector" in skanomaly.__all__ and "BrightnessDetector" in dir(skanomaly)
from skanomaly.utils import all_detectors, small_detector
cls = dict(all_detectors())["BrightnessDetector"]
assert cls is skanomaly.BrightnessDetector
X = np.random.default_rng(0).integers(0, 256, (6, 64, 64), np.uint8)
print(skanomaly.__file__, *small_detector(cls).fit(X).predict(X).shape)
"""


def test_a_new_file_is_a_new_detector(tmp_path):
    source, copied = Path(skanomaly.__file__).parent, tmp_path / "skanomaly"
    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    new = copied / "detectors" / "brightness_detector.py"
    new.write_text(NEW_DETECTOR, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", USE_IT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == [str(copied / "__init__.py"), "6"], run.stderr


class Base(BaseImageDetector):
    a: int = parameter(0)
    b: int = parameter(0)
    _small_parameters = {"a": 1, "b": 2, "image_size": 32}


class Middle(Base):
    pass


class Derived(Middle):
    c: int = parameter(0)
    _small_parameters = {"b": 3, "no_longer_there": 5}


def test_small_parameters_are_the_nearest_classs():
    found = small_detector(Derived).get_params()
    assert [found[name] for name in ("a", "b", "c", "image_size")] == [1, 3, 0, 32]
    assert found["random_state"] == 0
    assert small_detector(Middle).get_params()["b"] == 2


def test_parameters_that_are_given_go_before_the_small_ones():
    found = small_detector(Derived, b=7, c=8, random_state=None, unknown=1).get_params()
    assert [found[name] for name in ("a", "b", "c", "random_state")] == [1, 7, 8, None]
    assert "unknown" not in found
