"""What is built once per process: networks, their digests, ONNX sessions."""

import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import joblib
import numpy as np
import onnx
import pytest
import torch
from conftest import small
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from torch import nn

from skanomaly.exceptions import BackboneError
from skanomaly.features import FeaturePyramid, _engine, _networks

pytestmark = pytest.mark.usefixtures("as_in_a_fresh_process")


def batch(height=64, width=64, seed=0, n=2):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def built(monkeypatch):
    """Names of the networks that are built."""
    names, create = [], _networks._create
    monkeypatch.setattr(
        _networks, "_create", lambda name, *a, **k: names.append(name) or create(name, *a, **k)
    )
    return names


def test_pyramids_of_equal_arguments_share_a_network(built):
    one, other = FeaturePyramid(), FeaturePyramid(engine="torch", memory="somewhere")
    assert one.network is other.network
    assert FeaturePyramid(layers=(2, 3)).network is not one.network
    assert FeaturePyramid(n_channels=1).network is not one.network
    assert len(built) == 3


def test_threads_build_a_network_and_a_session_once(built, monkeypatch):
    exported, export = [], _engine.export_onnx
    monkeypatch.setattr(
        _engine, "export_onnx", lambda *args: exported.append(args) or export(*args)
    )
    start = Barrier(8)

    def features(_):
        start.wait()
        return FeaturePyramid()(batch())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(features, range(8)))
    assert len(built) == len(exported) == 1
    for levels in found:
        assert all(torch.equal(a, b) for a, b in zip(levels, found[0], strict=True))


def test_a_weight_file_that_changed_is_read_again(tmp_path, built):
    path = tmp_path / "weights.safetensors"
    digests = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        state = FeaturePyramid("resnet18", weights=None).network.body.state_dict()
        save_file(state, path)
        os.utime(path, ns=(0, seed))
        digests.append(FeaturePyramid("resnet18", weights=path).network.digest)
    assert digests[0] == digests[1] != digests[2]
    del built[:]
    FeaturePyramid("resnet18", weights=path)
    assert not built


def test_random_weights_are_drawn_anew():
    torch.manual_seed(0)
    one, other = (FeaturePyramid("resnet18", weights=None) for _ in range(2))
    assert one.network.digest != other.network.digest
    torch.manual_seed(0)
    assert FeaturePyramid("resnet18", weights=None).network is one.network


def test_building_a_pretrained_network_draws_nothing():
    before = torch.get_rng_state()
    FeaturePyramid()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_share_the_network(again):
    pyramid = FeaturePyramid()
    copied = again(pyramid)
    assert copied is not pyramid
    assert copied.network is pyramid.network


def test_a_pickle_alone_brings_its_network():
    pyramid = FeaturePyramid()
    expected, content = pyramid(batch()), pickle.dumps(pyramid)
    del pyramid
    _networks._recent.clear()
    gc.collect()
    assert not _networks._by_content
    found = pickle.loads(content)(batch())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_tuning_changes_nobody_elses_network():
    tuned, other = FeaturePyramid(), FeaturePyramid()
    before = other(batch())
    tuned.tune()
    for parameter in tuned.parameters():
        nn.init.constant_(parameter, 0.1)
    assert not any(p.requires_grad for p in other.parameters())
    tuned.freeze()
    assert tuned.network is not other.network
    assert tuned.network.digest != other.network.digest
    assert all(torch.equal(a, b) for a, b in zip(other(batch()), before, strict=True))
    assert not torch.equal(tuned(batch())[0], before[0])
    kept = tuned.network
    tuned.tune()
    assert tuned.network is not kept
    copied = copy.deepcopy(tuned)
    assert copied.network is not tuned.network


def test_moving_takes_another_network():
    moved, other = FeaturePyramid(), FeaturePyramid()
    network = other.network
    assert moved.to("cpu").network is network
    moved.to("meta")
    assert (moved.network.mean.device.type, other.network.mean.device.type) == ("meta", "cpu")
    assert {p.device.type for p in other.parameters()} == {"cpu"}
    assert FeaturePyramid().to("meta").network is moved.network
    assert other.network is network


def test_another_precision_is_a_network_of_its_own():
    double, other = FeaturePyramid(engine="torch").double(), FeaturePyramid()
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    assert {p.dtype for p in other.parameters()} == {torch.float32}


def test_unused_networks_are_bounded():
    for layers in [(0,), (1,), (2,), (3,), (4,), (0, 1), (1, 2)]:
        FeaturePyramid("resnet18", layers, None)
        FeaturePyramid(layers=layers)
    gc.collect()
    assert len(_networks._by_content) <= _networks.MAX_UNUSED


def test_sessions_are_bounded(monkeypatch):
    monkeypatch.setattr(_engine, "MAX_SIZES", 2)
    pyramid = FeaturePyramid()
    for height in (64, 96, 128, 160):
        pyramid(batch(height))
    assert [size for _, size, _ in _engine._sessions] == [(64, 64), (96, 64)]
    monkeypatch.setattr(_engine, "MAX_SESSIONS", 3)
    for layers in ((1,), (2,)):
        FeaturePyramid(layers=layers)(batch())
    assert [size for _, size, _ in _engine._sessions] == [(96, 64), (64, 64), (64, 64)]


