"""Parameters, fit time, time an image and memory of each detector, each in a fresh process."""

import argparse
import json
import subprocess
import sys

import numpy as np
from _common import Results, data_arguments, has_backbone

from skanomaly.utils import all_detectors

DETECTORS = dict(all_detectors())
RUN = """
import io, json, pathlib, sys, time
import joblib, numpy as np, torch
import onnx, onnxruntime, skorch, timm  # so that no detector's first fit pays for them
import skanomaly
from skanomaly.datasets import load_mvtec_ad

def peak_MiB():  # not getrusage, whose maximum includes the parent's
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

name, root, parameters, rounds = json.loads(sys.argv[1])
train, test = (load_mvtec_ad(pathlib.Path(root), "bottle", split=s) for s in ("train", "test"))
X, X_test = (np.stack([b.images[i] for i in range(len(b.images))]) for b in (train, test))
detector = getattr(skanomaly, name)(**parameters, random_state=0)
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
buffer = io.BytesIO()
joblib.dump(detector, buffer)
modules = [getattr(v, "module_", v) for v in vars(detector).values()]
modules = [m for m in modules if isinstance(m, torch.nn.Module)]
trained = sum(p.numel() for m in modules for p in m.parameters())
held = sum(b.numel() for m in modules for b in m.buffers())
print(json.dumps({
    "parameters": trained, "other numbers held": held, "fit_s": fit_s, "score_ms": times[1:],
    "single_ms": single, "fit_MiB": fit_MiB, "pickle_MiB": len(buffer.getvalue()) / 2**20,
}))
"""
NOTES = """MVTec AD's *bottle*, 209 training and 83 test images of 256x256, given as arrays;
defaults but for ResNet-18 where there is a backbone. "parameters" are weights of networks,
pretrained ones included; "other numbers" what else a fitted detector holds (means, scatter
matrices, patches, support vectors). "an image" is the median over rounds of `score_samples` over
all test images, divided by their number; "one by one" the median over single images. "fit memory"
is by how much the fit raises the process's peak above that with data and libraries loaded."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    arguments = parser.parse_args()
    results = Results("costs")
    for name in arguments.detectors:
        parameters = {}
        if has_backbone(DETECTORS[name]):
            parameters = {"backbone": "resnet18", "weights": str(arguments.resnet18_weights)}
        job = json.dumps([name, str(arguments.data), parameters, arguments.rounds])
        found = subprocess.check_output([sys.executable, "-c", RUN, job], text=True)
        results[name] = json.loads(found.splitlines()[-1])
        print(name, results.rows[name], flush=True)
    results.write_table(
        "What each detector costs",
        "python benchmarks/costs.py",
        NOTES,
        [
            "detector",
            "parameters",
            "other numbers",
            "fit",
            "an image",
            "one by one",
            "fit memory",
            "pickle",
        ],
        [
            [
                name,
                f"{row['parameters']:,}",
                f"{row['other numbers held']:,}",
                f"{row['fit_s']:.1f} s",
                f"{np.median(row['score_ms']):.1f} ms",
                f"{np.median(row['single_ms']):.1f} ms",
                f"{row['fit_MiB']:.0f} MiB",
                f"{row['pickle_MiB']:.1f} MiB",
            ]
            for name, row in results.rows.items()
        ],
    )


if __name__ == "__main__":
    main()
