"""
Pipeline and GridSearchCV, with masks
=====================================

A detector is an estimator of scikit-learn's: it goes into a ``Pipeline``, and a search tries its
parameters. Here the score is AUPRO, which takes masks for ``y``.

Such a search needs images of defects. Where there are none, defects can be drawn
(:func:`~skanomaly.model_selection.recommend`).
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skanomaly import SubspaceAD
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import aupro
from skanomaly.model_selection import NormalKFold
from skanomaly.preprocessing import CorrectIllumination

data = make_texture_defects("brick", n_normal=40, n_defective=18, image_size=64, random_state=0)

# %%
# A lamp stands at one side, and is brighter in some images than in others. Should that be taken out
# first?

lamp = np.linspace(0.3, 1, 64) ** np.random.default_rng(0).uniform(0.5, 1.5, (58, 1, 1))
X, masks = (data.images * lamp).astype(np.uint8), data.masks
figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
for i, ax in enumerate(axes):
    ax.imshow(X[14 * i], cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()

# %%
# :class:`~skanomaly.model_selection.NormalKFold` trains on normal images alone and tests on those
# left out, and on the anomalous ones. ``"passthrough"`` is the pipeline without its first step.

pipeline = Pipeline(
    [
        ("light", CorrectIllumination(method="background")),
        ("detector", SubspaceAD(image_size=64, random_state=0)),
    ]
)
grid = {
    "light": ["passthrough", CorrectIllumination(method="background")],
    "detector__smoothing": [0.0, 1.0, 3.0, 8.0],
}
search = GridSearchCV(pipeline, grid, scoring=aupro, cv=NormalKFold(2), error_score="raise").fit(
    X, masks
)
print(search.best_params_, f"AUPRO {search.best_score_:.3f}")

# %%
# Smoothing washes small defects out, and the correction does not help: this network hardly minds
# the lamp. That one need not guess is what a search is for.

results = search.cv_results_
smoothing = results["param_detector__smoothing"].astype(float)
figure, ax = plt.subplots(figsize=(6, 3.6))
corrected = np.array([step != "passthrough" for step in results["param_light"]])
for name, chosen in (("images as they are", ~corrected), ("light corrected", corrected)):
    ax.errorbar(
        smoothing[chosen],
        results["mean_test_score"][chosen],
        results["std_test_score"][chosen],
        marker="o",
        capsize=3,
        label=name,
    )
ax.set(xlabel="smoothing, pixels", ylabel="AUPRO, mean and deviation of two folds")
ax.legend()

# %%
# The best one was chosen with the images of defects: report its figures on others.
