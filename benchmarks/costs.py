"""Fit time, time an image, memory and file size of each detector, each in a fresh process."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
from _common import (
    BACKBONES,
    DEFAULT_BACKBONE,
    NO_BACKBONE,
    Results,
    backbones,
    data_arguments,
    has_backbone,
)

from skanomaly import make_ensemble
from skanomaly.utils import all_detectors

DETECTORS = dict(all_detectors())
MEASURED = {"make_ensemble()": make_ensemble, **DETECTORS}
N_IMAGES = 100
RUN = """
import json, pathlib, sys, tempfile, time
import numpy as np, torch
import onnx, onnxruntime, skorch, timm  # so that no detector's first fit pays for them
import skanomaly
from skanomaly.datasets import load_mvtec_ad

def peak_MiB():  # not getrusage, whose maximum includes the parent's
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

name, root, parameters, n_images, rounds = json.loads(sys.argv[1])
train, test = (load_mvtec_ad(pathlib.Path(root), "bottle", split=s) for s in ("train", "test"))
X, X_test = (np.stack([b.images[i] for i in range(n)]) for b, n in ((train, n_images), (test, 40)))
detector = getattr(skanomaly, name)(random_state=0)
detector.set_params(**parameters)
before = peak_MiB()
start = time.perf_counter()
detector.fit(X)
fit_s = time.perf_counter() - start
fit_MiB = peak_MiB() - before
times = []
for _ in range(rounds + 1):
    start = time.perf_counter()
    detector.score_samples(X_test)
    times.append(1000 * (time.perf_counter() - start) / len(X_test))
single = []
for x in X_test[:20]:
    start = time.perf_counter()
    detector.score_samples(x[None])
    single.append(1000 * (time.perf_counter() - start))
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "model"
    skanomaly.save(detector, file)
    file_MiB = file.stat().st_size / 2**20
weights = {p.data_ptr(): p.numel() for m in detector._modules_fitted() for p in m.parameters()}
print(json.dumps({
    "parameters": sum(weights.values()),
    "fit_s": fit_s, "score_ms": times[1:], "single_ms": single, "fit_MiB": fit_MiB,
    "file_MiB": file_MiB, "threads": torch.get_num_threads(),
}))
"""
NOTES = f"""MVTec AD's *bottle*, {N_IMAGES} training and 40 test images of 256x256, given as arrays;
defaults but for the backbone. "parameters" are weights of networks, pretrained ones included. "an
image" is the median over rounds of `score_samples` over all test images, divided by their number;
"one by one" the median over single images. "fit memory" is by how much the fit raises the process's
peak above that with data and libraries loaded, "file" what `skanomaly.save` writes. "threads" is
how many PyTorch takes, and "load" how many processes wanted a core in the minute before: where that
is more than a few tenths, other work ran on the machine, and times are no more than bounds."""
HEADER = [
    "detector",
    "backbone",
    "parameters",
    "fit",
    "an image",
    "one by one",
    "fit memory",
    "file",
    "threads",
    "load",
]


def line(key, row):
    """A row of the table."""
    return [
        *key.split(", "),
        f"{row['parameters']:,}",
        f"{row['fit_s']:.1f} s",
        f"{np.median(row['score_ms']):.1f} ms",
        f"{np.median(row['single_ms']):.1f} ms",
        f"{row['fit_MiB']:.0f} MiB",
        f"{row['file_MiB']:.1f} MiB",
        row["threads"],
        f"{row['load']:.1f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[DEFAULT_BACKBONE])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--detectors", nargs="+", choices=MEASURED, default=list(MEASURED))
    parser.add_argument("--again", action="store_true", help="also what is measured already")
    arguments = parser.parse_args()
    encoders = backbones(arguments)
    results = Results("costs")
    for name in arguments.detectors:
        known = arguments.backbones if has_backbone(MEASURED[name]) else [NO_BACKBONE]
        for backbone in known:
            key = f"{name}, {backbone}"
            if key in results and not arguments.again:
                continue
            chosen = {name: str(value) for name, value in encoders.get(backbone, {}).items()}
            parameters = {
                parameter: chosen[last]
                for parameter in MEASURED[name]().get_params()
                if (last := parameter.rpartition("__")[2]) in chosen
            }
            function = name.removesuffix("()")
            job = [function, str(arguments.data), parameters, N_IMAGES, arguments.rounds]
            load = os.getloadavg()[0]
            found = subprocess.check_output([sys.executable, "-c", RUN, json.dumps(job)], text=True)
            results[key] = {**json.loads(found.splitlines()[-1]), "load": load}
            print(key, results.rows[key], flush=True)
    order = list(MEASURED)
    rows = sorted(results.rows.items(), key=lambda row: order.index(row[0].split(", ")[0]))
    results.write_table(
        "What each detector costs",
        "python benchmarks/costs.py",
        NOTES,
        HEADER,
        [line(key, row) for key, row in rows],
    )


if __name__ == "__main__":
    main()
