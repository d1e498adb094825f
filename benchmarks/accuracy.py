"""Accuracy: detectors x categories x backbones x seeds, resumable.

A category is any folder in MVTec AD's layout, or one class of a classification data set
(`--one-class`), which is then normal and the others anomalous.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import (
    BACKBONES,
    DATA_NOTES,
    DEVELOPMENT,
    NO_BACKBONE,
    Results,
    backbones,
    figures_of,
    fit,
    grouped,
    has_backbone,
    load_split,
    made,
    means_over,
    memory_and_subspace,
    roots_of,
    run_arguments,
    spread,
    spreads,
    untrained,
    with_scores_by,
)
from _one_class import DATA_SETS, METHODS, run_one_class
from sklearn.ensemble import IsolationForest
from tqdm import tqdm

from skanomaly import (
    ConvAE,
    FastFlow,
    FeatureOutlierDetector,
    HierarchicalFeatureAE,
    PatchAE,
    PatchCore,
    PatchLatentSVM,
    PatchReconstruction,
    PatchRestoration,
    SelfSupervisedAE,
    SubspaceAD,
    make_ensemble,
)
from skanomaly._holdout import hold_out
from skanomaly.images import ImageDataset
from skanomaly.metrics import pixel_average_precision_score
from skanomaly.synthesis import DefectGenerator
from skanomaly.utils import all_detectors

NO_DEFECTS = DefectGenerator(opacity=(0, 0))


class UntouchedFeatures(PatchAE):
    """PatchAE's memory on the pretrained features themselves: what its training has to beat."""

    def _vectors(self, pixels):
        return self._features(pixels)


def filtering(detector, images):
    """PSNR, against the clean image, of held-out normal images with drawn defects, and filtered."""
    random_state = np.random.RandomState(detector.random_state)
    held_out = hold_out(len(images), detector.validation_fraction, None, random_state)
    side = detector.image_size
    batches = ImageDataset(images, image_size=(side, side), indices=held_out).batches(8)
    errors = {("drawn", True): [], ("filtered", True): [], ("filtered", False): []}
    for i, batch in enumerate(batches):
        seeds = range(10**6 + 8 * i, 10**6 + 8 * i + len(batch.pixels))
        drawn, masks, _ = DefectGenerator().draw(batch.pixels, seeds)
        clean, drawn = (x.permute(0, 2, 3, 1).numpy() for x in (batch.pixels, drawn))
        filtered = detector.reconstruct(drawn).reshape(clean.shape)
        for name, inside in errors:
            error = np.square((filtered if name == "filtered" else drawn) - clean).mean(axis=3)
            errors[name, inside].append(error[masks.numpy() == inside])
    return {
        f"PSNR {name} {'inside' if inside else 'outside'}": float(
            -10 * np.log10(np.concatenate(values).mean())
        )
        for (name, inside), values in errors.items()
    }


class Entry(NamedTuple):
    """A detector that is measured."""

    make: Callable
    variants: dict = {"default": {}}  #: settings compared on one fit, as they concern scoring
    also: Callable = lambda detector, images: {}  #: further figures of a fitted detector


