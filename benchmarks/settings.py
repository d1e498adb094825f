"""What settings do, on drawn defects: no test image is looked at, so defaults may follow.

Training images of a category are split: most to fit on, the rest to draw defects onto. These
are the named types (scratch, crack, ...), which no method is trained with.
"""

import argparse

import numpy as np
from _common import Results, backbones, data_arguments
from accuracy import fit, spread
from patch_ae_settings import N_HELD_OUT, generated_test_set
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

import skanomaly
from skanomaly.datasets import load_mvtec_ad
from skanomaly.images import ImageDataset
from skanomaly.metrics import aupro_score, pixel_roc_auc_score

SETTINGS = {
    "FastFlow": {
        "default": {},
        "max_epochs 10": {"max_epochs": 10},
        "max_epochs 40": {"max_epochs": 40},
        "hidden_ratio 1": {"hidden_ratio": 1.0},
        "kernel_sizes (3,)": {"kernel_sizes": (3,)},
        "lr 3e-4": {"lr": 3e-4},
        "weight_decay 1e-3": {"weight_decay": 1e-3},
    },
    "PaDiM": {
        "default": {},
        "all dimensions": {"dim": None},
        "regularization 0.001": {"regularization": 0.001},
        "no shrinkage": {"shrinkage": 0.0},
    },
    "PatchReconstruction": {
        "default": {},
        "center": {"aggregation": "center"},
        "ssim": {"error": "ssim"},
        "lr 1e-2": {"lr": 1e-2},
        "lr 1e-3": {"lr": 1e-3},
        "train_batch_size 8": {"train_batch_size": 8},
        "train_batch_size 8, lr 1e-2": {"train_batch_size": 8, "lr": 1e-2},
        "stride 3": {"stride": 3},
        "patch_size 33": {"patch_size": 33},
        "n_patches 300": {"n_patches": 300},
        "narrow latent": {"channels": (3, 4, 12, 4)},
        "smoothing 16": {"smoothing": 16.0},
        "wide": {"channels": (8, 16, 16, 8)},
    },
    "PatchLatentSVM": {
        "default": {},
        "nystroem": {"svm": "nystroem", "n_support": 10_000, "n_estimators": 1},
        "nu 0.1": {"nu": 0.1},
        "patch_size 33": {"patch_size": 33},
    },
    "PatchRestoration": {
        "default": {},
        "n_codes 16": {"n_codes": 16},
        "n_codes 256": {"n_codes": 256},
        "likelihood_quantile 0.005": {"likelihood_quantile": 0.005},
        "likelihood_quantile 0.05": {"likelihood_quantile": 0.05},
        "n_restorations 1": {"n_restorations": 1},
    },
}
HAS_BACKBONE = {"FastFlow", "PaDiM"}
NOTES = f"""{N_HELD_OUT} of the category's training images are held out: 20 stay as they are, onto
the other 30 two defects of the named types each are drawn. Trained on the rest. One setting is
changed at a time; mean ± standard deviation over the seeds. Drawn stains and patches of the
image's own brightness are harder than most of what the test images hold, so these figures are for
comparing settings, not detectors. ResNet-18 where a detector has a backbone."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--detectors", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--settings", nargs="+", help="all unless given")
    parser.add_argument("--categories", nargs="+", default=["grid", "bottle"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()

    results = Results("settings")
    jobs = [
        (detector, name, category, seed)
        for seed in arguments.seeds
        for category in arguments.categories
        for detector in arguments.detectors
        for name in arguments.settings or SETTINGS[detector]
        if name in SETTINGS[detector]
        and f"{detector}; {name}; {category}; seed {seed}" not in results
    ]
    for detector, name, category, seed in tqdm(jobs):
        train = load_mvtec_ad(arguments.data, category, split="train").images
        order = np.random.RandomState(7).permutation(len(train))
        size = np.shape(train[0])[:2]
        held_out = ImageDataset(train, image_size=size, indices=order[:N_HELD_OUT])
        X, masks = generated_test_set(held_out)
        chosen = backbones(arguments)["resnet18"] if detector in HAS_BACKBONE else {}
        make = getattr(skanomaly, detector)
        fitted = make(**chosen, **SETTINGS[detector][name], random_state=seed)
        fit_s = fit(fitted, train[order[N_HELD_OUT:]])
        found = fitted.detect(X)
        results[f"{detector}; {name}; {category}; seed {seed}"] = {
            "image AUROC": roc_auc_score(~masks.any(axis=(1, 2)), found.scores),
            "pixel AUROC": pixel_roc_auc_score(masks, found.maps),
            "AUPRO": aupro_score(masks, found.maps),
            "fit_s": fit_s,
        }
    groups = {}
    for key, row in results.rows.items():
        groups.setdefault(tuple(key.split("; ")[:3]), []).append(row)
    results.write_table(
        "Settings",
        "python benchmarks/settings.py",
        NOTES,
        ["detector", "changed", "category", "seeds", "image AUROC", "pixel AUROC", "AUPRO", "fit"],
        [
            [
                *key,
                len(rows),
                *(spread([r[m] for r in rows]) for m in ("image AUROC", "pixel AUROC", "AUPRO")),
                f"{np.median([r['fit_s'] for r in rows]):.0f} s",
            ]
            for key, rows in sorted(groups.items())
        ],
    )


if __name__ == "__main__":
    main()
