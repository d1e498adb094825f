"""Defects of a few pixels: finer levels, larger images and less smoothing of a memory's map.

A grid of settings on the two papers, beside what needs no learning; then the best of them, by
the mean AUPRO of both, on the other categories, beside the default.
"""

import argparse
import itertools
import time

import numpy as np
from _common import (
    DATA_NOTES,
    DEVELOPMENT,
    METRICS,
    NO_BACKBONE,
    PAPERS,
    Results,
    as_arrays,
    backbones,
    figures_of,
    fit,
    grouped,
    load_split,
    made,
    means_over,
    roots_of,
    run_arguments,
    spreads,
    with_scores_by,
)
from tqdm import tqdm

from skanomaly import LocalContrast, PatchCore, make_ensemble

LAYERS = ((1,), (1, 2), (0, 1))
IMAGE_SIZES = (256, 512)
SMOOTHINGS = (1.0, 2.0, 4.0)
CORESET = 10_000
FLOOR, DEFAULT = "LocalContrast", "default"
GRID = {
    f"layers {' '.join(map(str, layers))}; {size}": {
        "layers": layers,
        "image_size": size,
        "coreset": CORESET,
    }
    for layers, size in itertools.product(LAYERS, IMAGE_SIZES)
}
WITH_FLOOR = f"layers 0 1 with {FLOOR}"
ENSEMBLES = {
    "make_ensemble()": {},
    "make_ensemble(detector_weights=(4; 1; 4))": {"detector_weights": (4, 1, 4)},
}
FITS = {FLOOR: {}, DEFAULT: {}, WITH_FLOOR: {}, **ENSEMBLES, **GRID}
NOTES = f"""PatchCore with {CORESET:,} patches, on levels of the pyramid ("layers"; level 0 has a
stride of 2, 1 of 4, 2 of 8), at sides of the images in pixels, with the map's `smoothing` in these;
"default" is PatchCore as it is, "LocalContrast" what needs no learning, as it is; with it, an
ensemble of both by p-values, at 256 with a smoothing of 1; "make_ensemble()" what to start with,
and with more weight on its LocalContrast. On the papers all settings, on other categories the best
one of the grid by the mean AUPRO of both papers, the ensembles and the defaults.
Mean ± standard deviation over seeds; of one seed there is none. "an image" is the time of `detect`,
divided by the number of images; other work may have run beside.

{DATA_NOTES}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=[0])
    parser.add_argument("--fits", nargs="+", choices=FITS, default=list(FITS))
    parser.add_argument(
        "--chosen", help="setting that is tried on other categories; the best one unless given"
    )
    arguments = parser.parse_args()
    results = Results("tiny_defects")
    roots = roots_of(arguments, arguments.categories)
    for category in set(PAPERS) & set(roots):
        for fitted in arguments.fits:
            run(results, category, roots[category], fitted, arguments)
    others = [category for category in roots if category not in PAPERS]
    chosen = (arguments.chosen or best(results)) if others else None
    for category in others:
        for fitted in (FLOOR, DEFAULT, *ENSEMBLES, chosen.rpartition("; ")[0]):
            run(results, category, roots[category], fitted, arguments)
    write(results)


def run(results, category, root, fitted, arguments):
    """Measure one fit, with each smoothing if it is of the grid."""
    make = {FLOOR: LocalContrast, WITH_FLOOR: with_floor, **dict.fromkeys(ENSEMBLES, make_ensemble)}
    make = make.get(fitted, PatchCore)
    variants = {fitted: {}}
    if fitted in GRID:
        variants = {f"{fitted}; smoothing {s:g}": {"smoothing": s} for s in SMOOTHINGS}
    jobs = [
        (backbone, seed)
        for backbone in ([NO_BACKBONE] if fitted == FLOOR else arguments.backbones)
        for seed in arguments.seeds
        if any(f"{v}, {backbone}, {category}, seed {seed}" not in results for v in variants)
    ]
    if not jobs:
        return
    train, test = load_split(root, category)
    X_test = as_arrays(test.images)
    for backbone, seed in tqdm(jobs, desc=f"{category}, {fitted}"):
        encoder = backbones(arguments).get(backbone, {})
        detector = made(make, **encoder, random_state=seed).set_params(**FITS[fitted])
        fit_s = fit(detector, train.images)
        for variant, parameters in variants.items():
            detector = with_scores_by(detector, parameters)
            start = time.perf_counter()
            found = detector.detect(X_test)
            score_ms = 1000 * (time.perf_counter() - start) / len(X_test)
            row = figures_of(test, found) | {"fit_s": fit_s, "score_ms": score_ms}
            results[f"{variant}, {backbone}, {category}, seed {seed}"] = row


def with_floor():
    """A memory of fine levels and the contrast of the pixels, as one."""
    memory = PatchCore(layers=(0, 1), coreset=CORESET)
    return make_ensemble(memory, LocalContrast(), combination="p_value", smoothing=1.0)


def best(results):
    """The setting of the grid with the highest mean AUPRO on both papers."""
    means = means_over(results.rows, PAPERS, at=2)
    aupro = {key[0]: np.mean([r["AUPRO"] for r in rows]) for key, rows in means.items()}
    of_grid = {name: value for name, value in aupro.items() if "; smoothing" in name}
    if not of_grid:
        raise SystemExit("nothing of the grid was measured on both papers; run those, or --chosen")
    return max(of_grid, key=of_grid.get)


def write(results):
    header = ["setting", "backbone"]
    means = {
        "Means over both papers": PAPERS,
        "Means over the six development categories": DEVELOPMENT,
    }
    tables = {
        heading: (
            [*header, "seeds", *METRICS],
            [
                [*key, len(rows), *spreads(rows)]
                for key, rows in sorted(means_over(results.rows, categories, at=2).items())
            ],
        )
        for heading, categories in means.items()
    }
    tables["Each category"] = (
        [*header, "category", "seeds", *METRICS, "fit", "an image"],
        [
            [
                *key,
                len(rows),
                *spreads(rows),
                f"{np.median([row['fit_s'] for row in rows]):.0f} s",
                f"{np.median([row['score_ms'] for row in rows]):.0f} ms",
            ]
            for key, rows in grouped(results.rows, 3)
        ],
    )
    results.write_tables("Tiny defects", "python benchmarks/tiny_defects.py", NOTES, tables)


if __name__ == "__main__":
    main()
