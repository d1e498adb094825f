"""Both libraries are measured alike, and what is asked for is read from what was measured."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import skanomaly

FOLDER = Path(__file__).parents[2] / "benchmarks"
SIDES = ("skanomaly", "anomalib")


@pytest.fixture(scope="module")
def modules():
    """The benchmark, its tables and what a side's process does."""
    sys.path.insert(0, str(FOLDER))
    try:
        import _environments
        import _side
        import _side_by_side_tables
        import side_by_side
    finally:
        sys.path.remove(str(FOLDER))
    return Namespace(
        benchmark=side_by_side,
        tables=_side_by_side_tables,
        side=_side,
        environments=_environments,
    )


def write_category(root, rng, n_train=10, size=(64, 48)):
    """A data set of few gray images, one of them with a defect."""

    def write(path, image):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    def draw():
        return rng.integers(0, 256, size, dtype=np.uint8)

    for i in range(n_train):
        write(root / "train" / "good" / f"{i:03d}.png", draw())
    write(root / "test" / "good" / "000.png", draw())
    write(root / "test" / "cut" / "000.png", draw())
    mask = np.zeros(size, np.uint8)
    mask[:32] = 255
    write(root / "ground_truth" / "cut" / "000_mask.png", mask)


def test_both_libraries_get_the_same_images(modules, tmp_path):
    write_category(tmp_path / "data" / "part", np.random.default_rng(0))
    root = tmp_path / "prepared"
    modules.benchmark.prepare(tmp_path / "data", "part", root)
    parts = {part: np.load(root / f"{part}.npy") for part in modules.side.PARTS}
    assert [len(parts[part]) for part in modules.side.PARTS] == [8, 2, 2]
    for part, images in parts.items():
        assert images.shape[1:] == (256, 256, 3)
        files = sorted((root / part).glob("*.png"))
        assert np.array_equal(images, [np.asarray(Image.open(file)) for file in files])
    learnt = {image.tobytes() for image in parts["train"]}
    assert not learnt & {image.tobytes() for image in parts["held_out"]}
    truth = np.load(root / "truth.npz")
    assert truth["masks"].shape == (2, 256, 256)
    masked = truth["masks"][truth["target"] == -1][0]
    assert masked[:128].all()
    assert not masked[128:].any()


class FakeSide:
    """Counts what it is asked for, and scores each image by its number."""

    def __init__(self):
        self.fits, self.asked = 0, []

    def load(self):
        self.is_open = True

    def fit(self):
        assert self.is_open
        self.fits += 1

    def save(self, folder):
        file = folder / "model"
        file.write_bytes(bytes(2**20))
        return file

    def score(self, indices, batch_size):
        self.asked.append((len(indices), batch_size))
        scores = np.array(indices, float)
        return scores, scores[:, None, None]


@pytest.mark.parametrize("again", [False, True])
def test_a_process_measures_warm_scoring_and_keeps_what_was_found(again, modules, tmp_path):
    side, file = FakeSide(), tmp_path / "found.npz"
    job = {"again": again, "batch_size": 32, "n_test": 40, "found": str(file)}
    row = modules.side.measured(side, job)
    assert side.fits == 1 + again
    assert ("again_s" in row) == again
    assert row["file_MiB"] == 1
    assert side.asked == [(32, 32), (40, 32), (3, 1), (20, 1)]
    assert row["fit_MiB"] <= row["peak_MiB"]
    with np.load(file) as found:
        assert np.array_equal(found["scores"], np.arange(40))
        assert found["maps"].shape == (40, 1, 1)


def test_times_are_of_each_thing(modules):
    clock, cores = modules.side.seconds(lambda: sum(range(10**6)))
    of_each, _ = modules.side.seconds(lambda: sum(range(10**6)), n=10**6)
    assert clock > 0
    assert cores > 0
    assert of_each < clock


def test_ways_take_turns_and_go_on_where_they_stopped(modules, tmp_path, monkeypatch):
    benchmark, asked = modules.benchmark, []
    masks = np.zeros((4, 8, 8), bool)
    masks[2:, :4] = True
    np.savez(tmp_path / "truth.npz", masks=masks, target=[1, 1, -1, -1])

    def run(python, script, job):
        asked.append((script, job["way"], job["found"] is not None))
        if job["found"]:
            np.savez(job["found"], scores=[0, 1, 2, 3], maps=masks.astype(np.float32))
        return {"fit_s": [1.0, 1.0]}

    monkeypatch.setattr(benchmark, "run", run)
    arguments = Namespace(
        detectors=["STFPM"],
        ways=["skanomaly arrays", "anomalib model"],
        rounds=2,
        max_epochs=2,
        again=False,
        resnet18_weights="weights",
        folder=tmp_path,
    )
    results = modules_results(benchmark, tmp_path, monkeypatch)
    benchmark.measure_detectors(results, "python", tmp_path, arguments)
    own, peer = ("_own_side.py", "arrays"), ("_peer.py", "bare model")
    assert asked == [(*own, True), (*peer, True), (*own, False), (*peer, False)]
    first = results.rows[f"{tmp_path.name}, STFPM, anomalib model, round 0"]
    assert first["image AUROC"] == 1
    assert first["epochs"] == 2
    benchmark.measure_detectors(results, "python", tmp_path, arguments)
    assert len(asked) == 4


