"""
Of those flagged, how many are good?
====================================

A threshold flags a share of the *good* parts. If one part in thirty is defective, most of what it
flags may be good all the same. :func:`~skanomaly.calibration.select` bounds the share of good parts
among those *flagged*: the false discovery rate.
"""

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import SubspaceAD
from skanomaly.calibration import select
from skanomaly.datasets import make_texture_defects

data = make_texture_defects("brick", n_normal=960, n_defective=12, image_size=64, random_state=0)
learnt, setting, new = np.split(data.images, [60, 660])
is_defect = data.target[660:] == -1
detector = SubspaceAD(image_size=64, random_state=0).fit(learnt, X_val=setting)

# %%
# p-values are ranks among the 600 normal images that set the threshold. Those of good parts are
# spread evenly; defects have the lowest that there are.

p_values = detector.p_values(new)
figure, ax = plt.subplots(figsize=(7, 3.2))
ax.hist(
    [p_values[~is_defect], p_values[is_defect]], bins=25, stacked=True, label=["good", "defect"]
)
ax.set(xlabel="p-value", ylabel="images")
ax.legend()

# %%
# By the threshold for 5 % and by ``select`` for 20 %, which holds on average over batches: a single
# one may have rather more, or fewer.

by_threshold = p_values <= 0.05
by_select = select(p_values, fdr=0.2, n_reference=600)
for name, flagged in (("false_alarm_rate=0.05", by_threshold), ("select(fdr=0.2)", by_select)):
    good, found = np.sum(flagged & ~is_defect), np.sum(flagged & is_defect)
    print(f"{name:22s} {found} of 12 defects, {good} good ones: {good / (good + found):.0%}")

# %%
# How it decides: the k-th lowest of m p-values is flagged, with all before it, if it lies below the
# line k / m times the rate.

m, k = len(p_values), np.arange(1, 41)
lowest = np.argsort(p_values)[:40]
figure, ax = plt.subplots(figsize=(7, 3.8))
for name, defects, colour in (("good", False, "C0"), ("defect", True, "C1")):
    of_kind = is_defect[lowest] == defects
    ax.scatter(k[of_kind], p_values[lowest][of_kind], color=colour, label=name, zorder=2)
ax.plot(k, 0.2 * k / m, color="black", label="k / m x 0.2")
ax.axhline(0.05, color="#c0392b", linewidth=1, label="false_alarm_rate=0.05")
ax.axvline(by_select.sum() + 0.5, color="gray", linestyle=":", label="flagged by select")
ax.set(xlabel="k, the lowest p-values", ylabel="p-value")
ax.legend()
