"""
Learn from further images, and from other lines
===============================================

Memories, Gaussians and subspaces take further images without a new fit on all, and those that were
fitted elsewhere can be made one.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly import PaDiM, merge_detectors
from skanomaly.datasets import make_texture_defects

data = make_texture_defects("brick", n_normal=340, n_defective=60, image_size=64, random_state=0)
X, new, y = data.images[:240], data.images[240:], data.target[240:]


def padim():
    """Two are merged only if they have drawn the same features: equal seeds."""
    return PaDiM(image_size=64, n_features=30, random_state=0)


# %%
# Twenty images a time. Each is scored before it is learnt from, and this score helps to set the
# threshold.

detector, seen = padim().fit(X[:20]), []
for start in range(20, 241, 20):
    scores = detector.score_samples(new)
    seen.append(
        (
            detector.n_images_,
            roc_auc_score(y, scores),
            np.mean(scores[y == 1] < detector.offset_),
            np.mean(scores[y == -1] < detector.offset_),
        )
    )
    if start < 240:
        detector.partial_fit(X[start : start + 20])

n_images, auroc, false_alarms, detections = np.array(seen).T
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
axes[0].plot(n_images, auroc, marker="o")
axes[0].set(xlabel="images learnt from", ylabel="image AUROC")
axes[1].plot(n_images, 100 * detections, marker="o", label="defects")
axes[1].plot(n_images, 100 * false_alarms, marker="o", label="good parts")
axes[1].axhline(5, color="gray", linewidth=1, linestyle=":", label="asked")
axes[1].set(xlabel="images learnt from", ylabel="% flagged")
axes[1].legend()

# %%
# Two lines, 120 images each. What is made of both is, to rounding, one fit on all: their scores lie
# on the diagonal.

both = merge_detectors([padim().fit(X[:120]), padim().fit(X[120:])])
parts = [padim().fit(X[:120], X_val=X[:20]), padim().fit(X[120:], X_val=X[:20])]
of_all, merged = padim().fit(X, X_val=X[:20]), merge_detectors(parts)
scores, expected = (d.score_samples(new) for d in (merged, of_all))
print(f"{both.n_images_} images learnt from, {len(both.validation_scores_)} scores kept")
print(f"largest difference of a score from one fit on all: {np.max(np.abs(scores - expected)):.1e}")

figure, ax = plt.subplots(figsize=(4.2, 4))
ax.scatter(expected, scores, s=12, c=np.where(y == 1, "C0", "C1"))
ax.axline((expected.min(), expected.min()), slope=1, color="gray", linewidth=1)
ax.set(xlabel="score, one fit on all", ylabel="score, two fits merged")
