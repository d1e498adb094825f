"""
Several products on one line
============================

One set of images, and a column that says which part each shows.
:class:`~skanomaly.MultiProductDetector` fits a detector for each, and judges each image by its own.
"""

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import MultiProductDetector, SubspaceAD
from skanomaly.datasets import make_texture_defects

names = ("brick", "grass", "gravel")
train = [make_texture_defects(n, n_normal=40, image_size=64, random_state=0) for n in names]
test = [
    make_texture_defects(
        n, split="test", n_normal=30, n_defective=30, image_size=64, random_state=0
    )
    for n in names
]
X, product = np.concatenate([t.images for t in train]), np.repeat(names, 40)
X_test, of_test = np.concatenate([t.images for t in test]), np.repeat(names, 60)
y = np.concatenate([t.target for t in test])

figure, axes = plt.subplots(1, 6, figsize=(9, 1.9))
for ax, i in zip(axes, range(0, 120, 20)):
    ax.imshow(X[i], cmap="gray", vmin=0, vmax=255)
    ax.set_title(product[i])
    ax.set_axis_off()

# %%
# One detector each, and, beside it, a single one for all.

subspace = SubspaceAD(image_size=64, random_state=0)
each = MultiProductDetector(subspace).fit(X, product=product)
single = SubspaceAD(image_size=64, random_state=0).fit(X)
scores = {"one each": each.score_samples(X_test, product=of_test)}
scores["one for all"] = single.score_samples(X_test)

# %%
# Scores are in units of each product's own. A single detector has one threshold for all, which
# flags one product's good parts too often, and lets another's defects pass.

figure, axes = plt.subplots(1, 2, figsize=(10, 4))
for ax, (title, values) in zip(axes, scores.items()):
    for i, name in enumerate(names):
        for label, colour in ((1, "C0"), (-1, "C1")):
            at = (of_test == name) & (y == label)
            jitter = np.random.default_rng(0).uniform(-0.08, 0.08, at.sum())
            x = i + 0.15 * (label == -1) - 0.08 + jitter
            known = {1: "good", -1: "defective"}[label] if i == 0 else None
            ax.scatter(x, values[at], s=8, color=colour, label=known)
        offset = each.offsets_[name] if title == "one each" else single.offset_
        ax.hlines(offset, i - 0.35, i + 0.35, color="black")
    ax.set_xticks(range(3), names)
    ax.set_title(title)
axes[0].set_ylabel("score; black: the threshold")
axes[0].legend()

# %%
# What may be compared between products are verdicts and p-values:

p_values = each.p_values(X_test, product=of_test)
for name in names:
    good, bad = ((of_test == name) & (y == label) for label in (1, -1))
    print(f"{name:7s} p <= .05: {np.mean(p_values[good] <= 0.05):.0%} of good, ", end="")
    print(f"{np.mean(p_values[bad] <= 0.05):.0%} of defective")
