import copy
import json
import os
import pickle
import signal
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from numpy.testing import assert_array_equal
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM
from torch import nn

import skanomaly
from skanomaly import FlattenedImages, ImageFeatures, LocalContrast, load, save
from skanomaly.datasets import make_texture_defects
from skanomaly.deployment import files
from skanomaly.deployment.files import DIGEST_SIZE, MAGIC
from skanomaly.exceptions import ModelFileError

GREY = np.random.default_rng(0).integers(0, 256, (10, 64, 64), np.uint8)
ROWS = np.random.default_rng(0).random((10, 64))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small file, the detector in it, and what it gives."""
    detector = small("PatchReconstruction", max_epochs=1).fit(GREY)
    path = tmp_path_factory.mktemp("model") / "model.skanomaly"
    save(detector, path)
    return path, detector, detector.score_samples(GREY)


@pytest.fixture
def copied(model, tmp_path):
    """A copy of the file, to be damaged."""
    path = tmp_path / "copy.skanomaly"
    path.write_bytes(model[0].read_bytes())
    return path


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_gives_the_same_bits_again(name, tmp_path):
    detector = small(name).fit(GREY)
    save(detector, tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again) is type(detector)
    assert again.get_params() == detector.get_params()
    left_out = set(getattr(detector, "_not_saved", ()))
    assert set(vars(again)) == set(vars(detector)) - left_out
    assert_array_equal(again.transform(GREY), detector.transform(GREY))
    assert_array_equal(again.predict(GREY), detector.predict(GREY))
    if hasattr(detector, "net_"):
        assert list(again.net_.history) == list(detector.net_.history)
    assert again.fit(GREY[:6]).offset_ == detector.fit(GREY[:6]).offset_


def test_whole_scatter_matrices_of_earlier_versions_are_read(tmp_path):
    detector = small("PaDiM").fit(GREY)
    early = copy.deepcopy(detector)
    n_positions, d = early.gaussian_.mean.shape
    rows, columns = np.tril_indices(d)
    scatter = torch.zeros(n_positions, d, d)
    scatter[:, rows, columns] = scatter[:, columns, rows] = detector.gaussian_.scatter
    early.gaussian_.scatter = scatter
    for path, saved in (("early", early), ("model", detector)):
        save(saved, tmp_path / path)
    again = load(tmp_path / "early")
    assert_array_equal(again.score_samples(GREY), detector.score_samples(GREY))
    save(again.partial_fit(GREY), tmp_path / "early")
    save(detector.partial_fit(GREY), tmp_path / "model")
    assert_array_equal(again.score_samples(GREY), detector.score_samples(GREY))
    assert (tmp_path / "early").stat().st_size == (tmp_path / "model").stat().st_size


@pytest.mark.parametrize("name", DETECTORS)
def test_unfitted(name, tmp_path):
    save(small(name), tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.get_params() == small(name).get_params()
    assert not [attribute for attribute in vars(again) if attribute.endswith("_")]


def test_tables_and_pipelines(tmp_path):
    flattened = FlattenedImages(small("PatchReconstruction", max_epochs=1), min_side=64).fit(ROWS)
    pipeline = Pipeline([("detector", flattened)])
    save(pipeline.set_output(transform="pandas"), tmp_path / "model")
    again = load(tmp_path / "model")
    assert_array_equal(again.score_samples(ROWS), pipeline.score_samples(ROWS))
    assert list(again.transform(ROWS).columns) == list(pipeline.transform(ROWS).columns)
    with pytest.raises(TypeError, match=r"Pipeline.steps\[0\]\[1\].func is a numpy.ufunc"):
        save(Pipeline([("own", FunctionTransformer(np.sqrt))]), tmp_path / "model")


def test_what_can_be_computed_anew_is_not_kept(tmp_path):
    detector = small("PaDiM").fit(GREY)
    save(detector, tmp_path / "before")
    detector.predict(GREY)  # keeps the inverses of its covariances
    save(detector, tmp_path / "after")
    assert (tmp_path / "after").stat().st_size == (tmp_path / "before").stat().st_size


def test_a_fresh_process_loads_what_another_saved(model):
    path, _, scores = model
    code = (
        "import sys, numpy as np, skanomaly; X = np.random.default_rng(0).integers(0, 256, "
        "(10, 64, 64), np.uint8); print(*skanomaly.load(sys.argv[1]).score_samples(X))"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    np.testing.assert_allclose(np.array(run.stdout.split(), float), scores, rtol=1e-4)


def test_what_concerns_a_fit_here_is_left_out(tmp_path):
    detector = small("HierarchicalFeatureAE", memory="cache", callbacks=[print], checkpoint="x.pt")
    save(detector, tmp_path / "model")
    again = load(tmp_path / "model").get_params()
    assert (again["memory"], again["callbacks"], again["checkpoint"]) == (None, None, None)


def test_what_is_no_data_is_refused_by_its_place(tmp_path):
    detector = small("PaDiM", random_state=np.random.RandomState(0))
    with pytest.raises(TypeError, match=r"PaDiM.random_state is a numpy.*RandomState, which"):
        save(detector, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def classes_in(document):
    """Names of all classes that a model file asks for."""
    if isinstance(document, dict):
        yield from [document["class"]] if isinstance(document.get("class"), str) else []
        document = document.values()
    if not isinstance(document, (str, int, float, type(None))):
        for part in document:
            yield from classes_in(part)


def test_every_layer_that_a_detector_uses_may_be_named(tmp_path):
    """What is not on the list of layers goes by its full name, and would not be loaded again."""
    used = {}
    for name in DETECTORS:
        save(small(name, max_epochs=1).fit(GREY), tmp_path / name)
        body = (tmp_path / name).read_bytes()[len(MAGIC) + DIGEST_SIZE :]
        document = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        used |= {cls: name for cls in classes_in(document) if cls.startswith("torch.")}
    assert "torch.nn.Conv2d" in used
    missing = {cls: name for cls, name in used.items() if cls != f"torch.nn.{cls.split('.')[-1]}"}
    assert not missing, "add these to the layers that a model file may name"


class OwnLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)


class OwnDetector(DistanceToMean):
    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        self.layer_ = OwnLayer()
        del self.seen_  # sets, which are not saved


def test_own_classes_are_built_if_they_are_named(tmp_path):
    detector = OwnDetector().fit(GREY)
    save(detector, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"OwnDetector' is no class that may .*classes=\["):
        load(tmp_path / "model")
    with pytest.raises(ModelFileError, match="OwnLayer' is no class"):
        load(tmp_path / "model", classes=[OwnDetector])
    again = load(tmp_path / "model", classes=[OwnDetector, OwnLayer])
    assert_array_equal(again.transform(GREY), detector.transform(GREY))
    assert torch.equal(again.layer_.conv.weight, detector.layer_.conv.weight)


# Damage.


def test_a_file_cut_anywhere_is_refused(model, copied):
    content = model[0].read_bytes()
    lengths = [*range(200), *range(200, len(content), 97), len(content) - 1]
    for length in lengths:
        copied.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            load(copied)


def test_a_file_with_any_byte_flipped_is_refused(model, copied):
    content = model[0].read_bytes()
    rng = np.random.default_rng(0)
    for i in [*range(200), *range(200, len(content), 97)]:
        flipped = content[i] ^ int(rng.integers(1, 256))
        copied.write_bytes(content[:i] + bytes([flipped]) + content[i + 1 :])
        with pytest.raises(ModelFileError):
            load(copied)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", MAGIC, bytes(10_000)])
def test_other_files_are_refused(content, copied):
    copied.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"no skanomaly model|damaged"):
        load(copied)


def test_more_at_the_end_is_refused(copied):
    with open(copied, "ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFileError, match="damaged"):
        load(copied)


def test_no_file():
    with pytest.raises(FileNotFoundError):
        load("no such file")


# Versions and interruptions.


def test_a_training_may_have_had_infinite_losses(model, tmp_path):
    detector = copy.deepcopy(model[1])
    detector.net_.history[0]["valid_loss"] = np.inf
    save(detector, tmp_path / "model")
    assert load(tmp_path / "model").net_.history[0]["valid_loss"] == np.inf


def test_other_versions_are_told(model, monkeypatch):
    monkeypatch.setattr(files, "version", lambda package: "99.0")
    with pytest.warns(UserWarning, match=r"skanomaly 0.*\(here 99.0\), torch .*\(here 99.0\)"):
        load(model[0])


def test_pickles_of_other_versions_are_told(model, tmp_path, monkeypatch):
    joblib.dump(model[1], tmp_path / "pickle")
    monkeypatch.setattr("skanomaly._image_detector.__version__", "99.0")
    with pytest.warns(InconsistentVersionWarning, match=r"Reconstruction from version 0.*99"):
        again = joblib.load(tmp_path / "pickle")
    assert set(vars(again)) == set(vars(model[1]))


def test_a_save_that_fails_leaves_the_old_file(model, copied, monkeypatch):
    before = copied.read_bytes()

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(small("PaDiM"), copied)
    assert copied.read_bytes() == before
    assert list(copied.parent.iterdir()) == [copied]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_save_that_is_killed_leaves_the_old_file(copied):
    before = copied.read_bytes()
    code = (
        "import os, sys, signal, skanomaly;"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL);"
        "skanomaly.save(skanomaly.PaDiM(), sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, copied], capture_output=True)
    assert run.returncode == -signal.SIGKILL
    assert copied.read_bytes() == before
    assert isinstance(load(copied), skanomaly.PatchReconstruction)


def test_a_save_into_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder, to write model into"):
        save(small("PaDiM"), tmp_path / "none" / "model")


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_saved_file_can_be_read_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        save(small("PaDiM"), tmp_path / "model")
        (tmp_path / "link").symlink_to("model")
        save(small("PaDiM"), tmp_path / "link")
    finally:
        os.umask(before)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "link").is_symlink()


def test_into_an_open_file(tmp_path):
    with open(tmp_path / "model", "wb") as file:
        save(small("PaDiM"), file)
    assert load(tmp_path / "model").get_params() == small("PaDiM").get_params()


# Other formats.


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol, model):
    again = pickle.loads(pickle.dumps(model[1], protocol))
    assert_array_equal(again.score_samples(GREY), model[2])


def test_what_takes_objects_apart_without_pickle_is_told_what_works(model):
    with pytest.raises(TypeError, match="skanomaly.save, or with MLflow .*cloudpickle"):
        model[1].__reduce__()


def test_skops(model, tmp_path):
    io = pytest.importorskip("skops.io")
    for estimator in (model[1], Pipeline([("detector", model[1])]), FlattenedImages(model[1])):
        with pytest.raises(TypeError, match="skanomaly.save, or with MLflow .*cloudpickle"):
            io.dump(estimator, tmp_path / "model")


def test_mlflow(model, tmp_path):
    pytest.importorskip("skops.io")
    sklearn = pytest.importorskip("mlflow.sklearn")
    with pytest.raises(Exception, match="cloudpickle") as caught:
        sklearn.save_model(model[1], tmp_path / "model", pip_requirements=[])
    assert "skanomaly.save" in str(caught.value.__cause__)
    sklearn.save_model(
        model[1], tmp_path / "other", serialization_format="cloudpickle", pip_requirements=[]
    )


@pytest.mark.parametrize("value", [None, 3, "model", [1, 2], np.zeros(2), nn.Linear(1, 1)])
def test_what_is_no_estimator_is_not_saved_over_one_that_is(value, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"a good model")
    with pytest.raises(TypeError, match="cannot be saved; pass a detector"):
        save(value, path)
    assert path.read_bytes() == b"a good model"


def test_of_a_search_its_best_detector_is_what_to_save(tmp_path):
    images = np.random.default_rng(0).random((12, 32, 32))
    search = GridSearchCV(
        LocalContrast(), {"smoothing": [1.0]}, scoring=lambda detector, X, y=None: 1.0, cv=2
    ).fit(images)
    with pytest.raises(TypeError, match="save its best_estimator_"):
        save(search, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    save(search.best_estimator_, tmp_path / "model")
    assert_array_equal(load(tmp_path / "model").score_samples(images), search.score_samples(images))


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    X = make_texture_defects("brick", n_normal=6, image_size=64, random_state=0).images
    features = make_pipeline(ImageFeatures(image_size=64), StandardScaler()).fit(X)
    save(features, tmp_path / "model")
    again = load(tmp_path / "model", classes=[StandardScaler])
    assert_array_equal(again.transform(X), features.transform(X))
    features.steps.append(("svm", OneClassSVM().fit(features.transform(X))))
    with pytest.raises(TypeError, match=r"OneClassSVM and holds \w+, .*joblib.dump"):
        save(features, tmp_path / "model")


def test_versions_are_read_without_loading(tmp_path, monkeypatch):
    save(skanomaly.PaDiM(), tmp_path / "m")
    monkeypatch.setattr(files, "Decoder", lambda *_: pytest.fail("was loaded"))
    found = files.versions_in(tmp_path / "m")
    assert found == {package: files.version(package) for package in files.PACKAGES}
    content = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(content[:-1])
    with pytest.raises(ModelFileError, match="m cannot be read: it is damaged or cut short"):
        files.versions_in(tmp_path / "m")
