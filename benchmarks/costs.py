"""CPU time of a fit and of an image, memory and file size, each detector in a fresh process."""

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
N_IMAGES, N_VALIDATION, N_TEST = 50, 20, 20
RUN = """
import json, pathlib, sys, tempfile, time
import numpy as np
import onnx, onnxruntime, skorch, timm  # so that no detector's first fit pays for them
import skanomaly
from skanomaly.datasets import load_mvtec_ad

def peak_MiB():  # not getrusage, whose maximum includes the parent's
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def cpu_s(call):
    start = time.process_time()
    call()
    return time.process_time() - start

name, root, parameters, numbers, rounds = json.loads(sys.argv[1])
n_train, n_validation, n_test = numbers
train, test = (load_mvtec_ad(pathlib.Path(root), "bottle", split=s) for s in ("train", "test"))
X, X_test = (
    np.stack([b.images[i] for i in range(n)])
    for b, n in ((train, n_train + n_validation), (test, n_test))
)
X, X_val = X[:n_train], X[n_train:]
detector = getattr(skanomaly, name)(random_state=0)
detector.set_params(**parameters)
before = peak_MiB()
fit_s = cpu_s(lambda: detector.fit(X, X_val=X_val))
fit_MiB = peak_MiB() - before
batches = [cpu_s(lambda: detector.score_samples(X_test)) for _ in range(rounds + 1)][1:]
single = [cpu_s(lambda x=x: detector.score_samples(x[None])) for x in X_test]
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "model"
    skanomaly.save(detector, file)
    file_MiB = file.stat().st_size / 2**20
weights = {p.data_ptr(): p.numel() for m in detector._modules_fitted() for p in m.parameters()}
print(json.dumps({
    "parameters": sum(weights.values()),
    "fit_s": fit_s, "score_ms": [1000 * s / len(X_test) for s in batches],
    "single_ms": [1000 * s for s in single],
    "fit_MiB": fit_MiB, "file_MiB": file_MiB,
}))
"""
NOTES = f"""MVTec AD's *bottle*, images of 256x256, given as arrays: {N_IMAGES} to learn from,
{N_VALIDATION} for the threshold, {N_TEST} to score; defaults but for the backbone. Times are what
the process took of a core, on one thread, to which other work on the machine adds little: "load" is
how many processes wanted a core in the minute before. What is trained takes a time in proportion to
the number of images. "parameters" are weights of networks, pretrained ones included. "an image" is
the median over rounds of `score_samples` over all test images, divided by their number; "one by
one" the median over single images. "fit memory" is by how much the fit raises the process's peak
above that with data and libraries loaded, "file" what `skanomaly.save` writes."""
HEADER = [
    "detector",
    "backbone",
    "parameters",
    "fit",
    "an image",
    "one by one",
    "fit memory",
    "file",
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
        f"{row['load']:.1f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[DEFAULT_BACKBONE])
    parser.add_argument("--rounds", type=int, default=2)
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
            numbers = N_IMAGES, N_VALIDATION, N_TEST
            job = [function, str(arguments.data), parameters, numbers, arguments.rounds]
            load = os.getloadavg()[0]
            found = subprocess.check_output(
                [sys.executable, "-c", RUN, json.dumps(job)],
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            results[key] = {**json.loads(found.splitlines()[-1]), "load": load}
            print(key, results.rows[key], flush=True)
    write_table(results)


def write_table(results):
    """Of all that was measured so far, in the order of the detectors."""
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
