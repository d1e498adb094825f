"""Benchmarks can be started, and know every detector."""

import importlib.util
import sys
from pathlib import Path

import pytest

from skanomaly.utils import all_detectors

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


@pytest.fixture
def start(monkeypatch):
    """Gives a benchmark's module by name."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])

    def imported(name):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.mark.parametrize("name", NAMES)
def test_can_be_started(name, start, monkeypatch, capsys):
    module = start(name)
    if name == "readme_example":
        pytest.skip("it has no arguments, and fits")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["accuracy", "costs", "deployment", "detector_speed", "settings"])
def test_measures_every_detector(name, start):
    labels = start(name).LABELS if name == "accuracy" else {}
    measured = start(name).DETECTORS
    assert set(measured) == {labels.get(found, found) for found, _ in all_detectors()}


def test_settings_are_parameters(start):
    settings = start("settings")
    for detector, by_name in settings.SETTINGS.items():
        for changed in by_name.values():
            changed = dict(changed)
            made = changed.pop("make", settings.DETECTORS[detector])()
            made.set_params(**changed)._validate_params()
