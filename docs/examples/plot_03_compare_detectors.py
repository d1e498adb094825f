"""
Compare detectors
=================

Three detectors on the same images: the difference of a pixel from its surroundings, which learns
nothing, a subspace of pretrained features and a memory of them.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly import LocalContrast, PatchCore, SubspaceAD
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import aupro_score
from skanomaly.plotting import AnomalyMapDisplay, PROCurveDisplay

train = make_texture_defects("brick", n_normal=40, image_size=96, random_state=0)
test = make_texture_defects(
    "brick", split="test", n_normal=24, n_defective=36, image_size=96, random_state=0
)
detectors = [
    LocalContrast(image_size=96),
    SubspaceAD(image_size=96, random_state=0),
    PatchCore(image_size=96, coreset=1000, random_state=0),
]

# %%
# Image AUROC says how well scores tell defective images from good ones, AUPRO how well maps cover
# defects before they light up elsewhere. 1 is perfect; chance is .5 and about .15.

found = {}
for detector in detectors:
    name = type(detector).__name__
    found[name] = detector.fit(train.images).detect(test.images)
    auroc = roc_auc_score(test.target, found[name].scores)
    print(f"{name:14s} {auroc:.3f} {aupro_score(test.masks, found[name].maps):.3f}")

# %%
# The curves behind AUPRO:

figure, ax = plt.subplots(figsize=(7.5, 4.5))
for name, of_detector in found.items():
    PROCurveDisplay.from_predictions(test.masks, of_detector.maps, name=name, ax=ax)
ax.legend(loc="lower right")

# %%
# One image of each type of defect, and maps in units of each detector's threshold: what is red is
# flagged. What is plain to one of them is brick to another.

kinds = sorted(set(test.defect_types) - {"good"})
shown = [np.flatnonzero(test.defect_types == kind)[0] for kind in kinds]
figure, axes = plt.subplots(len(kinds), 1 + len(detectors), figsize=(7, 9))
for row, (kind, i) in enumerate(zip(kinds, shown)):
    axes[row, 0].imshow(test.images[i], cmap="gray", vmin=0, vmax=255)
    axes[row, 0].set(xticks=[], yticks=[], ylabel=kind)
for column, detector in enumerate(detectors, start=1):
    name = type(detector).__name__
    display = AnomalyMapDisplay.from_predictions(
        test.images[shown],
        found[name].maps[shown] / detector.map_threshold_,
        masks=test.masks[shown],
        threshold=1,
        kinds=["map"],
        vmin=-1,
        vmax=3,
        ax=axes[:, column],
    )
    axes[0, column].set_title(name)
    if column < len(detectors):
        display.colorbar_.remove()  # one for all
