"""Files that somebody has made to do harm: their checksum is right."""

import copy
import hashlib
import json
import os
import warnings

import numpy as np
import pytest
import safetensors.numpy
import torch
from conftest import small
from hypothesis import given, settings
from hypothesis import strategies as st

import skanomaly
from skanomaly import load, save
from skanomaly.deployment import _document
from skanomaly.deployment.files import DIGEST_SIZE, MAGIC
from skanomaly.exceptions import ModelFileError
from skanomaly.features import _stored

GREY = np.random.default_rng(0).integers(0, 256, (10, 64, 64), np.uint8)
START = len(MAGIC) + DIGEST_SIZE


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small file, and the detector in it."""
    detector = small("PatchReconstruction", max_epochs=1).fit(GREY)
    path = tmp_path_factory.mktemp("model") / "model.skanomaly"
    save(detector, path)
    return path, detector


@pytest.fixture
def copied(model, tmp_path):
    """A copy of the file, to be damaged."""
    path = tmp_path / "copy.skanomaly"
    path.write_bytes(model[0].read_bytes())
    return path


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


def test_a_newer_format_is_refused(copied):
    forged(copied, lambda document: document.update(format=2))
    with pytest.raises(ModelFileError, match="format 2, this version reads 1; update"):
        load(copied)
