"""
Several products on one line
============================

One set of images, and a column that says which part each shows.
:class:`~skanomaly.MultiProductDetector` fits a detector for each, and judges each image by its own.
"""

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

from skanomaly import MultiProductDetector, PaDiM
from skanomaly.plotting import AnomalyMapDisplay

rng = np.random.default_rng(0)
PRODUCTS = ("one hole", "two holes")


def plate(holes):
    """A plate, 64 x 64, with holes at some of two places."""
    image = np.full((64, 64), 60.0)
    image[14:50, 8:56] = 170
    rows, columns = np.mgrid[:64, :64]
    for column in holes:
        image[(rows - 32) ** 2 + (columns - column) ** 2 < 36] = 70
    return (image * rng.uniform(0.95, 1.05) + rng.normal(0, 3, image.shape)).clip(0, 255)


def plates(n, holes):
    return np.stack([plate(holes) for _ in range(n)]).astype(np.uint8)


left, both = (20,), (20, 44)
X = np.concatenate([plates(40, left), plates(40, both)])
product = np.repeat(PRODUCTS, 40)

# %%
# The defects: a hole too many, and one too few. Each looks as the other product does.

good = np.concatenate([plates(20, left), plates(20, both)])
bad = np.concatenate([plates(20, both), plates(20, left)])
of_each = np.repeat(PRODUCTS, 20)

figure, axes = plt.subplots(1, 4, figsize=(8, 2.2))
shown = {"one hole": good[0], "two holes": good[-1], "one too many": bad[0], "one missing": bad[-1]}
for ax, (name, image) in zip(axes, shown.items()):
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    ax.set_title(name)
    ax.set_axis_off()

# %%
# One detector each, and, beside it, a single one for all. To the latter, what is usual for one
# product is usual for the other as well.

padim = PaDiM(image_size=64, n_features=40, smoothing=1.0, random_state=0)
each, single = MultiProductDetector(padim).fit(X, product=product), padim.fit(X)
for name, images in (("good", good), ("defective", bad)):
    flagged = np.mean(each.predict(images, product=of_each) == -1)
    by_single = np.mean(single.predict(images) == -1)
    print(f"{name:10s} flagged: {flagged:4.0%} by one each, {by_single:4.0%} by one for all")

# %%
# ``detectors_`` has the detector of each product, which displays take as any other. Scores are in
# units of each one's own; what may be compared between products are verdicts and p-values.

for name, image in zip(PRODUCTS, bad[[0, -1]]):
    AnomalyMapDisplay.from_estimator(each.detectors_[name], image[None])

figure, ax = plt.subplots(figsize=(6, 3.2))
p_values = [each.p_values(images, product=of_each) for images in (good, bad)]
ax.hist(p_values, bins=20, range=(0, 1), label=["good", "defective"])
ax.set(xlabel="p-value among good parts of the same product", ylabel="images")
ax.legend()
