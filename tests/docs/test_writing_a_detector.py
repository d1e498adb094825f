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
name = sys.argv[1]
cls = getattr(skanomaly, name)
detector = small_detector(cls, max_epochs=10).fit(train)
scores = detector.score_samples(test.images)
with tempfile.TemporaryDirectory() as folder:
    saved, exported = Path(folder) / "saved", Path(folder) / "exported"
    skanomaly.save(detector, saved)
    loaded = skanomaly.load(saved).score_samples(test.images)
    report = skanomaly.export_onnx(detector, exported, test.images)
checks = estimator_checks.check_detector(small_detector(cls), on_fail=None)
print(json.dumps({
    "is public": name in skanomaly.__all__ and dict(all_detectors())[name] is cls,
    "is in tables": f"`{name}`" in tables.page(),
    "documented": cls.__doc__,
    "checks": [r["name"] for r in checks],
    "failures": {r["name"]: repr(r["exception"]) for r in checks if r["status"] != "passed"},
    "loaded equal": bool((loaded == scores).all()),
    "other labels in ONNX": report.n_other_labels,
    "pixel AUROC": pixel_roc_auc_score(test.masks, detector.transform(test.images)),
}))
"""


def test_the_guide_prints_both_files_and_the_first_is_short():
    assert set(FILES) == set(CLASSES)
    assert FILES["nearest_features"].count("\n") < 60


@pytest.mark.parametrize(("file", "name"), CLASSES.items())
def test_one_new_file_is_enough(file, name, tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "skanomaly", tmp_path / "skanomaly", ignore=ignored)
    path = tmp_path / "skanomaly" / "detectors" / f"{file}.py"
    path.write_text(FILES[file], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-c", TRY, name],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["is public"]
    assert found["is in tables"]
    assert "image_size : int, (int, int) or None, default=256" in found["documented"]
    assert {*found["checks"], "check_processes"} == {check.__name__ for check in CHECKS}
    assert found["failures"] == {}
    assert found["loaded equal"]
    assert found["other labels in ONNX"] == 0
    assert found["pixel AUROC"] > 0.85


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
