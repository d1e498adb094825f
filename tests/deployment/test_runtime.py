"""The light distribution: what it is made of, and that it serves alone."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import types
import venv
from pathlib import Path

import numpy as np
import pytest
from conftest import small
from numpy.testing import assert_array_equal
from PIL import Image

from skanomaly import ImageFiles, OnnxDetector, export_onnx
from skanomaly.deployment._bunch import _Bunch, bunch

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime"
# What is imported as the distribution is, and what only where it is needed and may be missing.
NEEDED = {"numpy", "PIL"}
WHERE_NEEDED = {
    "fsspec",
    "google",
    "onnx",
    "onnxruntime",
    "imagecodecs",
    "joblib",
    "scipy",
    "sklearn",
}
WHERE_NEEDED |= {"tifffile", "torch"}
NOT_THERE = ["torch", "sklearn", "scipy", "skimage", "onnx", "joblib", "tifffile", "skanomaly"]


def shared_files():
    """What the build takes from the package, by its place; hatchling itself is not needed."""
    interfaces = {
        "hatchling.builders.hooks.plugin.interface": "BuildHookInterface",
        "hatchling.metadata.plugin.interface": "MetadataHookInterface",
    }
    stand_ins = {name: types.SimpleNamespace(**{cls: object}) for name, cls in interfaces.items()}
    spec = importlib.util.spec_from_file_location("hatch_build", RUNTIME / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in stand_ins.items():
            patch.setitem(sys.modules, name, stand_in)
        spec.loader.exec_module(module)
    return module.shared_files(RUNTIME)


OWN = {path.relative_to(RUNTIME).as_posix(): path for path in RUNTIME.rglob("*_runtime/**/*.py")}
FILES = {**shared_files(), **OWN}


def imports(place):
    """(file in the distribution or name of another package, whether the file needs it at once)."""
    tree = ast.parse(FILES[place].read_text(encoding="utf-8"))
    folder = place.split("/")[:-1]
    for node in ast.walk(tree):
        at_once = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], at_once
        elif isinstance(node, ast.ImportFrom):
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            base = "/".join(filter(None, base))
            yield f"{base}.py" if f"{base}.py" in FILES else f"{base}/__init__.py", at_once


@pytest.mark.parametrize("place", FILES)
def test_a_file_finds_what_it_imports(place):
    for target, at_once in imports(place):
        if "/" in target:
            assert target in FILES, f"add it to SHARED in runtime/hatch_build.py for {place}"
        elif target not in sys.stdlib_module_names:
            at_import = at_once and place != "skanomaly_runtime/deployment/_onnx_messages.py"
            assert target in (NEEDED if at_import else NEEDED | WHERE_NEEDED)


def test_nothing_is_there_twice():
    assert not set(OWN) & set(shared_files())
    assert (RUNTIME / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_a_bunch_without_scikit_learn_is_one(monkeypatch):
    expected = bunch(scores=1, labels=2)
    monkeypatch.setitem(sys.modules, "sklearn.utils", None)
    found = bunch(scores=1, labels=2)
    assert isinstance(found, _Bunch)
    assert found == expected
    assert (found.scores, found["labels"]) == (1, 2)
    assert {"scores", "labels"} <= set(dir(found))
    with pytest.raises(AttributeError, match="maps"):
        found.maps  # noqa: B018


SERVE = """
import importlib.util, json, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import numpy as np
from PIL import Image
import skanomaly_runtime
from skanomaly_runtime import ImageFiles, InvalidImageError, ModelFileError, OnnxDetector
missing = [m for m in sys.argv[3:] if importlib.util.find_spec(m) is None]
folder = Path(sys.argv[2])
served = OnnxDetector(sys.argv[1])
files = ImageFiles.from_folder(folder / "images")
found = served.detect(files)
paths = list(files.paths)
arrays = [files[i] for i in range(len(files))]
for X in (paths, arrays, np.stack(arrays), [Image.fromarray(a) for a in arrays]):
    assert (served.score_samples(X) == found.scores).all()
roi = np.zeros(arrays[0].shape[:2], bool)
roi[:, :30] = True
others = {"decisions": served.decision_function(files), "verdicts": served.predict(files),
          "transformed": served.transform(files), "p_values": served.p_values(files)}
np.savez(folder / "found.npz", roi=served.score_samples(files, roi=roi), **others, **found)
streamed = [frame.score for frame in served.stream(paths)]
assert np.allclose(streamed, found.scores)
errors = {}
bad = {"broken": [paths[0], folder / "broken.png"], "rgb": [folder / "tiff.tif"], "none": []}
for name in bad:
    try:
        served.predict(bad[name])
    except InvalidImageError as error:
        errors[name] = str(error)
try:
    OnnxDetector(b"nothing of the kind")
except ModelFileError as error:
    errors["model"] = str(error)
try:
    served.__sklearn_tags__()
except ImportError as error:
    errors["tags"] = str(error)
readable = repr(files.readable(n_jobs=-1)[0])
print(json.dumps([missing, skanomaly_runtime.__version__, errors, readable]))
"""


@pytest.fixture(scope="module")
def served_alone(tmp_path_factory):
    """A detector's file and images, and what a new environment with the wheel makes of them."""
    folder = tmp_path_factory.mktemp("runtime")
    images = np.random.default_rng(0).integers(0, 256, (12, 64, 64), np.uint8)
    detector = small("PaDiM").fit(images)
    export_onnx(detector, folder / "model.onnx", images[:3])
    (folder / "images").mkdir()
    for i, image in enumerate(images[:6]):
        exif = Image.Exif()
        exif[0x0112] = 1 + i  # orientations
        Image.fromarray(image).save(folder / "images" / f"{i}.png", exif=exif)
    (folder / "broken.png").write_bytes((folder / "images" / "0.png").read_bytes()[:500])
    import tifffile

    tifffile.imwrite(folder / "tiff.tif", np.zeros((64, 64, 3), np.uint16), photometric="rgb")
    # Apart from this environment, and from what would be found in the folder that tests run in.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def run(*command):
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, RUNTIME)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "-q", wheel)
    done = run(python, "-c", SERVE, folder / "model.onnx", folder, *NOT_THERE)
    return folder, done


@pytest.mark.slow
def test_it_serves_alone_what_the_package_has_exported(served_alone):
    folder, done = served_alone
    missing, version, errors, readable = json.loads(done.stdout)
    assert missing == NOT_THERE
    assert not done.stderr
    served = OnnxDetector(folder / "model.onnx")
    files = ImageFiles.from_folder(folder / "images")
    expected = served.detect(files)
    roi = np.zeros((64, 64), bool)
    roi[:, :30] = True
    with np.load(folder / "found.npz") as found:
        assert_array_equal(found["scores"], expected.scores)
        assert_array_equal(found["labels"], expected.labels)
        assert_array_equal(found["maps"], expected.maps)
        assert_array_equal(found["transformed"], expected.maps)
        assert_array_equal(found["verdicts"], expected.labels)
        assert_array_equal(found["decisions"], served.decision_function(files))
        assert_array_equal(found["p_values"], served.p_values(files))
        assert_array_equal(found["roi"], served.score_samples(files, roi=roi))
    assert version == json.loads(json.dumps(served.metadata_["skanomaly"]))
    assert errors["broken"].startswith(f"image 1 ({folder / 'broken.png'}): the file is damaged")
    assert "install tifffile" in errors["rgb"]
    assert errors["none"] == "X holds no images; pass at least one"
    assert "no detector that export_onnx writes" in errors["model"]
    assert "sklearn" in errors["tags"]
    assert readable == repr(files)
