"""Files scored on a local Dask cluster, one worker of which is killed, beside plain loops."""

import argparse
import os
import signal
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _common import Results
from _many_files import SIZE, make_files
from distributed import Client, LocalCluster

from skanomaly import ImageFiles, SubspaceAD, load, save
from skanomaly.datasets import make_texture_defects
from skanomaly.distributed import read_scores, score_files

NOTES = """Synthetic PNG files of 64x64 pixels, crops of a photograph, scored by `SubspaceAD` at
that size. "loops" are as many processes as there are workers, each of which scores its share of
the files with `score_samples`, batch by batch, and nothing else: no rows, no table, no cluster;
their start is not counted, nor is the cluster's. "relative" is to the median of the loops, which
were run before and after each of the others. "peak" is a worker's resident memory at its highest,
Python, libraries and network included. "killed" is a worker that got SIGKILL when a third of the
parts were written. "largest difference" is of scores, which are written with nine digits in CSV,
to the loops'."""


def loop(model, paths):
    """What one process does without a cluster."""
    detector, scores, size = load(model), [], 0
    size = detector.batch_size
    detector.score_samples(paths[:1])
    start = time.perf_counter()
    for i in range(0, len(paths), size):
        scores.append(detector.score_samples(ImageFiles(paths[i : i + size])))
    return np.concatenate(scores), time.perf_counter() - start


def loops(model, files, n):
    """Scores, and seconds of the slowest of `n` processes."""
    with ProcessPoolExecutor(n, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(loop, [model] * n, np.array_split(files.paths, n)))
    return np.concatenate([scores for scores, _ in found]), max(s for _, s in found)


def peak_MiB():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def on_cluster(model, files, out, arguments, killed):
    """Scores, seconds, and the workers' peak memory."""
    with (
        LocalCluster(
            n_workers=arguments.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        detector = load(model)
        warm = ImageFiles(files.paths[: arguments.workers])
        score_files(detector, warm, client, out / "warm", chunk_size=1)
        if killed:
            pids = list(client.run(os.getpid).values())
            n_parts = -(-len(files) // arguments.chunk_size)
            threading.Thread(
                target=kill_after, args=(pids[0], out / "run", n_parts // 3), daemon=True
            ).start()
        start = time.perf_counter()
        score_files(detector, files, client, out / "run", chunk_size=arguments.chunk_size)
        seconds = time.perf_counter() - start
        peaks = list(client.run(peak_MiB).values())
        if killed and pids[0] in client.run(os.getpid).values():
            raise RuntimeError("no worker was killed: the run was too short")
    return -read_scores(out / "run").score, seconds, peaks


def kill_after(pid, folder, n_parts):
    while len(list(folder.glob("part-*"))) < n_parts:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chunk-size", type=int, default=1000)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        os.environ.setdefault(name, {"OMP_NUM_THREADS": "1"}.get(name, "PASSIVE"))
    results = Results("cluster")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_files(folder / "parts", arguments.files)
        files = ImageFiles.from_folder(folder / "parts")
        train = make_texture_defects("brick", n_normal=60, image_size=SIZE, random_state=0)
        save(SubspaceAD(image_size=SIZE, random_state=0).fit(train.images), folder / "model")
        measured = []
        for name in ("loops", "cluster", "loops", "cluster, one killed", "loops"):
            if name == "loops":
                expected, seconds = loops(folder / "model", files, arguments.workers)
                measured.append((name, seconds, [], 0.0))
                continue
            scores, seconds, peaks = on_cluster(
                folder / "model", files, folder / name, arguments, "killed" in name
            )
            difference = float(np.abs(scores - expected).max() / np.abs(expected).max())
            measured.append((name, seconds, peaks, difference))
        for name in dict.fromkeys(name for name, *_ in measured):
            rows = [row for row in measured if row[0] == name]
            results[f"{name}, {arguments.files} files"] = {
                "seconds": [row[1] for row in rows],
                "peak_MiB": [peak for row in rows for peak in row[2]],
                "difference": max(row[3] for row in rows),
            }
    write(results)


def write(results):
    lines = []
    for key, row in results.rows.items():
        name, _, files = key.rpartition(", ")
        base = np.median(results.rows[f"loops, {files}"]["seconds"])
        seconds = np.median(row["seconds"])
        lines.append(
            [
                name,
                files,
                f"{seconds:.0f} s",
                f"{seconds / base:.3f}",
                f"{max(row['peak_MiB']):.0f} MiB" if row["peak_MiB"] else "",
                f"{row['difference']:.1e}",
            ]
        )
    results.write_table(
        "Files scored on a cluster",
        "python benchmarks/cluster.py",
        NOTES,
        ["", "files", "time", "relative", "peak of a worker", "largest difference"],
        lines,
    )


if __name__ == "__main__":
    main()
