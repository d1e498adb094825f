"""What detectors on pretrained features cost and give on one category, by their settings.

Each setting runs in a fresh process; settings take turns, one round for each seed.
"""

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
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
    memory_and_subspace,
    peak_MiB,
    roots_of,
    run_arguments,
    spreads,
)
from tqdm import tqdm

from skanomaly import SPADE, PaDiM, PatchCore, SubspaceAD, make_ensemble

BATCH_SIZE = 16
N_SINGLE = 20
CORESETS = (0.1, 0.05, 0.02, 0.01)
SETTINGS = {
    **{f"PatchCore(coreset={share})": partial(PatchCore, coreset=share) for share in CORESETS},
    "SubspaceAD": SubspaceAD,
    "make_ensemble()": make_ensemble,
    "memory + subspace": memory_and_subspace,
    "memory(coreset=0.01) + subspace": partial(memory_and_subspace, coreset=0.01),
    "SPADE": SPADE,
    "PaDiM": PaDiM,
}
NOTES = f"""Training and test images as arrays in memory; defaults but for what is named, on all
cores that the machine facts state. "an image" is `score_samples` of all test images, in batches of
{BATCH_SIZE}, divided by their number, after a first pass that warms up; "one by one" the median of
{N_SINGLE} single images. "peak" is the most resident memory of the process after the fit, libraries
and images included, "peak, scoring" the same after all. Each setting ran in a fresh process of its
own for each seed, the settings taking turns: medians of times and memory, mean ± standard
deviation of accuracy.

{DATA_NOTES}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(3), categories=["bottle"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    results = Results("memory_speed")
    jobs = [
        (key, setting, backbones(arguments)[backbone], root, category, seed)
        for category, root in roots_of(arguments, arguments.categories).items()
        for backbone in arguments.backbones
        for seed in arguments.seeds
        for setting in arguments.settings
        if (key := f"{category}, {backbone}, {setting}, seed {seed}") not in results
    ]
    fresh = multiprocessing.get_context("spawn")
    for key, *job in tqdm(jobs):
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            results[key] = process.submit(measured, *job).result()
    write(results)


def measured(setting, encoder, root, category, seed):
    """What one setting costs and gives."""
    train, test = load_split(root, category)
    X, X_test = as_arrays(train.images), as_arrays(test.images)
    detector = made(SETTINGS[setting], **encoder, random_state=seed, batch_size=BATCH_SIZE)
    row = {"fit_s": fit(detector, X), "fit_MiB": peak_MiB()}
    row |= figures_of(test, detector.detect(X_test))  # which warms up
    start = time.perf_counter()
    detector.score_samples(X_test)
    row["score_ms"] = 1000 * (time.perf_counter() - start) / len(X_test)
    single = []
    for image in X_test[:N_SINGLE]:
        start = time.perf_counter()
        detector.score_samples([image])
        single.append(1000 * (time.perf_counter() - start))
    return row | {"single_ms": float(np.median(single)), "peak_MiB": peak_MiB()}


def write(results):
    figures = {
        "fit": ("fit_s", "{:.1f} s"),
        "an image": ("score_ms", "{:.1f} ms"),
        "one by one": ("single_ms", "{:.1f} ms"),
        "peak": ("fit_MiB", "{:.0f} MiB"),
        "peak, scoring": ("peak_MiB", "{:.0f} MiB"),
    }
    results.write_table(
        "Cost and accuracy of memories and subspaces",
        "python benchmarks/memory_speed.py",
        NOTES,
        ["category", "backbone", "setting", "seeds", *figures, *METRICS],
        [
            [
                *key,
                len(rows),
                *(f.format(np.median([row[k] for row in rows])) for k, f in figures.values()),
                *spreads(rows),
            ]
            for key, rows in grouped(results.rows, 3)
        ],
    )


if __name__ == "__main__":
    main()
