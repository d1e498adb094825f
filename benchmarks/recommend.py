"""Is the order of detectors on drawn defects their order on real ones, and what does trust cost?

Of each development category's good training images a third is held out. Detectors are fitted on
the others and judged by the third and by defects drawn onto it, in several variants: what is
drawn, how large, how faint, and what is taken from the results. Real accuracies are those of
accuracy.py, of fits on all training images.
"""

import argparse
import time

import numpy as np
from _common import (
    DATA_NOTES,
    DEFAULT_BACKBONE,
    DEVELOPMENT,
    NO_BACKBONE,
    PAPERS,
    RESULTS,
    Results,
    as_arrays,
    data_arguments,
    fit,
    load_split,
    roots_of,
)
from scipy.stats import spearmanr
from skimage import data
from sklearn.model_selection import ShuffleSplit
from tqdm import tqdm

from skanomaly import (
    FastFlow,
    HierarchicalFeatureAE,
    LocalContrast,
    MedianDifference,
    PaDiM,
    PatchAE,
    PatchCore,
    SubspaceAD,
    make_ensemble,
)
from skanomaly.images import Regions
from skanomaly.model_selection import SyntheticDefectSearchCV
from skanomaly.model_selection._drawing import DrawnDefects, recipes_for
from skanomaly.model_selection._measuring import measure
from skanomaly.synthesis import CORRUPTION_TYPES, DEFECT_TYPES

DETECTORS = {
    "LocalContrast": LocalContrast,
    "MedianDifference": MedianDifference,
    "SubspaceAD": SubspaceAD,
    "PaDiM": PaDiM,
    "PatchCore": PatchCore,
    "make_ensemble()": make_ensemble,
    "PatchAE": PatchAE,
    "HFR-AE": HierarchicalFeatureAE,
    "FastFlow": FastFlow,
}
SIZES, CONTRASTS = (0.5, 1.0, 2.0), (0.25, 0.5, 1.0)
N_FOREIGN = 18
SETS = ("named", "learnt", "other textures")
UNKNOWN = ("crack", "missing", "foreign")  # whose surfaces no detector is trained with
MEASURES = {
    "mean": np.mean,
    "image AUROC": lambda drawn: drawn[0],
    "AUPRO": lambda drawn: drawn[1],
}
# Which drawn defects count, by (category, set, kind, size, contrast).
VARIANTS = {
    "named": lambda _, name, *__: name == "named",
    "named, sizes 0.5": lambda _, name, kind, size, c: name == "named" and size == 0.5,
    "named, sizes 0.5 and 1": lambda _, name, kind, size, c: name == "named" and size <= 1,
    "named, sizes 2": lambda _, name, kind, size, c: name == "named" and size == 2,
    "named, contrasts 0.25": lambda _, name, kind, size, c: name == "named" and c == 0.25,
    "named, contrasts 0.5 and 1": lambda _, name, kind, size, c: name == "named" and c >= 0.5,
    "named, foreign from other textures": lambda _, name, kind, *__: (
        name == "other textures" or (name == "named" and kind != "foreign")
    ),
    "named, without foreign": lambda _, name, kind, *__: name == "named" and kind != "foreign",
    "named, surfaces no detector is trained with": lambda _, name, kind, *__: (
        name == "named" and kind in UNKNOWN
    ),
    "types that detectors train with": lambda _, name, *__: name == "learnt",
    "clear spots on papers, else named": lambda category, name, kind, size, c: (
        name == "named" and (category not in PAPERS or (kind == "spot" and size <= 1 and c >= 0.5))
    ),
}
DEFAULT = ("named, sizes 0.5 and 1", "AUPRO")
HEADER = ("category", "order on drawn defects", "rank correlation", "chosen", "best")
OF_VARIANTS = ("rank correlation", "chosen - best", "worst category", "chosen - make_ensemble()")
LEARNS_NOTHING = ("LocalContrast", "MedianDifference")

NOTES = f"""A third of the good training images is held out, once, at random. Drawn are 54 defects
of the six named types ("named": every type in the sizes 0.5, 1 and 2 and the contrasts 0.25, 0.5
and 1), 48 of the sixteen that detectors train with, and 18 of the type "foreign" cut from
photographs of other textures (brick, grass, gravel) where else it is cut from other images of the
same part. A variant is a part of these; "order by" is what a detector is ranked by: image AUROC,
AUPRO, or their mean.

Rank correlation (Spearman) is that of the order on drawn defects with the real ones by image AUROC
/ AUPRO / their mean; where nearly all have a real image AUROC of 1 the first means little, and
where all have it is not there. "chosen" is the first on drawn defects, "best" the first on real
ones by the mean of both. Differences are real image AUROC / real AUPRO of the chosen one, minus the
highest of any detector (not of one and the same), and minus that of `make_ensemble()`, the plain
default; "worst category" is the mean of both for the category where most is lost. Real accuracies
are of fits on all training images, means over the seeds of accuracy.md.

The default was chosen by this table, on these categories and their real defects, so that other
parts may do worse. On the papers all real defects are tiny dark specks: "clear spots on papers"
is what somebody would draw who knows that (spots in the sizes 0.5 and 1 and the contrasts 0.5 and
1).

PatchAE's table is by how much it is ahead, on the named types by their surfaces and on those that
it trains with (mean of image AUROC and AUPRO), of the median of the detectors that are trained
without any and learn something: an advantage only where it knows the surfaces is a bias.

What a table lacks was not measured: of the trained detectors PatchAE on leather tiles and papers.

{DATA_NOTES}"""


