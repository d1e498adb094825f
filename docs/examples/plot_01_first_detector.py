"""
A first detector
================

Fit on images of good parts, and see what is found in others.

Images are crops of a photograph of a brick wall. Those to learn from come from its left part,
those to test with from the rest, some of them with a drawn defect.
"""

import numpy as np

from skanomaly import make_ensemble
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay, ScoreHistogramDisplay

train = make_texture_defects("brick", n_normal=50, image_size=96, random_state=0)
test = make_texture_defects(
    "brick", split="test", n_normal=20, n_defective=30, image_size=96, random_state=0
)

# %%
# :func:`~skanomaly.make_ensemble` joins a memory of pretrained features, a subspace of them and
# the local contrast of the pixels. None of the three needs training, so that this takes seconds.

detector = make_ensemble(image_size=96, random_state=0).fit(train.images)
found = detector.detect(test.images)
print(f"flagged: {np.mean(found.labels[test.target == 1] == -1):.0%} of the good images,")
print(f"         {np.mean(found.labels[test.target == -1] == -1):.0%} of the defective ones")

# %%
# Colours turn red at the detector's own threshold, on one scale for all images, so that a good
# part does not glow. Blue outlines are the true defects, boxes what is found.

shown = [0, *(np.flatnonzero(test.defect_types == kind)[0] for kind in ("crack", "foreign"))]
AnomalyMapDisplay.from_estimator(detector, test.images[shown], test.masks[shown], regions=True)

# %%
# Scores of all images. What lies left of the line is flagged.

ScoreHistogramDisplay.from_predictions(test.target, found.scores, threshold=detector.offset_)
