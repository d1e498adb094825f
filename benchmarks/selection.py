"""p-values in use: the rate of false discoveries, and p-values of new normal images.

Selection: in each of 200 draws, batches of normal and defective images are judged by p-values
among normal images that are drawn with them, without replacement, so that both are of one source.
Scores are simulated, or those of a detector that has learnt from a part of a category's normal
images, all of which is left out here.

Uniformity: in each of 50 random splits of a category's normal images a detector is fitted on two
thirds of them, or on 30 in five folds (``cv=5``), and gives p-values to the last third.
"""

import argparse
import warnings

import numpy as np
from _common import Results, as_arrays, data_arguments, load_split, roots_of
from scipy.stats import kstest
from sklearn.model_selection import ShuffleSplit
from threshold import normal_images
from tqdm import tqdm

from skanomaly import SubspaceAD
from skanomaly.calibration import conformal_p_values, quantile_of_new, select
from skanomaly.exceptions import ThresholdWarning

FDR, FALSE_ALARM_RATE, N_FEW = 0.1, 0.05, 30
LEVELS = (0.01, 0.05, 0.1, 0.5)

# Normal images that p-values are ranks among, normal ones of the batch, and defects.
SIMULATED = ((1000, 90, 10), (1000, 100, 0), (200, 90, 10), (200, 40, 10), (50, 20, 5))
REAL = ((45, 19, 10), (45, 19, 0))


def judged(draw, sizes, normal_scores, defect_scores):
    """Shares of false discoveries and of defects found, by `select` and by a threshold."""
    n_reference, n_normal, n_defects = sizes
    random_state = np.random.RandomState(draw)
    reference, normal = np.split(normal_scores(random_state, n_reference + n_normal), [n_reference])
    scores = np.append(normal, defect_scores(random_state, n_defects))
    is_normal = np.arange(len(scores)) < n_normal
    p_values = conformal_p_values(scores, reference, random_state)
    flagged = {
        "select": select(p_values, FDR, n_reference=n_reference),
        "threshold": scores < quantile_of_new(reference, FALSE_ALARM_RATE),
    }
    return {
        name: {
            "false": float(np.mean(is_normal[chosen])) if chosen.any() else 0.0,
            "found": float(np.mean(chosen[~is_normal])) if n_defects else None,
        }
        for name, chosen in flagged.items()
    }


def sampled(scores):
    return lambda random_state, n: random_state.choice(scores, n, replace=False)


def scores_of(root, category):
    """Scores of normal images that were not learnt from, and of defects."""
    images, (_, test) = normal_images(root, category), load_split(root, category)
    ((train, new),) = ShuffleSplit(1, test_size=0.5, random_state=0).split(images)
    detector = SubspaceAD(random_state=0).fit(images[train], X_val=images[new])
    defects = detector.score_samples(test.images[test.target == -1])
    return detector.validation_scores_, defects


def measure_selection(results, roots, n_draws):
    kinds = {
        "simulated": (
            SIMULATED,
            lambda random_state, n: random_state.normal(size=n),
            lambda random_state, n: random_state.normal(-3, size=n),
        )
    }
    for category, root in roots.items():
        missing = [sizes for sizes in REAL if f"selection, {category}, {sizes}" not in results]
        if missing:
            normal, defects = map(sampled, scores_of(root, category))
            kinds[category] = missing, normal, defects
    for kind, (all_sizes, normal, defects) in kinds.items():
        for sizes in all_sizes:
            key = f"selection, {kind}, {sizes}"
            if key not in results:
                draws = (judged(draw, sizes, normal, defects) for draw in range(n_draws))
                results[key] = list(draws)


FITS = {"a fifth held out": None, f"{N_FEW} images, cv=5": 5}


def measure_uniformity(results, roots, n_splits):
    for category, root in roots.items():
        images = np.stack(as_arrays(normal_images(root, category)))
        splits = ShuffleSplit(n_splits, test_size=1 / 3, random_state=0).split(images)
        for i, (train, new) in enumerate(tqdm(list(splits), desc=category)):
            for name, cv in FITS.items():
                key = f"uniformity, {category}, {name}, split {i}"
                if key in results:
                    continue
                detector = SubspaceAD(image_size=128, cv=cv, random_state=i)
                detector.fit(images[train if cv is None else train[:N_FEW]])
                p_values = detector.p_values(images[new])
                results[key] = {
                    "n_validation": len(detector.validation_scores_),
                    "p_values": p_values.tolist(),
                    "flagged": float(np.mean(detector.predict(images[new]) == -1)),
                }


def with_error(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def table_of_selection(results):
    for key, draws in results.rows.items():
        what, kind, sizes = key.split(", ", 2)
        if what != "selection":
            continue
        cells = [kind, *sizes.strip("()").split(", "), len(draws)]
        for name in ("select", "threshold"):
            found = [draw[name]["found"] for draw in draws]
            cells.append(with_error([draw[name]["false"] for draw in draws]))
            cells.append("" if None in found else f"{np.mean(found):.2f}")
        yield cells


def table_of_uniformity(results, roots):
    for category in roots:
        for name in FITS:
            start = f"uniformity, {category}, {name}, "
            rows = [row for key, row in results.rows.items() if key.startswith(start)]
            if not rows:
                continue
            p_values = [np.array(row["p_values"]) for row in rows]
            yield [
                category,
                name,
                len(rows),
                f"{rows[0]['n_validation']}, {len(p_values[0])}",
                *(with_error([np.mean(p <= level) for p in p_values]) for level in LEVELS),
                f"{kstest(np.concatenate(p_values), 'uniform').statistic:.3f}",
                with_error([row["flagged"] for row in rows]),
            ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", default=["bottle", "leather_tile"])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--splits", type=int, default=50)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ThresholdWarning)  # few images are what is measured
    results = Results("selection")
    roots = roots_of(arguments, arguments.categories)
    measure_selection(results, roots, arguments.draws)
    measure_uniformity(results, roots, arguments.splits)
    write(results, roots)


def write(results, roots):
    results.write_tables(
        "Selection and p-values",
        "python benchmarks/selection.py",
        "Mean ± standard error. Detector: `SubspaceAD`, of the second table at 128x128. "
        f"Selection: `select` at fdr={FDR:g} beside a threshold at "
        f"false_alarm_rate={FALSE_ALARM_RATE:g}, false discoveries as the share of normal images "
        "among those flagged, 0 where none is; without defects it is how often any is flagged. "
        "Simulated normal scores are normal, those of defects 3 standard deviations lower. "
        "Uniformity: share of p-values of new normal images up to a level, which uniform ones "
        "among n normal images have but for steps of 1 / (n + 1), below which there are none; the "
        "largest distance between the distribution of all of them and the uniform one; and the "
        "share flagged at the default false_alarm_rate=0.05. Splits overlap, so that the standard "
        "errors are somewhat too small.",
        {
            "Selection": (
                [
                    "scores",
                    "reference",
                    "normal",
                    "defects",
                    "draws",
                    "false, select",
                    "found",
                    "false, threshold",
                    "found",
                ],
                list(table_of_selection(results)),
            ),
            "p-values of new normal images": (
                [
                    "category",
                    "fit",
                    "splits",
                    "validation, new",
                    *(f"p ≤ {level:g}" for level in LEVELS),
                    "largest distance",
                    "flagged",
                ],
                list(table_of_uniformity(results, roots)),
            ),
        },
    )


if __name__ == "__main__":
    main()
