"""Detectors that grow: four parts merged, and a stream of single images, against one fit."""

import argparse
import time
import warnings
from functools import partial

import numpy as np
from _common import (
    DATA_NOTES,
    METRICS,
    Results,
    as_arrays,
    backbones,
    figures_of,
    fit,
    grouped,
    load_split,
    made,
    roots_of,
    run_arguments,
    spread,
)
from tqdm import tqdm

from skanomaly import PaDiM, PatchCore, SubspaceAD, merge_detectors
from skanomaly.exceptions import ThresholdWarning

DETECTORS = {
    "PaDiM": PaDiM,
    "SubspaceAD": SubspaceAD,
    "PatchCore(coreset=0.1)": PatchCore,
    "PatchCore(coreset=10_000)": partial(PatchCore, coreset=10_000),
}
N_PARTS = 4
VALIDATION_SHARE = 0.2
DIFFERENCES = ("map", "largest map", "threshold")
NOTES = f"""The training images in random order: {VALIDATION_SHARE:.0%} are `X_val`, which sets
thresholds and units of maps, the others are learnt from, by

- "whole": one fit on all of them;
- "merged": {N_PARTS} detectors, each fitted on a {N_PARTS}th of the images and of `X_val`, made one
  by `merge_detectors`;
- "stream": a fit on the first images (`--first`) with as many of `X_val`, then `partial_fit` with
  the others, one by one.

"calibrated" is the same detector after `calibrate(X_val)`, as is what it is compared with: there
differences are of what was learnt alone. "map" is the root of the mean squared difference of the
test images' maps from those of "whole", as a share of the deviation of these; "largest map" the
largest one, as a share of the largest deviation from their mean. "threshold" is by how much
`offset_` is higher than of "whole", in standard deviations of its scores of `X_val`; "flagged" the
share of the good test images that is called anomalous, at the default rate of 5 %. "fit" is the
fit, all fits of parts with their merging, or the whole stream; "an image" the median time of a
`partial_fit`, and of its last ten. Mean ± standard deviation over seeds, medians of times.

{DATA_NOTES}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(3), categories=["bottle"])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--first", type=int, default=10, help="images that a stream starts with")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ThresholdWarning)  # parts hold few images
    results = Results("growing")
    for category, root in roots_of(arguments, arguments.categories).items():
        jobs = [
            (name, backbone, seed)
            for seed in arguments.seeds
            for backbone in arguments.backbones
            for name in arguments.detectors
            if f"{name}, stream calibrated, {backbone}, {category}, seed {seed}" not in results
        ]
        train, test = load_split(root, category) if jobs else (None, None)
        for name, backbone, seed in tqdm(jobs, desc=category):
            make = partial(
                made, DETECTORS[name], **backbones(arguments)[backbone], random_state=seed
            )
            for state, row in measured(make, train.images, test, seed, arguments.first):
                results[f"{name}, {state}, {backbone}, {category}, seed {seed}"] = row
    write(results)


def measured(make, images, test, seed, n_first):
    """Yield (state, row) of the whole, the merged and the stream, the last one calibrated."""
    order = np.random.default_rng(seed).permutation(len(images))
    n_validation = round(VALIDATION_SHARE * len(images))
    X_val, X = (as_arrays(images[part]) for part in np.split(order, [n_validation]))
    X_test = as_arrays(test.images)
    whole = make()
    times = {"fit_s": fit(whole, X, X_val=X_val)}
    yield "whole", row_of(whole, whole, X_test, test) | times
    states = {"merged": merged(make, X, X_val), "stream": streamed(make, X, X_val, n_first)}
    for state, (detector, times) in states.items():
        yield state, row_of(detector, whole, X_test, test) | times
    whole.calibrate(X_val)  # for rounding alone, as these are what set it
    for state, (detector, _) in states.items():
        row = row_of(detector.calibrate(X_val), whole, X_test, test)
        yield f"{state} calibrated", row


def merged(make, X, X_val):
    start = time.perf_counter()
    parts = [make().fit(X[i::N_PARTS], X_val=X_val[i::N_PARTS]) for i in range(N_PARTS)]
    detector = merge_detectors(parts)
    return detector, {"fit_s": time.perf_counter() - start}


def streamed(make, X, X_val, n_first):
    start = time.perf_counter()
    detector = make().fit(X[:n_first], X_val=X_val[:n_first])
    seconds = []
    for image in X[n_first:]:
        began = time.perf_counter()
        detector.partial_fit([image])
        seconds.append(time.perf_counter() - began)
    return detector, {"fit_s": time.perf_counter() - start, "partial_fit_s": seconds}


def row_of(detector, whole, X_test, test):
    found, expected = detector.detect(X_test), whole.detect(X_test)
    maps, of_whole = (np.concatenate([m.ravel() for m in d.maps]) for d in (found, expected))
    difference = maps - of_whole
    return {
        **figures_of(test, found),
        "map": float(np.sqrt(np.mean(np.square(difference))) / of_whole.std()),
        "largest map": float(np.abs(difference).max() / np.abs(of_whole - of_whole.mean()).max()),
        "threshold": float((detector.offset_ - whole.offset_) / whole.validation_scores_.std()),
        "flagged": float(np.mean(found.labels[test.target == 1] == -1)),
    }


def write(results):
    lines = []
    for key, rows in grouped(results.rows, 4):
        seconds = [row["partial_fit_s"] for row in rows if "partial_fit_s" in row]
        fits = [row["fit_s"] for row in rows if "fit_s" in row]
        lines.append(
            [
                *key,
                len(rows),
                *(f"{np.mean([row[d] for row in rows]):.1e}" for d in DIFFERENCES),
                *(spread([row[m] for row in rows]) for m in (*METRICS, "flagged")),
                f"{np.median(fits):.1f} s" if fits else "",
                len(seconds[0]) if seconds else "",
                f"{np.median(np.concatenate(seconds)):.3f} s" if seconds else "",
                f"{np.median([s[-10:] for s in seconds]):.3f} s" if seconds else "",
            ]
        )
    results.write_table(
        "Growing",
        "python benchmarks/growing.py",
        NOTES,
        [
            *("detector", "state", "backbone", "category", "seeds", *DIFFERENCES, *METRICS),
            *("flagged", "fit", "streamed", "an image", "the last ten"),
        ],
        lines,
    )


if __name__ == "__main__":
    main()
