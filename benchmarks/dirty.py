"""Training sets with defects among them: what detectors lose, and whether an audit finds them.

A tenth of a category's training images is replaced: by themselves with a drawn defect, or by
real defective test images, which are then not tested with.
"""

import argparse
from functools import partial

import numpy as np
import torch
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
    spread,
    spreads,
)
from tqdm import tqdm

from skanomaly import LocalContrast, MedianDifference, PatchCore, SubspaceAD
from skanomaly.images import ImageDataset, resized
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator

DETECTORS = {
    "PatchCore": PatchCore,
    "PatchCore(robust=True)": partial(PatchCore, robust=True),
    "SubspaceAD": SubspaceAD,
    "memory + subspace": memory_and_subspace,
}
KINDS = ("drawn", "real")
TRIVIAL = {"LocalContrast": LocalContrast, "MedianDifference": MedianDifference}
SHARE = 0.1
NOTES = f"""{SHARE:.0%} of the training images, drawn anew for each seed, are replaced: by
themselves with one defect of the named types (scratch, crack, spot, ...) drawn onto them, or by
real defective images of the test split, which are then left out of it. "clean" was fitted on the
training images as they are and judged on the same test images; "lost" is clean minus dirty of the
same seed, so that what is below zero was gained. Mean ± standard deviation over seeds, defaults but
for what is named.

{DATA_NOTES}"""
AUDIT_NOTES = f"""Of as many images as were planted ({SHARE:.0%} of the training set), those that
an audit finds most suspect: the share that was planted. `audit_images` with its defaults, beside
`score_samples` of what needs no learning, fitted on the same images; chance is {SHARE}. Planted as
in dirty.md. Mean ± standard deviation over seeds.

{DATA_NOTES}"""


class Planted:
    """Training images of which some are defective, and what is left to test with."""

    def __init__(self, kind, train, test, seed):
        rng = np.random.default_rng(seed)
        self.images = list(train)
        n_planted = round(SHARE * len(train))
        self.places = rng.permutation(len(train))[:n_planted]
        self.tested = np.arange(len(test.target))
        if kind == "drawn":
            sources = rng.permutation(len(train))[:n_planted]
            for place, source in zip(self.places, sources):
                drawn = with_defect(train[place], train[source], rng.integers(2**31))
                self.images[place] = drawn
        else:
            chosen = rng.permutation(np.flatnonzero(test.target == -1))[:n_planted]
            self.tested = np.setdiff1d(self.tested, chosen)
            for place, i in zip(self.places, chosen):
                self.images[place] = test.images[i]

    def precision(self, scores):
        """Share of the planted among as many images that have the lowest scores."""
        suspects = np.argsort(scores, kind="stable")[: len(self.places)]
        return float(np.isin(suspects, self.places).mean())


def with_defect(image, source, seed):
    """An image with a drawn defect, in its own dtype; a foreign body comes from the source."""
    pixels, material = (ImageDataset([a])[0][None] for a in (image, source))
    material = resized(material, tuple(pixels.shape[2:])).clamp(0, 1)
    drawn = DefectGenerator(types=list(DEFECT_TYPES)).draw(pixels, [seed], material).images[0]
    white = np.iinfo(image.dtype).max
    drawn = torch.round(drawn * white).permute(1, 2, 0).numpy()
    return drawn.astype(image.dtype).reshape(image.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=range(3))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--only", choices=["detectors", "audit"], help="both unless given")
    arguments = parser.parse_args()
    for category, root in roots_of(arguments, arguments.categories).items():
        train, test = load_split(root, category)
        train = as_arrays(train.images)
        if arguments.only != "audit":
            judge(category, train, test, arguments)
        if arguments.only != "detectors":
            audit(category, train, test, arguments.seeds)
    write(Results("dirty"))
    write_audit(Results("dirty_audit"))


def judge(category, train, test, arguments):
    """Fit each detector on clean and on dirty images."""
    results = Results("dirty")
    jobs = [
        (name, backbone, seed)
        for seed in arguments.seeds
        for backbone in arguments.backbones
        for name in arguments.detectors
        if any(
            f"{kind}, {name}, {backbone}, {category}, seed {seed}" not in results for kind in KINDS
        )
    ]
    X_test = as_arrays(test.images) if jobs else None
    for name, backbone, seed in tqdm(jobs, desc=category):
        make = partial(made, DETECTORS[name], **backbones(arguments)[backbone], random_state=seed)
        found_clean = fitted(make(), train).detect(X_test)
        for kind in KINDS:
            planted = Planted(kind, train, test, seed)
            found = fitted(make(), planted.images).detect(X_test)
            clean, dirty = (figures_of(test, f, planted.tested) for f in (found_clean, found))
            results[f"{kind}, {name}, {backbone}, {category}, seed {seed}"] = {
                **{f"clean {m}": clean[m] for m in METRICS},
                **{f"lost {m}": clean[m] - dirty[m] for m in METRICS},
            }


def fitted(detector, images):
    fit(detector, images)
    return detector


def audit(category, train, test, seeds):
    """Let the audit and trivial scores look for what was planted."""
    from skanomaly import audit_images

    results = Results("dirty_audit")
    for seed in tqdm(seeds, desc=f"audit of {category}"):
        for kind in KINDS:
            if f"{kind}, {category}, seed {seed}" in results:
                continue
            planted = Planted(kind, train, test, seed)
            X = planted.images
            precisions = {"audit_images": planted.precision(audit_images(X).scores)}
            for name, make in TRIVIAL.items():
                scores = fitted(make(random_state=seed), X).score_samples(X)
                precisions[name] = planted.precision(scores)
            results[f"{kind}, {category}, seed {seed}"] = precisions


def write(results):
    header = ["detector", "backbone"]
    figures = [f"{which} {m}" for m in METRICS for which in ("clean", "lost")]
    means = means_over(results.rows, DEVELOPMENT, at=3)
    tables = {}
    for kind in KINDS:
        tables[f"Defects that were {kind}: means over the six development categories"] = (
            [*header, "seeds", *figures],
            [
                [*key[1:], len(rows), *spreads(rows, figures)]
                for key, rows in sorted(means.items())
                if key[0] == kind
            ],
        )
    for kind in KINDS:
        tables[f"Defects that were {kind}: each category"] = (
            [*header, "category", "seeds", *figures],
            [
                [*key[1:], len(rows), *spreads(rows, figures)]
                for key, rows in grouped(results.rows, 4)
                if key[0] == kind
            ],
        )
    results.write_tables(
        "Defects among the training images", "python benchmarks/dirty.py", NOTES, tables
    )


def write_audit(results):
    names = ["audit_images", *TRIVIAL]
    means = means_over(results.rows, DEVELOPMENT, at=1)
    groups = [((kind, "mean of all"), rows) for (kind,), rows in means.items()]
    groups = sorted([*grouped(results.rows, 2), *groups])
    results.write_table(
        "Finding defects among the training images",
        "python benchmarks/dirty.py",
        AUDIT_NOTES,
        ["planted", "category", "seeds", *names],
        [[*key, len(rows), *(spread([r[n] for r in rows]) for n in names)] for key, rows in groups],
    )


if __name__ == "__main__":
    main()
