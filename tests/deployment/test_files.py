import copy
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import DETECTORS, DistanceToMean, small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skanomaly
from skanomaly import FlattenedImages, load, save
from skanomaly.deployment import _document, files
from skanomaly.deployment.files import DIGEST_SIZE, MAGIC
from skanomaly.exceptions import ModelFileError
from skanomaly.features import _stored

GREY = np.random.default_rng(0).integers(0, 256, (10, 64, 64), np.uint8)
ROWS = np.random.default_rng(0).random((10, 64))
START = len(MAGIC) + DIGEST_SIZE


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


# Malice: files whose checksum is right.


def forged(path, change):
    """Write the model with its description changed, and the right checksum."""
    body = path.read_bytes()[START:]
    size = int.from_bytes(body[:8], "little")
    document = json.loads(body[8 : 8 + size])
    change(document)
    head = json.dumps(document).encode()
    sign(path, len(head).to_bytes(8, "little") + head + body[8 + size :])


def sign(path, body):
    path.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "skanomaly.__main__.main",
        "skanomaly.deployment.files.load",
        "skanomaly.detectors.padim.torch",
        "skanomaly.detectors.padim.FeatureDetector",
        "skanomaly.patches.PatchMean",
        "torch.nn.Module",
        "torch.nn.DataParallel",
        "sklearn.preprocessing.FunctionTransformer",
        "PaDiM",
        "",
    ],
)
def test_unknown_classes_are_refused(name, copied):
    forged(copied, lambda document: document["estimator"].update({"class": name}))
    with pytest.raises(ModelFileError, match="no class that may be built|is no model"):
        load(copied)


@pytest.mark.parametrize(
    "fitted",
    [
        {"predict": 1},
        {"__class__": 1},
        {"_open": 1},
        {"__sklearn_tags__": 1},
        {
            "x_": {
                "kind": "pickle",
                "is": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAR0cnVllIWUUpQu",
            }
        },
        {"x_": {"kind": "class", "is": "os.system"}},
        {"x_": {"kind": "array", "tensor": "none", "shape": [1]}},
        {"x_": {"kind": "array", "tensor": "0", "shape": [10**12]}},
        {"x_": {"kind": "module", "class": "torch.nn.ReLU", "own": {"_forward_hooks": {}}}},
    ],
)
def test_attributes_that_no_fit_sets_are_refused(fitted, copied):
    forged(copied, lambda document: document["estimator"]["fitted"].update(fitted))
    with pytest.raises(ModelFileError):
        load(copied)


def test_a_network_must_not_have_hooks(copied):
    def change(document):
        module = document["estimator"]["fitted"]["net_"]["module"]
        module["own"]["_forward_hooks"] = {"kind": "dict", "items": []}

    forged(copied, change)
    with pytest.raises(ModelFileError, match="_forward_hooks.*PyTorch's own"):
        load(copied)


def test_a_file_cannot_name_a_cache(tmp_path):
    """It would be read as pickles, at the next fit or, by the network, when scoring."""
    path = tmp_path / "model"
    save(small("HierarchicalFeatureAE", max_epochs=1).fit(GREY), path)

    def change(document):
        estimator = document["estimator"]
        estimator["parameters"]["memory"] = "elsewhere"
        estimator["parameters"]["checkpoint"] = "elsewhere.pt"
        arguments = estimator["fitted"]["encoder_"]["arguments"]
        arguments["items"].append(["memory", "elsewhere"])

    forged(path, change)
    again = load(path)
    assert (again.memory, again.checkpoint, again.encoder_.memory) == (None, None, None)


@pytest.mark.parametrize("versions", [None, {}, [], {"skanomaly": "0.1.0"}])
def test_no_versions(versions, copied):
    forged(copied, lambda document: document.update(versions=versions))
    with pytest.raises(ModelFileError, match="no model that `save` writes"):
        load(copied)


def test_nesting_without_end(copied):
    head = b'{"format": 1, "estimator": ' + 100_000 * b'{"kind": "list", "items": ['
    sign(copied, len(head).to_bytes(8, "little") + head + safetensors.numpy.save({}))
    with pytest.raises(ModelFileError, match="no model that `save` writes"):
        load(copied)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(where=st.floats(0, 1), value=st.integers(1, 255))
def test_flipped_bytes_under_a_right_checksum_do_no_more_than_fail(model, where, value):
    body = bytearray(model[0].read_bytes()[START:])
    size = int.from_bytes(body[:8], "little")
    body[int(where * (size + 2000))] ^= value
    path = model[0].with_suffix(".flipped")
    sign(path, bytes(body))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the versions may be what was changed
        try:
            found = load(path)
        except ModelFileError:
            return
    assert isinstance(found, (skanomaly.PatchReconstruction, skanomaly.PatchLatentSVM))


