import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from slow_metrics import (
    masks_and_maps,
    slow_aupimo,
    slow_aupro,
    slow_average_precision,
    slow_f1_max,
    slow_pro_curve,
    slow_roc_auc,
    with_a_normal_image,
)

from skanomaly.metrics import (
    aupimo_score,
    aupro_score,
    pixel_average_precision_score,
    pixel_f1_max_score,
    pixel_roc_auc_score,
    pro_curve,
)

METRICS = [
    pixel_roc_auc_score,
    pixel_average_precision_score,
    pixel_f1_max_score,
    aupro_score,
    aupimo_score,
]
every_metric = pytest.mark.parametrize("metric", METRICS)
property_test = settings(max_examples=50, deadline=None)


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


@property_test
@given(data=masks_and_maps())
def test_f1_max_is_its_slow_version(data):
    assert pixel_f1_max_score(*data) == pytest.approx(float(slow_f1_max(*data)), abs=1e-12)


@property_test
@given(data=masks_and_maps(), max_fpr=st.floats(0.01, 1))
def test_pro_curve_has_points_of_the_slow_one_and_its_area(data, max_fpr):
    fpr, pro, thresholds = pro_curve(*data)
    slow = slow_pro_curve(*data)
    for x, y, threshold in zip(fpr, pro, thresholds.tolist()):
        assert (x, y) == pytest.approx(tuple(map(float, slow[threshold])), abs=1e-12)
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == pytest.approx((0, 0, 1, 1))
    points = np.append(fpr[fpr < max_fpr], max_fpr)
    left = np.append(pro[fpr < max_fpr], np.interp(max_fpr, *_rightmost_lowest(fpr, pro, max_fpr)))
    area = np.trapezoid(left, points) / max_fpr
    assert area == pytest.approx(float(slow_aupro(*data, max_fpr)), abs=1e-12)
    assert np.all(np.diff(thresholds) < 0)


def _rightmost_lowest(fpr, pro, limit):
    """The segment that reaches the limit first, where the curve jumps there."""
    stop = np.searchsorted(fpr, limit, side="left")
    return fpr[stop - 1 : stop + 1], pro[stop - 1 : stop + 1]


@property_test
@given(data=masks_and_maps(), low=st.floats(1e-3, 0.5), ratio=st.floats(1.1, 10))
def test_aupimo_is_its_slow_version(data, low, ratio):
    bounds = (low, min(low * ratio, 1.0))
    data = with_a_normal_image(*data)
    found = aupimo_score(*data, fpr_bounds=bounds, average=False)
    expected = slow_aupimo(*data, bounds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert aupimo_score(*data, fpr_bounds=bounds) == pytest.approx(np.nanmean(expected), abs=1e-12)


@property_test
@given(data=masks_and_maps())
def test_scikit_learn_agrees_over_the_pixels(data):
    y_true, y_score = (np.concatenate([image.ravel() for image in images]) for images in data)
    precision, recall, _ = precision_recall_curve(y_true, y_score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert pixel_roc_auc_score(*data) == pytest.approx(roc_auc_score(y_true, y_score), abs=1e-12)
    assert pixel_average_precision_score(*data) == pytest.approx(
        average_precision_score(y_true, y_score), abs=1e-12
    )
    assert pixel_f1_max_score(*data) == pytest.approx(f1.max(), abs=1e-9)


# Known values -------------------------------------------------------------------------

MASKS = np.zeros((3, 4, 5), bool)
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
        (pixel_average_precision_score, 5 / 60),
        (pixel_f1_max_score, 2 * 5 / (60 + 5)),
        (aupro_score, 0.15),
        (aupimo_score, 0),
    ],
)
def test_constant_maps(metric, score):
    assert metric(MASKS, np.full(MASKS.shape, 0.7)) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("metric", [pixel_roc_auc_score, aupro_score, aupimo_score])
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
    masks, maps = with_a_normal_image(*data)
    assert metric(masks, [transform(m) for m in maps]) == metric(masks, maps)


@every_metric
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_values_may_be_as_far_apart_as_floats_go(metric):
    largest = np.finfo(float).max
    assert metric(MASKS, np.where(MASKS, largest, -largest)) == 1


# What is refused ----------------------------------------------------------------------


