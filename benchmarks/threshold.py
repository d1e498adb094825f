"""Does the threshold hold? `false_alarm_rate` against the share of new normal images flagged.

In each of 50 random splits of a category's normal images (training and good test images
together) a detector is fitted on two thirds, of which it keeps a fifth out of training, and
flags what it takes for anomalous among the last third, all of which is normal. The share
flagged is one minus the specificity that a user gets who set `false_alarm_rate`.
"""

import argparse
import tempfile

import numpy as np
from _common import RESULTS, Results, data_arguments
from sklearn.model_selection import ShuffleSplit
from tqdm import tqdm

from skanomaly import HierarchicalFeatureAE, ImageFiles
from skanomaly.calibration import quantile_of_new
from skanomaly.datasets import load_mvtec_ad

RATES = (0.01, 0.05, 0.1)


def normal_images(root, category):
    train, test = (load_mvtec_ad(root, category, split=split) for split in ("train", "test"))
    good = test.images[test.target == 1]
    return ImageFiles([*train.images.paths, *good.paths])


def without_tail(scores, share):
    """By ranks alone: the smallest validation score where the share lies beyond it."""
    return np.quantile(scores, share, method="weibull")


def plot(results, categories, epochs):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained", dpi=110)
    axes = figure.subplots(1, len(categories), sharey=True, squeeze=False)[0]
    for ax, category in zip(axes, categories):
        rows = rows_of(results, category, epochs)
        for key, label, marker in (("flagged", "threshold", "o"), ("by ranks", "ranks alone", "x")):
            shares = np.array([row[key] for row in rows])
            error = shares.std(axis=0) / np.sqrt(len(rows))
            ax.errorbar(RATES, shares.mean(axis=0), 2 * error, fmt=marker, label=label)
        ax.plot([0, 0.12], [0, 0.12], color="grey", linewidth=0.8, label="as asked")
        ax.set(title=category, xlabel="false_alarm_rate")
    axes[0].set_ylabel("new normal images flagged")
    axes[0].legend(frameon=False)
    figure.savefig(RESULTS / "threshold.png")


def rows_of(results, category, epochs):
    start = f"{category}, {epochs} epochs, "
    return [row for key, row in results.rows.items() if key.startswith(start)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", default=["bottle", "grid"])
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--max-epochs", type=int, default=5)
    arguments = parser.parse_args()
    results = Results("threshold")
    for category in arguments.categories:
        images = normal_images(arguments.data, category)
        splits = ShuffleSplit(arguments.splits, test_size=1 / 3, random_state=0).split(images)
        with tempfile.TemporaryDirectory() as memory:
            for i, (train, new) in enumerate(tqdm(list(splits), desc=category)):
                if f"{category}, {arguments.max_epochs} epochs, split {i}" in results:
                    continue
                detector = HierarchicalFeatureAE(
                    max_epochs=arguments.max_epochs, memory=memory, random_state=i
                ).fit(images[train])
                scores, kept_out = detector.score_samples(images[new]), detector.validation_scores_
                results[f"{category}, {arguments.max_epochs} epochs, split {i}"] = {
                    "n_validation": len(kept_out),
                    "n_new": len(new),
                    "flagged": [
                        float(np.mean(scores < quantile_of_new(kept_out, share))) for share in RATES
                    ],
                    "by ranks": [
                        float(np.mean(scores < without_tail(kept_out, share))) for share in RATES
                    ],
                }
    lines = []
    for category in arguments.categories:
        rows = rows_of(results, category, arguments.max_epochs)
        flagged, by_ranks = (
            np.array([row[key] for row in rows]) for key in ("flagged", "by ranks")
        )
        for j, share in enumerate(RATES):
            standard_error = flagged[:, j].std(ddof=1) / np.sqrt(len(rows))
            lines.append(
                [
                    category,
                    len(rows),
                    rows[0]["n_validation"],
                    rows[0]["n_new"],
                    share,
                    f"{flagged[:, j].mean():.4f} ± {standard_error:.4f}",
                    " / ".join(f"{q:.3f}" for q in np.quantile(flagged[:, j], [0.1, 0.5, 0.9])),
                    f"{by_ranks[:, j].mean():.4f}",
                ]
            )
    results.write_table(
        "The threshold on new normal images",
        "python benchmarks/threshold.py",
        "Share of new normal images flagged, over random splits of real normal images: mean ± "
        "standard error, and the 10th, 50th and 90th percentile of single splits, which is what "
        "one user may meet. The last column sets the threshold by ranks alone, which cannot go "
        "below 1 / (validation images + 1). Default detector but for "
        f"max_epochs={arguments.max_epochs}. Splits overlap, so the standard errors are somewhat "
        "too small.\n\n"
        "![flagged against asked](threshold.png)",
        [
            "category",
            "splits",
            "validation",
            "new",
            "false_alarm_rate",
            "flagged",
            "10 / 50 / 90 %",
            "ranks alone",
        ],
        lines,
    )
    plot(results, arguments.categories, arguments.max_epochs)


if __name__ == "__main__":
    main()
