"""The pictures of docs/: evaluation.md (and its report), artificial-defects.md, the study."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS
from matplotlib.figure import Figure
from PIL import Image
from skimage import data

from skanomaly import (
    HierarchicalFeatureAE,
    PaDiM,
    PatchLatentSVM,
    PatchReconstruction,
    PatchRestoration,
    make_ensemble,
)
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import evaluate
from skanomaly.plotting import AnomalyMapDisplay, PROCurveDisplay, ScoreHistogramDisplay
from skanomaly.plotting._common import draw_outline
from skanomaly.synthesis import CORRUPTION_TYPES, DEFECT_TYPES, DefectGenerator

IMAGES = Path(__file__).parents[1] / "docs" / "images"

# Photographs that come with scikit-image, as far as the sheet of defects shows them.
PHOTOGRAPHS = ("coffee", "brick", "gravel", "moon")
CELL = 112


def evaluation():
    """A report, maps and curves of one detector."""
    train = make_texture_defects("brick", split="train", n_normal=100, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=40, random_state=0)
    detector = HierarchicalFeatureAE(max_epochs=20, random_state=0).fit(train.images)
    report = evaluate(
        detector, test.images, test.masks, defect_types=test.defect_types, random_state=0
    )
    (RESULTS / "report.txt").write_text(f"{report}\n")
    (RESULTS / "report.html").write_text(report._repr_html_())
    print(report)

    defective = [np.flatnonzero(test.defect_types == kind)[0] for kind in ("crack", "stain")]
    shown = [0, 1, *defective]
    figure = Figure(figsize=(7.4, 9.6), layout="constrained", dpi=100)
    axes = figure.subplots(len(shown), 3, squeeze=False)
    AnomalyMapDisplay.from_estimator(detector, test.images[shown], test.masks[shown], ax=axes)
    figure.savefig(IMAGES / "maps.png")

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    found = detector.detect(test.images)
    ScoreHistogramDisplay.from_predictions(
        test.target, found.scores, threshold=detector.offset_, ax=left
    )
    PROCurveDisplay.from_predictions(test.masks, found.maps, name="HFR-AE", ax=right)
    figure.savefig(IMAGES / "curves.png")


def regions():
    """Boxes around what a detector finds."""
    train = make_texture_defects("brick", split="train", n_normal=100, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=4, random_state=1)
    detector = make_ensemble(image_size=128, random_state=0).fit(train.images)
    chosen = [np.flatnonzero(test.defect_types == kind)[0] for kind in ("scratch", "spot", "crack")]
    shown = [0, *chosen]
    figure = Figure(figsize=(7.4, 9.6), layout="constrained", dpi=100)
    AnomalyMapDisplay.from_estimator(
        detector,
        test.images[shown],
        test.masks[shown],
        regions=True,
        ax=figure.subplots(len(shown), 3, squeeze=False),
    )
    path = IMAGES / "regions.png"
    figure.savefig(path)
    _quantize(path)


def defects():
    """A sheet of every type of defect with its mask."""
    photographs = torch.stack([_photograph(name) for name in PHOTOGRAPHS])
    shapes, textures = (
        list(dict.fromkeys(kind[i] for kind in CORRUPTION_TYPES.values())) for i in range(2)
    )
    learned = {shape: [f"{shape}-{texture}" for texture in textures] for shape in shapes}
    named = {name: [name] * len(PHOTOGRAPHS) for name in DEFECT_TYPES}
    blocks = [(textures, learned), (PHOTOGRAPHS, named)]

    left, head = 64, 24  # pixels for the names
    height = sum(head + (CELL + 2) * len(rows) for _, rows in blocks)
    width = left + 2 * (CELL + 2) * len(PHOTOGRAPHS)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    top = height
    for columns, rows in blocks:
        for i, name in enumerate(columns):
            x = left + 2 * (CELL + 2) * (i + 0.5)
            figure.text(x / width, (top - head / 2) / height, name, ha="center", va="center")
        top -= head
        for row, (name, types) in enumerate(rows.items()):
            top -= CELL + 2
            figure.text(4 / width, (top + CELL / 2) / height, name, va="center")
            figure.figimage(_strip(types, photographs, row), left, top)
    path = IMAGES / "defects.png"
    figure.savefig(path)
    _quantize(path)


def _quantize(path):
    """Save a picture of few colours as such, in a fraction of the size."""
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def _photograph(name):
    """The middle of a photograph at half its size, (3, CELL, CELL)."""
    image = Image.fromarray(getattr(data, name)()).convert("RGB").reduce(2)
    left, top = (n // 2 - CELL // 2 for n in image.size)
    image = np.array(image.crop((left, top, left + CELL, top + CELL)), np.float32) / 255
    return torch.from_numpy(image).permute(2, 0, 1)


def _strip(types, photographs, seed):
    """Each photograph with a defect of its type, and the mask beside it."""
    cells = []
    for i, name in enumerate(types):
        drawn = DefectGenerator(types=[name]).draw(
            photographs[[i]], seeds=[10 * seed + i], sources=photographs[[i - 1]]
        )
        image = drawn.images[0].permute(1, 2, 0).numpy()
        mask = np.repeat(drawn.masks[0].numpy()[:, :, None], 3, axis=2)
        cells += [
            np.pad(part, ((0, 2), (0, 2), (0, 0)), constant_values=1) for part in (image, mask)
        ]
    return np.concatenate(cells, axis=1).astype(np.float64)


def patches():
    """Maps of the detectors on patch auto-encoders as the paper has them, and of PaDiM."""
    train = make_texture_defects("brick", n_normal=30, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=1, random_state=1)
    shown = [int(np.flatnonzero(test.defect_types == kind)[1]) for kind in DEFECT_TYPES]
    shown = [0, *shown]
    X, masks = test.images[shown], test.masks[shown]
    detectors = [
        make(random_state=0, standardize=None, smoothing=4.0).fit(train.images)
        for make in (
            partial(PatchReconstruction, error="squared", stride=1),
            partial(PatchLatentSVM, svm_patch_sizes=(63,)),
            partial(PatchRestoration, error="ssim"),
        )
    ]
    detectors.append(PaDiM(image_size=128, random_state=0).fit(train.images))
    figure = Figure(figsize=(1.5 * len(shown) + 1, 1.55 * (len(detectors) + 2)), dpi=90)
    axes = figure.subplots(
        len(detectors) + 2, len(shown), gridspec_kw={"wspace": 0.04, "hspace": 0.04}
    )
    figure.subplots_adjust(left=0.11, right=0.99, bottom=0.01, top=0.96)
    rows = [("image", X, "gray", 255), ("restored", detectors[2].restore(X), "gray", 1)]
    for detector in detectors:
        limit = 2 * detector.map_threshold_
        rows.append((type(detector).__name__, detector.transform(X), "inferno", limit))
    for (name, pictures, colours, limit), line in zip(rows, axes):
        line[0].set_ylabel(name.replace("Patch", "Patch\n").replace("Latent", ""), fontsize=8)
        for picture, mask, kind, ax in zip(pictures, masks, test.defect_types[shown], line):
            ax.imshow(picture, cmap=colours, vmin=0, vmax=limit)
            draw_outline(ax, mask)
            ax.set(xticks=[], yticks=[])
            if name == "image":
                ax.set_title(kind, fontsize=8)
    path = IMAGES / "patches.png"
    figure.savefig(path)
    _quantize(path)


PICTURES = {
    "evaluation": evaluation,
    "regions": regions,
    "defects": defects,
    "patches": patches,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=PICTURES, default=list(PICTURES))
    for name in parser.parse_args().pictures:
        PICTURES[name]()


if __name__ == "__main__":
    main()