@every_metric
@pytest.mark.parametrize("value", [False, True])
def test_undefined_without_both_kinds(metric, value):
    kind = ("anomalous", "normal") if metric is aupimo_score else ("defective", "normal")
    what = "images" if metric is aupimo_score else "pixels"
    message = f"{metric.__name__} is not defined without {kind[value]} {what}"
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
        (MASKS[:1], MAPS, "there are 1 masks and 3 maps"),
        (None, MAPS, "masks is a NoneType, expected an array"),
        (MASKS, iter(MAPS), "maps is a generator|maps is a .*iterator"),
        (MASKS, MAPS.astype(complex), "map 0 holds complex128"),
        (MASKS[:, :0], MAPS[:, :0], r"mask 0 has shape \(0, 5\)"),
        (MASKS, MAPS[:, :3], r"mask 0 has shape \(4, 5\) and map 0 \(3, 5\)"),
        (MASKS, MAPS.swapaxes(1, 2), r"mask 0 has shape \(4, 5\) and map 0 \(5, 4\)"),
        (MASKS[0], MAPS[0], r"mask 0 has shape \(5,\)"),
        (MASKS[:, None], MAPS[:, None], r"mask 0 has shape \(1, 4, 5\)"),
        ([], [], "there are no masks and maps"),
        (255 * MASKS.astype(np.uint8), MAPS, "mask 0 holds other values than 0 and 1.*mask > 0"),
        (spoiled(MASKS, 0.5), MAPS, "mask 1 holds other values than 0 and 1"),
        (spoiled(MASKS, np.nan), MAPS, "mask 1 holds other values than 0 and 1"),
        (MASKS, np.full(MASKS.shape, 2**60), "map 0 holds integers beyond 2..53"),
        (MASKS, spoiled(MAPS, np.nan), "map 1 holds NaN or infinity"),
        (MASKS, spoiled(MAPS, np.inf), "map 1 holds NaN or infinity"),
        (MASKS, spoiled(MAPS, -np.inf), "map 1 holds NaN or infinity"),
    ],
    ids=[
        "counts",
        "no masks",
        "iterator",
        "complex",
        "no pixels",
        "shapes",
        "transposed",
        "one image",
        "4-D",
        "empty",
        "0 and 255",
        "grey mask",
        "NaN mask",
        "huge integers",
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


@pytest.mark.parametrize("fpr_bounds", [(0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.1, 1.5), (np.nan, 1)])
def test_fpr_bounds_out_of_range(fpr_bounds):
    with pytest.raises(ValueError, match="fpr_bounds must be 0 < low < high <= 1, got"):
        aupimo_score(MASKS, MAPS, fpr_bounds=fpr_bounds)


def test_undefined_curve_is_nan():
    with pytest.warns(UndefinedMetricWarning, match="pro_curve is not defined without defective"):
        curve = pro_curve(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2)))
    assert all(np.isnan(part).all() and part.shape == (1,) for part in curve)


def test_aupimo_of_each_image_is_nan_for_normal_ones():
    scores = aupimo_score(MASKS, MASKS + 0.0, average=False)
    assert scores[:2].tolist() == [1, 1]
    assert math.isnan(scores[2])


def test_aupimo_counts_false_positives_of_normal_images_only():
    """However high the normal pixels of defective images are."""
    maps = np.where(MASKS, 1.0, 0.0)
    maps[0, 3] = 2
    assert aupimo_score(MASKS, maps) == 1


def test_aupimo_weighs_normal_images_alike_whatever_their_size():
    masks = [np.ones((1, 1), bool), np.zeros((1, 4), bool), np.zeros((10, 10), bool)]
    maps = [np.full((1, 1), 0.5), np.array([[1.0, 0, 0, 0]]), np.zeros((10, 10))]
    found = aupimo_score(masks, maps, fpr_bounds=(0.01, 1))
    assert found == pytest.approx(np.log(1 / (0.25 / 2)) / np.log(100))


METRICS_WITHIN = (
    pixel_roc_auc_score,
    pixel_average_precision_score,
    pixel_f1_max_score,
    aupro_score,
    aupimo_score,
    pro_curve,
)


@pytest.mark.parametrize("metric", METRICS_WITHIN)
@pytest.mark.parametrize("ties", [False, True])
def test_within_a_rectangle_it_is_the_metric_of_what_is_cut_out(metric, ties):
    rng = np.random.default_rng(0)
    masks = rng.random((6, 20, 24)) < 0.1
    masks[:2] = False
    masks[2, :4] = True  # a defect that reaches into the rectangle, and beyond it
    maps = rng.normal(size=masks.shape) + masks
    maps = np.round(maps, 1) if ties else maps
    roi = np.zeros((20, 24), bool)
    roi[3:15, 5:20] = True
    expected = metric(masks[:, 3:15, 5:20], maps[:, 3:15, 5:20])
    stacked = np.repeat(roi[None], 6, axis=0)
    for form in (roi, stacked, list(stacked)):
        np.testing.assert_allclose(metric(masks, maps, roi=form), expected)
    sizes = [3, 4, 5, 6, 7, 8]  # another rectangle for each image
    cuts = [np.s_[k : k + 9, k : k + 12] for k in sizes]
    rois = np.zeros_like(masks)
    for i, cut in enumerate(cuts):
        rois[i][cut] = True
    expected = metric(
        [m[cut] for m, cut in zip(masks, cuts)], [m[cut] for m, cut in zip(maps, cuts)]
    )
    np.testing.assert_allclose(metric(masks, maps, roi=rois), expected)
    some = [None, *rois[1:]]
    expected = metric(
        [masks[0], *(m[c] for m, c in zip(masks[1:], cuts[1:]))],
        [maps[0], *(m[c] for m, c in zip(maps[1:], cuts[1:]))],
    )
    np.testing.assert_allclose(metric(masks, maps, roi=some), expected)


def test_a_region_that_does_not_fit():
    masks = np.eye(4, dtype=bool)[None]
    with pytest.raises(ValueError, match=r"image 0: its region of interest has shape \(3, 4\)"):
        pixel_roc_auc_score(masks, masks * 1.0, roi=np.ones((3, 4), bool))
