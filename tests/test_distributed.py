import os
import pickle
import signal
import threading
import time
import warnings

import pytest
from conftest import DistanceToMean
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from skanomaly import ImageFiles, LocalContrast, SubspaceAD, save
from skanomaly._rows import COLUMNS, read_rows
from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import InvalidImageError
from skanomaly.metrics import MapMetrics, aupro
from skanomaly.model_selection import NormalKFold

distributed = pytest.importorskip("distributed")
pytest.importorskip("pyarrow")
from skanomaly.distributed import (  # noqa: E402
    evaluate_files,
    fit_partitions,
    read_scores,
    score_files,
)

TRAIN = make_texture_defects("brick", n_normal=24, image_size=64, random_state=0)
TEST = make_texture_defects(
    "brick", split="test", n_normal=12, n_defective=13, image_size=64, random_state=0
)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def detector():
    detector = LocalContrast(image_size=None, false_alarm_rate=0.4, random_state=0)
    return detector.fit(TRAIN.images)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    for i, image in enumerate(TEST.images):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return ImageFiles.from_folder(folder)


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("chunk_size", [1, 7, 100])
def test_scores_are_those_of_one_machine(client, detector, files, tmp_path, format, chunk_size):
    out = tmp_path / "scores"
    found = score_files(detector, files, client, out, format=format, chunk_size=chunk_size)
    table = read_scores(out)
    assert list(table) == list(COLUMNS)
    assert list(table.file) == list(files.paths)
    rtol = 1e-8 if format == "csv" else 1e-15  # of nine digits
    assert_allclose(-table.score, detector.score_samples(files), rtol=rtol)
    assert_array_equal(table.verdict == "NG", detector.predict(files) == -1)
    assert (found.n_scored, found.n_failed) == (25, 0)
    assert found.n_flagged == (table.verdict == "NG").sum() > 1
    assert len(found.parts) == -(-25 // chunk_size)
    assert all(path.suffix == f".{format}" for path in found.parts)


def test_a_file_of_a_model_will_do(client, detector, files, tmp_path):
    save(detector, tmp_path / "model.skanomaly")
    score_files(tmp_path / "model.skanomaly", files, client, tmp_path / "a")
    score_files(detector, files, client, tmp_path / "b")  # the same fit: goes on
    score_files(detector, files, client, tmp_path / "a")
    assert_array_equal(read_scores(tmp_path / "a").score, read_scores(tmp_path / "b").score)
    (tmp_path / "pickle").write_bytes(pickle.dumps(detector))
    with pytest.raises(ValueError, match="pickle is no model of skanomaly.save"):
        score_files(tmp_path / "pickle", files, client, tmp_path / "c")
    assert not (tmp_path / "c").exists()


class Counts(LocalContrast):
    """Writes a file for each batch that it scores."""

    folder = None

    def detect(self, X, *, roi=None):
        name = f"{os.getpid()}-{time.monotonic_ns()}"
        with open(os.path.join(self.folder, name), "x"):
            pass
        time.sleep(self.pause)
        return super().detect(X, roi=roi)


def counting(detector, folder, pause=0.0):
    folder.mkdir()
    made = pickle.loads(pickle.dumps(detector))
    made.__class__ = Counts
    made.folder, made.pause = str(folder), pause
    return made


def test_a_run_goes_on_where_it_was(client, detector, files, tmp_path):
    out, calls = tmp_path / "scores", tmp_path / "calls"
    parts = score_files(detector, files, client, out, chunk_size=5).parts
    content = [path.read_bytes() for path in parts]
    for lost in (parts[1], parts[3]):
        lost.unlink()
    score_files(counting(detector, calls), files, client, out, chunk_size=5)
    assert len(list(calls.iterdir())) == 2
    assert [path.read_bytes() for path in parts] == content
    (out / "part-0002.csv").unlink()
    with pytest.raises(ValueError, match=r"part-0002\.csv is missing: the run has not ended"):
        read_scores(out)


def test_what_could_not_be_read_is_said_and_tried_again(client, detector, files, tmp_path):
    out, third = tmp_path / "scores", files.paths[2]
    with open(third, "rb") as file:
        content = file.read()
    with open(third, "wb") as file:
        file.write(content[:50])
    found = score_files(detector, files, client, out, chunk_size=5)
    assert (found.n_scored, found.n_failed) == (24, 1)
    assert "damaged or cut short" in read_scores(out).error[2]
    with open(third, "wb") as file:
        file.write(content)
    calls = tmp_path / "calls"
    found = score_files(counting(detector, calls), files, client, out, chunk_size=5)
    assert (found.n_scored, found.n_failed) == (25, 0)
    assert len(list(calls.iterdir())) == 1
    assert_allclose(-read_scores(out).score, detector.score_samples(files), rtol=1e-8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chunk_size": 6}, "its chunk_size was 5, now it is 6"),
        ({"format": "parquet"}, "its format was csv, now it is parquet"),
        ({"files": slice(1, None)}, "its n_files was 25, now it is 24"),
        ({"files": slice(None, None, -1)}, "its files was "),
        ({"detector": 1}, "its model was "),
    ],
)
def test_another_run_is_refused(client, detector, files, tmp_path, changed, message):
    out = tmp_path / "scores"
    score_files(detector, files, client, out, chunk_size=5)
    if "detector" in changed:
        detector = LocalContrast(image_size=None, random_state=1).fit(TRAIN.images)
    chosen = files[changed.pop("files", slice(None))]
    changed.pop("detector", None)
    with pytest.raises(ValueError, match=f"holds scores of another run: {message}"):
        score_files(detector, chosen, client, out, **{"chunk_size": 5, **changed})
    assert len(read_scores(out).score) == 25


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"format": "json"}, 'format must be "csv" or "parquet"'),
        ({"chunk_size": 0}, "chunk_size must be an int of at least 1, got 0"),
    ],
)
def test_wrong_parameters_are_refused(client, detector, files, tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        score_files(detector, files, client, tmp_path / "scores", **parameters)
    assert not (tmp_path / "scores").exists()
    with pytest.raises(ValueError, match="there are no files"):
        score_files(detector, [], client, tmp_path / "scores")
    with pytest.raises(ValueError, match="holds no scores of score_files"):
        read_scores(tmp_path)


def test_what_was_changed_is_said(client, detector, files, tmp_path):
    out = tmp_path / "scores"
    parts = score_files(detector, files, client, out, chunk_size=5).parts
    lines = parts[1].read_bytes().splitlines(keepends=True)
    parts[1].write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"part-0001\.csv has 4 rows, expected 5: it was changed"):
        score_files(detector, files, client, out, chunk_size=5)
    parts[1].write_bytes(b"".join(lines))
    (out / "run.json").write_text("[")
    for call in (lambda: read_scores(out), lambda: score_files(detector, files, client, out)):
        with pytest.raises(ValueError, match="scores holds no scores of score_files .JSONDecodeE"):
            call()


