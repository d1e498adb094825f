"""Several products: a detector for each against one that is fitted on all, resumable."""

import argparse
import itertools
import warnings

import numpy as np
from _common import (
    DATA_NOTES,
    DEVELOPMENT,
    METRICS,
    Results,
    as_arrays,
    figures_of,
    grouped,
    load_split,
    means_over,
    roots_of,
    run_arguments,
    spreads,
)
from sklearn.utils import Bunch
from tqdm import tqdm

from skanomaly import ImageFiles, MultiProductDetector, PatchCore, SubspaceAD
from skanomaly.exceptions import ThresholdWarning

DETECTORS = {"PatchCore": PatchCore, "SubspaceAD": SubspaceAD}
EACH, ALL = "one for each", "one for all"
WAYS = (EACH, ALL)
N_TRAIN = 30
NOTES = f"""All categories' images in one set, in random order: {N_TRAIN} training images of each,
drawn at random (a seed), and whole test splits; all are read as colour, as one detector takes
images of one kind. "{EACH}" is `MultiProductDetector(detector)`, "{ALL}" the same detector fitted
on all training images at once, both with default parameters. Metrics are those of each category's
images, ranked among themselves. "flagged" is the share of good and of defective test images that
are called anomalous; the rate that is asked for, of good ones, is .05.

{DATA_NOTES}"""


def loaded(roots, seed):
    """Training images and test images of all categories, and the category of each."""
    train, of_train, tests = [], [], {}
    for name, root in roots.items():
        split = load_split(root, name)
        paths = split.train.images.paths
        chosen = np.random.default_rng(seed).permutation(len(paths))[:N_TRAIN]
        train += as_arrays(ImageFiles(paths[chosen], convert="rgb"))
        of_train += [name] * len(chosen)
        images = as_arrays(ImageFiles(split.test.images, convert="rgb"))
        tests[name] = Bunch(images=images, target=split.test.target, masks=split.test.masks)
    order = np.random.default_rng(seed).permutation(len(train))
    return [train[i] for i in order], [of_train[i] for i in order], tests


def judged(way, detector, train, of_train, tests):
    """What a way of fitting finds in the test images of each category."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ThresholdWarning)
        if way == EACH:
            detector = MultiProductDetector(detector).fit(train, product=of_train)
        else:
            detector.fit(train)
    for name, test in tests.items():
        product = {"product": name} if way == EACH else {}
        found = detector.detect(test.images, **product)
        flagged = {
            f"flagged {kind}": float(np.mean(found.labels[test.target == label] == -1))
            for kind, label in (("good", 1), ("defective", -1))
        }
        yield name, figures_of(test, found) | flagged


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=["PatchCore"])
    arguments = parser.parse_args()
    results = Results("products")
    roots = roots_of(arguments, arguments.categories)
    for seed in arguments.seeds:
        jobs = [
            job
            for job in itertools.product(WAYS, arguments.detectors)
            if not all(key_of(*job, category, seed) in results for category in roots)
        ]
        data = loaded(roots, seed) if jobs else None
        for way, name in tqdm(jobs, desc=f"seed {seed}"):
            for category, row in judged(way, DETECTORS[name](random_state=seed), *data):
                results[key_of(way, name, category, seed)] = row
    write(results)


def key_of(way, name, category, seed):
    return f"{name}, {way}, {category}, seed {seed}"


def write(results):
    metrics = [*METRICS, "flagged good", "flagged defective"]
    header = ["detector", "fitted"]
    means = sorted(means_over(results.rows, DEVELOPMENT, at=2).items())
    results.write_tables(
        "A detector for each of several products, and one for all",
        "python benchmarks/products.py",
        NOTES,
        {
            "Means over the six categories": (
                [*header, "seeds", *metrics],
                [[*key, len(rows), *spreads(rows, metrics)] for key, rows in means],
            ),
            "Each category": (
                [*header, "category", "seeds", *metrics],
                [
                    [*key, len(rows), *spreads(rows, metrics)]
                    for key, rows in grouped(results.rows, 3)
                ],
            ),
        },
    )


if __name__ == "__main__":
    main()
