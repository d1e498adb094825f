"""The guide's detectors, as they are printed there, in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

import skanomaly
from skanomaly.utils import small_detector
from skanomaly.utils.estimator_checks import CHECKS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing-a-detector.md").read_text(encoding="utf-8")
FILES = dict(
    re.findall(r"`skanomaly/detectors/(\w+)\.py`:\n\n```python\n(.*?)```", GUIDE, re.DOTALL)
)
CLASSES = {"nearest_features": "NearestFeatures", "feature_bottleneck": "FeatureBottleneck"}

TRY = """
import json, sys, tempfile
from pathlib import Path
import skanomaly
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import pixel_roc_auc_score
from skanomaly.utils import all_detectors, small_detector, tables
from skanomaly.utils import estimator_checks

estimator_checks.CHECKS.remove(estimator_checks.check_processes)  # which start for seconds
train = make_texture_defects("brick", n_normal=24, image_size=64, random_state=0).images
test = make_texture_defects(
    "brick", split="test", n_normal=8, n_defective=8, defect_types=["missing"], image_size=64,
    random_state=0,
)
found = {}
for name in sys.argv[1:]:
    cls = getattr(skanomaly, name)
    detector = small_detector(cls, max_epochs=10).fit(train)
    scores = detector.score_samples(test.images)
    with tempfile.TemporaryDirectory() as folder:
        saved, exported = Path(folder) / "saved", Path(folder) / "exported"
        skanomaly.save(detector, saved)
        loaded = skanomaly.load(saved).score_samples(test.images)
        report = skanomaly.export_onnx(detector, exported, test.images)
    found[name] = {
        "is public": name in skanomaly.__all__ and dict(all_detectors())[name] is cls,
        "is in tables": f"`{name}`" in tables.page(),
        "documented": cls.__doc__,
        "checks": {r["name"]: [r["status"], repr(r["exception"])]
                   for r in estimator_checks.check_detector(small_detector(cls), on_fail=None)},
        "loaded equal": bool((loaded == scores).all()),
        "other labels in ONNX": report.n_other_labels,
        "pixel AUROC": pixel_roc_auc_score(test.masks, detector.transform(test.images)),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """What came of each of the guide's files, in a copy of the package that holds them."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(
        ROOT / "skanomaly", folder / "skanomaly", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, text in FILES.items():
        (folder / "skanomaly" / "detectors" / f"{name}.py").write_text(text, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", TRY, *CLASSES.values()],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_guide_prints_both_files_and_the_first_is_short():
    assert set(FILES) == set(CLASSES)
    assert FILES["nearest_features"].count("\n") < 60


@pytest.mark.parametrize("name", CLASSES.values())
def test_one_new_file_is_enough(tried, name):
    found = tried[name]
    assert found["is public"]
    assert found["is in tables"]
    assert "image_size : int, (int, int) or None, default=256" in found["documented"]
    assert found["loaded equal"]
    assert found["other labels in ONNX"] == 0


@pytest.mark.parametrize("name", CLASSES.values())
def test_it_passes_every_check(tried, name):
    checks = tried[name]["checks"]
    assert {*checks, "check_processes"} == {check.__name__ for check in CHECKS}
    assert {check: error for check, (status, error) in checks.items() if status != "passed"} == {}


@pytest.mark.parametrize("name", CLASSES.values())
def test_it_finds_defects(tried, name):
    assert tried[name]["pixel AUROC"] > 0.85


@pytest.mark.parametrize(("file", "name"), CLASSES.items())
def test_it_works_outside_of_the_package(file, name, textures, tmp_path, monkeypatch):
    text = FILES[file].replace("from ..", "from skanomaly.")
    module = types.ModuleType(f"mine_{file}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(text.replace("from ._", "from skanomaly.detectors._"), vars(module))
    own = [
        value
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__
    ]
    detector = small_detector(getattr(module, name)).fit(textures[0].images)
    skanomaly.save(detector, tmp_path / "model")
    with pytest.raises(skanomaly.exceptions.ModelFileError, match=r"classes=\["):
        skanomaly.load(tmp_path / "model")
    again = skanomaly.load(tmp_path / "model", classes=own)
    X = textures[1].images
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
