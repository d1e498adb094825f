"""
An ensemble sees what no member sees
====================================

Members of an :class:`~skanomaly.EnsembleDetector` see an image once, are brought to one scale by
the maps of normal images, and are joined. Each has a name, by which its parameters are reached.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

from skanomaly import EnsembleDetector, LocalContrast, SubspaceAD
from skanomaly.metrics import aupro_score
from skanomaly.plotting import AnomalyMapDisplay

rng = np.random.default_rng(0)
KINDS = ("speck", "weave")


def sheet(kind=None):
    """A sheet of paper, 128 x 128; with a speck of 4 x 4 pixels or a patch of another grain."""

    def grain(sigma):
        noise = gaussian_filter(rng.normal(size=(128, 128)), sigma)
        return 12 * noise / noise.std()

    image, mask = 150 + grain(1.5), np.zeros((128, 128), bool)
    row, column = rng.integers(20, 76, 2)
    if kind == "speck":
        mask[row : row + 4, column : column + 4] = True
        image[mask] = 75
    elif kind == "weave":
        mask[row : row + 30, column : column + 30] = True
        image[mask] = (150 + grain((4, 0.7)))[mask]
    return image.clip(0, 255).astype(np.uint8), mask


normal = np.stack([sheet()[0] for _ in range(90)])
test = {kind: [np.stack(a) for a in zip(*(sheet(kind) for _ in range(12)))] for kind in KINDS}

# %%
# The contrast of pixels sees specks, of which a network's coarse features know little. A patch of
# another grain, as bright as its surroundings, is nothing to it; features see it at once.

members = [
    ("contrast", LocalContrast(image_size=128, smoothing=1.0)),
    ("subspace", SubspaceAD(layers=(2, 3), image_size=128, random_state=0)),
]
both = EnsembleDetector(members, combination="norm", image_size=128, smoothing=1.0, random_state=0)
detectors = {**dict(members), "both": both}
aupros, flagged = {}, {}
for name, detector in detectors.items():
    detector.fit(normal[:30], X_val=normal[30:])
    aupros[name] = [aupro_score(masks, detector.transform(X)) for X, masks in test.values()]
    flagged[name] = [np.mean(detector.predict(X) == -1) for X, _ in test.values()]

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, of, label in ((axes[0], aupros, "AUPRO"), (axes[1], flagged, "share flagged")):
    for i, (name, values) in enumerate(of.items()):
        bars = ax.bar(np.arange(2) + 0.27 * (i - 1), values, 0.25, label=name)
        ax.bar_label(bars, fmt="%.2f", fontsize=8)
    ax.set_xticks(range(2), KINDS)
    ax.set(ylabel=label, ylim=(0, 1.1))
axes[1].legend(bbox_to_anchor=(1, 1))

# %%
# The maps, in units of each one's threshold:

shown, masks = (np.stack([test[kind][j][0] for kind in KINDS]) for j in range(2))
figure, axes = plt.subplots(2, 4, figsize=(9, 4.2))
for ax, kind, image in zip(axes[:, 0], KINDS, shown):
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[], ylabel=kind)
for column, (name, detector) in enumerate(detectors.items(), start=1):
    display = AnomalyMapDisplay.from_predictions(
        shown,
        detector.transform(shown) / detector.map_threshold_,
        masks=masks,
        threshold=1,
        kinds=["map"],
        vmin=-1,
        vmax=3,
        ax=axes[:, column],
    )
    axes[0, column].set_title(name)
    if column < 3:
        display.colorbar_.remove()  # one for all
