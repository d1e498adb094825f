"""What settings do, on drawn defects: no test image is looked at, so defaults may follow.

Training images of a category are split: most to fit on, the rest to draw defects onto. These
are the named types (scratch, crack, ...), which no method is trained with.
"""

import argparse

import numpy as np
import torch
from _common import NO_BACKBONE, Results, backbones, data_arguments, fit, has_backbone, spread
from accuracy import UntouchedFeatures
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from skanomaly.datasets import load_mvtec_ad
from skanomaly.images import ImageDataset
from skanomaly.metrics import aupro_score, pixel_roc_auc_score
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator
from skanomaly.utils import all_detectors

N_HELD_OUT = 50
DETECTORS = dict(all_detectors())
SETTINGS = {
    **{name: {"default": {}} for name in DETECTORS},
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
        "all features": {"n_features": None},
        "regularization 0.001": {"regularization": 0.001},
        "no shrinkage": {"shrinkage": 0.0},
    },
    "PatchAE": {
        "default": {},
        "untouched features": {"make": UntouchedFeatures, "max_epochs": 1},
        "no defects": {"defects": DefectGenerator(opacity=(0, 0))},
        "clean target": {"target": "clean"},
        "tuned backbone": {"tune_backbone": True},
        "latent_dim 128": {"latent_dim": 128},
        "latent_dim 512": {"latent_dim": 512},
        "layers (2, 3)": {"layers": (2, 3)},
        "lr 1e-3": {"lr": 1e-3},
        "lr 3e-5": {"lr": 3e-5},
        "lr 1e-5": {"lr": 1e-5},
        "max_patches 10000": {"max_patches": 10_000},
        "random memory": {"subsampling": "random"},
        "image_size 320": {"image_size": 320},
    },
    "PatchReconstruction": {
        "default": {},
        "center": {"aggregation": "center"},
        "squared": {"error": "squared"},
        "ssim": {"error": "ssim"},
        "lr 1e-2": {"lr": 1e-2},
        "lr 1e-3": {"lr": 1e-3},
        "train_batch_size 8": {"train_batch_size": 8},
        "train_batch_size 8, lr 1e-2": {"train_batch_size": 8, "lr": 1e-2},
        "stride 1": {"stride": 1},
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
METRICS = "image AUROC", "pixel AUROC", "AUPRO"
NOTES = f"""{N_HELD_OUT} of the category's training images are held out: 20 stay as they are, onto
the other 30 two defects of the named types each are drawn. Trained on the rest. One setting is
changed at a time; mean ± standard deviation over the seeds. Drawn defects are not those of the
test images (stains and patches of the image's own brightness are harder than most of them, dark
holes easier), so these figures are for comparing settings, not detectors. Fitted in one thread,
beside other work."""


def generated_test_set(images):
    """Normal images and, after them, images with drawn defects; their masks."""
    pixels = torch.stack([images[i] for i in range(len(images))])
    normal, others = pixels[:20], pixels[20:].repeat(2, 1, 1, 1)
    seeds = np.arange(len(others))
    drawn = [
        DefectGenerator(types=[name]).draw(
            others[i :: len(DEFECT_TYPES)], seeds[i :: len(DEFECT_TYPES)]
        )
        for i, name in enumerate(DEFECT_TYPES)
    ]
    masks = torch.cat([torch.zeros_like(normal[:, 0], dtype=torch.bool), *(d.masks for d in drawn)])
    pixels = torch.cat([normal, *(d.images for d in drawn)])
    return pixels.permute(0, 2, 3, 1).numpy(), masks.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--detectors", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--settings", nargs="+", help="all unless given")
    parser.add_argument("--categories", nargs="+", default=["grid", "bottle"])
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()

    results = Results("settings")
    jobs = [
        (detector, name, category, backbone, seed)
        for seed in arguments.seeds
        for category in arguments.categories
        for detector in arguments.detectors
        for name in arguments.settings or SETTINGS[detector]
        for backbone in (
            arguments.backbones if has_backbone(DETECTORS[detector]) else [NO_BACKBONE]
        )
        if name in SETTINGS[detector]
        and f"{detector}; {name}; {category}; {backbone}; seed {seed}" not in results
    ]
    for detector, name, category, backbone, seed in tqdm(jobs):
        train = load_mvtec_ad(arguments.data, category, split="train").images
        order = np.random.RandomState(7).permutation(len(train))
        size = np.shape(train[0])[:2]
        held_out = ImageDataset(train, image_size=size, indices=order[:N_HELD_OUT])
        X, masks = generated_test_set(held_out)
        chosen = backbones(arguments).get(backbone, {})
        changed = dict(SETTINGS[detector][name])
        make = changed.pop("make", DETECTORS[detector])
        fitted = make(**chosen, **changed, random_state=seed)
        fit_s = fit(fitted, train[order[N_HELD_OUT:]])
        found = fitted.detect(X)
        results[f"{detector}; {name}; {category}; {backbone}; seed {seed}"] = {
            "image AUROC": roc_auc_score(~masks.any(axis=(1, 2)), found.scores),
            "pixel AUROC": pixel_roc_auc_score(masks, found.maps),
            "AUPRO": aupro_score(masks, found.maps),
            "fit_s": fit_s,
        }
    groups = {}
    for key, row in results.rows.items():
        groups.setdefault(tuple(key.split("; ")[:4]), []).append(row)
    results.write_table(
        "Settings",
        "python benchmarks/settings.py",
        NOTES,
        [
            "detector",
            "changed",
            "category",
            "backbone",
            "seeds",
            "image AUROC",
            "pixel AUROC",
            "AUPRO",
            "fit",
        ],
        [
            [
                *key,
                len(rows),
                *(_cell([r[m] for r in rows if m in r]) for m in METRICS),
                f"{np.median([r['fit_s'] for r in rows]):.0f} s",
            ]
            for key, rows in sorted(groups.items())
        ],
    )


def _cell(values):
    if len(values) > 1:
        return spread(values)
    return f"{values[0]:.3f}" if values else ""


if __name__ == "__main__":
    main()
