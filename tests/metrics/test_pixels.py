from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import UndefinedMetricWarning

from skanomaly.metrics import aupro_score, pixel_average_precision_score, pixel_roc_auc_score

METRICS = [pixel_roc_auc_score, pixel_average_precision_score, aupro_score]
every_metric = pytest.mark.parametrize("metric", METRICS)
property_test = settings(max_examples=50, deadline=None)

values = st.one_of(
    st.integers(-2, 2).map(float),
    st.sampled_from([-1e300, -1e-300, 1e-300, np.nextafter(1, 2), 1e300]),
)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@st.composite
def masks_and_maps(draw, values=values):
    """One to three images of their own sizes, with both kinds of pixels."""
    images = draw(st.lists(shapes, min_size=1, max_size=3))
    masks = [draw(arrays(bool, shape)) for shape in images]
    maps = [draw(arrays(np.float64, shape, elements=values)) for shape in images]
    pixels = np.concatenate([mask.ravel() for mask in masks])
    assume(pixels.any() and not pixels.all())
    return masks, maps


# The slow, obvious versions, in exact arithmetic --------------------------------------


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


def slow_aupro(masks, maps, max_fpr):
    pixels = all_pixels(masks, maps)
    n_normal = sum(not defect for defect, _ in pixels)
    regions = [
        [float(anomaly_map[pixel]) for pixel in region]
        for mask, anomaly_map in zip(masks, maps)
        for region in regions_of(mask)
    ]
    curve = [(Fraction(0), Fraction(0))]
    for threshold in sorted({value for _, value in pixels}, reverse=True):
        false = sum(not defect and value >= threshold for defect, value in pixels)
        overlaps = [
            Fraction(sum(v >= threshold for v in region), len(region)) for region in regions
        ]
        curve.append((Fraction(false, n_normal), sum(overlaps) / len(regions)))
    area, limit = Fraction(0), Fraction(max_fpr)
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > limit and x0 < limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@property_test
@given(data=masks_and_maps())
def test_roc_auc_is_the_share_of_ordered_pairs(data):
    assert pixel_roc_auc_score(*data) == pytest.approx(float(slow_roc_auc(*data)), abs=1e-12)


@property_test
@given(data=masks_and_maps())
def test_average_precision_is_its_slow_version(data):
    expected = float(slow_average_precision(*data))
    assert pixel_average_precision_score(*data) == pytest.approx(expected, abs=1e-12)


@property_test
@given(
    data=masks_and_maps(),
    max_fpr=st.one_of(st.sampled_from([0.3, 0.5, 1.0]), st.floats(0.01, 1)),
)
def test_aupro_is_its_slow_version(data, max_fpr):
    expected = float(slow_aupro(*data, max_fpr))
    assert aupro_score(*data, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-12)


# Known values -------------------------------------------------------------------------

MASKS = np.zeros((2, 4, 5), bool)
MASKS[0, 1:3, 1:3] = True
MASKS[1, 0, 4] = True
MAPS = np.random.default_rng(0).random(MASKS.shape)


@every_metric
def test_perfect_maps(metric):
    assert metric(MASKS, MASKS.astype(float)) == 1


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        (pixel_roc_auc_score, 0.5),
        (pixel_average_precision_score, 5 / 40),
        (aupro_score, 0.15),
    ],
)
def test_constant_maps(metric, score):
    assert metric(MASKS, np.full(MASKS.shape, 0.7)) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("metric", [pixel_roc_auc_score, aupro_score])
def test_inverted_maps(metric):
    assert metric(MASKS, 1.0 - MASKS) == 0


def test_aupro_is_measured_up_to_a_false_positive_rate_of_0_3_by_default():
    assert aupro_score(MASKS, MAPS) == aupro_score(MASKS, MAPS, max_fpr=0.3)
    assert aupro_score(MASKS, MAPS) != aupro_score(MASKS, MAPS, max_fpr=0.4)


def test_aupro_of_one_region_up_to_1_is_the_roc_auc():
    found = aupro_score(MASKS[:1], MAPS[:1], max_fpr=1)
    assert found == pytest.approx(pixel_roc_auc_score(MASKS[:1], MAPS[:1]), abs=1e-12)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], bool)
    anomaly_map = np.array([[0, 0, 0, 0], [0, 0, 0, 1.0]])
    found = aupro_score([mask], [anomaly_map], max_fpr=1)
    assert found == pytest.approx((1 / 2 + 1) / 2)


def test_regions_of_two_images_are_two():
    masks = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 0]]], bool)
    maps = np.array([[[0, 0], [0, 0]], [[1.0, 0], [0, 0]]])
    assert aupro_score(masks, maps, max_fpr=1) == pytest.approx((1 / 2 + 1) / 2)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((1, 10, 10), bool)
    mask[0, :4, :] = mask[0, 9, 9] = True
    finds_the_small, finds_the_large = np.zeros((2, 1, 10, 10))
    finds_the_small[0, 9, 9] = finds_the_large[0, :4, :] = 1
    found = aupro_score(mask, finds_the_small)
    assert found == pytest.approx(aupro_score(mask, finds_the_large), abs=1e-12)


