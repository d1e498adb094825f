"""Regions above a threshold, against a flood fill that can be read."""

import numpy as np
import pandas as pd
import pytest
from conftest import DistanceToMean
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skanomaly import find_regions

# Few values, so that regions touch, tie and lie at the threshold.
VALUES = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
MAPS = st.lists(
    arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=VALUES
    ),
    min_size=1,
    max_size=3,
)


def flooded(maps, thresholds, connectivity, rois):
    """(index, pixels) of each region, by stepping from pixel to pixel."""
    for index, (anomaly_map, threshold, roi) in enumerate(zip(maps, thresholds, rois)):
        height, width = anomaly_map.shape
        left = {
            (y, x)
            for y in range(height)
            for x in range(width)
            if float(anomaly_map[y, x]) > threshold and roi[y, x]
        }
        while left:
            region, frontier = set(), [left.pop()]
            while frontier:
                y, x = frontier.pop()
                region.add((y, x))
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if connectivity == 4 and dy and dx:
                            continue
                        if (y + dy, x + dx) in left:
                            left.remove((y + dy, x + dx))
                            frontier.append((y + dy, x + dx))
            yield index, sorted(region)


def described(maps, regions, min_area):
    for index, pixels in regions:
        if len(pixels) < min_area:
            continue
        rows, columns = (np.array(axis) for axis in zip(*pixels))
        values = [float(maps[index][pixel]) for pixel in pixels]
        yield {
            "image": index,
            "top": rows.min(),
            "left": columns.min(),
            "bottom": rows.max() + 1,
            "right": columns.max() + 1,
            "centroid_row": np.mean(rows),
            "centroid_column": np.mean(columns),
            "area": len(pixels),
            "share": len(pixels) / maps[index].size,
            "max": max(values),
            "mean": np.mean(values),
        }


@settings(deadline=None, max_examples=150)
@given(MAPS, st.data())
def test_as_by_flood_fill(maps, data):
    connectivity, min_area = data.draw(st.sampled_from([4, 8])), data.draw(st.integers(1, 4))
    thresholds = data.draw(st.lists(VALUES, min_size=len(maps), max_size=len(maps)))
    rois = [np.ones(m.shape, bool) for m in maps]
    for roi in rois:
        roi.flat[1:] = data.draw(arrays.arrays(bool, roi.size - 1))
    given_roi = rois if data.draw(st.booleans()) else None
    if given_roi is None:
        rois = [np.ones(m.shape, bool) for m in maps]
    found = find_regions(
        maps, thresholds, connectivity=connectivity, min_area=min_area, roi=given_roi
    )
    names = ["image", "top", "left", "bottom", "right"]
    table = pd.DataFrame(found)
    expected = pd.DataFrame(
        described(maps, flooded(maps, thresholds, connectivity, rois), min_area),
        columns=table.columns,
    ).astype(table.dtypes)
    order = [*names, "centroid_row", "centroid_column", "area"]
    pd.testing.assert_frame_equal(
        table.sort_values(order, ignore_index=True), expected.sort_values(order, ignore_index=True)
    )
    of_each = table.groupby("image")["max"]
    assert table["image"].is_monotonic_increasing
    assert all(values.is_monotonic_decreasing for _, values in of_each)


def test_one_table_for_maps_of_several_sizes():
    maps = np.empty(2, dtype=object)
    maps[0], maps[1] = np.zeros((3, 4)), np.ones((5, 2))
    found = find_regions(maps, 0.5)
    assert {name: values.tolist() for name, values in found.items()} == {
        "image": [1],
        **{"top": [0], "left": [0], "bottom": [5], "right": [2]},
        **{"centroid_row": [2.0], "centroid_column": [0.5]},
        **{"area": [10], "max": [1.0], "mean": [1.0], "share": [1.0]},
    }


def test_without_a_region_the_table_is_empty_and_has_its_columns():
    found, other = find_regions(np.zeros((2, 3, 3)), 0.0), find_regions(np.ones((2, 3, 3)), 0.0)
    assert len(pd.DataFrame(found)) == 0
    assert list(found) == list(other)
    assert [found[name].dtype for name in found] == [other[name].dtype for name in other]


@pytest.mark.parametrize("limit", [0.1, 1 / 3, -0.7, 1e6 + 0.3])
def test_thresholds_are_not_rounded_to_single_precision(limit):
    near = np.float32(limit)
    steps = [np.nextafter(near, np.float32(far)) for far in (-np.inf, np.inf)]
    for value in (near, *steps):
        found = find_regions(np.full((1, 2, 2), value, np.float32), limit)
        assert len(found.area) == (float(value) > limit)


@settings(deadline=None, max_examples=60)
@given(
    X=arrays.arrays(np.uint8, (6, 12, 10)),
    rate=st.floats(0.02, 0.49),
    size=st.sampled_from([None, 16]),
    has_roi=st.booleans(),
)
def test_an_image_has_a_region_exactly_if_it_is_flagged(X, rate, size, has_roi):
    roi = None
    if has_roi:
        roi = np.zeros((12, 10), bool)
        roi[2:7, 3:9] = True
    detector = DistanceToMean(image_size=size, false_alarm_rate=rate).fit(X, roi=roi)
    found = detector.detect(X, roi=roi)
    regions = find_regions(found.maps, detector.map_threshold_, roi=roi)
    assert set(regions.image) == set(np.flatnonzero(found.labels == -1))


def test_outside_of_the_region_of_interest_there_is_none():
    roi = np.zeros((1, 6, 6), bool)
    roi[0, 2:4, 2:4] = True
    maps = np.full((1, 6, 6), 5.0)  # as a detector fills what is outside
    found = find_regions(maps, 1.0, roi=roi)
    assert (found.area.tolist(), found.top.tolist(), found.right.tolist()) == ([4], [2], [4])


NAN = np.zeros((3, 4, 4))
NAN[2, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("maps", "threshold", "parameters", "message"),
    [
        (np.zeros((4, 4)), 1, {}, r"one map of shape \(4, 4\).*pass \[maps\]"),
        (NAN, 1, {}, "map 2 holds NaN"),
        ([np.zeros((2, 2)), np.zeros(3)], 1, {}, r"map 1 has shape \(3,\), expected \(H, W\)"),
        ([np.zeros((2, 2)), np.zeros((0, 3))], 1, {}, "map 1 has shape"),
        ([np.zeros((2, 2), complex)], 1, {}, "map 0 holds complex128"),
        ([], 1, {}, "there are no maps"),
        (3.0, 1, {}, "maps is a float"),
        (np.zeros((2, 2, 2)), np.nan, {}, "threshold is nan, expected a finite number"),
        (np.zeros((2, 2, 2)), [0, np.inf], {}, r"threshold\[1\] is inf"),
        (np.zeros((2, 2, 2)), [0, 1, 2], {}, r"threshold has shape \(3,\).*\(2,\)"),
        (np.zeros((2, 2, 2)), 0, {"min_area": 0}, "min_area must be an int of at least 1"),
        (np.zeros((2, 2, 2)), 0, {"min_area": 1.5}, "min_area must be an int"),
        (np.zeros((2, 2, 2)), 0, {"connectivity": 6}, "connectivity must be 4 or 8, got 6"),
        (np.zeros((2, 2, 2)), 0, {"roi": np.ones((3, 3), bool)}, "image 0: its region of interest"),
        (np.zeros((2, 2, 2)), 0, {"roi": [None]}, "roi holds 1 regions, X 2"),
    ],
)
def test_what_cannot_be_is_refused(maps, threshold, parameters, message):
    with pytest.raises(ValueError, match=message):
        find_regions(maps, threshold, **parameters)
