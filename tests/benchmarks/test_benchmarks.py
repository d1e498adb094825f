"""Benchmarks can be started, and know every detector."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

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


@pytest.mark.parametrize("name", ["accuracy", "costs", "deployment", "settings"])
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


@pytest.mark.parametrize("name", ["few_shot", "dirty", "growing"])
def test_detectors_take_seed_and_backbone_in_all_parts(name, start):
    module = start(name)
    for make in module.DETECTORS.values():
        found = module.made(make, backbone="resnet18", random_state=3).get_params()
        last = [(key.rpartition("__")[2], value) for key, value in found.items()]
        assert {value for key, value in last if key == "backbone"} == {"resnet18"}
        assert {value for key, value in last if key == "random_state"} == {3}


def test_categories_that_are_not_there_are_skipped(start, tmp_path, capsys):
    (tmp_path / "textures" / "paper" / "train").mkdir(parents=True)
    found = argparse.Namespace(data=tmp_path / "mvtec", textures=tmp_path / "textures")
    roots = start("_common").roots_of(found, ["bottle", "paper"])
    assert roots == {"paper": tmp_path / "textures"}
    assert "bottle is skipped" in capsys.readouterr().out


def test_means_are_of_what_was_measured_everywhere(start):
    rows = {
        "A, bottle, x, seed 0": {"AUPRO": 0.5},
        "A, grid, x, seed 0": {"AUPRO": 0.7},
        "A, grid, x, seed 1": {"AUPRO": 0.9},
        "B, grid, x, seed 0": {"AUPRO": 0.9},
    }
    means = start("_common").means_over(rows, ["bottle", "grid"], at=1)
    assert means == {("A", "x"): [{"AUPRO": pytest.approx(0.6)}]}


@pytest.mark.parametrize("kind", ["drawn", "real"])
def test_planted(kind, start):
    module = start("dirty")
    rng = np.random.default_rng(0)
    train = list(rng.integers(0, 256, (20, 64, 64, 3), dtype=np.uint8))
    images = list(rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    test = Bunch(images=images, target=np.array([1, 1, -1, -1, -1, -1]))
    planted = module.Planted(kind, train, test, seed=0)
    changed = [i for i in range(20) if not np.array_equal(planted.images[i], train[i])]
    assert changed == sorted(planted.places)
    assert len(changed) == 2
    assert planted.images[changed[0]].dtype == np.uint8
    assert len(planted.tested) == (6 if kind == "drawn" else 4)
    scores = np.zeros(20)
    scores[[changed[0], next(i for i in range(20) if i not in changed)]] = -1
    assert planted.precision(scores) == 0.5


def test_methods_of_one_class_take_their_parameters_and_images_as_they_are(start):
    module = start("_one_class")
    for name, make in module.METHODS.items():
        detector = module.made(make, random_state=3)
        detector._validate_params()
        assert detector.random_state == 3
        assert (detector.image_size is None) == (not name.startswith(("HFR-AE", "MKD")))
    assert set(module.PRINTED) <= set(module.METHODS)


def test_untrained_are_the_same_but_for_their_training(start):
    module = start("_one_class")
    for name, make in module.TRAINED.items():
        trained, untrained = make().get_params(), module.METHODS[f"{name} untrained"]().get_params()
        differing = {key for key in trained if trained[key] != untrained[key]}
        assert differing <= {"lr", "max_epochs", "pretrain_epochs"}
        assert untrained["lr"] == 1e-30


def test_one_class_draws_the_same_test_images_for_every_class(start, monkeypatch):
    module = start("_one_class")
    classes = np.repeat(np.arange(10), 30)

    def load(data_set, normal, root, split):
        chosen = classes == normal if split == "train" else np.ones(300, bool)
        target = np.where(classes[chosen] == normal, 1, -1)
        return Bunch(images=np.arange(300)[chosen], target=target)

    monkeypatch.setattr(module, "load_one_class", load)
    train, target = module.images_of("mnist", 3, "root", "train", 20, 0)
    assert set(train) <= set(range(90, 120))
    assert len(set(train)) == 20
    assert (target == 1).all()
    tests = [module.images_of("mnist", c, "root", "test", 100, 0) for c in (3, 4)]
    assert len(set(tests[0][0])) == 100
    assert np.array_equal(tests[0][0], tests[1][0])
    assert np.array_equal(tests[0][1] == 1, classes[tests[0][0]] == 3)
    other_seed, _ = module.images_of("mnist", 3, "root", "test", 100, 1)
    assert not np.array_equal(other_seed, tests[0][0])
    everything, _ = module.images_of("mnist", 3, "root", "test", None, 0)
    assert len(everything) == 300


def test_one_class_means_are_of_ten_classes(start):
    module = start("_one_class")
    rows = {f"LSA, mnist, none, 20 / 20, {c}, seed 0": c / 10 for c in range(10)}
    rows |= {f"ARAE, mnist, none, 20 / 20, {c}, seed 0": 0.5 for c in range(9)}
    results = argparse.Namespace(
        rows={key: {"image AUROC": auc, "fit_s": 3.2} for key, auc in rows.items()},
        write_tables=lambda title, command, notes, tables: written.update(tables),
    )
    written = {}
    module.write_one_class(results)
    (_, means), (_, classes) = written.values()
    assert means == [["LSA", "mnist", "none", "20 / 20", 1, "0.450 ± 0.000", ".975", "3 s"]]
    assert len(classes) == 19


def test_the_card_benchmark_is_rehearsed_without_one(start, monkeypatch, tmp_path):
    monkeypatch.setenv("SKANOMALY_RESULTS", str(tmp_path))
    monkeypatch.delitem(sys.modules, "_common", raising=False)
    arguments = ["gpu", "--device", "cpu", "--detectors", "PaDiM", "STFPM"]
    monkeypatch.setattr(sys, "argv", arguments)
    start("gpu").main()
    rows = json.loads((tmp_path / "gpu_cpu.json").read_text())["rows"]
    assert set(rows) == {"PaDiM", "STFPM"}
    for row in rows.values():
        assert row["is_close"]
        assert max(row["scores"], row["maps"], row["pickled"]) == 0
    assert "mixed_auroc" in rows["STFPM"]
    assert "mixed_auroc" not in rows["PaDiM"]
    assert "| PaDiM |" in (tmp_path / "gpu_cpu.md").read_text()
