"""Speed and memory of the pixel metrics, against plain implementations, in one run.

Plain is what most code in the field does: argsort every pixel, and accumulate; with NumPy's
default sort, and with the stable one that scikit-learn's curves use. Peak memory is what a call
allocates at most, the maps themselves not counted.
"""

import argparse
import time
import tracemalloc
from functools import partial

import numpy as np
from _common import Results
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from skanomaly.metrics import MapMetrics, aupro_score, pixel_roc_auc_score

# Number of maps, their side, and the largest half-axis of a defect as a share of it.
SIZES = ((83, 256, 0.2), (83, 512, 0.2), (50, 1024, 0.2), (83, 256, 0.6))


def make_data(n, size, largest, seed=0):
    """Smooth maps as detectors make them, three quarters of the images with one or two defects."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), bool)
    coarse = rng.gamma(2, 1, (n, 32, 32))
    rows, columns = np.mgrid[:size, :size]
    for mask in masks[n // 4 :]:
        for _ in range(rng.integers(1, 3)):
            row, column = rng.uniform(0.2, 0.8, 2) * size
            height, width = rng.uniform(largest / 5, largest, 2) * size
            mask |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
    maps = np.stack([ndimage.zoom(c, size / 32, order=1) for c in coarse]).astype(np.float32)
    return masks, maps + 2 * masks * rng.random((n, 1, 1), dtype=np.float32)


def plain_roc_auc(masks, maps, kind=None):
    y_true, y_score = masks.ravel(), maps.ravel()
    fpr, tpr = plain_curve(y_true, y_true.astype(float), y_score, kind)
    return np.trapezoid(tpr, fpr)


def plain_aupro(masks, maps, kind=None, max_fpr=0.3):
    y_true, y_score = masks.ravel(), maps.ravel()
    weights = np.zeros(maps.shape)
    for mask, weight in zip(masks, weights):
        labels, n_regions = ndimage.label(mask, np.ones((3, 3)))
        for region in range(1, n_regions + 1):
            weight[labels == region] = 1 / np.count_nonzero(labels == region)
    fpr, pro = plain_curve(y_true, weights.ravel(), y_score, kind)
    pro_at_max = np.interp(max_fpr, fpr, pro)
    keep = fpr <= max_fpr
    fpr, pro = np.append(fpr[keep], max_fpr), np.append(pro[keep], pro_at_max)
    return np.trapezoid(pro, fpr) / max_fpr


def plain_curve(y_true, weights, y_score, kind):
    order = np.argsort(y_score, kind=kind)[::-1]
    descending = y_score[order]
    false = np.cumsum(~y_true[order])
    true = np.cumsum(weights[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)
    return (
        np.append(0, false[last_of_tie] / false[-1]),
        np.append(0, true[last_of_tie] / true[-1]),
    )


METRICS = {
    "pixel AUROC": {
        "plain": plain_roc_auc,
        "plain, stable": partial(plain_roc_auc, kind="stable"),
        "scikit-learn": lambda masks, maps: roc_auc_score(masks.ravel(), maps.ravel()),
        "exact": pixel_roc_auc_score,
        "streaming": lambda masks, maps: MapMetrics().update(masks, maps).pixel_roc_auc_score(),
    },
    "AUPRO": {
        "plain": plain_aupro,
        "plain, stable": partial(plain_aupro, kind="stable"),
        "exact": aupro_score,
        "streaming": lambda masks, maps: MapMetrics().update(masks, maps).aupro_score(),
    },
}


def measure(roads, masks, maps, rounds):
    times, values = {name: [] for name in roads}, {}
    for _ in range(rounds + 1):
        for name, road in roads.items():
            start = time.perf_counter()
            values[name] = road(masks, maps)
            times[name].append(time.perf_counter() - start)
    rows = {}
    for name, road in roads.items():
        tracemalloc.start()
        road(masks, maps)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows[name] = {
            "s": float(np.median(times[name][1:])),  # the first round warms up
            "peak memory / maps": peak / maps.nbytes,
            "value": float(values[name]),
        }
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    results = Results("metric_speed")
    lines = []
    for n, size, largest in SIZES:
        masks, maps = make_data(n, size, largest)
        share = f"{100 * masks.mean():.0f} %"
        for metric, roads in METRICS.items():
            rows = measure(roads, masks, maps, arguments.rounds)
            bounds = MapMetrics().update(masks, maps).error_bounds()
            bound = bounds["aupro_score" if metric == "AUPRO" else "pixel_roc_auc_score"]
            results[f"{metric}, {n} x {size}, {share}"] = {**rows, "bound": bound}
            for road, row in rows.items():
                error = abs(row["value"] - rows["plain"]["value"])
                lines.append(
                    [
                        metric,
                        f"{n} of {size}x{size}",
                        share,
                        road,
                        f"{row['s']:.3f} s",
                        f"{rows['plain']['s'] / row['s']:.1f}",
                        f"{rows['plain, stable']['s'] / row['s']:.1f}",
                        f"{row['peak memory / maps']:.1f}",
                        f"{error:.0e}",
                        f"{bound:.0e}" if road == "streaming" else "",
                    ]
                )
    results.write_table(
        "Speed of the pixel metrics",
        "python benchmarks/metric_speed.py",
        f"Float32 maps. Medians of {arguments.rounds} rounds in turn; times faster than the plain "
        "implementation, with NumPy's default argsort and with the stable one. Peak memory is "
        "allocated by the call, as a multiple of the maps'. Difference is that from the plain "
        "value, and for streaming the bound that it states.",
        [
            "metric",
            "maps",
            "defective",
            "road",
            "time",
            "times faster",
            "than stable",
            "peak memory",
            "difference",
            "bound",
        ],
        lines,
    )


if __name__ == "__main__":
    main()
