"""
Serve it without PyTorch
========================

:func:`~skanomaly.export_onnx` writes one file that goes from raw pixels to map and score;
:class:`~skanomaly.OnnxDetector` runs it, with ONNX Runtime and no PyTorch.
"""

# sphinx_gallery_thumbnail_number = 2
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import OnnxDetector, PatchCore, export_onnx
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import AnomalyMapDisplay

train = make_texture_defects("brick", n_normal=40, random_state=0)
test = make_texture_defects("brick", split="test", n_normal=20, n_defective=20, random_state=0)
detector = PatchCore(image_size=128, coreset=500, random_state=0).fit(train.images)

# %%
# The file is compared with the detector on the images that are handed over, and not written if it
# differs.

path = Path(tempfile.mkdtemp()) / "brick.onnx"
report = export_onnx(detector, path, test.images)
print(report)
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %%
# It has the same methods, and the threshold of the fit.

served = OnnxDetector(path)
start = time.perf_counter()
scores = served.score_samples(test.images)
print(f"{1000 * (time.perf_counter() - start) / len(scores):.0f} ms an image, on this machine")

expected = detector.score_samples(test.images)
figure, ax = plt.subplots(figsize=(4.6, 4.2))
ax.scatter(expected, scores, s=14, c=np.where(test.target == 1, "C0", "C1"))
ax.axvline(detector.offset_, color="#c0392b", linewidth=1)
ax.axhline(served.offset_, color="#c0392b", linewidth=1, label="threshold")
ax.set(xlabel="score, PyTorch", ylabel="score, ONNX file")
ax.legend()

# %%
# Displays take it, as they take a detector:

AnomalyMapDisplay.from_estimator(served, test.images[[0, -1]], test.masks[[0, -1]])

# %%
# Frames of a camera are scored one by one, and none is kept:

for found in served.stream(iter(test.images[18:22])):
    print(found.index, found.label, f"{found.score:.2f}")
