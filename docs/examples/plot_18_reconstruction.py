"""
What a network gives back
=========================

:class:`~skanomaly.SelfSupervisedAE` is trained to take drawn defects out of images. What it
changes in a new image is the map.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly import SelfSupervisedAE
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay

train = make_texture_defects("brick", n_normal=40, image_size=64, random_state=0)
test = make_texture_defects(
    "brick", split="test", n_normal=20, n_defective=30, image_size=64, random_state=0
)

# %%
# A small network, for a few epochs, so that this page is built in seconds.

detector = SelfSupervisedAE(
    width=16, depth=2, image_size=64, max_epochs=12, train_batch_size=4, random_state=0
)
detector.fit(train.images)
print(f"image AUROC {roc_auc_score(test.target, detector.score_samples(test.images)):.3f}")

# %%
# What it was given, what it gave back, the difference, and the map that is made of it, which turns
# red at the threshold.

kinds = ("foreign", "missing", "stain", "crack")
shown = test.images[[np.flatnonzero(test.defect_types == kind)[0] for kind in kinds]]
given_back = detector.reconstruct(shown)
columns = {"image": shown / 255, "given back": given_back, "difference": shown / 255 - given_back}
figure, axes = plt.subplots(4, 4, figsize=(8, 7.2))
for column, (name, images) in enumerate(columns.items()):
    low, high, colours = (-0.5, 0.5, "PuOr") if name == "difference" else (0, 1, "gray")
    for ax, image in zip(axes[:, column], images):
        ax.imshow(image, cmap=colours, vmin=low, vmax=high)
        ax.set(xticks=[], yticks=[])
    axes[0, column].set_title(name)
for ax, kind in zip(axes[:, 0], kinds):
    ax.set_ylabel(kind)
AnomalyMapDisplay.from_predictions(
    shown,
    detector.transform(shown),
    threshold=detector.map_threshold_,
    kinds=["map"],
    ax=axes[:, 3],
)

# %%
# Loss while it was trained, from the net's own history:

history = detector.net_.history
figure, ax = plt.subplots(figsize=(6, 3))
ax.plot(history[:, "train_loss"], label="training images")
ax.plot(history[:, "valid_loss"], label="images kept out")
ax.set(xlabel="epoch", ylabel="loss", yscale="log")
ax.legend()
