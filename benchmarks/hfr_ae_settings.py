"""What the paper on HFR-AE leaves open, chosen without a test image.

A fifth of a category's normal training images is put aside, and defects are drawn onto
copies of them; detectors are fitted on the rest. Nothing of the test split is read.
"""

import argparse
import time

import numpy as np
import torch
from _common import Results, backbones, data_arguments, with_scores_by
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from skanomaly import HierarchicalFeatureAE
from skanomaly.datasets import load_mvtec_ad, make_texture_defects
from skanomaly.images import ImageDataset
from skanomaly.metrics import aupro_score, pixel_roc_auc_score
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator

SETTINGS = {
    "batch 8, 40 epochs": {"train_batch_size": 8, "max_epochs": 40},
    "batch 4, 40 epochs": {"train_batch_size": 4, "max_epochs": 40},
    "batch 2, 40 epochs": {"train_batch_size": 2, "max_epochs": 40},
    "batch 2, 20 epochs": {"train_batch_size": 2, "max_epochs": 20},
    "batch 2, 60 epochs": {"train_batch_size": 2, "max_epochs": 60},
    "batch 2, 40 epochs, constant rate": {
        "train_batch_size": 2,
        "max_epochs": 40,
        "lr_schedule": "constant",
    },
}


def held_out_with_defects(images, rng):
    """The images as they are, and each with two drawn defects of random type."""
    foreign = make_texture_defects("gravel", n_normal=1, image_size=205, random_state=0).images[0]
    generator = DefectGenerator(types=list(DEFECT_TYPES))
    clean, defective, masks = np.stack(images), [], []
    for pixels in ImageDataset(clean):
        height, width = pixels.shape[1:]
        texture = torch.from_numpy(np.tile(foreign, (9, 9))[:height, :width] / np.float32(255))
        pair = pixels.expand(2, -1, -1, -1)
        drawn = generator.draw(pair, rng.integers(2**62, size=2), texture.expand_as(pair))
        defective.append((255 * drawn.images).round().byte().permute(0, 2, 3, 1).numpy())
        masks.append(drawn.masks.numpy())
    defective = np.concatenate(defective).reshape(-1, *clean.shape[1:])
    none = np.zeros((len(clean), *masks[0].shape[1:]), bool)
    return np.concatenate([clean, defective]), np.concatenate([none, *masks])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", default=["grid", "bottle"])
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "tf_efficientnet_lite0"])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    arguments = parser.parse_args()
    results = Results("hfr_ae_settings")
    jobs = [
        (category, backbone, setting)
        for category in arguments.categories
        for backbone in arguments.backbones
        for setting in arguments.settings
        if f"{category}, {backbone}, {setting}" not in results
    ]
    for category, backbone, setting in tqdm(jobs):
        images = load_mvtec_ad(arguments.data, category).images
        rng = np.random.default_rng(0)
        order = rng.permutation(len(images))
        n_held_out = len(images) // 5
        X, masks = held_out_with_defects([images[i] for i in order[:n_held_out]], rng)
        target = np.where(masks.any(axis=(1, 2)), -1, 1)
        start = time.perf_counter()
        detector = HierarchicalFeatureAE(
            **backbones(arguments)[backbone], **SETTINGS[setting], random_state=0
        ).fit(images[order[n_held_out:]])
        row = {
            "fit_s": time.perf_counter() - start,
            "valid_loss": detector.net_.history[-1, "valid_loss"],
        }
        for level_weights in ("area", "equal"):
            weights = {"level_weights": level_weights, "standardize": None}
            found = with_scores_by(detector, weights).detect(X)
            row[level_weights] = [
                roc_auc_score(target, found.scores),
                pixel_roc_auc_score(masks, found.maps),
                aupro_score(masks, found.maps),
            ]
        results[f"{category}, {backbone}, {setting}"] = row
    lines = [
        [
            *key.split(", ", 2),
            f"{row['fit_s']:.0f} s",
            f"{row['valid_loss']:.4f}",
            *(" / ".join(f"{x:.3f}" for x in row[w]) for w in ("area", "equal")),
        ]
        for key, row in sorted(results.rows.items())
    ]
    results.write_table(
        "HFR-AE: settings the paper leaves open",
        "python benchmarks/hfr_ae_settings.py",
        "Normal *training* images only: a fifth held out, with and without drawn defects "
        "(image AUROC / pixel AUROC / AUPRO), one seed. The level weights need no second fit. "
        "Fit times are of a machine that did other work too.",
        ["category", "backbone", "setting", "fit", "validation loss", "area", "equal"],
        lines,
    )


if __name__ == "__main__":
    main()