def modules_results(benchmark, folder, monkeypatch):
    monkeypatch.setattr(sys.modules["_common"], "RESULTS", folder)
    return benchmark.Results("side_by_side")


def test_features_that_differ_are_no_comparison(modules, tmp_path, monkeypatch):
    levels = np.ones((1, 2, 4, 4))

    def run(python, script, job):
        np.savez(job["found"], levels * (1 + (script == "_peer.py") * error))

    monkeypatch.setattr(modules.benchmark, "run", run)
    sides, error = modules.benchmark.both("python"), 1e-5
    found = modules.benchmark.difference_of_features(sides, tmp_path, "weights")
    assert found == pytest.approx(1e-5)
    error = 1e-3
    with pytest.raises(RuntimeError, match="nothing compares"):
        modules.benchmark.difference_of_features(sides, tmp_path, "weights")


def test_parameters_are_those_of_the_detectors(modules):
    arguments = Namespace(resnet18_weights="weights", max_epochs=2)
    for name in modules.benchmark.DETECTORS:
        parameters = modules.benchmark.parameters_of(name, arguments)
        getattr(skanomaly, name)(**parameters)._validate_params()
        assert parameters["backbone"] == "resnet18"
    assert set(modules.benchmark.DETECTORS) == set(modules.tables.DETECTORS)
    assert set(modules.benchmark.TRAINED) == set(modules.tables.TRAINED)


def row_of(cores, MiB, accuracy=0.9, clock=100.0):
    times = {key: [clock, cores] for key in ("fit_s", "again_s", "batch_s", "single_s")}
    metrics = dict.fromkeys(("image AUROC", "pixel AUROC", "AUPRO"), accuracy)
    sizes = {"fit_MiB": MiB, "peak_MiB": MiB, "file_MiB": 1.0}
    return times | sizes | metrics | {"epochs": 1}


@pytest.fixture
def rows():
    """Own fits take .4 of the peer's cores and .6 of its memory above 100 MiB."""
    found = {"imports": {name: {"import_s": [[2, 1]], "import_MiB": [100]} for name in SIDES}}
    for number, cores in enumerate((3.9, 4.0, 9.0)):
        found[f"part, PaDiM, skanomaly arrays, round {number}"] = row_of(cores, 160, 0.899)
        found[f"part, PaDiM, anomalib model, round {number}"] = row_of(10.0, 200, 0.902)
    return found


def test_what_was_asked_for_is_read_from_medians(rows, modules):
    _, lines = modules.tables.tables(rows)["What was asked for"]
    by_figure = {line[2]: line[-3:] for line in lines}
    assert by_figure["fit"] == ["0.5", "0.4", "yes"]
    assert by_figure["batches"] == ["0.333", "0.4", "**no**"]
    assert by_figure["fit memory"] == ["0.5", "0.6", "**no**"]
    assert by_figure["AUPRO"] == ["at least -0.002", "-0.0030", "**no**"]


def test_wide_ranges_are_shown(rows, modules):
    header, lines = modules.tables.tables(rows)["Time of cores, memory and files"]
    own, peer = (line[header.index("fit")] for line in reversed(lines))
    assert own == "4.0 s (3.9 to 9.0)"
    assert peer == "10.0 s"


def test_the_peer_s_selection_is_its_steps_times_their_number(rows, modules):
    rows["selection, part"] = {
        "n": 1000,
        "skanomaly": {"seconds": {"0.1": [9.0, 0.5]}},
        "anomalib": {"prepare_s": [9.0, 1.0], "step_s": [9.0, 2.0]},
    }
    ((category, n, share, own, peer),) = modules.tables.selections(rows)
    assert (category, n, share, own) == ("part", 1000, "0.1", 0.5)
    assert peer == 1 + 99 * 2
    (line,) = modules.tables.selection_lines(rows)
    assert line[-1] == "yes"


def test_the_floor_is_operations_over_rate(modules):
    keys = ("onnx_batch_s", "onnx_single_s", "torch_batch_s", "torch_single_s")
    floor = {"GFLOP": 4.0, "GFLOP_product": 20.0, "product_s": [9.0, 0.5]}
    lines = modules.tables.floor_lines({"floor": floor | {key: [9.0, 0.2] for key in keys}})
    assert ["the one over the other", "100.0 ms"] in lines


def test_sizes_installed_are_of_all_that_is_required(modules):
    sizes, versions = modules.environments.installed(sys.executable, "scikit-learn")
    assert {"scikit-learn", "numpy", "scipy"} <= set(sizes)
    assert sizes["numpy"] > 1
    assert versions["numpy"] == np.__version__
    of_some = {"torch": 5.0, "nvidia-cublas": 3.0, "numpy": 1.0}
    assert modules.tables.without_torch(of_some) == 1
