"""
Choose a threshold, and what it can promise
===========================================

``false_alarm_rate`` is the share of *new* good parts that may be flagged. It holds on average;
what one threshold does depends on how many good images have set it.
"""

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import SubspaceAD
from skanomaly.calibration import false_alarm_interval
from skanomaly.datasets import make_texture_defects
from skanomaly.plotting import ScoreHistogramDisplay

data = make_texture_defects("brick", n_normal=360, n_defective=60, image_size=64, random_state=0)
learnt, setting = data.images[:60], data.images[60:160]
new, y = data.images[160:], data.target[160:]
detector = SubspaceAD(image_size=64, random_state=0).fit(learnt, X_val=setting)

# %%
# The fit above learns from 60 images and sets the threshold by 100 others; 200 more good ones are
# new to it. Another rate needs no new fit: ``calibrate`` takes the scores that were kept.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for rate, ax in zip((0.01, 0.2), axes):
    detector.set_params(false_alarm_rate=rate).calibrate()
    ScoreHistogramDisplay.from_estimator(detector, new, y, ax=ax)
    found = detector.predict(new)
    ax.set_title(
        f"asked {rate:.0%}: flagged {np.mean(found[y == 1] == -1):.0%} of good, "
        f"{np.mean(found[y == -1] == -1):.0%} of defective",
        fontsize=10,
    )

# %%
# How far may the share of good parts that are flagged, in the long run, be from what was asked?
# The answer needs no assumption on scores but that images go on to be alike. The band has 95 % of
# all sets of images that may set the threshold in it.

rate, numbers = 0.05, np.array([20, 30, 50, 100, 200, 500, 1000, 2000])
low, high = np.array([false_alarm_interval(int(n), rate) for n in numbers]).T

figure, ax = plt.subplots(figsize=(7, 3.6))
ax.fill_between(numbers, 100 * low, 100 * high, alpha=0.3)
ax.axhline(100 * rate, color="black", linewidth=1)
ax.set(
    xscale="log", xlabel="normal images that set the threshold", ylabel="% of good parts flagged"
)
ax.set(title=f"95 % of thresholds for {rate:.0%} flag this share", ylim=(0, None))
ax.set_xticks(numbers, numbers)
ax.minorticks_off()

# %%
# With 20 images the threshold may flag a quarter of all good parts, or hardly any: "5 %" is worth
# little then. All of this holds if new images are like those that set the threshold; whether they
# still are is for a :class:`~skanomaly.calibration.DriftMonitor` to say.

for n, lowest, highest in zip(numbers, low, high):
    print(f"{n:5d} images: {lowest:.1%} to {highest:.1%}")
