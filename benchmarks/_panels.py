"""Pictures of detectors at work: scenes with a defect, and rows of panels."""

from typing import NamedTuple

import numpy as np
from align import drawn_parts
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image
from scipy.ndimage import gaussian_filter

from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay

PART = slice(72, 184), slice(44, 212)  # of a drawn part's image, where the part is
SMALL = 80  # pixels of a defect that is pointed at
BLUE, RED, GREY = "#2166ac", "#cb181d", "#9aa3ad"


class Scene(NamedTuple):
    """Images to learn from, good ones that set the threshold, and one with a defect."""

    train: object
    validation: object
    image: object
    mask: object
    crop: tuple = (slice(None), slice(None))  # what of it is shown


def bricks(kind="foreign", n_normal=70, nth=0):
    """A wall with a defect of a type."""
    train = make_texture_defects("brick", n_normal=n_normal, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=1, random_state=1)
    chosen = np.flatnonzero(test.defect_types == kind)[nth]
    learnt, others = np.split(train.images, [40])
    return Scene(learnt, others, test.images[chosen], test.masks[chosen])


def plates(n_turns=1, kind=0):
    """A drawn part, in one or several poses, with a scratch or another defect."""
    parts = drawn_parts(0)
    train, validation = (
        np.stack([np.rot90(image, i % n_turns) for i, image in enumerate(images)])
        for images in (parts.train, parts.validation)
    )
    image, mask = parts.test.images[30 + kind], parts.test.masks[30 + kind]
    crop = PART if n_turns == 1 else (slice(None), slice(None))
    return Scene(train, validation, image, mask, crop)


def paper():
    """An even sheet, a little cloudy, with a speck of three pixels."""
    rng = np.random.default_rng(0)

    def sheet():
        cloudy = gaussian_filter(rng.normal(size=(128, 128)), 20)
        grain = rng.normal(size=(128, 128))
        return 0.75 + 0.02 * cloudy / cloudy.std() + 0.015 * grain

    sheets, mask = np.stack([sheet() for _ in range(31)]), np.zeros((128, 128), bool)
    mask[70:73, 40:43] = True
    sheets[-1][mask] -= 0.45
    sheets = np.uint8(255 * sheets.clip(0, 1))
    return Scene(sheets[:10], sheets[10:-1], sheets[-1], mask)


def points(ax, normal, defective, labels):
    """A cloud of normal patches, and those of a defect."""
    ax.scatter(*normal.T, s=2, color=GREY, label="good", rasterized=True)
    ax.scatter(*defective.T, s=7, color=RED, label="defect")
    ax.set_xlabel(labels[0], fontsize=8)
    ax.set_ylabel(labels[1], fontsize=8)
    ax.legend(fontsize=7, loc="best", markerscale=2)


def draw_rows(rows, path):
    """A row for each (detector, scene, panels): image, panels, map and mask."""
    n_columns = 3 + max(len(panels) for *_, panels in rows)
    heights = [height / width for height, width in (s.mask[s.crop].shape for _, s, _ in rows)]
    size = 1.95 * n_columns, 1.9 * sum(heights) + 0.35 * len(rows)
    figure = Figure(figsize=size, layout="constrained", dpi=100)
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    for (detector, scene, panels), line in zip(rows, axes):
        crop = scene.crop
        mask = scene.mask[crop]
        found = detector.detect([scene.image])
        show(line[0], scene.image[crop], "image")
        if mask.sum() < SMALL:
            point_at(line[0], mask)
        for ax, (title, panel) in zip(line[1:], panels.items()):
            if callable(panel):
                panel(ax)
                ax.tick_params(labelsize=7)
                ax.set_title(title, fontsize=9)
            else:
                whole = panel.shape[:2] == scene.mask.shape
                show(ax, panel[crop] if whole else cropped(panel, scene.mask.shape, crop), title)
        display = AnomalyMapDisplay(
            images=[scene.image[crop]],
            maps=[found.maps[0][crop]],
            threshold=detector.map_threshold_,
            masks=[np.zeros_like(mask)],
        ).plot(np.array([[line[-2]]]), kinds=("map",), vmin=0)
        if display.colorbar_ is not None:
            display.colorbar_.ax.tick_params(labelsize=7)
        line[-2].set_title("map", fontsize=9)
        show(line[-1], mask.astype(float), "mask")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def point_at(ax, mask):
    """A circle around what is small."""
    row, column = np.argwhere(mask).mean(axis=0)
    ax.add_patch(Circle((column, row), 9, edgecolor=BLUE, fill=False, linewidth=1))


def cropped(panel, size, crop):
    """That part of a panel of another resolution."""
    whole = [
        slice(round(s.start * n / of), round(s.stop * n / of)) if s.start is not None else s
        for s, n, of in zip(crop, panel.shape, size)
    ]
    return panel[tuple(whole)]


def show(ax, image, title):
    ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)
    ax.set_axis_off()
    ax.set_title(title, fontsize=9)
