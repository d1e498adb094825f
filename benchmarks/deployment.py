"""Detectors put into production: files, ONNX, fresh processes, a stream, damaged files."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
from _common import Results, data_arguments

import skanomaly
from skanomaly.datasets import load_mvtec_ad
from skanomaly.exceptions import ExportError, ModelFileError
from skanomaly.utils import all_detectors

DETECTORS = dict(all_detectors())

NOTES = """MVTec AD's *bottle*, 209 training images of 256x256, defaults, one seed; networks
with a backbone: `tf_efficientnet_lite0`. "joblib" and "save" are sizes of the files and the median
time to load one in a fresh process, imports not counted. "parity": largest difference of scores
between the ONNX file and the detector over all 83 test images, relative to the largest score, and
labels that differ. "frame": median time of `score_samples` of one image, the detector and the file
in turn. "process": wall time and peak memory of a fresh Python process that loads the file with
`OnnxDetector`, scores one image and ends, median of five."""
LOAD = """
import json, sys, time
import joblib, onnxruntime, skorch, timm, torch
import skanomaly
read = {"joblib": joblib.load, "save": skanomaly.load}[sys.argv[1]]
start = time.perf_counter()
read(sys.argv[2])
print(time.perf_counter() - start)
"""
SERVE = """
import sys, numpy
from skanomaly import OnnxDetector
print(OnnxDetector(sys.argv[1]).predict(numpy.load(sys.argv[2])))
status = open("/proc/self/status").read()
print("torch" in sys.modules, int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def run(code, *arguments):
    start = time.perf_counter()
    out = subprocess.check_output([sys.executable, "-c", code, *map(str, arguments)], text=True)
    return time.perf_counter() - start, out.split()


def files(detector, folder):
    """Sizes and loading times."""
    joblib.dump(detector, folder / "joblib")
    skanomaly.save(detector, folder / "save")
    row = {}
    for kind in ("joblib", "save"):
        times = [float(run(LOAD, kind, folder / kind)[1][-1]) for _ in range(5)]
        row[f"{kind} MiB"] = (folder / kind).stat().st_size / 2**20
        row[f"{kind} load_s"] = times
    return row


def onnx(detector, X, folder):
    """Parity, latency, and a process of its own."""
    path, image = folder / "model.onnx", folder / "image.npy"
    try:
        report = skanomaly.export_onnx(detector, path, X)
    except ExportError as error:
        return {"not exported": str(error)}
    served = skanomaly.OnnxDetector(path)
    frames = {"detector": [], "file": []}
    for i in range(63):
        for name, scorer in (("detector", detector), ("file", served)):
            start = time.perf_counter()
            scorer.score_samples(X[i % len(X)][None])
            frames[name].append(1000 * (time.perf_counter() - start))
    np.save(image, X[:1])
    processes = []
    for _ in range(5):
        seconds, (*_, has_torch, memory) = run(SERVE, path, image)
        assert has_torch == "False"
        processes.append([seconds, float(memory)])
    return {
        "onnx MiB": path.stat().st_size / 2**20,
        "parity": report._asdict(),
        "frame_ms": {name: times[3:] for name, times in frames.items()},
        "processes": processes,
    }


def stream(detector, X, n_frames):
    """Latency of frames and memory over a long stream."""
    times, memory = [], {}
    start = time.perf_counter()
    for found in detector.stream(X[i % len(X)] for i in range(n_frames)):
        times.append(1000 * (time.perf_counter() - start))
        if found.index in (500, n_frames - 1):
            status = Path("/proc/self/status").read_text()
            memory[found.index] = int(status.split("VmRSS:")[1].split()[0]) / 1024
        start = time.perf_counter()
    return {"frame_ms": np.percentile(times[10:], [50, 99, 100]).tolist(), "MiB after": memory}


def fuzz(detector, folder):
    """Files cut at every byte and with every byte changed; how many load all the same."""
    path = folder / "model"
    skanomaly.save(detector, path)
    content = path.read_bytes()
    rng, counts = np.random.default_rng(0), {"cut": [0, 0], "changed": [0, 0]}
    for i in range(len(content)):
        changed = content[i] ^ int(rng.integers(1, 256))
        damaged = {
            "cut": content[:i],
            "changed": content[:i] + bytes([changed]) + content[i + 1 :],
        }
        for kind, data in damaged.items():
            path.write_bytes(data)
            counts[kind][0] += 1
            try:
                skanomaly.load(path)
            except ModelFileError:
                continue
            counts[kind][1] += 1
    return {"bytes": len(content), "files tried": counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--frames", type=int, default=10_000)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = (
        load_mvtec_ad(arguments.data, "bottle", split=s).images for s in ("train", "test")
    )
    X, X_test = (np.stack([images[i] for i in range(len(images))]) for images in (train, test))
    results = Results("deployment")
    for name in arguments.detectors:
        if name in results:
            continue
        detector = DETECTORS[name](random_state=0).fit(X)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            results[name] = files(detector, folder) | onnx(detector, X_test, folder)
            print(name, json.dumps(results.rows[name])[:300], flush=True)
            if name == "PatchReconstruction" and "fuzz" not in results:
                results["fuzz"] = fuzz(detector, folder)
        if name == "HierarchicalFeatureAE" and "stream" not in results:
            results["stream"] = stream(detector, X_test, arguments.frames)
    write_table(results)


def write_table(results):
    lines, notes = [], NOTES
    for name, row in results.rows.items():
        if name == "fuzz":
            tried = row["files tried"]
            notes += f"""

A model file of {row["bytes"]:,} bytes (PatchReconstruction) cut at every byte: {tried["cut"][0]:,}
files, of which {tried["cut"][1]} loaded; with each byte in turn changed at random:
{tried["changed"][0]:,} files, of which {tried["changed"][1]} loaded."""
            continue
        if name == "stream":
            median, late, latest = row["frame_ms"]
            after = [f"{mib:.0f} MiB after {int(i) + 1:,}" for i, mib in row["MiB after"].items()]
            notes += f"""

A stream of frames (HierarchicalFeatureAE): {median:.1f} ms a frame in the median, {late:.1f} ms in
99 of 100, {latest:.1f} ms at most; resident memory {" and ".join(after)} frames."""
            continue
        cells = [
            f"{row[f'{k} MiB']:.2f} MiB, {np.median(row[f'{k} load_s']):.2f} s"
            for k in ("joblib", "save")
        ]
        if "not exported" in row:
            cells += ["not exported", "", "", ""]
        else:
            seconds, memory = np.median(row["processes"], axis=0)
            parity = row["parity"]
            frames = (np.median(row["frame_ms"][k]) for k in ("detector", "file"))
            cells += [
                f"{row['onnx MiB']:.1f} MiB",
                f"{parity['score_difference']:.0e}, {parity['n_other_labels']} labels",
                " / ".join(f"{ms:.1f} ms" for ms in frames),
                f"{seconds:.2f} s, {memory:.0f} MiB",
            ]
        lines.append([name, *cells])
    results.write_table(
        "Deployment",
        "python benchmarks/deployment.py",
        notes,
        ["detector", "joblib", "save", "ONNX", "parity", "frame: detector / file", "process"],
        lines,
    )


if __name__ == "__main__":
    main()