def test_a_failed_export_switches_nothing_for_good(monkeypatch):
    pyramid, export, now = FeaturePyramid(), _engine.export_onnx, [0.0]
    monkeypatch.setattr(_engine, "export_onnx", lambda *args: 1 / 0)
    monkeypatch.setattr(_engine.time, "monotonic", lambda: now[0])
    with pytest.warns(UserWarning, match="PyTorch runs it instead"):
        features = pyramid(batch())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pyramid(batch())  # is not tried again at once
    assert pyramid.engine == "auto"
    expected = FeaturePyramid(engine="torch")(batch())
    assert all(torch.equal(a, b) for a, b in zip(features, expected, strict=True))
    monkeypatch.setattr(_engine, "export_onnx", export)
    now[0] += _engine.RETRY_AFTER
    pyramid(batch())
    assert len(_engine._sessions) == 1


def test_without_the_torchscript_exporter_its_successor_writes_as_good_a_model(monkeypatch):
    pyramid, export, asked = FeaturePyramid(), torch.onnx.export, []
    expected = onnx.load_from_string(_engine.export_onnx(pyramid.network, (64, 64)))

    def without_the_old_one(*args, dynamo, **options):
        asked.append(dynamo)
        if not dynamo:
            raise TypeError("export() got an unexpected keyword argument 'dynamic_axes'")
        return export(*args, dynamo=True, **options)

    monkeypatch.setattr(torch.onnx, "export", without_the_old_one)
    _engine._warn_of_longer_exports.cache_clear()
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="takes seconds to half a minute .* is as fast"):
        model = _engine.export_onnx(pyramid.network, (64, 64))
    assert torch.equal(torch.get_rng_state(), before)
    found = onnx.load_from_string(model)
    n_found, n_expected = (Counter(n.op_type for n in m.graph.node) for m in (found, expected))
    assert n_found["Conv"] == n_expected["Conv"] > 30
    assert not n_found["BatchNormalization"]
    assert sum(n_found.values()) <= sum(n_expected.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        of_all_sizes = [pyramid(batch(64, 96, n=n)) for n in (1, 3)]
    assert asked == [False, True, False, True]
    assert len(_engine._sessions) == 1
    in_pytorch = FeaturePyramid(engine="torch")
    for n, features in zip((1, 3), of_all_sizes):
        for a, b in zip(features, in_pytorch(batch(64, 96, n=n)), strict=True):
            assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_a_failed_export_is_an_error_where_onnx_was_asked_for(monkeypatch):
    monkeypatch.setattr(_engine, "export_onnx", lambda *args: 1 / 0)
    pyramid = FeaturePyramid(engine="onnx")
    for _ in range(2):
        with pytest.raises(BackboneError, match='use engine="torch"'):
            pyramid(batch())


@pytest.mark.filterwarnings("ignore:.*PyTorch runs it instead")
def test_a_network_of_one_size_says_which():
    pyramid = FeaturePyramid("swin_tiny_patch4_window7_224", weights=None)
    with pytest.raises(BackboneError, match=r"images of 64 x 64 .*\(224\).*; set image_size"):
        pyramid(batch())


def test_first_and_later_fits_give_equal_bits(textures):
    X = textures[0].images
    for name in ("PaDiM", "HierarchicalFeatureAE"):
        first, later = (small(name, max_epochs=1).fit(X) for _ in range(2))
        assert first.offset_ == later.offset_
        assert_array_equal(first.transform(X[:2]), later.transform(X[:2]))


FIRST_REQUESTS = """
import sys, threading, warnings
import joblib, numpy as np
warnings.simplefilter("error")
served, X, expected = joblib.load(sys.argv[1])
start, found = threading.Barrier(6), [None] * 6
def request(i):
    start.wait()
    found[i] = served.score_samples(X[i % 3:i % 3 + 1])[0]
threads = [threading.Thread(target=request, args=(i,)) for i in range(6)]
[t.start() for t in threads], [t.join() for t in threads]
np.testing.assert_allclose(found, [expected[i % 3] for i in range(6)], rtol=1e-5)
from skanomaly.features import _engine
assert len(_engine._sessions) == 1 and not _engine._failures
"""


@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_first_requests_of_a_fresh_process_may_come_together(engine, textures, tmp_path):
    X = textures[0].images
    fitted = small("PaDiM", engine=engine).fit(X)
    joblib.dump((fitted, X[:3], fitted.score_samples(X[:3])), tmp_path / "model")
    run = [sys.executable, "-c", FIRST_REQUESTS, str(tmp_path / "model")]
    subprocess.run(run, check=True)


def scored(detector, X, results):
    results.put(detector.score_samples(X))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", ["PaDiM", "PatchReconstruction", "HierarchicalFeatureAE"])
def test_a_forked_child_scores(name, textures):
    detector = small(name, max_epochs=1).fit(textures[0].images)
    X, n_threads = textures[1].images, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = detector.score_samples(X)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=scored, args=(detector, X, results), daemon=True)
        child.start()
        found = results.get(timeout=60)
        child.join()
    finally:
        torch.set_num_threads(n_threads)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
