"""
Any outlier detector of scikit-learn's, on images
=================================================

:class:`~skanomaly.FeatureOutlierDetector` gives pretrained features of patches to any estimator
that has ``score_samples``, and makes maps and a threshold of what it says. PyOD's detectors do as
well.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skanomaly import FeatureOutlierDetector
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay

train = make_texture_defects("brick", n_normal=40, image_size=96, random_state=0)
test = make_texture_defects(
    "brick", split="test", n_normal=24, n_defective=24, image_size=96, random_state=0
)
estimators = {
    "IsolationForest": IsolationForest(n_estimators=50, random_state=0),
    "PCA": make_pipeline(StandardScaler(), PCA(0.95)),
    "GaussianMixture": make_pipeline(
        StandardScaler(), GaussianMixture(2, reg_covar=0.01, random_state=0)
    ),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True),
}

# %%
# A row is a position of the features' grid; the scores of all positions are the map.

found, detectors = {}, {}
for name, estimator in estimators.items():
    detector = FeatureOutlierDetector(
        estimator, layers=(1, 2), image_size=96, max_patches=2000, random_state=0
    )
    detectors[name] = detector.fit(train.images)
    found[name] = detector.detect(test.images)
aurocs = {name: roc_auc_score(test.target, f.scores) for name, f in found.items()}
for name, auroc in aurocs.items():
    print(f"{name:20s} image AUROC {auroc:.3f}")

# %%
# Estimators that take into account how features hang together see more than those that look at one
# at a time.

kinds = ("crack", "stain")
shown = [np.flatnonzero(test.defect_types == kind)[0] for kind in kinds]
figure, axes = plt.subplots(2, 5, figsize=(10, 4.2))
for ax, kind, i in zip(axes[:, 0], kinds, shown):
    ax.imshow(test.images[i], cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[], ylabel=kind)
for column, (name, detector) in enumerate(detectors.items(), start=1):
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
    axes[0, column].set_title(f"{name}\nimage AUROC {aurocs[name]:.2f}", fontsize=9)
    if column < 4:
        display.colorbar_.remove()  # one for all
