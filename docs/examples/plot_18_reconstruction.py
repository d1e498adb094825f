"""
What a network gives back
=========================

:class:`~skanomaly.SelfSupervisedAE` is trained to take drawn defects out of images. What it
changes in a new image is the map.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from skanomaly import SelfSupervisedAE
from skanomaly.plotting import AnomalyMapDisplay
from skanomaly.synthesis import DefectGenerator

rng = np.random.default_rng(0)
grain = gaussian_filter(rng.normal(size=(80, 64, 64)), (0, 0.7, 2))
sheets = (140 + 14 * grain / grain.std()).astype(np.uint8)
train, good, others = np.split(sheets, [40, 60])

# %%
# Sheets with a grain. Some that are new get a defect, of types that the network has not been
# trained with.

kinds = ("scratch", "crack", "spot", "stain")
images = torch.from_numpy(others)[:, None] / 255
drawn = [
    DefectGenerator(types=[kinds[i % 4]]).draw(images[[i]], seeds=[i]) for i in range(len(images))
]
bad = np.stack([(255 * d.images[0, 0]).round().numpy().astype(np.uint8) for d in drawn])

# %%
# A small network, so that this page is built in seconds.

detector = SelfSupervisedAE(width=24, depth=2, image_size=64, max_epochs=15, random_state=0)
detector.fit(train)
scores = detector.score_samples(np.concatenate([good, bad]))
print(f"image AUROC {roc_auc_score(np.repeat([1, -1], 20), scores):.3f}")

# %%
# What it was given, what it gave back, the difference, and the map that is made of it, which turns
# red at the threshold. After so little training stains and cracks pale, and spots are still given
# back: there is no more of it in the map than what was taken out.

shown = bad[:4]
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
