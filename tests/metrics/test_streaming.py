import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.exceptions import UndefinedMetricWarning
from slow_metrics import masks_and_maps, with_a_normal_image

import skanomaly.metrics
from skanomaly.metrics import MapMetrics, aupro_score, pro_curve

NAMES = (
    "pixel_roc_auc_score",
    "pixel_average_precision_score",
    "pixel_f1_max_score",
    "aupro_score",
    "aupimo_score",
)
BOUNDS = (0.02, 0.5)  # AUPIMO's, wide enough for small images


def exact(masks, maps, **parameters):
    arguments = {"aupimo_score": {"fpr_bounds": BOUNDS}, **parameters}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return {
            name: getattr(skanomaly.metrics, name)(masks, maps, **arguments.get(name, {}))
            for name in NAMES
        }


def random_images(kind, n, seed, size=(40, 60)):
    """Images with zero to two defects, and maps of several kinds."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, *size), bool)
    for mask in masks[n // 3 :]:
        for _ in range(rng.integers(1, 3)):
            row, column = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
            height, width = rng.integers(1, 14, 2)
            mask[row : row + height, column : column + width] = True
    maps = rng.normal(size=masks.shape) + rng.uniform(0, 3) * masks
    if kind == "ties":
        maps = np.round(2 * maps)
    elif kind == "constant":
        maps = np.zeros_like(maps)
    elif kind == "huge":
        maps = np.sign(maps) * np.exp(100 * np.abs(maps))
    elif kind == "close":
        maps = 1000 + 1e-9 * maps
    elif kind == "single pixels":
        masks &= rng.random(masks.shape) < 0.1
    elif kind == "mostly defective":
        masks[n // 3 :] = ~masks[n // 3 :]
    return masks, maps


@settings(max_examples=60, deadline=None)
@given(data=masks_and_maps())
def test_small_data_gives_the_exact_result(data):
    masks, maps = with_a_normal_image(*data)
    streaming = MapMetrics()
    for mask, anomaly_map in zip(masks, maps):
        streaming.update([mask], [anomaly_map])
    assert streaming.compute(fpr_bounds=BOUNDS) == pytest.approx(exact(masks, maps), abs=1e-12)
    assert set(streaming.error_bounds(fpr_bounds=BOUNDS).values()) == {0}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(
        ["plain", "ties", "constant", "huge", "close", "single pixels", "mostly defective"]
    ),
    n=st.integers(3, 12),
    seed=st.integers(0, 99),
    capacity=st.sampled_from([64, 128, 1024]),
    max_fpr=st.sampled_from([0.05, 0.3, 1]),
    n_shards=st.integers(1, 3),
)
def test_summarised_data_gives_a_result_within_the_bound(
    kind, n, seed, capacity, max_fpr, n_shards
):
    masks, maps = random_images(kind, n, seed)
    streaming = MapMetrics(capacity=capacity)
    for shard in range(n_shards):
        chosen = slice(shard, None, n_shards)
        part = MapMetrics(capacity=capacity)
        streaming.merge(part.update(masks[chosen], maps[chosen]) if len(masks[chosen]) else part)
    found = streaming.compute(max_fpr=max_fpr, fpr_bounds=BOUNDS)
    bounds = streaming.error_bounds(max_fpr=max_fpr, fpr_bounds=BOUNDS)
    for name, value in exact(masks, maps, aupro_score={"max_fpr": max_fpr}).items():
        if not np.isnan(value):
            assert abs(found[name] - value) <= bounds[name] + 1e-9, name


def test_bounds_are_not_idle():
    """With a small capacity results do differ, and the bound is of that order."""
    masks, maps = random_images("plain", 12, 0)
    streaming = MapMetrics(capacity=256).update(masks, maps)
    expected, bounds = exact(masks, maps), streaming.error_bounds(fpr_bounds=BOUNDS)
    for name, value in streaming.compute(fpr_bounds=BOUNDS).items():
        assert 0 < abs(value - expected[name]) <= bounds[name] < 0.1, name


@pytest.mark.parametrize("kind", ["plain", "ties", "constant", "huge", "close"])
def test_default_capacity_keeps_every_metric_within_1e_4(kind):
    masks, maps = random_images(kind, 48, 0, size=(256, 256))
    streaming = MapMetrics()
    for start in range(0, len(masks), 7):
        chosen = slice(start, start + 7)
        streaming.update(masks[chosen], maps[chosen])
    if kind != "constant":
        assert streaming._rest.error.any()  # it did summarise
    bounds = streaming.error_bounds()
    expected = exact(masks, maps, aupimo_score={})
    for name, value in streaming.compute().items():
        assert bounds[name] <= 1e-4, name
        assert abs(value - expected[name]) <= bounds[name] + 1e-12, name


def test_shards_of_other_processes_give_the_result_of_the_whole():
    masks, maps = random_images("plain", 12, 0)
    shards = [slice(start, start + 4) for start in (0, 4, 8)]
    parts = Parallel(n_jobs=2)(delayed(MapMetrics().update)(masks[s], maps[s]) for s in shards)
    merged = MapMetrics()
    for part in parts:
        merged.merge(part)
    whole = MapMetrics().update(masks, maps)
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-14)
    assert (merged.n_images_, merged.n_normal_images_) == (12, 4)
    assert merged.n_regions_ == whole.n_regions_ > 8


def test_order_of_merging_changes_a_summarised_result_by_no_more_than_the_bound():
    masks, maps = random_images("plain", 12, 1)
    parts = [MapMetrics(capacity=64).update([m], [a]) for m, a in zip(masks, maps)]
    forwards, backwards = MapMetrics(capacity=64), MapMetrics(capacity=64)
    for part in parts:
        forwards.merge(part)
    for part in parts[::-1]:
        backwards.merge(part)
    found = [m.compute(fpr_bounds=BOUNDS) for m in (forwards, backwards)]
    bounds = [m.error_bounds(fpr_bounds=BOUNDS) for m in (forwards, backwards)]
    for name in NAMES:
        assert abs(found[0][name] - found[1][name]) <= bounds[0][name] + bounds[1][name]


def test_merging_leaves_the_other_as_it_was():
    masks, maps = random_images("plain", 6, 0)
    one, other = (
        MapMetrics(capacity=64).update(masks[s], maps[s]) for s in (slice(3), slice(3, 6))
    )
    before = pickle.dumps(other)
    one.merge(other).update(masks, maps)
    assert pickle.dumps(other) == before


def test_state_survives_pickling():
    masks, maps = random_images("plain", 6, 0)
    streaming = pickle.loads(pickle.dumps(MapMetrics().update(masks[:3], maps[:3])))
    found = streaming.update(masks[3:], maps[3:]).compute()
    assert found == MapMetrics().update(masks, maps).compute()


def test_maps_may_be_changed_after_an_update():
    masks, maps = random_images("plain", 6, 0)
    expected = MapMetrics().update(masks, maps).compute()
    streaming = MapMetrics().update(masks, maps)
    maps[:] = 0
    assert streaming.compute() == expected


def test_memory_grows_by_one_level_for_each_fourfold_of_images():
    masks, maps = random_images("plain", 6, 0, size=(64, 64))
    capacity, n_kept = 2**8, []
    for n_rounds in (8, 32, 128, 512):
        streaming = MapMetrics(capacity=capacity)
        for _ in range(n_rounds):
            streaming.update(masks, maps)
        n_kept.append(sum(len(values) for values, _ in streaming._rest.pieces))
    assert n_kept[-1] < 0.02 * 512 * maps.size
    assert np.all(np.diff(n_kept) <= 8 * capacity)


@pytest.mark.parametrize("capacity", [2**10, 2**19])
def test_pro_curve_is_the_exact_one_or_close_to_it(capacity):
    masks, maps = random_images("plain", 12, 0)
    streaming = MapMetrics(capacity=capacity).update(masks, maps)
    fpr, pro, thresholds = streaming.pro_curve()
    exact_fpr, exact_pro, exact_thresholds = pro_curve(masks, maps)
    if capacity == 2**19:
        for found, expected in zip(
            (fpr, pro, thresholds), (exact_fpr, exact_pro, exact_thresholds)
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    grid = np.linspace(0.01, 0.99, 99)
    close = np.abs(np.interp(grid, fpr, pro) - np.interp(grid, exact_fpr, exact_pro))
    assert close.max() < 0.02
    assert np.all(np.diff(fpr) >= 0)
    assert np.all(np.diff(pro) >= -1e-12)


def test_bad_input_takes_nothing_in():
    masks, maps = random_images("plain", 6, 0)
    streaming = MapMetrics().update(masks, maps)
    expected = streaming.compute()
    spoiled = maps.copy()
    spoiled[4, 2, 3] = np.nan
    with pytest.raises(ValueError, match="map 4 holds NaN"):
        streaming.update(masks, spoiled)
    assert streaming.compute() == expected


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("name", [*NAMES, "pro_curve"])
def test_undefined_is_nan_with_a_warning(name, value):
    streaming = MapMetrics().update(np.full((2, 3, 3), value), np.zeros((2, 3, 3)))
    with pytest.warns(UndefinedMetricWarning, match=f"{name} is not defined without") as caught:
        found = getattr(streaming, name)()
    assert np.isnan(found).all()
    assert caught[0].filename == __file__
    assert all(np.isnan(bound) for bound in streaming.error_bounds().values())


def test_nothing_seen_is_undefined():
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(MapMetrics().aupro_score())


def test_refused_arguments():
    with pytest.raises(TypeError, match="can merge MapMetrics only, got dict"):
        MapMetrics().merge({})
    with pytest.raises(ValueError, match="capacity must be an int of at least 64, got 8"):
        MapMetrics(capacity=8)
    with pytest.raises(ValueError, match=r"max_fpr must lie in \(0, 1\]"):
        MapMetrics().aupro_score(max_fpr=0)


def test_real_maps_agree(fitted, textures):
    maps = fitted.transform(textures[1].images)
    streaming = MapMetrics().update(textures[1].masks, maps)
    assert streaming.aupro_score() == pytest.approx(aupro_score(textures[1].masks, maps), abs=1e-12)
