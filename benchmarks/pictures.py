"""The pictures of docs/: of the evaluation (and its report), defects, the study, steps, tiles."""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, fit
from _large import WINDOW, LargeImages
from align import MOVES, drawn_parts, moved
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from skanomaly import (
    HierarchicalFeatureAE,
    PaDiM,
    PatchCore,
    PatchLatentSVM,
    PatchReconstruction,
    PatchRestoration,
    TiledDetector,
    TransformedImageDetector,
    make_ensemble,
)
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import evaluate
from skanomaly.plotting import (
    AnomalyMapDisplay,
    PROCurveDisplay,
    ScoreHistogramDisplay,
    finding_picture,
    finding_sheet,
)
from skanomaly.plotting._common import draw_outline
from skanomaly.preprocessing import Align, CorrectIllumination
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


def findings():
    """What the README's detector says of six images."""
    train = make_texture_defects("brick", split="train", n_normal=100, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=40, random_state=0)
    good = make_texture_defects("brick", split="test", n_normal=100, n_defective=0, random_state=1)
    detector = make_ensemble(random_state=0).fit(train.images, X_val=good.images)
    kinds = ("good", "crack", "scratch", "spot", "missing", "stain")
    shown = [np.flatnonzero(test.defect_types == kind)[0] for kind in kinds]
    found = detector.detect(test.images[shown])
    pictures = [
        finding_picture(
            test.images[i],
            found.maps[row],
            score=found.scores[row],
            offset=detector.offset_,
            map_threshold=detector.map_threshold_,
        )
        for row, i in enumerate(shown)
    ]
    finding_sheet(pictures).save(IMAGES / "findings.png", optimize=True)


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


def preprocessing():
    """Parts that were moved, with and without alignment; a surface with a lamp at one side."""
    parts = moved(drawn_parts(0), "rigid", MOVES["drawn part"], seed=0)
    shown = [0, 31, 33]
    X, masks = ([part[i] for i in shown] for part in (parts.test.images, parts.test.masks))
    padim = PaDiM(random_state=0)
    aligned = TransformedImageDetector(Align(on_failure="warn"), padim)
    columns = {}
    for name, detector in (("PaDiM", padim), ("PaDiM, aligned", aligned)):
        fit(detector, parts.train, X_val=parts.validation)
        columns[name] = detector.transform(X), 2 * detector.map_threshold_
    columns = {
        "image": (X, None),
        "PaDiM's map": columns["PaDiM"],
        "as Align shows it": (aligned.transformer_.transform(X), None),
        "map with Align": columns["PaDiM, aligned"],
    }
    figure = Figure(figsize=(7.2, 7.5), layout="constrained", dpi=80)
    axes = figure.subplots(len(shown) + 1, len(columns))
    for (name, (pictures, limit)), column in zip(columns.items(), axes[:-1].T):
        column[0].set_title(name, fontsize=9)
        for picture, mask, ax in zip(pictures, masks, column):
            ax.imshow(picture, cmap="inferno", vmin=0, vmax=limit)
            if name == "image" or limit:
                draw_outline(ax, mask)
    surface = np.stack(np.split(_brushed_metal(0)[:, 384:512, 0], 8))
    lamp = np.hypot(*np.meshgrid(np.arange(128), np.arange(128)))
    lit = np.uint8(surface * (1.2 - 0.9 * lamp / lamp.max()))
    names = "lamp at a corner", "flat_field", "background"
    pictures = [lit[0]]
    pictures += [CorrectIllumination(method=m).fit_transform(lit)[0] for m in names[1:]]
    for name, picture, ax in zip(names, pictures, axes[-1]):
        ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
        ax.set_title(name, fontsize=9)
    for ax in axes.flat:
        ax.set_axis_off()
    path = IMAGES / "preprocessing.png"
    figure.savefig(path)
    _quantize(path)


def tiles():
    """Defects of three sizes in large images, and their maps from all of it and from tiles."""
    train = LargeImages([_brushed_metal(0)], (1536, 2048), range(6))
    whole = PatchCore(coreset=2000, max_candidates=50_000, random_state=0)
    tiled = TiledDetector(whole)
    for detector in (whole, tiled):
        fit(detector, train[:5], X_val=train[5:])
    figure = Figure(figsize=(7.4, 5), layout="constrained", dpi=80)
    axes = figure.subplots(3, 4, gridspec_kw={"width_ratios": (4, 3, 3, 3)})
    titles = ["2048 x 1536", "the square", "map, shrunk to 256", "map, tiles of 512"]
    for extent, line in zip(((6, 12), (12, 24), (24, 40)), axes):
        images = LargeImages([_brushed_metal(1)], (1536, 2048), [extent[0]], extent)
        image, mask = images[0], images.mask(0)
        top, left = (
            int(np.clip((part.start + part.stop) / 2 - 1.5 * WINDOW, 0, n - 3 * WINDOW))
            for part, n in zip(images.place(0), image.shape)
        )
        within = slice(top, top + 3 * WINDOW), slice(left, left + 3 * WINDOW)
        line[0].imshow(image)
        line[0].plot(
            left + 3 * WINDOW * np.array([0, 1, 1, 0, 0]),
            top + 3 * WINDOW * np.array([0, 0, 1, 1, 0]),
            color="yellow",
            linewidth=1,
        )
        line[1].imshow(image[within])
        for detector, ax in zip((whole, tiled), line[2:]):
            found = detector.transform(image[None])[0]
            ax.imshow(found[within], cmap="inferno", vmin=0, vmax=1.5 * detector.map_threshold_)
            draw_outline(ax, mask[within])
        for ax, title in zip(line, titles):
            ax.set_axis_off()
            ax.set_title(title, fontsize=9)
    path = IMAGES / "tiles.png"
    figure.savefig(path)
    _quantize(path)


def _brushed_metal(seed):
    """A surface of (1024, 1024, 3), uint8: noise of several lengths along the rows."""
    rng = np.random.default_rng(seed)
    lengths = (3, 12, 48)
    noise = rng.normal(size=(len(lengths), 1024, 1024))
    grain = sum(n * gaussian_filter(part, (0.7, n)) for n, part in zip(lengths, noise))
    values = np.rint(140 + 14 * grain / grain.std()).clip(0, 255).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2)


PICTURES = {
    "findings": findings,
    "evaluation": evaluation,
    "regions": regions,
    "defects": defects,
    "patches": patches,
    "preprocessing": preprocessing,
    "tiles": tiles,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=PICTURES, default=list(PICTURES))
    for name in parser.parse_args().pictures:
        PICTURES[name]()


if __name__ == "__main__":
    main()
