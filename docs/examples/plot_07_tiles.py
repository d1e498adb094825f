"""
Large images in tiles
=====================

A network sees images of a few hundred pixels. A defect of a few pixels in a large image is gone
when the image has been shrunk to that; :class:`~skanomaly.TiledDetector` lets a detector see the
image in pieces of its own resolution.
"""

import numpy as np
from skimage.data import brick

from skanomaly import SubspaceAD, TiledDetector
from skanomaly.plotting import AnomalyMapDisplay

rng = np.random.default_rng(0)
wall = np.concatenate([brick(), brick()[:, ::-1]], axis=1)  # 512 x 1024


def image(defect=False):
    """A part of the wall, mirrored at random, 384 x 384; the defect is a hole of 9 x 9 pixels."""
    row, column = rng.integers(0, 128), rng.integers(0, 640)
    cut = wall[row : row + 384, column : column + 384].astype(float)
    cut = cut[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])] + rng.normal(0, 2, (384, 384))
    mask = np.zeros(cut.shape, bool)
    if defect:
        row, column = rng.integers(40, 330, 2)
        mask[row : row + 9, column : column + 9] = True
        cut[mask] = 20
    return cut.clip(0, 255).astype(np.uint8), mask


train = [image()[0] for _ in range(20)]
good = [image()[0] for _ in range(10)]
test, masks = zip(*(image(defect=True) for _ in range(10)))

# %%
# The same detector twice: on the whole image, shrunk to 96 x 96, and on tiles of 96 x 96.

subspace = SubspaceAD(image_size=96, smoothing=2.0, random_state=0)
detectors = {"shrunk": subspace, "in tiles": TiledDetector(subspace, tile_size=96)}
found = {name: detector.fit(train).predict(test) == -1 for name, detector in detectors.items()}
for name, detector in detectors.items():
    print(f"{name:9s} flagged: {found[name].sum()} of 10 with a hole, ", end="")
    print(f"{np.sum(detector.predict(good) == -1)} of 10 good ones")

# %%
# An image in which only the tiles find the hole, shrunk and in tiles. Maps have the size of the
# image, and their colours turn at each detector's threshold.

i = int(np.argmax(found["in tiles"] & ~found["shrunk"]))
for detector in detectors.values():
    AnomalyMapDisplay.from_estimator(detector, [test[i]], [masks[i]])