LABELS = {"HierarchicalFeatureAE": "HFR-AE"}  # in tables, where it is not the class's name
FURTHER = {
    "HierarchicalFeatureAE": {
        "variants": {
            "default": {},
            **{
                f"{weights}, unstandardised": {"level_weights": weights, "standardize": None}
                for weights in ("similarity", "area", "equal")
            },
        }
    },
    "SelfSupervisedAE": {"also": filtering},
}
NO_LEARNING = ("LocalContrast", "MedianDifference")  # the floor, which comes first
DETECTORS = {
    LABELS.get(name, name): Entry(make, **FURTHER.get(name, {}))
    for name, make in sorted(all_detectors(), key=lambda item: (item[0] not in NO_LEARNING, item))
}
COMPOSITES = {
    "make_ensemble()": Entry(make_ensemble),
    "memory + subspace": Entry(memory_and_subspace),
    "IsolationForest on features": Entry(partial(FeatureOutlierDetector, IsolationForest())),
}
AS_IN_THE_PAPER = {"standardize": None, "smoothing": 4.0}
BASELINES = {
    "ConvAE(loss='l2')": Entry(partial(ConvAE, loss="l2")),
    "HFR-AE as in the paper": Entry(
        partial(HierarchicalFeatureAE, level_weights="area", standardize=None, max_epochs=60)
    ),
    "FastFlow as in the paper": Entry(partial(FastFlow, n_steps=8, standardize=None)),
    "PatchLatentSVM as in the paper": Entry(
        partial(PatchLatentSVM, svm_patch_sizes=(63,), **AS_IN_THE_PAPER)
    ),
    "PatchReconstruction as in the paper": Entry(
        partial(PatchReconstruction, error="squared", stride=1, **AS_IN_THE_PAPER),
        {
            "mean squared": {},
            "central squared": {"aggregation": "center"},
            "mean SSIM, stride 3": {"aggregation": "mean", "error": "ssim", "stride": 3},
        },
    ),
    "PatchRestoration as in the paper": Entry(
        partial(PatchRestoration, error="ssim", **AS_IN_THE_PAPER)
    ),
    "SelfSupervisedAE as in the paper": Entry(
        partial(SelfSupervisedAE, error="squared", standardize=None)
    ),
    "PatchCore(coreset=0.01)": Entry(partial(PatchCore, coreset=0.01)),
    "PatchCore(layers 1 2 3; 10000 patches)": Entry(
        partial(PatchCore, layers=(1, 2, 3), coreset=10_000)
    ),
    "PatchCore(neighborhood=1)": Entry(partial(PatchCore, neighborhood=1)),
    "PatchCore(pool_levels=True)": Entry(partial(PatchCore, pool_levels=True)),
    "PatchCore(scale_levels=False)": Entry(partial(PatchCore, scale_levels=False)),
    "PatchCore(standardize=None)": Entry(partial(PatchCore, standardize=None)),
    "SubspaceAD(standardize=None)": Entry(partial(SubspaceAD, standardize=None)),
    "untouched features": Entry(partial(UntouchedFeatures, max_epochs=1)),
    "SelfSupervisedAE without skip": Entry(partial(SelfSupervisedAE, skip=False), also=filtering),
    "SelfSupervisedAE without defects": Entry(partial(SelfSupervisedAE, defects=NO_DEFECTS)),
    "SelfSupervisedAE without defects and skip": Entry(
        partial(SelfSupervisedAE, error="squared", defects=NO_DEFECTS, skip=False)
    ),
}
UNTRAINED = {
    f"{name} untrained": Entry(partial(untrained, entry.make))
    for name, entry in DETECTORS.items()
    if "lr" in entry.make().get_params()
}
MEASURED = DETECTORS | COMPOSITES | BASELINES | UNTRAINED
METRICS = ("image AUROC", "pixel AUROC", "AUPRO", "AUPRC")

# Image AUROC / pixel AUROC / AUPRO that the paper prints (arXiv 2405.09148, tables 1, 3
# and 4; official test split; the resolution is not stated).
PAPERS = {
    ("HFR-AE as in the paper", "bottle", "resnet18"): "1.000 / .974 / .914",
    ("HFR-AE as in the paper", "grid", "resnet18"): ".976 / .980 / .933",
}
NOTES = f"""Images reach the network at 256x256, those of the detectors on patch auto-encoders
(PatchReconstruction, PatchLatentSVM, PatchRestoration) at their own size; maps are scored at the
images' own size. Mean ± standard deviation over seeds, of the detector's default settings but for
what is named. {" and ".join(NO_LEARNING)}, which stand first, need no learning and are the floor.
For HFR-AE "area" and "equal" are `level_weights`: the paper's eq. 9, and its sum without the
factor 1/(w h), both with `standardize=None`; they take no second fit. The papers' columns are the
papers' own figures, on the official splits, with the backbone of the row; Patch AE's and the
self-supervised paper print only means over all categories (image AUROC .9948; image / pixel AUROC
.998 / .992).

{DATA_NOTES}

"make_ensemble()" is that of PatchCore, SubspaceAD and LocalContrast, "memory + subspace" the same
without the last, "IsolationForest on features" a `FeatureOutlierDetector` with its defaults. Of
fewer than 100 training images (leather tiles, papers) detectors that learn in one pass learn from
all, others from four fifths. "untouched features" is PatchAE's memory on the pretrained features
themselves, joined, scaled and averaged as for PatchAE. "untrained" is a detector whose training
moves no weight, as its rate is lost in rounding: what is left is the network as it starts, with its
normalisation's statistics and the units of maps found on the same images. "SelfSupervisedAE
without defects and skip" is the same network, trained as long to give back normal images. It has to
do without the connection from input to output, with which it would be the identity from the start
and its map zero. Other work ran on the machine: times are no more than bounds (see
costs.md).

"As in the paper" are a method's own maps (`standardize=None`, and where there were others defaults
of then: the level weights of eq. 9, eight couplings, squared errors, SSIM). Their rows and those of
"SelfSupervisedAE without defects and skip" are of a run on 2026-11-23, when patch auto-encoders
were trained patch by patch, and other numbers were drawn of a seed. "PatchCore(pool_levels=True)"
averages neighbours as the paper does.

Means over the categories are those of the detectors that were measured in all six, over the seeds
that all have."""


def run_mvtec(arguments):
    results = Results("accuracy")
    measure(results, arguments)
    write_filtering(results)
    write_accuracy(results)


