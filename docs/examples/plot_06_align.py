"""
Parts that do not lie still
===========================

:class:`~skanomaly.PaDiM` knows what each place of an image looks like. If the part lies elsewhere
in each image, it knows nothing; :class:`~skanomaly.preprocessing.Align` brings the part back.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import rotate, shift
from sklearn.metrics import roc_auc_score

from skanomaly import PaDiM, TransformedImageDetector
from skanomaly.plotting import AnomalyMapDisplay
from skanomaly.preprocessing import Align

rng = np.random.default_rng(0)


def part(defect=False):
    """A plate with two holes and a bar, moved by up to 12 pixels and turned by up to 20 degrees."""
    image = np.full((96, 96), 60.0)
    image[24:72, 18:78] = 170
    rows, columns = np.mgrid[:96, :96]
    for row, column, radius in ((36, 32, 5), (60, 64, 7)):
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 70
    image[32:38, 46:70] = 120
    if defect:
        row, column = rng.integers(44, 54), rng.integers(26, 52)
        image[row : row + 5, column : column + 5] -= 40
    image = rotate(image, rng.uniform(-20, 20), reshape=False, order=1, mode="nearest")
    image = shift(image, rng.uniform(-12, 12, 2), order=1, mode="nearest")
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


train = np.stack([part() for _ in range(40)])
test = np.stack([part(defect=i >= 12) for i in range(24)])
y = np.repeat([1, -1], 12)

# %%
# ``TransformedImageDetector`` takes images as they are, aligns them before the detector looks, and
# brings maps back to where the part lies.

padim = PaDiM(image_size=96, n_features=40, random_state=0)
aligned = TransformedImageDetector(Align(motion="rigid", max_rotation=30), padim)
detectors = {"as they lie": padim, "aligned": aligned}
for name, detector in detectors.items():
    detector.fit(train)
    print(f"{name:12s} image AUROC {roc_auc_score(y, detector.score_samples(test)):.3f}")

# %%
# Three parts with a small dark square, as they lie and aligned, and maps in units of each one's
# threshold.

shown = test[12:15]
align = Align(motion="rigid", max_rotation=30).fit(train)
figure, axes = plt.subplots(3, 4, figsize=(8.5, 5.8))
for column, images in enumerate((shown, align.transform(shown))):
    for ax, image in zip(axes[:, column], images):
        ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
        ax.set_axis_off()
for column, detector in enumerate(detectors.values(), start=2):
    display = AnomalyMapDisplay.from_predictions(
        shown,
        detector.transform(shown) / detector.map_threshold_,
        threshold=1,
        kinds=["overlay"],
        vmin=-1,
        vmax=3,
        ax=axes[:, column],
    )
    if column == 2:
        display.colorbar_.remove()  # one for both
titles = ("image", "aligned image", *(f"map, {name}" for name in detectors))
for ax, title in zip(axes[0], titles):
    ax.set_title(title, fontsize=10)
