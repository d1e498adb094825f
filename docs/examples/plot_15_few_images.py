"""
Few images of good parts
========================

How many good images does it take? Two questions in one: how many to rank images, and how many for
a verdict that can be trusted.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly import SubspaceAD
from skanomaly.datasets import make_texture_defects

data = make_texture_defects("brick", n_normal=140, n_defective=60, image_size=64, random_state=0)
X, new, y = data.images[:80], data.images[80:], data.target[80:]

# %%
# Three draws of each number. Of so few none is given away: shares of them are scored in turn by
# what has not seen them, and then all are learnt from.

rng, found = np.random.default_rng(0), {}
for n in (1, 2, 4, 8, 16, 32):
    found[n] = []
    for _ in range(3):
        few = X[rng.choice(len(X), n, replace=False)]
        detector = SubspaceAD(image_size=64, random_state=0).fit(few)
        scores = detector.score_samples(new)
        alarms = np.mean(scores[y == 1] < detector.offset_)
        found[n].append((roc_auc_score(y, scores), alarms))

numbers = np.array(list(found))
auroc, alarms = np.moveaxis(np.array(list(found.values())), 2, 0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, values, name in (
    (axes[0], auroc, "image AUROC"),
    (axes[1], 100 * alarms, "% of good flagged"),
):
    ax.plot(numbers, values, "o", color="C0", alpha=0.4)
    ax.plot(numbers, values.mean(axis=1), color="C0")
    ax.set(xscale="log", xlabel="images of good parts", ylabel=name)
    ax.set_xticks(numbers, numbers)
    ax.minorticks_off()
axes[1].axhline(5, color="gray", linewidth=1, linestyle=":", label="asked")
axes[1].legend()

# %%
# The ranking is there early. The threshold is not: from one image nobody can know how others
# differ, and from fewer than twenty it is extrapolated, here so far that nothing good is flagged at
# all. Rank by :meth:`~skanomaly.SubspaceAD.score_samples` until more images are there, then let
# :meth:`~skanomaly.SubspaceAD.calibrate` set it.

one = SubspaceAD(image_size=64, random_state=0).fit(X[:1])
before = np.mean(one.predict(new)[y == 1] == -1)
after = np.mean(one.calibrate(X[20:80]).predict(new)[y == 1] == -1)
print(f"good parts flagged: {before:.0%} after a fit on one image, {after:.0%} after calibrate")