def measure(results, arguments):
    """Fit and score whatever has no row yet."""
    epochs = {} if arguments.max_epochs is None else {"max_epochs": arguments.max_epochs}
    suffix = f" ({arguments.max_epochs} epochs)" if epochs else ""
    roots = roots_of(arguments, arguments.categories)
    jobs = [
        (name, category, backbone, seed)
        for seed in arguments.seeds
        for name in arguments.detectors
        for backbone in (
            arguments.backbones if has_backbone(MEASURED[name].make) else [NO_BACKBONE]
        )
        for category in roots
        if any(
            f"{name}, {category}, {backbone}{suffix}, {variant}, seed {seed}" not in results
            for variant in MEASURED[name].variants
        )
    ]
    for name, category, backbone, seed in tqdm(jobs):
        make, variants, also = MEASURED[name]
        train, test = load_split(roots[category], category)
        chosen = backbones(arguments).get(backbone, {})
        detector = made(make, **chosen, **epochs, random_state=seed)
        fit_s = fit(detector, train.images)
        further = also(detector, train.images)
        for variant, parameters in variants.items():
            found = with_scores_by(detector, parameters).detect(test.images)
            results[f"{name}, {category}, {backbone}{suffix}, {variant}, seed {seed}"] = {
                **figures_of(test, found),
                "AUPRC": pixel_average_precision_score(test.masks, found.maps),
                "fit_s": fit_s,
                **further,
            }


def write_accuracy(results):
    """The tables of means over the categories, and of each category."""
    means = means_over(results.rows, DEVELOPMENT, at=1)
    results.write_tables(
        "Accuracy",
        "python benchmarks/accuracy.py; the rows of 100 epochs: "
        "python benchmarks/accuracy.py --categories grid --backbones resnet18 --max-epochs 100",
        NOTES,
        {
            "Means over the six development categories": (
                ["detector", "backbone", "setting", "seeds", *METRICS],
                [
                    [*key[:3], len(rows), *spreads(rows, METRICS)]
                    for key, rows in floor_first(means.items())
                ],
            ),
            "Each category": (
                [
                    *("detector", "category", "backbone", "setting", "seeds"),
                    *METRICS,
                    *("median fit", "paper"),
                ],
                [
                    [
                        *key,
                        len(rows),
                        *spreads(rows, METRICS),
                        f"{np.median([row['fit_s'] for row in rows]):.0f} s",
                        PAPERS.get((key[0], key[1], key[2].split(" ")[0]), ""),
                    ]
                    for key, rows in floor_first(grouped(results.rows, 4))
                ],
            ),
        },
    )


def floor_first(groups):
    """Groups of rows in order, what needs no learning first."""
    return sorted(groups, key=lambda group: (group[0][0] not in NO_LEARNING, group[0]))


def write_filtering(results):
    """The table of what `filtering` found."""
    figures = ("PSNR drawn inside", "PSNR filtered inside", "PSNR filtered outside")
    lines = [
        [*key[:2], len(rows), *(spread([row[f] for row in rows], ".1f") for f in figures)]
        for key, rows in grouped(results.rows, 4)
        if all(figures[0] in row for row in rows)
    ]
    if not lines:
        return
    Results("filtering").write_table(
        "What the filter does to drawn defects",
        "python benchmarks/accuracy.py --detectors SelfSupervisedAE",
        """Normal images that were kept out of training, at 256x256, with drawn defects of the
types it was trained with (other ones of them). Peak signal-to-noise ratio, in dB, against the
image without defects: within the defects as they were drawn and as the filter leaves them, and of
what the filter leaves of the rest. Over all pixels; mean ± standard deviation over seeds.""",
        ["detector", "category", "seeds", "drawn, inside", "filtered, inside", "filtered, outside"],
        lines,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(3))
    parser.set_defaults(backbones=list(BACKBONES))
    parser.add_argument(
        "--detectors",
        nargs="+",
        metavar="NAME",
        help=f"of categories: {', '.join(MEASURED)}; of one class: {', '.join(METHODS)}",
    )
    parser.add_argument("--max-epochs", type=int, help="the default's unless given")
    parser.add_argument(
        "--one-class",
        nargs="+",
        choices=DATA_SETS,
        help="classification data sets to run instead of categories",
    )
    parser.add_argument(
        "--one-class-data", type=Path, help="folder of their folders; by default beside --data"
    )
    parser.add_argument("--max-train", type=int, help="most images of a class to learn from")
    parser.add_argument("--max-test", type=int, help="most images of the test split to score")
    arguments = parser.parse_args()
    if arguments.one_class_data is None:
        arguments.one_class_data = arguments.data.parent
    run, known, chosen = run_mvtec, MEASURED, [*DETECTORS, *COMPOSITES]
    if arguments.one_class:
        run, known, chosen = run_one_class, METHODS, [*METHODS]
    arguments.detectors = arguments.detectors or chosen
    unknown = [name for name in arguments.detectors if name not in known]
    if unknown:
        parser.error(f"--detectors: {unknown[0]!r} is none of {', '.join(known)}")
    run(arguments)


if __name__ == "__main__":
    main()