def first(kind, node):
    """The first node of a kind."""
    if isinstance(node, dict):
        if node.get("kind") == kind:
            return node
        node = list(node.values())
    found = (first(kind, part) for part in node) if isinstance(node, list) else ()
    return next((node for node in found if node is not None), None)


def set_fitted(**values):
    return lambda document: document["estimator"]["fitted"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_fitted(memory_="x"), "'memory_' is no fitted attribute of PatchReconstruction"),
        (set_fitted(device_=1), "no fitted attribute"),
        (set_fitted(offset_="0"), "offset_ of PatchReconstruction is no number"),
        (set_fitted(offset_=True), "offset_ of PatchReconstruction is no number"),
        (set_fitted(offset_=float("nan")), "its description holds NaN"),
        (set_fitted(map_threshold_=float("inf")), "its description holds Infinity"),
        (set_fitted(offset_=[1]), "a list where an object is expected"),
        (lambda d: d["estimator"]["parameters"].update(image_size=-1), "'image_size' parameter"),
        (lambda d: d["estimator"]["parameters"].update(smoothing="x"), "'smoothing' parameter"),
        (lambda d: d["estimator"]["parameters"].update(no_such=1), "no_such"),
        (lambda d: first("module", d)["own"].update(forward=1), "'forward'.*its class's"),
        (lambda d: first("module", d)["own"].update(_call_impl=1), "its class's"),
        (lambda d: first("net", d).update(history="[1]"), "something else than epochs"),
        (lambda d: first("net", d).update(module=1), "a net holds a int, expected"),
        (
            lambda d: first("net", d).update(module={"kind": "dict", "items": [[1, 2]]}),
            "a key is no text",
        ),
    ],
)
def test_what_no_save_writes_is_refused(change, message, copied):
    forged(copied, change)
    with pytest.raises(ModelFileError, match=f"^{copied}.*{message}"):
        load(copied)


def test_an_infinite_number_that_json_allows(copied):
    forged(copied, set_fitted(offset_=-123456.5))
    body = copied.read_bytes()[START:]
    sign(copied, body.replace(b"-123456.5", b"-1.5e9999"))
    with pytest.raises(ModelFileError, match="an infinite number"):
        load(copied)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_neither_saved_nor_loaded(value, model, tmp_path):
    path = tmp_path / "model"
    detector = copy.deepcopy(model[1])
    detector.offset_ = value
    with pytest.raises(ValueError, match=r"PatchReconstruction.offset_ is .*fit again"):
        save(detector, path)
    detector = copy.deepcopy(model[1])
    weight = next(detector.net_.module_.parameters())
    with torch.no_grad():
        weight.view(-1)[0] = value
    with pytest.raises(ValueError, match=r"PatchReconstruction.net_.* holds NaN or infinity"):
        save(detector, path)
    assert not list(tmp_path.iterdir())

    def spoil(tensors):
        next(t for t in tensors.values() if t.dtype.kind == "f" and t.size > 1).flat[0] = value

    path.write_bytes(model[0].read_bytes())
    with_tensors(path, spoil)
    with pytest.raises(ModelFileError, match="a tensor holds NaN or infinity"):
        load(path)


def with_tensors(path, change):
    """Write the model with its tensors changed, and the right checksum."""
    body = path.read_bytes()[START:]
    size = 8 + int.from_bytes(body[:8], "little")
    tensors = {k: v.copy() for k, v in safetensors.numpy.load(body[size:]).items()}
    change(tensors)
    sign(path, body[:size] + safetensors.numpy.save(tensors))


def test_a_training_may_have_had_infinite_losses(model, tmp_path):
    detector = copy.deepcopy(model[1])
    detector.net_.history[0]["valid_loss"] = np.inf
    save(detector, tmp_path / "model")
    assert load(tmp_path / "model").net_.history[0]["valid_loss"] == np.inf


def test_a_tensor_is_named_once(copied):
    def name_twice(document):
        scores = document["estimator"]["fitted"]["validation_scores_"]
        document["estimator"]["fitted"]["validation_maxima_"] = dict(scores)

    forged(copied, name_twice)
    with pytest.raises(ModelFileError, match="tensor '[0-9]+' is not there, or named twice"):
        load(copied)


def test_too_many_values_are_refused_before_they_are_parsed(copied, monkeypatch):
    monkeypatch.setattr(_document, "MAX_VALUES", 1000)
    with pytest.raises(ModelFileError, match="its description has [0-9]+ values .*more than 1000"):
        load(copied)
    with pytest.raises(ValueError, match="history may be cut"):
        save(small("PaDiM").fit(GREY), copied)


def test_nesting_that_json_allows_is_bounded(copied):
    node = 1
    for _ in range(150):
        node = {"kind": "list", "items": [node]}
    forged(copied, set_fitted(validation_scores_=node))
    with pytest.raises(ModelFileError, match="nested more than 100 deep"):
        load(copied)