# Forms of the arguments ---------------------------------------------------------------


@every_metric
def test_lists_and_arrays_give_the_same(metric):
    assert metric(list(MASKS), list(MAPS)) == metric(MASKS, MAPS)
    assert metric(MASKS.tolist(), MAPS.tolist()) == metric(MASKS, MAPS)


@every_metric
@pytest.mark.parametrize("dtype", [int, np.uint8, float])
def test_masks_of_0_and_1_are_taken(metric, dtype):
    assert metric(MASKS.astype(dtype), MAPS) == metric(MASKS, MAPS)


@every_metric
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_dtype_of_float_maps_does_not_matter(metric, dtype):
    maps = MAPS.astype(dtype)
    assert metric(MASKS, maps) == pytest.approx(metric(MASKS, maps.astype(float)), abs=1e-12)


@every_metric
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, bool])
def test_integer_maps_are_ordered_like_floats(metric, dtype):
    if dtype is bool:
        maps = MAPS > 0.5
    else:
        limits = np.iinfo(dtype)
        maps = np.random.default_rng(0).integers(limits.min, limits.max, MASKS.shape, dtype)
        maps.flat[:2] = limits.min, limits.max
    assert metric(MASKS, maps) == pytest.approx(metric(MASKS, maps.astype(float)), abs=1e-12)


@every_metric
def test_result_is_a_python_float(metric):
    assert type(metric(MASKS, MAPS.astype(np.float32))) is float


@every_metric
def test_order_of_the_images_does_not_matter(metric):
    assert metric(MASKS[::-1], MAPS[::-1]) == pytest.approx(metric(MASKS, MAPS), abs=1e-12)


@every_metric
def test_arguments_are_not_changed(metric):
    masks, maps = MASKS.copy(), MAPS.copy()
    metric(masks, maps)
    np.testing.assert_array_equal(masks, MASKS)
    np.testing.assert_array_equal(maps, MAPS)


@pytest.mark.parametrize("transform", [np.exp, np.cbrt, lambda x: 1e6 * x - 3, np.arctan])
@every_metric
@settings(max_examples=10, deadline=None)
@given(data=masks_and_maps(values=st.integers(-4, 4).map(float)))
def test_increasing_transform_of_the_maps_changes_nothing(metric, transform, data):
    masks, maps = data
    assert metric(masks, [transform(m) for m in maps]) == metric(masks, maps)


@every_metric
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_values_may_be_as_far_apart_as_floats_go(metric):
    largest = np.finfo(float).max
    assert metric(MASKS, np.where(MASKS, largest, -largest)) == 1


# What is refused ----------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize(("value", "missing"), [(False, "defective"), (True, "normal")])
def test_undefined_without_both_kinds_of_pixels(metric, value, missing):
    message = f"{metric.__name__} is not defined without {missing} pixels"
    with pytest.warns(UndefinedMetricWarning, match=message) as caught:
        assert np.isnan(metric(np.full(MASKS.shape, value), MAPS))
    assert caught[0].filename == __file__


def spoiled(array, value):
    array = array.astype(float)
    array[1, 2, 3] = value
    return array


@every_metric
@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (MASKS[:1], MAPS, "there are 1 masks and 2 maps"),
        (MASKS, MAPS[:, :3], r"mask 0 has shape \(4, 5\) and map 0 \(3, 5\)"),
        (MASKS, MAPS.swapaxes(1, 2), r"mask 0 has shape \(4, 5\) and map 0 \(5, 4\)"),
        (MASKS[0], MAPS[0], r"mask 0 has shape \(5,\)"),
        (MASKS[:, None], MAPS[:, None], r"mask 0 has shape \(1, 4, 5\)"),
        ([], [], "there are no masks and maps"),
        (255 * MASKS.astype(np.uint8), MAPS, "mask 0 holds other values than 0 and 1.*mask > 0"),
        (spoiled(MASKS, 0.5), MAPS, "mask 1 holds other values than 0 and 1"),
        (spoiled(MASKS, np.nan), MAPS, "mask 1 holds other values than 0 and 1"),
        (MASKS, spoiled(MAPS, np.nan), "map 1 holds NaN or infinity"),
        (MASKS, spoiled(MAPS, np.inf), "map 1 holds NaN or infinity"),
        (MASKS, spoiled(MAPS, -np.inf), "map 1 holds NaN or infinity"),
    ],
    ids=[
        "counts",
        "shapes",
        "transposed",
        "one image",
        "4-D",
        "empty",
        "0 and 255",
        "grey mask",
        "NaN mask",
        "NaN",
        "inf",
        "-inf",
    ],
)
def test_bad_arguments(metric, masks, maps, message):
    with pytest.raises(ValueError, match=message):
        metric(masks, maps)


@pytest.mark.parametrize("max_fpr", [0, -0.1, 1.1, np.nan, np.inf])
def test_max_fpr_out_of_range(max_fpr):
    with pytest.raises(ValueError, match=r"max_fpr must lie in \(0, 1\], got"):
        aupro_score(MASKS, MAPS, max_fpr=max_fpr)