def test_a_detector_that_is_not_fitted_is_said_first(client, files, tmp_path):
    with pytest.raises(NotFittedError, match="this LocalContrast is not fitted yet"):
        score_files(LocalContrast(), files, client, tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


def test_nothing_is_lost_with_a_worker(client, detector, files, tmp_path):
    out, slow = tmp_path / "scores", counting(detector, tmp_path / "calls", pause=0.2)
    ended = []

    def kill_one():
        while not list((tmp_path / "calls").iterdir()):
            time.sleep(0.02)
        pid = next(iter((tmp_path / "calls").iterdir())).name.partition("-")[0]
        os.kill(int(pid), signal.SIGKILL)
        ended.append(int(pid))

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = score_files(slow, files, client, out, chunk_size=2)
    killer.join()
    client.wait_for_workers(2, timeout=60)
    assert ended
    assert (found.n_scored, found.n_failed) == (25, 0)
    assert_allclose(-read_scores(out).score, detector.score_samples(files), rtol=1e-8)
    assert ended[0] not in set(client.run(os.getpid).values())
    assert client.run(held) == dict.fromkeys(client.run(held), 0)


def held():
    from skanomaly.distributed import _workers

    return len(_workers._held)


def test_an_error_reaches_the_caller_and_leaves_nothing(client, detector, files, tmp_path):
    broken = counting(detector, tmp_path / "calls")
    broken.folder = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        score_files(broken, files, client, tmp_path / "scores", chunk_size=5, retries=0)
    assert set(client.run(held).values()) == {0}


def test_parts_are_fitted_to_what_one_fit_finds(client, tmp_path):
    for i, image in enumerate(TRAIN.images):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    files = ImageFiles.from_folder(tmp_path)
    parameters = {"image_size": 64, "random_state": 0, "validation_fraction": 0.25}
    detector = SubspaceAD(**parameters)
    merged = fit_partitions(detector, files, client, n_partitions=3)
    assert not hasattr(detector, "offset_")
    assert merged.n_images_ == 24
    whole = SubspaceAD(**parameters).fit(files)
    assert_allclose(merged.subspace_.mean, whole.subspace_.mean, rtol=1e-4, atol=1e-5)
    default = fit_partitions(detector, files, client)
    assert default.n_images_ == 24


@pytest.mark.parametrize(
    ("detector", "n", "message"),
    [
        (DistanceToMean(), 2, "a DistanceToMean cannot be fitted in parts"),
        (SubspaceAD(), 2, "set random_state to an int; it is None"),
        (SubspaceAD(random_state=0), 0, "n_partitions must be an int of at least 1"),
        (SubspaceAD(random_state=0), 13, "25 images are too few for 13 partitions"),
    ],
)
def test_what_cannot_be_fitted_in_parts_is_said_first(client, files, detector, n, message):
    with pytest.raises(ValueError, match=message):
        fit_partitions(detector, files, client, n_partitions=n)


def test_metrics_of_parts_are_those_of_the_whole(client, detector, files):
    found = evaluate_files(detector, files, TEST.masks, client, chunk_size=4)
    expected = detector.detect(files)
    assert_allclose(found.scores, expected.scores, rtol=1e-12)
    assert_array_equal(found.labels, expected.labels)
    whole = MapMetrics().update(TEST.masks, expected.maps)
    assert found.metrics.compute() == pytest.approx(whole.compute(), abs=1e-12)
    with pytest.raises(ValueError, match="there are 3 masks for 25 files"):
        evaluate_files(detector, files, TEST.masks[:3], client)


def test_an_unreadable_file_among_those_to_evaluate_is_named(client, detector, files):
    files = ImageFiles([*files.paths[:9], "nowhere.png"])
    with pytest.raises(InvalidImageError, match=r"image 9 \(nowhere\.png\): there is no such"):
        evaluate_files(detector, files, TEST.masks[:10], client, chunk_size=4, retries=0)


def test_a_search_on_a_cluster_finds_the_same(client):
    grid = {"scales": [(4.0,), (8.0,)], "smoothing": [0.0, 2.0]}
    search = GridSearchCV(
        LocalContrast(image_size=None, random_state=0), grid, scoring=aupro, cv=NormalKFold(2)
    )
    alone = search.fit(TEST.images, TEST.masks).cv_results_
    with parallel_config(backend="dask"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large arguments
        found = search.set_params(n_jobs=-1).fit(TEST.images, TEST.masks).cv_results_
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        assert_array_equal(found[name], alone[name])


def test_rows_are_what_the_command_line_reads(client, detector, files, tmp_path):
    found = score_files(detector, files, client, tmp_path / "scores")
    rows, _ = read_rows(found.parts[0])
    assert [row["file"] for row in rows] == list(files.paths)
