"""The metrics in their slow, obvious versions, in exact arithmetic, and what to try them on."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

values = st.one_of(
    st.integers(-2, 2).map(float),
    st.sampled_from([-1e300, -1e-300, 1e-300, np.nextafter(1, 2), 1e300]),
)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def masks_and_maps(draw, values=values):
    """One to three images of their own sizes, with both kinds of pixels."""
    images = draw(st.lists(shapes, min_size=1, max_size=3))
    masks = [
        draw(
            st.one_of(
                arrays(bool, shape),
                st.sampled_from([np.zeros(shape, bool), ~np.zeros(shape, bool)]),
            )
        )
        for shape in images
    ]
    maps = [draw(arrays(np.float64, shape, elements=values)) for shape in images]
    pixels = np.concatenate([mask.ravel() for mask in masks])
    assume(pixels.any() and not pixels.all())
    return masks, maps


def with_a_normal_image(masks, maps):
    return [*masks, np.zeros((2, 2), bool)], [*maps, np.array([[0.0, 1.0], [-1.0, 0.5]])]


def all_pixels(masks, maps):
    return [
        pixel
        for mask, anomaly_map in zip(masks, maps)
        for pixel in zip(mask.ravel().tolist(), anomaly_map.ravel().tolist())
    ]


def slow_roc_auc(masks, maps):
    pixels = all_pixels(masks, maps)
    defective = [value for defect, value in pixels if defect]
    normal = [value for defect, value in pixels if not defect]
    wins = sum(Fraction(2 * (a > b) + (a == b), 2) for a in defective for b in normal)
    return wins / (len(defective) * len(normal))


def slow_average_precision(masks, maps):
    pixels = all_pixels(masks, maps)
    n_defective = sum(defect for defect, _ in pixels)
    total, recall_before = Fraction(0), Fraction(0)
    for threshold in sorted({value for _, value in pixels}, reverse=True):
        flagged = [defect for defect, value in pixels if value >= threshold]
        recall = Fraction(sum(flagged), n_defective)
        total += (recall - recall_before) * Fraction(sum(flagged), len(flagged))
        recall_before = recall
    return total


def regions_of(mask):
    left = set(zip(*map(list, np.nonzero(mask))))
    regions = []
    while left:
        region, border = set(), [left.pop()]
        while border:
            row, column = border.pop()
            region.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            border += near
        regions.append(region)
    return regions


def slow_pro_curve(masks, maps):
    """(false-positive rate, overlap) by threshold, from high to low."""
    pixels = all_pixels(masks, maps)
    n_normal = sum(not defect for defect, _ in pixels)
    regions = [
        [float(anomaly_map[pixel]) for pixel in region]
        for mask, anomaly_map in zip(masks, maps)
        for region in regions_of(mask)
    ]
    curve = {math.inf: (Fraction(0), Fraction(0))}
    for threshold in sorted({value for _, value in pixels}, reverse=True):
        false = sum(not defect and value >= threshold for defect, value in pixels)
        overlaps = [
            Fraction(sum(v >= threshold for v in region), len(region)) for region in regions
        ]
        curve[threshold] = Fraction(false, n_normal), sum(overlaps) / len(regions)
    return curve


def slow_aupro(masks, maps, max_fpr):
    area, limit = Fraction(0), Fraction(max_fpr)
    for (x0, y0), (x1, y1) in pairwise(slow_pro_curve(masks, maps).values()):
        if x1 > limit and x0 < limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def slow_f1_max(masks, maps):
    pixels = all_pixels(masks, maps)
    best = Fraction(0)
    for threshold in {value for _, value in pixels}:
        tp = sum(defect and value >= threshold for defect, value in pixels)
        fp = sum(not defect and value >= threshold for defect, value in pixels)
        fn = sum(defect and value < threshold for defect, value in pixels)
        best = max(best, Fraction(2 * tp, 2 * tp + fp + fn))
    return best


def slow_aupimo(masks, maps, fpr_bounds):
    """The integral of the definition, over the steps of the recall as a function of z."""
    low, high = fpr_bounds
    images = [
        (mask.ravel().tolist(), anomaly_map.ravel().tolist())
        for mask, anomaly_map in zip(masks, maps)
    ]
    normal = [values for mask, values in images if not any(mask)]
    thresholds = [*sorted({value for _, values in images for value in values}), math.inf]

    def shared_fpr(t):
        shares = [Fraction(sum(v >= t for v in values), len(values)) for values in normal]
        return sum(shares) / len(shares)

    fpr_at = [(t, shared_fpr(t)) for t in thresholds]
    edges = sorted({low, high, *(float(f) for _, f in fpr_at if low < f < high)})
    scores = []
    for mask, values in images:
        if not any(mask):
            scores.append(math.nan)
            continue
        defective = [value for defect, value in zip(mask, values) if defect]
        area = 0.0
        for start, stop in pairwise(edges):
            t = min(t for t, fpr in fpr_at if float(fpr) <= start)
            recall = sum(value >= t for value in defective) / len(defective)
            area += recall * (math.log(stop) - math.log(start))
        scores.append(area / (math.log(high) - math.log(low)))
    return scores
