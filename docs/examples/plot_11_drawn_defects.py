"""
Artificial defects
==================

:class:`~skanomaly.synthesis.DefectGenerator` draws defects onto images of good parts: to train
with, to choose a detector by, to see what a method reacts to. They are not real ones, and figures
on them are no promise.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from skanomaly import SubspaceAD
from skanomaly.datasets import make_texture_defects
from skanomaly.synthesis import CORRUPTION_TYPES, DEFECT_TYPES, DefectGenerator

made = make_texture_defects("brick", n_normal=60, random_state=0).images
images = torch.from_numpy(made)[:, None] / 255
other = torch.from_numpy(make_texture_defects("grass", n_normal=6).images)[:, None] / 255

# %%
# Six types are named as an inspector names them, with an exact mask each. Outside of the mask an
# image stays as it was, to the bit.

figure, axes = plt.subplots(2, len(DEFECT_TYPES), figsize=(10, 3.8))
for i, name in enumerate(DEFECT_TYPES):
    drawn = DefectGenerator(types=[name]).draw(images[[i]], seeds=[i], sources=other[[i]])
    axes[0, i].imshow(drawn.images[0, 0], cmap="gray", vmin=0, vmax=1)
    axes[1, i].imshow(drawn.masks[0], cmap="gray")
    axes[0, i].set_title(name)
for ax in axes.flat:
    ax.set_axis_off()

# %%
# Sixteen more are every shape with every texture, to learn from:

figure, axes = plt.subplots(4, 4, figsize=(7, 7.6))
for i, (ax, name) in enumerate(zip(axes.flat, CORRUPTION_TYPES)):
    generator = DefectGenerator(types=[name], n_regions=(1, 1), opacity=(0.9, 1.0))
    drawn = generator.draw(images[[i]], seeds=[i], sources=other[[0]])
    ax.imshow(drawn.images[0, 0], cmap="gray", vmin=0, vmax=1)
    ax.set_title(name, fontsize=9)
    ax.set_axis_off()

# %%
# What does a detector react to? Stains, from hardly visible to plain:

detector = SubspaceAD(image_size=128, random_state=0).fit(made[:40])
good = detector.score_samples(made[40:])
opacities, aurocs = np.array([0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0]), []
for opacity in opacities:
    generator = DefectGenerator(types=["stain"], opacity=(opacity, opacity))
    stained = generator.draw(images[40:], seeds=range(20)).images[:, 0].numpy()
    scores = np.concatenate([good, detector.score_samples(stained)])
    aurocs.append(roc_auc_score(np.repeat([1, -1], 20), scores))

figure, ax = plt.subplots(figsize=(6, 3.4))
ax.plot(opacities, aurocs, marker="o")
ax.axhline(0.5, color="gray", linewidth=1, linestyle=":")
ax.set(xlabel="opacity of a stain", ylabel="image AUROC")