def drawn_sets(images):
    """What is drawn onto held-out images, by the name of the variant."""
    rng = np.random.default_rng(0)
    no_regions = Regions(None, len(images))
    named = recipes_for(len(images), 54, list(DEFECT_TYPES), SIZES, CONTRASTS, rng)
    learnt = recipes_for(len(images), 48, list(CORRUPTION_TYPES), (1.0,), CONTRASTS, rng)
    foreign = recipes_for(len(images), N_FOREIGN, ["foreign"], SIZES, CONTRASTS, rng)
    textures = [getattr(data, name)() for name in ("brick", "grass", "gravel")]
    channels = images[0].shape[2] if images[0].ndim == 3 else 1
    textures = [np.repeat(t[:, :, None], channels, axis=2) for t in textures]
    from_textures = [recipe._replace(source=i % 3) for i, recipe in enumerate(foreign)]
    return {
        "named": DrawnDefects(images, named, None, no_regions),
        "learnt": DrawnDefects(images, learnt, None, no_regions),
        "other textures": DrawnDefects(images, from_textures, None, no_regions, textures),
    }


def rounded(values):
    return [round(float(v), 4) for v in values]


def collect(results, arguments):
    roots = roots_of(arguments, arguments.categories)
    jobs = [
        (name, category)
        for name in arguments.detectors
        for category in roots
        if f"{category}, {name}" not in results
    ]
    for name, category in tqdm(jobs):
        images = as_arrays(load_split(roots[category], category).train.images)
        split = ShuffleSplit(1, test_size=1 / 3, random_state=0).split(images)
        train, held_out = ([images[i] for i in part] for part in next(split))
        detector = DETECTORS[name]().set_params(random_state=0)
        fit_s = fit(detector, train)
        row = {"fit_s": round(fit_s, 2), "n_train": len(train), "n_held_out": len(held_out)}
        regions = Regions(None, len(held_out))
        for variant, drawn in drawn_sets(held_out).items():
            began = time.perf_counter()
            found = measure(detector, held_out, regions, drawn, Regions(None, len(drawn)), 0.3)
            row[variant] = {
                "kind": [r.kind for r in drawn.recipes],
                "size": [r.size for r in drawn.recipes],
                "contrast": [r.contrast for r in drawn.recipes],
                "image": rounded(found.wins.mean(axis=1)),
                "pro": rounded(found.pro),
                "seconds": round(time.perf_counter() - began, 2),
            }
            row["flagged"] = round(float(found.is_flagged.mean()), 4)
        results[f"{category}, {name}"] = row


def real_accuracy():
    """(image AUROC, AUPRO) on real defects, means over seeds, by (category, detector)."""
    found = {}
    for key, row in Results("accuracy").rows.items():
        name, category, backbone, variant, *_ = key.split(", ")
        if variant == "default" and backbone in (NO_BACKBONE, DEFAULT_BACKBONE):
            found.setdefault((category, name), []).append((row["image AUROC"], row["AUPRO"]))
    return {key: np.mean(rows, axis=0) for key, rows in found.items()}


def of_drawn(category, row, chosen):
    """(image AUROC, AUPRO) on those of a row's drawn defects that are chosen."""
    values = []
    for name in SETS:
        part = row[name]
        designs = zip(part["kind"], part["size"], part["contrast"])
        keep = [chosen(category, name, *design) for design in designs]
        values += [pair for pair, kept in zip(zip(part["image"], part["pro"]), keep) if kept]
    return np.mean(values, axis=0)


def there(results, category):
    """Names of the detectors that were measured on a category, drawn and real."""
    real = real_accuracy()
    return [
        name for name in DETECTORS if f"{category}, {name}" in results and (category, name) in real
    ]


def measured(results, chosen, order_by, category, names):
    """(drawn score, real image AUROC, real AUPRO) by detector of a category."""
    real, found = real_accuracy(), {}
    for name in names:
        drawn = of_drawn(category, results.rows[f"{category}, {name}"], chosen)
        found[name] = (MEASURES[order_by](drawn), *real[category, name])
    return found


