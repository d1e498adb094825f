"""What PatchAE's settings do, on drawn defects: no test image is looked at, so defaults may follow.

Training images of a category are split: most to fit on, the rest to draw defects onto. These
are the named types (scratch, crack, ...), other ones than training draws.
"""

import argparse

import numpy as np
import torch
from _common import Results, backbones, data_arguments
from accuracy import UntouchedFeatures, UntouchedUnscaledFeatures, fit
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from skanomaly import PatchAE
from skanomaly.datasets import load_mvtec_ad
from skanomaly.images import ImageDataset
from skanomaly.metrics import pixel_roc_auc_score
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator

N_HELD_OUT = 50
SETTINGS = {
    "default": {},
    "untouched features": {"make": UntouchedFeatures},
    "untouched unscaled features": {"make": UntouchedUnscaledFeatures},
    "no defects": {"defects": DefectGenerator(opacity=(0, 0))},
    "clean target": {"target": "clean"},
    "tuned backbone": {"tune_backbone": True},
    "dim 128": {"dim": 128},
    "dim 512": {"dim": 512},
    "layers (2, 3)": {"layers": (2, 3)},
    "lr 1e-3": {"lr": 1e-3},
    "lr 3e-5": {"lr": 3e-5},
    "lr 1e-5": {"lr": 1e-5},
    "max_patches 10000": {"max_patches": 10_000},
    "random memory": {"subsampling": "random"},
    "image_size 320": {"image_size": 320},
}
NOTES = f"""{N_HELD_OUT} of the category's training images are held out: 20 stay as they are, onto
the other 30 two defects of the named types each are drawn. Trained on the rest. Image AUROC / pixel
AUROC, mean over the seeds given; one setting is changed at a time. Drawn stains and patches of
the image's own brightness are harder than most of what the test images hold, so these figures
are for comparing settings, not detectors."""


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
    parser.add_argument("--category", default="grid")
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0", "resnet18"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()

    results = Results("patch_ae_settings")
    train = load_mvtec_ad(arguments.data, arguments.category, split="train").images
    order = np.random.RandomState(7).permutation(len(train))
    size = np.shape(train[0])[:2]
    held_out = ImageDataset(train, image_size=size, indices=order[:N_HELD_OUT])
    X, masks = generated_test_set(held_out)
    is_normal = ~masks.any(axis=(1, 2))
    jobs = [
        (s, b, n) for s in arguments.seeds for n in arguments.settings for b in arguments.backbones
    ]
    for seed, backbone, name in tqdm(jobs):
        key = f"{arguments.category}, {name}, {backbone}, seed {seed}"
        if key in results:
            continue
        changed = dict(SETTINGS[name])
        make = changed.pop("make", PatchAE)
        detector = make(**backbones(arguments)[backbone], **changed, random_state=seed)
        fit_s = fit(detector, train[order[N_HELD_OUT:]])
        found = detector.detect(X)
        results[key] = {
            "image AUROC": roc_auc_score(is_normal, found.scores),
            "pixel AUROC": pixel_roc_auc_score(masks, found.maps),
            "fit_s": fit_s,
        }
    columns = {}
    for key, row in results.rows.items():
        category, name, backbone, _ = _parts(key)
        columns.setdefault((category, name), {}).setdefault(backbone, []).append(row)
    lines = [
        [*key, *(_cell(rows.get(b, [])) for b in ("tf_efficientnet_lite0", "resnet18"))]
        for key, rows in columns.items()
    ]
    results.write_table(
        "Settings of PatchAE",
        "python benchmarks/patch_ae_settings.py",
        NOTES,
        ["category", "changed", "tf_efficientnet_lite0", "resnet18"],
        lines,
    )


def _parts(key):
    category, rest = key.split(", ", 1)
    name, backbone, seed = rest.rsplit(", ", 2)
    return category, name, backbone, seed


def _cell(rows):
    if not rows:
        return ""
    auroc = (np.mean([row[f"{kind} AUROC"] for row in rows]) for kind in ("image", "pixel"))
    return " / ".join(f"{value:.3f}" for value in auroc) + f" ({len(rows)})"


if __name__ == "__main__":
    main()
