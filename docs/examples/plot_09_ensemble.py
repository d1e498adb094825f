"""
An ensemble sees what no member sees
====================================

Members of an :class:`~skanomaly.EnsembleDetector` see an image once, are brought to one scale by the
maps of normal images, and are joined. Each has a name, by which its parameters are reached.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly import EnsembleDetector, LocalContrast, SubspaceAD
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import aupro_score
from skanomaly.plotting import AnomalyMapDisplay

kinds = ["spot", "foreign"]
train = make_texture_defects("brick", n_normal=50, random_state=0)
test = make_texture_defects(
    "brick", split="test", n_normal=30, n_defective=40, defect_types=kinds, random_state=0
)

# %%
# The contrast of pixels sees spots, of which a network's coarse features know little. A patch of
# another texture, matched in brightness, is nothing to it; features see it at once.

members = [
    ("contrast", LocalContrast(image_size=128)),
    ("subspace", SubspaceAD(layers=(2, 3), image_size=128, random_state=0)),
]
both = EnsembleDetector(members, combination="norm", image_size=128, random_state=0)
detectors = {**dict(members), "both": both}
aupros = {}
for name, detector in detectors.items():
    found = detector.fit(train.images).detect(test.images)
    aupros[name] = [
        aupro_score(test.masks[of_kind], found.maps[of_kind])
        for of_kind in (np.isin(test.defect_types, ["good", kind]) for kind in kinds)
    ]
    print(f"{name:9s} image AUROC {roc_auc_score(test.target, found.scores):.3f}")

figure, ax = plt.subplots(figsize=(6, 3.4))
for i, (name, values) in enumerate(aupros.items()):
    bars = ax.bar(np.arange(len(kinds)) + 0.27 * (i - 1), values, 0.25, label=name)
    ax.bar_label(bars, fmt="%.2f", fontsize=8)
ax.set_xticks(range(len(kinds)), kinds)
ax.set(ylabel="AUPRO", ylim=(0, 1.1))
ax.legend(loc="lower right", framealpha=1)

# %%
# The maps, in units of each one's threshold:

shown = [np.flatnonzero(test.defect_types == kind)[1] for kind in kinds]
figure, axes = plt.subplots(2, 4, figsize=(9, 4.2))
for ax, kind, i in zip(axes[:, 0], kinds, shown):
    ax.imshow(test.images[i], cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[], ylabel=kind)
for column, (name, detector) in enumerate(detectors.items(), start=1):
    display = AnomalyMapDisplay.from_predictions(
        test.images[shown],
        detector.transform(test.images[shown]) / detector.map_threshold_,
        masks=test.masks[shown],
        threshold=1,
        kinds=["map"],
        vmin=-1,
        vmax=3,
        ax=axes[:, column],
    )
    axes[0, column].set_title(name)
    if column < 3:
        display.colorbar_.remove()  # one for all