def judged(found):
    """What trusting an order is worth: correlations with the real one, and what is lost."""
    names = list(found)
    drawn, image, aupro = np.array(list(found.values())).T
    both = (image + aupro) / 2
    chosen, best = int(drawn.argmax()), int(both.argmax())
    plain = names.index("make_ensemble()")
    return {
        "order": [names[i] for i in np.argsort(-drawn, kind="stable")],
        "rho": [
            spearmanr(drawn, real).statistic if np.ptp(real) else np.nan
            for real in (image, aupro, both)
        ],
        "chosen": names[chosen],
        "best": names[best],
        "to best": [image[chosen] - image.max(), aupro[chosen] - aupro.max()],
        "to ensemble": [image[chosen] - image[plain], aupro[chosen] - aupro[plain]],
    }


def signed(pair):
    return " / ".join(f"{v:+.3f}" for v in pair)


def write(results, categories):
    everywhere = [n for n in DETECTORS if all(n in there(results, c) for c in categories)]
    variants = []
    for variant, chosen in VARIANTS.items():
        for order_by in MEASURES:
            rows = [judged(measured(results, chosen, order_by, c, everywhere)) for c in categories]
            rhos, best, plain = (
                np.nanmean([row[key] for row in rows], axis=0)
                for key in ("rho", "to best", "to ensemble")
            )
            worst = np.min([np.mean(row["to best"]) for row in rows])
            variants.append(
                [
                    variant,
                    order_by,
                    correlations(rhos),
                    signed(best),
                    f"{worst:+.3f}",
                    signed(plain),
                ]
            )
    chosen, order_by = VARIANTS[DEFAULT[0]], DEFAULT[1]
    all_there = {c: there(results, c) for c in categories}
    scores = [
        [c, name, *(f"{v:.3f}" for v in drawn), f"{values[1]:.3f} / {values[2]:.3f}"]
        for c, names in all_there.items()
        for name, values in measured(results, chosen, order_by, c, names).items()
        for drawn in [of_drawn(c, results.rows[f"{c}, {name}"], chosen)]
    ]
    more = {c: names for c, names in all_there.items() if len(names) > len(everywhere)}
    results.write_tables(
        "Does the order on drawn defects hold on real ones?",
        "python benchmarks/recommend.py",
        NOTES,
        {
            f"The default ({', '.join(DEFAULT)}): detectors measured in all categories": (
                [*HEADER, "chosen - best", "chosen - make_ensemble()"],
                [
                    line_of(c, judged(measured(results, chosen, order_by, c, everywhere)))
                    for c in categories
                ],
            ),
            "The same with all that were measured there": (
                [*HEADER, "chosen - best", "chosen - make_ensemble()"],
                [
                    line_of(c, judged(measured(results, chosen, order_by, c, names)))
                    for c, names in more.items()
                ],
            ),
            "Variants, means over the categories": (["drawn", "order by", *OF_VARIANTS], variants),
            "PatchAE, which is trained with drawn defects": (
                ["category", "flat and tint", "hole and material", "types that it trains with"],
                [advantage(results, c) for c in categories if "PatchAE" in all_there[c]],
            ),
            "Scores": (
                [
                    "category",
                    "detector",
                    "drawn image AUROC",
                    "drawn AUPRO",
                    "real ones",
                ],
                scores,
            ),
        },
    )


def line_of(category, row):
    order, rho = ", ".join(row["order"]), correlations(row["rho"])
    chosen_and_best = row["chosen"], row["best"], signed(row["to best"])
    return [category, order, rho, *chosen_and_best, signed(row["to ensemble"])]


def correlations(rhos):
    return " / ".join("-" if np.isnan(rho) else f"{rho:.2f}" for rho in rhos)


def advantage(results, category):
    """By how much PatchAE is ahead of the median other one, on surfaces known and unknown to it."""
    sets = {
        "known": lambda _, name, kind, *__: name == "named" and kind not in UNKNOWN,
        "unknown": lambda _, name, kind, *__: name == "named" and kind in UNKNOWN,
        "learnt": lambda _, name, *__: name == "learnt",
    }
    cells = []
    for chosen in sets.values():
        found = {
            name: of_drawn(category, results.rows[f"{category}, {name}"], chosen).mean()
            for name in DETECTORS
            if f"{category}, {name}" in results and name not in LEARNS_NOTHING
        }
        own = found.pop("PatchAE")
        cells.append(f"{own - np.median(list(found.values())):+.3f}")
    return [category, *cells]


def print_example(arguments):
    """What a search over quick detectors prints of a real part."""
    roots = roots_of(arguments, ["bottle"])
    images = as_arrays(load_split(roots["bottle"], "bottle").train.images)
    quick = [PaDiM(), SubspaceAD()]
    search = SyntheticDefectSearchCV(quick, cv=2, random_state=0).fit(images)
    (RESULTS / "recommend_bottle.txt").write_text(f"{search}\n")
    print(search)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", default=list(DEVELOPMENT))
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--example", action="store_true", help="only print a search on bottle")
    arguments = parser.parse_args()
    if arguments.example:
        print_example(arguments)
        return
    results = Results("recommend")
    collect(results, arguments)
    write(results, arguments.categories)


if __name__ == "__main__":
    main()