@pytest.fixture(scope="module")
def pyramid_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pyramid") / "model"
    save(small("PaDiM").fit(GREY), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("name", "convnext_xxlarge", "tensors are not those of convnext_xxlarge"),
        ("name", "tf_efficientnet_lite1", "tensors are not those of tf_efficientnet_lite1"),
        ("name", "no_such_network", "timm knows no network 'no_such_network'"),
        ("name", "hf-hub:timm/resnet18.a1_in1k", "timm knows no network 'hf-hub"),
        ("name", "local-dir:/tmp", "timm knows no network 'local-dir"),
        ("name", "resnet18/../../x", "timm knows no network"),
        ("name", 5, "no model that `save` writes"),
        ("layers", {"kind": "tuple", "items": [99]}, "no model that `save` writes"),
        ("layers", {"kind": "tuple", "items": [0.5]}, "are no network's"),
        ("n_channels", 3, "tensors are not those of"),
        ("n_channels", 10**12, "are no network's"),
        ("engine", "/bin/sh", "engine='/bin/sh' is none of"),
    ],
)
def test_a_network_is_not_built_unless_its_tensors_are_there(
    argument, value, message, pyramid_file, tmp_path, monkeypatch
):
    path = tmp_path / "model"
    path.write_bytes(pyramid_file)

    def change(document):
        for item in first("pyramid", document)["arguments"]["items"]:
            if item[0] == argument:
                item[1] = value

    forged(path, change)
    monkeypatch.setattr(_stored, "FrozenNetwork", lambda *_, **__: pytest.fail("was built"))
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_a_network_is_not_built_of_parts(copied):
    """It has the place of a cache, and what is in that is a pickle."""

    def change(document):
        module = first("module", document)
        module.update({"class": "skanomaly.features._pyramid.FeaturePyramid"})
        module["own"]["memory"] = "elsewhere"

    forged(copied, change)
    with pytest.raises(ModelFileError, match="FeaturePyramid' is no class that may be built"):
        load(copied)


def test_loading_draws_no_random_numbers(pyramid_file, tmp_path):
    (tmp_path / "model").write_bytes(pyramid_file)
    before = torch.get_rng_state()
    load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)


def nodes_of(node, found):
    """Every place of a document, as (container, key)."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        found.append((node, key))
        if isinstance(value, (dict, list)):
            nodes_of(value, found)
    return found


JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from(
        [{"kind": "list", "items": [1]}, {"kind": "array", "tensor": "0", "shape": []}]
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_forged_descriptions_do_no_more_than_fail(model, data):
    """Values exchanged for others, for those of another place, or left out."""
    path = model[0].with_suffix(".forged")
    path.write_bytes(model[0].read_bytes())

    def change(document):
        places = nodes_of(document["estimator"], [])
        for _ in range(data.draw(st.integers(1, 3))):
            container, key = data.draw(st.sampled_from(places))
            kind = data.draw(st.sampled_from(["json", "move", "remove"]))
            if kind == "remove" and isinstance(container, dict):
                container.pop(key, None)
            elif kind == "move":
                other, other_key = data.draw(st.sampled_from(places))
                value = other.get(other_key) if isinstance(other, dict) else other[other_key]
                container[key] = json.loads(json.dumps(value))
            else:
                container[key] = data.draw(JSON)

    forged(path, change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = load(path)
        except ModelFileError:
            return
    found._validate_params()
    assert all(np.isfinite(vars(found).get(name, 0)) for name in ("offset_", "map_threshold_"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelFileError, match=f"{path} cannot .*no regular file"):
            load(path)
    with pytest.raises(ModelFileError, match="is a folder"):
        load(tmp_path)


def test_a_file_that_claims_more_than_it_has(copied):
    """The size of the description is believed no further than the file goes."""
    body = bytearray(copied.read_bytes()[START:])
    for size in (2**63, 2**40, len(body), len(body) - 8):
        body[:8] = size.to_bytes(8, "little")
        sign(copied, bytes(body))
        with pytest.raises(ModelFileError, match="damaged or cut short"):
            load(copied)


# Versions and interruptions.


def test_a_newer_format_is_refused(copied):
    forged(copied, lambda document: document.update(format=2))
    with pytest.raises(ModelFileError, match="format 2, this version reads 1; update"):
        load(copied)


def test_other_versions_are_told(model, monkeypatch):
    monkeypatch.setattr(files, "version", lambda package: "99.0")
    with pytest.warns(UserWarning, match=r"skanomaly 0.*\(here 99.0\), torch .*\(here 99.0\)"):
        load(model[0])


def test_pickles_of_other_versions_are_told(model, tmp_path, monkeypatch):
    joblib.dump(model[1], tmp_path / "pickle")
    monkeypatch.setattr("skanomaly.base.__version__", "99.0")
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
