"""
Large images in tiles
=====================

A network sees images of a few hundred pixels. A defect of a few pixels in a large image is gone
when the image has been shrunk to that; :class:`~skanomaly.TiledDetector` lets a detector see the image
in pieces of its own resolution.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import gravel

from skanomaly import SubspaceAD, TiledDetector
from skanomaly.plotting import AnomalyMapDisplay

rng = np.random.default_rng(0)
wall = np.concatenate([gravel(), gravel()[:, ::-1]], axis=1)  # 512 x 1024


def image(defect=False):
    """A part of the wall, mirrored at random, 384 x 384; the defect is a dot of 6 x 6 pixels."""
    row, column = rng.integers(0, 128), rng.integers(0, 640)
    cut = wall[row : row + 384, column : column + 384].astype(float)
    cut = cut[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])] + rng.normal(0, 4, (384, 384))
    mask = np.zeros(cut.shape, bool)
    if defect:
        row, column = rng.integers(40, 340, 2)
        mask[row : row + 6, column : column + 6] = True
        cut[mask] = 250
    return cut.clip(0, 255).astype(np.uint8), mask


train = [image()[0] for _ in range(16)]
test, masks = zip(*(image(defect=True) for _ in range(8)))

# %%
# The same detector twice: on the whole image, shrunk to 96 x 96, and on tiles of 96 x 96.

shrunk = SubspaceAD(image_size=96, random_state=0).fit(train)
tiled = TiledDetector(SubspaceAD(image_size=96, random_state=0), tile_size=96).fit(train)
for name, detector in (("shrunk", shrunk), ("in tiles", tiled)):
    print(f"{name:9s} {np.sum(detector.predict(test) == -1)} of {len(test)} dots are flagged")

# %%
# The first image that only the tiles tell. Its dot is inside the blue outline; maps have the size of
# the image, and their colours turn at each detector's threshold.

both = tiled.predict(test) < shrunk.predict(test)
i = int(np.argmax(both))
figure, axes = plt.subplots(2, 3, figsize=(9, 5.6))
for row, (name, detector) in enumerate((("shrunk", shrunk), ("in tiles", tiled))):
    AnomalyMapDisplay.from_estimator(detector, [test[i]], [masks[i]], ax=axes[row])
    axes[row, 0].set_ylabel(name)
