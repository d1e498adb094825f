"""What a few real defects bring that are learnt from, on the others; resumable."""

import argparse
import itertools

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
    spreads,
)
from tqdm import tqdm

from skanomaly import SuperSimpleNet

CATEGORIES = ("bottle", "grid")
NOTES = f"""SuperSimpleNet with its defaults, fitted on the category's training images and on some
of its defective test images, drawn at random, all defect types together. It is judged on all of the
other test images: those of one seed are the same whatever was learnt from, `--defects` of them at
most left out, so that rows of a category and seed can be compared. "masks" are learnt from with
their masks, "labels" with the label alone. Mean ± standard deviation over seeds, each of which
draws other defects.

{DATA_NOTES}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(3), categories=CATEGORIES)
    parser.add_argument("--defects", nargs="+", type=int, default=[0, 5])
    parser.add_argument("--as", dest="kinds", nargs="+", choices=("masks", "labels"))
    arguments = parser.parse_args()
    arguments.kinds = arguments.kinds or ["masks", "labels"]
    results = Results("marked_defects")
    for category, root in roots_of(arguments, arguments.categories).items():
        jobs = [
            (key, *job)
            for job in itertools.product(
                arguments.seeds, arguments.backbones, arguments.defects, arguments.kinds
            )
            if (key := key_of(category, *job)) not in results
        ]
        train, test = load_split(root, category) if jobs else (None, None)
        known = as_arrays(train.images) if jobs else None
        new = as_arrays(test.images) if jobs else None
        for key, seed, backbone, n_defects, kind in tqdm(jobs, desc=category):
            if key in results:  # without defects both kinds are one
                continue
            drawn = np.random.default_rng(seed).permutation(np.flatnonzero(test.target == -1))
            learnt, left_out = drawn[:n_defects], drawn[: max(arguments.defects)]
            X = known + [new[i] for i in learnt]
            y = marks(train, test, learnt, kind)
            detector = made(SuperSimpleNet, **backbones(arguments)[backbone], random_state=seed)
            fit_s = fit(detector, X, y=y)
            judged = np.setdiff1d(np.arange(len(new)), left_out)
            found = detector.detect(new)
            results[key] = {**figures_of(test, found, judged), "fit_s": fit_s}
    write(results)


def marks(train, test, learnt, kind):
    """The truth of the training images and of some test images."""
    if not len(learnt):
        return None
    if kind == "labels":
        return [1] * len(train.images) + [-1] * len(learnt)
    blank = np.zeros_like(test.masks[learnt[0]])
    return [blank] * len(train.images) + [test.masks[i] for i in learnt]


def key_of(category, seed, backbone, n_defects, kind):
    kind = kind if n_defects else "none"
    return f"{category}, {backbone}, {n_defects}, {kind}, seed {seed}"


def write(results):
    results.write_table(
        "A few real defects, learnt from",
        "python benchmarks/marked_defects.py",
        NOTES,
        ["category", "backbone", "defects", "as", "seeds", *METRICS, "median fit"],
        [
            [
                *key,
                len(rows),
                *spreads(rows),
                f"{np.median([row['fit_s'] for row in rows]):.0f} s",
            ]
            for key, rows in grouped(results.rows, 4)
        ],
    )


if __name__ == "__main__":
    main()
