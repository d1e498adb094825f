"""
Look at training images before they are learnt from
===================================================

A defect among the training images passes for normal afterwards. :func:`~skanomaly.audit_images`
ranks images by how little they belong to the others, and says why.
"""

import io

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from skanomaly import audit_images
from skanomaly.datasets import make_texture_defects

made = make_texture_defects(
    "brick",
    n_normal=44,
    n_defective=3,
    defect_types=["crack", "missing", "foreign"],
    random_state=0,
)
dark = (0.4 * made.images[6]).astype(np.uint8)
X = [*made.images, made.images[5], dark]

# %%
# Among 44 good images are three with a defect, one that is there twice, and a dark one. Each image
# is scored by what has not learnt from it.

audit = audit_images(X, random_state=0)
print(audit)

# %%
# Those that are flagged, with what is said of them, and then the oddest of the others. Nothing is
# removed: that is yours to do. ``audit.to_html("audit.html")`` writes a page of all of them.

figure, axes = plt.subplots(2, 4, figsize=(9, 5))
flagged_first = sorted(audit.order, key=lambda i: not audit.flagged[i])
for ax, i in zip(axes.flat, flagged_first):
    ax.imshow(Image.open(io.BytesIO(audit.thumbnails[i])), cmap="gray", vmin=0, vmax=255)
    flags = [name for name, of_images in audit.flags.items() if of_images[i]]
    ax.set_title(f"{i}: {', '.join(flags) or 'no flag'}", color="#c0392b" if flags else "black")
    ax.set_axis_off()

# %%
# Scores of all, in robust deviations below the others'. What lies beyond the line is called
# anomalous.

deviations = audit.deviations["scores"]
figure, ax = plt.subplots(figsize=(7, 3.2))
ax.stem(np.sort(deviations), basefmt=" ")
ax.axhline(-3.5, color="#c0392b", linewidth=1)
ax.set(xlabel="images, the oddest first", ylabel="robust deviations of the score")
