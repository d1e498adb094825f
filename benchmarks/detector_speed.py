"""Fit and scoring time of every detector with its defaults, in turn within one run."""

import argparse
import time

import numpy as np
from _common import Results, backbones, data_arguments, has_backbone

from skanomaly.datasets import load_mvtec_ad
from skanomaly.utils import all_detectors

DETECTORS = dict(all_detectors())

NOTES = """MVTec AD's *bottle*: 209 training images, 83 test images, 256x256, as arrays. "score" is
the median time of `score_samples` over all test images, divided by their number; the detectors
take turns within each of the rounds. Defaults but for the backbone, one seed."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    arguments = parser.parse_args()
    train, test = (load_mvtec_ad(arguments.data, "bottle", split=s) for s in ("train", "test"))
    X, X_test = (
        np.stack([bunch.images[i] for i in range(len(bunch.images))]) for bunch in (train, test)
    )
    detectors = {
        f"{detector}, {backbone}": DETECTORS[detector](**chosen, random_state=0)
        for detector in arguments.detectors
        for backbone, chosen in (
            backbones(arguments) if has_backbone(DETECTORS[detector]) else {"none": {}}
        ).items()
    }
    fit_s, score_ms = {}, {name: [] for name in detectors}
    for name, detector in detectors.items():
        start = time.perf_counter()
        detector.fit(X)
        fit_s[name] = time.perf_counter() - start
        print(name, f"{fit_s[name]:.0f} s", flush=True)
    for _ in range(arguments.rounds + 1):
        for name, detector in detectors.items():
            start = time.perf_counter()
            detector.score_samples(X_test)
            score_ms[name].append(1000 * (time.perf_counter() - start) / len(X_test))
    results = Results("detector_speed")
    for name in detectors:
        results[name] = {"fit_s": fit_s[name], "score_ms": score_ms[name][1:]}  # the first warms up
    results.write_table(
        "Fit and scoring time of the detectors",
        "python benchmarks/detector_speed.py",
        NOTES,
        ["detector", "backbone", "fit", "score, an image"],
        [
            [*name.split(", "), f"{row['fit_s']:.0f} s", f"{np.median(row['score_ms']):.1f} ms"]
            for name, row in results.rows.items()
        ],
    )


if __name__ == "__main__":
    main()
