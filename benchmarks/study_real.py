"""Patch auto-encoders on real textures: errors and units, scales, augmentation, the latent's size.

Held-out images are the same for all settings of a seed. What concerns scoring alone is compared on
one fit, calibrated anew on them.
"""

import argparse

import numpy as np
from _common import (
    DATA_NOTES,
    METRICS,
    PAPERS,
    Results,
    as_arrays,
    data_arguments,
    figures_of,
    fit,
    grouped,
    load_split,
    roots_of,
    spreads,
)
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch
from tqdm import tqdm

from skanomaly import PatchLatentSVM, PatchReconstruction, PatchRestoration
from skanomaly.metrics import pixel_average_precision_score

CATEGORIES = ("leather_tile", *PAPERS)
ALL_METRICS = (*METRICS, "AUPRC")
SIZES = {"leather_tile": 256, **dict.fromkeys(PAPERS, 128)}


def turned(images, rng):
    """Each image in its four quarter turns, mirrored or not at random."""
    turns = [np.rot90(x, k) for x in images for k in range(4)]
    return [np.ascontiguousarray(x[:, ::-1] if rng.random() < 0.5 else x) for x in turns]


def relit(images, rng):
    """Each image and three copies of other brightness and contrast."""
    copies = list(images)
    for x in images:
        for _ in range(3):
            contrast, brightness = rng.uniform(0.8, 1.2), rng.uniform(-0.1, 0.1)
            values = 0.5 + contrast * (x / 255 - 0.5) + brightness
            copies.append((255 * values.clip(0, 1)).round().astype(np.uint8))
    return copies


def as_they_are(images, rng):
    return images


class Both:
    """Two detectors side by side, whose maps are in deviations and are averaged."""

    def __init__(self, *detectors):
        self.detectors = detectors

    def fit(self, X, X_val):
        for detector in self.detectors:
            detector.fit(X, X_val=X_val)

    def get_params(self):
        return {}

    def detect(self, X):
        maps = np.mean([detector.transform(X) for detector in self.detectors], axis=0)
        return Bunch(maps=maps, scores=-maps.max(axis=(1, 2)))


def two_scales(size, seed):
    return Both(PatchReconstruction(random_state=seed), half_size(size, seed))


def one(cls, **parameters):
    return lambda _, seed: cls(random_state=seed, **parameters)


def half_size(size, seed):
    return PatchReconstruction(random_state=seed, image_size=size // 2)


UNITS = {
    f"{error} error{of}": {"error": error} | units
    for error in ("squared", "ssim")
    for of, units in ((" in own units", {"standardize": None}), ("", {"standardize": "position"}))
}
ONE = {"default": {}}
ERRORS = ONE | UNITS
SETTINGS = {
    "PatchReconstruction": (
        one(PatchReconstruction),
        as_they_are,
        ERRORS
        | {
            "own units": {"standardize": None},
            "smoothing 1": {"smoothing": 1.0},
        },
    ),
    "PatchReconstruction of every pixel's patch": (
        one(PatchReconstruction, stride=1),
        as_they_are,
        ONE,
    ),
    "PatchReconstruction at half the size": (half_size, as_they_are, ONE),
    "PatchReconstruction at both sizes": (two_scales, as_they_are, ONE),
    "PatchReconstruction of turned images": (one(PatchReconstruction), turned, ONE),
    "PatchReconstruction of relit images": (one(PatchReconstruction), relit, ONE),
    "PatchReconstruction with a latent of 4 channels": (
        one(PatchReconstruction, channels=(3, 4, 12, 4)),
        as_they_are,
        ONE,
    ),
    "PatchReconstruction trained three times as long": (
        one(PatchReconstruction, n_patches=3000, max_epochs=60),
        as_they_are,
        ONE,
    ),
    "PatchLatentSVM": (
        one(PatchLatentSVM),
        as_they_are,
        {**ONE, "own units": {"standardize": None}},
    ),
    **{
        f"PatchLatentSVM on patches of {p}": (
            one(PatchLatentSVM, svm_patch_sizes=(p,)),
            as_they_are,
            ONE,
        )
        for p in (27, 63)
    },
    "PatchRestoration": (one(PatchRestoration), as_they_are, ERRORS),
}
NOTES = f"""Defaults but for what is named; "own units" is `standardize=None`. "Squared error in
own units" is near to the paper's map of PatchReconstruction, "ssim error in own units" to that of
PatchRestoration. "Turned" is trained on four quarter turns of each image, mirrored at random;
"relit" on each image and three copies of other brightness and contrast: both train four times as
long. "At both sizes" averages the maps, in deviations, of two detectors. Mean ± standard deviation
over seeds; "fit" is the median, with other work on the machine.

{DATA_NOTES}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", choices=SIZES, default=list(CATEGORIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    arguments = parser.parse_args()
    results = Results("study_real")
    jobs = [
        (seed, category, root, name)
        for seed in arguments.seeds
        for name in arguments.settings
        for category, root in roots_of(arguments, arguments.categories).items()
        if any(f"{category}, {name}, {v}, seed {seed}" not in results for v in SETTINGS[name][2])
    ]
    for seed, category, root, name in tqdm(jobs):
        make, prepared, variants = SETTINGS[name]
        train, test = load_split(root, category)
        learnt, held_out = train_test_split(
            as_arrays(train.images), test_size=0.2, random_state=seed
        )
        detector = make(SIZES[category], seed)
        fit_s = fit(detector, prepared(learnt, np.random.default_rng(seed)), X_val=held_out)
        defaults = detector.get_params()
        for variant, parameters in variants.items():
            if parameters:
                detector.set_params(**parameters).calibrate(held_out)
            found = detector.detect(test.images)
            results[f"{category}, {name}, {variant}, seed {seed}"] = {
                **figures_of(test, found),
                "AUPRC": pixel_average_precision_score(test.masks, found.maps),
                "fit_s": fit_s,
            }
            if parameters:
                detector.set_params(**{key: defaults[key] for key in parameters})
    results.write_table(
        "Patch auto-encoders on real textures",
        "python benchmarks/study_real.py",
        NOTES,
        ["category", "detector", "setting", "seeds", *ALL_METRICS, "fit"],
        [
            [*key, len(rows), *spreads(rows, ALL_METRICS), f"{fit_median(rows):.0f} s"]
            for key, rows in grouped(results.rows, 3)
        ],
    )


def fit_median(rows):
    return np.median([row["fit_s"] for row in rows])


if __name__ == "__main__":
    main()
