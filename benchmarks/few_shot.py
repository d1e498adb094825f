"""Accuracy from 1, 2, 4 and 8 good images: ten draws of them from each category, resumable."""

import argparse
import itertools
from functools import partial

import numpy as np
from _common import (
    DATA_NOTES,
    DEVELOPMENT,
    METRICS,
    Results,
    as_arrays,
    backbones,
    figures_of,
    fit,
    grouped,
    load_split,
    made,
    means_over,
    memory_and_subspace,
    roots_of,
    run_arguments,
    spreads,
)
from tqdm import tqdm

from skanomaly import PaDiM, PatchCore, SubspaceAD

DETECTORS = {
    "PatchCore": partial(PatchCore, coreset=1.0),
    "PatchCore with 8 rotations": partial(PatchCore, coreset=1.0, n_rotations=8),
    "SubspaceAD": SubspaceAD,
    "memory + subspace": memory_and_subspace,
    "PaDiM": PaDiM,
}
NOTES = f"""Detectors that were fitted on so many of the category's training images, drawn at
random, and judged on its whole test split. A draw's 2 images are its first and another one, and so
on, and all detectors see the same draws. Mean ± standard deviation over draws (seeds), which is of
what a user meets who has other images of the same part. PatchCore keeps all patches
(`coreset=1.0`), "with 8 rotations" is `n_rotations=8`, "memory + subspace" is `make_ensemble()`
without its LocalContrast; all else is the default. "median fit"
includes the fits that hold images out in turn. What all training images give is in accuracy.md.

{DATA_NOTES}"""


def drawn(n, shots, draw):
    """Which of n training images a draw's detectors see."""
    return np.random.default_rng(draw).permutation(n)[:shots]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(10))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    results = Results("few_shot")
    for category, root in roots_of(arguments, arguments.categories).items():
        jobs = [
            (key, *job)
            for job in itertools.product(
                arguments.seeds, arguments.shots, arguments.backbones, arguments.detectors
            )
            if (key := key_of(category, *job)) not in results
        ]
        train, test = load_split(root, category) if jobs else (None, None)
        X_test = as_arrays(test.images) if jobs else None
        for key, draw, shots, backbone, name in tqdm(jobs, desc=category):
            detector = made(DETECTORS[name], **backbones(arguments)[backbone], random_state=draw)
            fit_s = fit(detector, train.images[drawn(len(train.images), shots, draw)])
            results[key] = figures_of(test, detector.detect(X_test)) | {"fit_s": fit_s}
    write(results)


def key_of(category, draw, shots, backbone, name):
    return f"{shots}, {name}, {backbone}, {category}, seed {draw}"


def write(results):
    header = ["good images", "detector", "backbone"]
    by_category = grouped(results.rows, 4)
    means = sorted(means_over(results.rows, DEVELOPMENT, at=3).items())
    results.write_tables(
        "Accuracy from few images",
        "python benchmarks/few_shot.py",
        NOTES,
        {
            "Means over the six development categories": (
                [*header, "draws", *METRICS],
                [[*key, len(rows), *spreads(rows)] for key, rows in means],
            ),
            "Each category": (
                [*header, "category", "draws", *METRICS, "median fit"],
                [
                    [
                        *key,
                        len(rows),
                        *spreads(rows),
                        f"{np.median([row['fit_s'] for row in rows]):.1f} s",
                    ]
                    for key, rows in by_category
                ],
            ),
        },
    )


if __name__ == "__main__":
    main()
