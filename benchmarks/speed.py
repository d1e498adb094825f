"""Speed of the default detector: fit, scoring against its networks alone, engines, export, import.

Everything that is compared is timed in turn within one run (A B C A B C ...), and medians
are taken, because machines are noisy.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch
from _common import Results, data_arguments

from skanomaly import HierarchicalFeatureAE
from skanomaly.datasets import load_mvtec_ad
from skanomaly.features import FeaturePyramid
from skanomaly.images import ImageDataset

FIRST_RUN = """
import sys, time, onnx, onnxruntime, timm, torch
from skanomaly.features import FeaturePyramid
start = time.perf_counter()
FeaturePyramid(sys.argv[1], weights=sys.argv[2])(torch.rand(1, 3, 256, 256))
print(time.perf_counter() - start)
"""
FIRST = [sys.executable, "-c", FIRST_RUN]


def in_turn(functions, rounds):
    """Median seconds of each function, all called once a round."""
    times = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(t[1:])) for name, t in times.items()}  # the first warms up


def fit_times(train, runs):
    times = []
    for seed in range(runs):
        start = time.perf_counter()
        detector = HierarchicalFeatureAE(random_state=seed).fit(train.images)
        times.append(time.perf_counter() - start)
    return detector, {"median_s": float(np.median(times)), "all_s": times}


def scoring_times(detector, test, rounds):
    n = len(test.images)
    arrays = np.stack([test.images[i] for i in range(n)])
    batches = [b.pixels for b in ImageDataset(arrays).batches(detector.batch_size)]
    encoder, decoder = detector.encoder_, detector.net_.module_
    features = [encoder(pixels) for pixels in batches]

    def run_encoder():
        for pixels in batches:
            encoder(pixels)

    def run_decoder():
        with torch.inference_mode():
            for f in features:
                decoder(f)

    seconds = in_turn(
        {
            "encoder's forward": run_encoder,
            "decoder's forward": run_decoder,
            "score_samples, arrays": lambda: detector.score_samples(arrays),
            "score_samples, PNG files": lambda: detector.score_samples(test.images),
            "detect, arrays": lambda: detector.detect(arrays),
        },
        rounds,
    )
    row = {name: 1000 * s / n for name, s in seconds.items()}
    networks = row["encoder's forward"] + row["decoder's forward"]
    row["ratio, arrays"] = row["score_samples, arrays"] / networks
    row["ratio, PNG files"] = row["score_samples, PNG files"] / networks
    return row


def engine_times(weights, rounds):
    x = torch.rand(16, 3, 256, 256)
    row = {}
    for name, given in (("tf_efficientnet_lite0", "imagenet"), ("resnet18", weights)):
        pyramids = {e: FeaturePyramid(name, weights=given, engine=e) for e in ("onnx", "torch")}
        seconds = in_turn({e: lambda p=p: p(x) for e, p in pyramids.items()}, rounds)
        row.update(
            {f"{name}, {engine}, ms an image": 1000 * s / 16 for engine, s in seconds.items()}
        )
        first = [float(subprocess.check_output([*FIRST, name, str(given)])) for _ in range(5)]
        row[f"{name}, built and run once, s"] = float(np.median(first))
    return row


def import_times(runs):
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    row = {}
    for module in ("skanomaly", "skanomaly.base"):
        command = [sys.executable, "-c", code.format(module)]
        times = [float(subprocess.check_output(command)) for _ in range(runs)]
        row[f"import {module}, s"] = float(np.median(times))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    train, test = (
        load_mvtec_ad(arguments.data, "bottle", split=split) for split in ("train", "test")
    )
    results = Results("speed")
    results["import"] = import_times(7)
    results["engines"] = engine_times(arguments.resnet18_weights, arguments.rounds)
    detector, fits = fit_times(train, arguments.fits)
    results["fit"] = {"fit, 209 images, s": fits["median_s"], "each": fits["all_s"]}
    scoring = scoring_times(detector, test, arguments.rounds)
    results["scoring"] = {
        f"{name}, ms an image" if "ratio" not in name else name: value
        for name, value in scoring.items()
    }
    lines = [
        [group, name, f"{value:.3g}"]
        for group, row in results.rows.items()
        for name, value in row.items()
        if not isinstance(value, list)
    ]
    results.write_table(
        "Speed",
        "python benchmarks/speed.py",
        "Default detector (`tf_efficientnet_lite0`, 256x256) on MVTec AD's *bottle* (209 training, "
        "83 test images, 256x256). The ratios are scoring's time to that of the encoder's and the "
        "decoder's forward passes alone. Medians of functions called in turn.",
        ["group", "what", "median"],
        lines,
    )


if __name__ == "__main__":
    main()
