"""A grid search over 12 settings of HFR-AE's decoder, with and without `memory=`.

Both searches run in one process, in turn, on the normal and defective images of a category,
3 folds; the images that the backbone is run on are counted.
"""

import argparse
import tempfile
import time

import numpy as np
from _common import Results, backbones, data_arguments
from sklearn.model_selection import GridSearchCV

from skanomaly import HierarchicalFeatureAE, ImageFiles
from skanomaly.datasets import load_mvtec_ad
from skanomaly.features import FeaturePyramid
from skanomaly.metrics import all_metrics
from skanomaly.model_selection import NormalKFold

GRID = {"hidden_ratio": [0.25, 0.5, 1.0], "lr": [0.2, 0.4], "negative_slope": [0.1, 0.2]}


class CountedImages:
    """Counts, while it is open, the images that backbones really compute."""

    def __enter__(self):
        self.n, self._compute = 0, FeaturePyramid._compute
        counter = self

        def compute(pyramid, x):
            counter.n += len(x)
            return counter._compute(pyramid, x)

        FeaturePyramid._compute = compute
        return self

    def __exit__(self, *_):
        FeaturePyramid._compute = self._compute


def search(images, masks, memory, backbone, engine, epochs):
    detector = HierarchicalFeatureAE(
        **backbone,
        engine=engine,
        max_epochs=epochs,
        train_batch_size=8,
        memory=memory,
        random_state=0,
    )
    grid_search = GridSearchCV(
        detector, GRID, scoring=all_metrics, cv=NormalKFold(3), refit=False, error_score="raise"
    )
    start = time.perf_counter()
    with CountedImages() as counted:
        grid_search.fit(images, masks)
    seconds = time.perf_counter() - start
    return seconds, counted.n, grid_search.cv_results_["mean_test_aupro"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--category", default="bottle")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0"])
    parser.add_argument("--engines", nargs="+", default=["auto", "torch"])
    arguments = parser.parse_args()
    train, test = (
        load_mvtec_ad(arguments.data, arguments.category, split=split)
        for split in ("train", "test")
    )
    images = ImageFiles([*train.images.paths, *test.images.paths])
    masks = np.concatenate([train.masks, test.masks])
    results = Results("search")
    jobs = [
        (backbone, engine, epochs)
        for epochs in arguments.epochs
        for backbone in arguments.backbones
        for engine in arguments.engines
    ]
    for backbone, engine, epochs in jobs:
        key = f"{arguments.category}, {backbone}, {engine}, {epochs}"
        if key in results:
            continue
        rounds = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory() as memory:
                parameters = backbones(arguments)[backbone], engine, epochs
                without = search(images, masks, None, *parameters)
                remembered = search(images, masks, memory, *parameters)
            rounds.append((without, remembered))
        (_, n_without, scores), (_, n_with, same_scores) = rounds[0]
        results[key] = {
            "n_images": len(images),
            "without_s": float(np.median([without[0] for without, _ in rounds])),
            "with_s": float(np.median([remembered[0] for _, remembered in rounds])),
            "backbone_without": n_without,
            "backbone_with": n_with,
            "equal_scores": bool(np.array_equal(scores, same_scores)),
            "best_aupro": float(scores.max()),
        }
    lines = [
        [
            *key.split(", "),
            row["n_images"],
            row["backbone_without"],
            row["backbone_with"],
            f"{row['without_s']:.0f} s",
            f"{row['with_s']:.0f} s",
            f"{row['without_s'] / row['with_s']:.2f}",
            "yes" if row["equal_scores"] else "no",
        ]
        for key, row in sorted(results.rows.items())
    ]
    results.write_table(
        "A grid search over the decoder, with and without memory",
        "python benchmarks/search.py",
        f"12 settings ({GRID}), 3 folds of NormalKFold, all metrics, one process; 8 images a "
        "training step. `auto` is ONNX Runtime on a CPU.",
        [
            "category",
            "backbone",
            "engine",
            "epochs",
            "images",
            "backbone runs without",
            "with",
            "time without",
            "with",
            "times faster",
            "same scores",
        ],
        lines,
    )


if __name__ == "__main__":
    main()
