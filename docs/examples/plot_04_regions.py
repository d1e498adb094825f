"""
Where the defects are, and how large
====================================

A map says how anomalous each pixel is. :func:`~skanomaly.find_regions` makes a table of it: a box,
a place, an area for whatever lies above the threshold.
"""

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import SubspaceAD, find_regions
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay

train = make_texture_defects("brick", n_normal=40, random_state=0)
test = make_texture_defects("brick", split="test", n_normal=10, n_defective=48, random_state=1)
detector = SubspaceAD(image_size=128, random_state=0).fit(train.images)
found = detector.detect(test.images)

# %%
# One row a region, by image and then from the highest value on. With pandas,
# ``pandas.DataFrame(regions)`` is a data frame.

regions = find_regions(found.maps, detector.map_threshold_)
print("image  box                   area  highest / threshold")
for i in range(6):
    box = f"({regions.top[i]}, {regions.left[i]}) to ({regions.bottom[i]}, {regions.right[i]})"
    times = regions.max[i] / detector.map_threshold_
    print(f"{regions.image[i]:5d}  {box:20s} {regions.area[i]:5d}  {times:.2f}")

# %%
# A display draws them.

shown = [np.flatnonzero(test.defect_types == kind)[0] for kind in ("crack", "spot", "stain")]
AnomalyMapDisplay.from_estimator(detector, test.images[shown], test.masks[shown], regions=True)

# %%
# A map is smoothed and its network sees in cells of several pixels, so that a region is larger
# than a small defect and, where the rim of a large one is faint, smaller. Its area is good for
# sorting, not for measuring.

true_areas = test.masks.sum(axis=(1, 2))
areas = np.bincount(regions.image, weights=regions.area, minlength=len(test.images))
figure, ax = plt.subplots(figsize=(5.5, 4.2))
for kind in sorted(set(test.defect_types) - {"good"}):
    of_kind = (test.defect_types == kind) & (areas > 0)
    ax.scatter(true_areas[of_kind], areas[of_kind], s=22, label=kind)
limits = np.array([10, 5000])
ax.plot(limits, limits, color="gray", linewidth=1, label="equal")
ax.set(xscale="log", yscale="log", xlabel="pixels of the defect", ylabel="pixels of its regions")
ax.legend(fontsize=8)
