"""What is said of an image, and in which numbers."""

from __future__ import annotations

import numpy as np


def times_threshold(scores, offset):
    """How far beyond the threshold images are: 2 = twice as anomalous as may pass.

    Scores and offset are a detector's, higher = more normal. NaN where multiples mean
    nothing, as the threshold of anomalousness, ``-offset``, is not positive.
    """
    scores = np.asarray(scores, np.float64)
    return scores / offset if offset < 0 else np.full(scores.shape, np.nan)


def verdict_text(score, offset):
    """One line: the verdict and the score as a multiple of the threshold.

    Near the threshold there are digits enough to see on which side the score is.
    """
    word = "anomalous" if score < offset else "normal"
    times = times_threshold(score, offset)
    if np.isnan(times):
        return f"{word}, score {score:.3g}, threshold {offset:.3g}"
    digits = 2 if abs(times - 1) >= 0.005 or times == 1 else 4
    return f"{word}, {times:.{digits}f} x threshold"
