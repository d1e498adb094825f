"""
A lamp that fades
=================

A threshold is good for images like those that set it. :class:`~skanomaly.calibration.DriftMonitor`
watches the scores, and raises an alarm when they have changed.
"""

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import SubspaceAD
from skanomaly.calibration import DriftMonitor
from skanomaly.datasets import make_texture_defects

X = make_texture_defects("brick", n_normal=460, image_size=64, random_state=0).images
detector = SubspaceAD(image_size=64, random_state=0).fit(X[:60], X_val=X[60:160])

# %%
# 300 images come one after the other. From the 150th on each is a little darker.

light = np.concatenate([np.ones(150), np.linspace(1, 0.5, 150)])
images = (X[160:] * light[:, None, None]).astype(np.uint8)
scores = detector.score_samples(images)
monitor = DriftMonitor(detector, window=50, random_state=0).fit(X[60:160])
evidence = [monitor.update(s, image).log_evidence for s, image in zip(scores, images)]
print(monitor.summary().replace(". ", ".\n"))

# %%
# The promise: if nothing changes, the probability that there is *ever* an alarm is at most
# ``false_alarm_probability``, .01.

alarm = monitor.first_alarm_
figure, axes = plt.subplots(3, 1, figsize=(8, 6.4), sharex=True)
axes[0].plot(100 * light, color="black")
axes[0].set(ylabel="light, %", ylim=(0, 110))
axes[1].plot(scores, ".", markersize=4)
axes[1].axhline(detector.offset_, color="#c0392b", linewidth=1, label="threshold")
axes[1].set(ylabel="score")
axes[1].legend(loc="lower left")
axes[2].plot(evidence)
axes[2].axhline(monitor.log_threshold_, color="#c0392b", linewidth=1, label="alarm")
axes[2].set(ylabel="log evidence", xlabel="image")
axes[2].set_ylim(top=3 * monitor.log_threshold_)
axes[2].legend(loc="upper left")
for ax in axes:
    ax.axvline(alarm, color="gray", linestyle=":")
axes[0].set_title(f"alarm with image {alarm}, at {light[alarm]:.0%} of the light")

# %%
# The images at the beginning, where the alarm came, and at the end:

figure, axes = plt.subplots(1, 3, figsize=(7, 2.6))
for ax, i in zip(axes, (0, alarm, 299)):
    ax.imshow(images[i], cmap="gray", vmin=0, vmax=255)
    ax.set_title(f"image {i}")
    ax.set_axis_off()
