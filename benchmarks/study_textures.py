"""Patch auto-encoders by type, size and contrast of the defect, on generated textures.

Detectors are fitted once a texture and seed, then meet the same normal images with defects of one
kind at a time drawn onto them.
"""

import argparse
import time
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
import torch
from _common import Results, with_scores_by
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from skanomaly import (
    FastFlow,
    PaDiM,
    PatchLatentSVM,
    PatchReconstruction,
    PatchRestoration,
)
from skanomaly._parameters import parameter
from skanomaly.base import BaseImageDetector
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import aupro_score
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator
from skanomaly.training import AnomalyNet, KeepBest, LearningRate

TEXTURES = ("brick", "gravel", "grass")
N_TRAIN, N_TEST = 30, 24
CONTRAST_TYPE = "ellipse-tint"  # darker or brighter than what lies below, by its opacity
CONDITIONS = {
    **{f"type {name}": {"types": [name]} for name in DEFECT_TYPES},
    **{f"size {size}": {"types": ["polygon-image"], "size": size} for size in (0.35, 1.0, 2.0)},
    **{
        f"contrast {a}": {"types": [CONTRAST_TYPE], "opacity": (a, a)}
        for a in (0.12, 0.25, 0.5, 1.0)
    },
}


class FullImageNet(nn.Module):
    """Auto-encoder of whole images of 128x128 with a latent vector, as in arXiv 1807.02011."""

    def __init__(self, n_channels, latent=100):
        super().__init__()
        widths = [n_channels, 32, 32, 64, 64, 128]
        encoder, decoder = [], []
        for i, o in pairwise(widths):  # 128 -> 4
            encoder += [nn.Conv2d(i, o, 4, 2, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
        for o, i in zip(widths[-2::-1], widths[:0:-1]):
            decoder += [
                nn.ConvTranspose2d(i, o, 4, 2, padding=1),
                nn.BatchNorm2d(o),
                nn.LeakyReLU(0.2),
            ]
        self.encoder = nn.Sequential(*encoder, nn.Conv2d(widths[-1], latent, 4))
        self.decoder = nn.Sequential(nn.ConvTranspose2d(latent, widths[-1], 4), *decoder[:-2])

    def forward(self, x):
        return 0.5 + self.decoder(self.encoder(x - 0.5))


class FullImageAE(BaseImageDetector):
    """Squared error of an auto-encoder of the whole image; what patches are compared with."""

    max_epochs: int = parameter(200, Integral)
    lr: float = parameter(2e-3, Real)
    image_size = 128

    def _fit_images(self, images, validation):
        train, held_out = (
            TensorDataset(*2 * [torch.stack(list(part.in_memory()))])
            for part in (images, validation)
        )
        self.net_ = AnomalyNet(
            FullImageNet(images.n_channels),
            nn.MSELoss,
            optimizer=torch.optim.Adam,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            callbacks=[KeepBest(), LearningRate("cosine")],
            device=self._device,
        ).fit_on(train, held_out)

    def _compute_maps(self, pixels):
        return (self.net_.module_(pixels) - pixels).square().mean(dim=1)


def normalize_locally(X):
    """Each pixel's deviation from its surroundings, in units of theirs (Gaussian of 8 pixels)."""
    normalized = []
    for x in np.asarray(X, np.float32) / 255:
        mean = ndimage.gaussian_filter(x, 8)
        std = np.sqrt(np.maximum(ndimage.gaussian_filter(x * x, 8) - mean**2, 1e-4))
        normalized.append(np.clip(0.5 + (x - mean) / (6 * std), 0, 1))
    return np.stack(normalized)


def detectors(seed):
    """By name: what is fitted, and settings compared on the same fit; maps as the papers'."""
    ours = {"random_state": seed, "standardize": None, "smoothing": 4.0}
    smoothed = {f"smoothing {s}": {"smoothing": s} for s in (1.0, 8.0)}
    squared = {"error": "squared", "stride": 1}
    distance = {"mahalanobis": {"error": "mahalanobis"}}
    ssim = {"SSIM": {"error": "ssim"}}
    return {
        "full image": (FullImageAE(random_state=seed), {"": {}}),
        "PatchReconstruction": (
            PatchReconstruction(**squared, **ours),
            {"": {}, **ssim, **smoothed, **distance},
        ),
        "PatchReconstruction, patches of 33": (
            PatchReconstruction(patch_size=33, **squared, **ours),
            {"": {}},
        ),
        "PatchReconstruction, latent of 2 channels": (
            PatchReconstruction(channels=(3, 4, 12, 2), **squared, **ours),
            {"": {}},
        ),
        "PatchReconstruction, locally normalised": (
            make_pipeline(
                FunctionTransformer(normalize_locally), PatchReconstruction(**squared, **ours)
            ),
            {"": {}},
        ),
        "PatchLatentSVM": (PatchLatentSVM(svm_patch_sizes=(63,), **ours), {"": {}}),
        # About ten times "scale", as batch norm leaves latents with a variance of about one.
        "PatchLatentSVM, gamma .002": (
            PatchLatentSVM(gamma=0.002, svm_patch_sizes=(63,), **ours),
            {"": {}},
        ),
        "PatchRestoration": (PatchRestoration(error="ssim", **ours), {"": {}, **distance}),
        "PaDiM": (PaDiM(image_size=128, random_state=seed), {"": {}}),
        "FastFlow": (FastFlow(image_size=128, n_steps=8, **ours), {"": {}}),
    }


def test_sets(texture, seed):
    """Normal images, and by condition the same with a defect each, and their masks."""
    normal = make_texture_defects(
        texture, split="test", n_normal=2 * N_TEST, n_defective=0, random_state=100 + seed
    ).images
    others = make_texture_defects(
        TEXTURES[TEXTURES.index(texture) - 1], n_normal=N_TEST, random_state=seed
    ).images
    below, sources = (
        torch.from_numpy(x.astype(np.float32) / 255)[:, None] for x in (normal[:N_TEST], others)
    )
    found = {}
    for name, parameters in CONDITIONS.items():
        drawn = DefectGenerator(**parameters).draw(below, range(N_TEST), sources)
        found[name] = (255 * drawn.images[:, 0]).round().byte().numpy(), drawn.masks.numpy()
    return normal[N_TEST:], found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--textures", nargs="+", choices=TEXTURES, default=list(TEXTURES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--detectors", nargs="+", choices=detectors(0), default=list(detectors(0)))
    arguments = parser.parse_args()
    results = Results("study_textures")
    jobs = [
        (seed, texture, name)
        for seed in arguments.seeds
        for texture in arguments.textures
        for name in arguments.detectors
        if f"{texture}; {name}; seed {seed}" not in results
    ]
    for seed, texture, name in tqdm(jobs):
        train = make_texture_defects(texture, n_normal=N_TRAIN, random_state=seed).images
        normal, defective = test_sets(texture, seed)
        detector, variants = detectors(seed)[name]
        start = time.perf_counter()
        detector.fit(train)
        row = {"fit_s": time.perf_counter() - start}
        last = detector[-1] if hasattr(detector, "steps") else detector
        for variant, parameters in variants.items():
            before = last.get_params()
            with_scores_by(last, parameters)
            normal_maps = detector.transform(normal)
            for condition, (X, masks) in defective.items():
                maps = np.concatenate([normal_maps, detector.transform(X)])
                drawn = masks.any(axis=(1, 2))  # what cannot be seen is not drawn
                kept = np.concatenate([np.ones(len(normal), bool), drawn])
                masks = np.concatenate([np.zeros_like(normal, bool), masks])[kept]
                scores = -maps[kept].max(axis=(1, 2))
                row[f"{variant}; {condition}"] = {
                    "image AUROC": roc_auc_score(~masks.any(axis=(1, 2)), scores),
                    "AUPRO": aupro_score(masks, maps[kept]),
                }
            last.set_params(**{key: before[key] for key in parameters})
        results[f"{texture}; {name}; seed {seed}"] = row
    write_tables(results)


def write_tables(results):
    figures = {}
    for key, row in results.rows.items():
        texture, name, _ = key.split("; ")
        for setting, found in row.items():
            if setting != "fit_s":
                variant, condition = setting.split("; ")
                full = ", ".join(part for part in (name, variant) if part)
                figures.setdefault((full, texture), {}).setdefault(condition, []).append(found)
    header = ["detector", "texture", "seeds", *CONDITIONS]
    lines = []
    for metric in ("image AUROC", "AUPRO"):
        lines.append([f"**{metric}**", *[""] * (len(header) - 1)])
        for (name, texture), conditions in sorted(figures.items()):
            cells = [
                f"{np.mean([f[metric] for f in conditions[c]]):.2f}" if c in conditions else ""
                for c in CONDITIONS
            ]
            lines.append([name, texture, len(next(iter(conditions.values()))), *cells])
        for name in dict.fromkeys(name for name, _ in sorted(figures)):
            of_detector = [found for (other, _), found in figures.items() if other == name]
            means = [np.mean([f[metric] for d in of_detector for f in d[c]]) for c in CONDITIONS]
            lines.append([f"*{name}*", "*mean*", "", *(f"{mean:.2f}" for mean in means)])
    results.write_table(
        "Patch auto-encoders by type, size and contrast of the defect",
        "python benchmarks/study_textures.py",
        f"""Crops of 128x128 of scikit-image's photographs, {N_TRAIN} to train on; {N_TEST} normal
test images, and {N_TEST} others onto which a defect each is drawn. "type": the named types;
"size": a polygon filled with another texture, its lengths times the factor; "contrast": a
deformed ellipse, darker or brighter than what lies below, at the opacity given. Mean over seeds,
and in the last rows over textures. Defaults but for what is named; pretrained:
`tf_efficientnet_lite0` at 128x128.""",
        header,
        lines,
    )


if __name__ == "__main__":
    main()
