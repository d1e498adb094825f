"""
Rows of a table that are images
===============================

scikit-learn's digits come as rows of 64 numbers. :class:`~skanomaly.FlattenedImages` lets a
detector of images take them, as one of scikit-learn's own outlier detectors would.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from skanomaly import FlattenedImages, PatchCore

X, digits = load_digits(return_X_y=True)
print(X.shape)

# %%
# One digit is normal, all others are anomalous.

models = {
    "IsolationForest": IsolationForest(random_state=0),
    "OneClassSVM": OneClassSVM(gamma="scale"),
    "PatchCore": FlattenedImages(
        PatchCore(image_size=64, coreset=500, random_state=0), image_shape=(8, 8)
    ),
}
rng, aurocs = np.random.default_rng(0), {name: [] for name in models}
for normal in (3, 8):
    own = rng.permutation(np.flatnonzero(digits == normal))
    others = rng.choice(np.flatnonzero(digits != normal), 120, replace=False)
    rows, y = np.concatenate([own[100:], others]), np.repeat([1, -1], [len(own) - 100, 120])
    for name, model in models.items():
        scores = model.fit(X[own[:100]]).score_samples(X[rows])
        aurocs[name].append(roc_auc_score(y, scores))
for name, values in aurocs.items():
    print(f"{name:16s}", *(f"{value:.3f}" for value in values))

# %%
# Of the last one, the eights: what is found the most normal and the most anomalous, by the memory
# of patches.

order = rows[np.argsort(scores)]
figure, axes = plt.subplots(2, 8, figsize=(9, 2.8))
for row, (name, chosen) in enumerate((("anomalous", order[:8]), ("normal", order[::-1][:8]))):
    axes[row, 0].set_ylabel(name)
    for ax, i in zip(axes[row], chosen):
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])

# %%
# Eight by eight pixels are few for a network that was trained on photographs. On so small images a
# detector of tables is not worse, and far quicker.
