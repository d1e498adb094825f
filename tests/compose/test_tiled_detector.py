import pickle

import numpy as np
import pytest
import torch
from conftest import DistanceToMean
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skanomaly import (
    ImageFiles,
    InvalidImageError,
    LocalContrast,
    MedianDifference,
    PaDiM,
    PatchCore,
    TiledDetector,
    TransformedImageDetector,
    export_onnx,
    load,
    make_ensemble,
    save,
)
from skanomaly.compose._tiling import bands, grid_of
from skanomaly.exceptions import ExportError
from skanomaly.metrics import aupro, evaluate
from skanomaly.model_selection import NormalKFold
from skanomaly.preprocessing import Crop
from skanomaly.utils.estimator_checks import check_detector

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")

SCORING = ("transform", "score_samples", "decision_function", "predict", "p_values")
RNG = np.random.default_rng(0)
X = RNG.integers(90, 140, (20, 40, 48, 3), np.uint8)
ROI = np.zeros((40, 48), bool)
ROI[5:22, 8:30] = True


def detector(**parameters):
    return DistanceToMean(**{"image_size": None, "smoothing": 0.0, **parameters})


def contrast(**parameters):
    return LocalContrast(**{"image_size": None, "smoothing": 1.0, "random_state": 0, **parameters})


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    tile_size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    overlap=st.floats(0, 0.9),
)
def test_tiles_cover_an_image(size, tile_size, overlap):
    grid = grid_of(size, tile_size, overlap)
    assert grid.tile == tuple(np.minimum(size, tile_size))
    for starts, side, n in zip((grid.tops, grid.lefts), grid.tile, size):
        assert starts[0] == 0
        assert starts[-1] + side == n
        assert (np.diff(starts) >= 1).all() or len(starts) == 1
        step = max(1.0, side * (1 - overlap))
        assert (np.diff(starts) <= step + 1).all()  # rounding moves a tile by half a pixel
        assert len(starts) == 1 or (len(starts) - 2) * step < n - side + 1e-6  # none too many


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile_size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    overlap=st.floats(0, 0.8),
)
def test_a_constant_map_stays_constant(size, tile_size, overlap):
    grid = grid_of(size, tile_size, overlap)
    tiles = [np.full(grid.tile, 3.0, np.float32) for _ in grid.boxes()]
    found = np.concatenate(list(bands(grid, [True] * len(tiles), iter(tiles))))
    assert found.shape == size
    assert_allclose(found, 3.0, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile_size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    overlap=st.floats(0, 0.8),
    seed=st.integers(0, 99),
)
def test_maps_are_blended_by_how_far_their_borders_are(size, tile_size, overlap, seed):
    grid, rng = grid_of(size, tile_size, overlap), np.random.default_rng(seed)
    tiles = [rng.normal(size=grid.tile).astype(np.float32) for _ in grid.boxes()]
    kept = rng.random(len(tiles)) < 0.8
    total, weights = np.zeros(size), np.zeros(size)
    for box, values, is_kept in zip(grid.boxes(), tiles, kept):
        for row, column in np.ndindex(*grid.tile):
            to_rows = min(row + 0.5, grid.tile[0] - row - 0.5)
            to_columns = min(column + 0.5, grid.tile[1] - column - 0.5)
            at = box[0] + row, box[1] + column
            weights[at] += to_rows * to_columns
            total[at] += to_rows * to_columns * values[row, column] * is_kept
    some = iter([values for values, is_kept in zip(tiles, kept) if is_kept])
    found = np.concatenate(list(bands(grid, kept, some)))
    assert_allclose(found, total / weights, atol=1e-4)


@pytest.mark.parametrize("roi", [None, ROI])
@pytest.mark.parametrize(
    ("inner", "parameters"),
    [
        (PatchCore(image_size=32, coreset=100, random_state=0), {}),
        (PatchCore(image_size=32, coreset=100, random_state=0, standardize=None), {}),
        (PaDiM(image_size=32, n_features=10, random_state=0), {"position": "own"}),
        (detector(score_reduction=0.1), {}),
        (contrast(validation_fraction=0.3, false_alarm_rate=0.1), {}),
        (make_ensemble(PatchCore(coreset=50), LocalContrast(), image_size=32, random_state=0), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_tile_is_the_detector(inner, parameters, roi):
    bare = clone(inner).fit(X, roi=roi)
    tiled = TiledDetector(inner, tile_size=(40, 48), **parameters).fit(X, roi=roi)
    for method in SCORING:
        found, expected = (getattr(d, method)(X[:9], roi=roi) for d in (tiled, bare))
        assert_array_equal(found, expected)
    assert tiled.offset_ == bare.offset_
    assert tiled.map_threshold_ == bare.map_threshold_
    assert_array_equal(tiled.validation_scores_, bare.validation_scores_)


def test_one_tile_of_images_of_ones_own_and_of_groups():
    groups = np.arange(14) // 3
    arguments = [(X[:14], {"groups": groups}), (X[:8], {"X_val": X[8:]})]
    for images, more in arguments:
        for cv in (None, 3):
            bare = detector(cv=cv).fit(images, **more)
            tiled = TiledDetector(detector(cv=cv), tile_size=64).fit(images, **more)
            assert tiled.offset_ == bare.offset_
            assert len(tiled.validation_scores_) == len(bare.validation_scores_)


@pytest.mark.parametrize(
    "composite",
    [
        TiledDetector(PatchCore(image_size=64, coreset=50, random_state=0), tile_size=40),
        TiledDetector(
            PatchCore(image_size=32, coreset=50, random_state=0),
            tile_size=40,
            coarse=PaDiM(image_size=32, n_features=10, random_state=0),
        ),
        TiledDetector(
            PaDiM(image_size=64, n_features=10, random_state=0), tile_size=40, position="own"
        ),
    ],
    ids=["shared", "coarse", "own"],
)
def test_contract(composite):
    reasons = {"check_mixed_sizes": "each place has a detector of its own"}
    is_own = composite.position == "own"
    results = check_detector(composite, expected_failed_checks=reasons if is_own else None)
    assert {r["status"] for r in results} == ({"passed", "xfail"} if is_own else {"passed"})


def test_maps_are_of_tiles_side_by_side():
    """Without an overlap each tile's map is what the detector gives of the tile alone."""
    tiled = TiledDetector(detector(), tile_size=(20, 24), overlap=0.0).fit(X)
    (fitted,) = tiled.detectors_
    maps = tiled.transform(X)
    for top, left in [(0, 0), (0, 24), (20, 0), (20, 24)]:
        cut = X[:, top : top + 20, left : left + 24]
        fitted.offset_, fitted.fitted_parameters_ = 0.0, {}
        assert_allclose(maps[:, top : top + 20, left : left + 24], fitted.transform(cut), rtol=1e-6)


def test_scores_need_no_map(monkeypatch):
    tiled = TiledDetector(contrast(), tile_size=24, coarse=contrast()).fit(X)
    expected = tiled.detect(X).scores
    monkeypatch.setattr(type(tiled), "_maps", None)
    assert_array_equal(tiled.score_samples(X), expected)


@pytest.mark.parametrize("position", ["shared", "own"])
@pytest.mark.parametrize("coarse", [None, contrast()])
def test_regions_are_cut_along(position, coarse, monkeypatch):
    tiled = TiledDetector(contrast(), tile_size=16, overlap=0.0, position=position, coarse=coarse)
    tiled.fit(X, roi=ROI)
    spoilt = X[:4].copy()
    spoilt[:, 30:34, 40:44] = 255  # outside
    spoilt[2, 10:14, 10:14] = 255
    found = tiled.detect(spoilt, roi=ROI)
    assert_array_equal(tiled.score_samples(spoilt, roi=ROI), found.scores)
    assert (found.maps[:, ~ROI] == found.maps[:, ROI].min(axis=1)[:, None]).all()
    assert found.scores.argmin() == 2
    assert (found.labels == [1, 1, -1, 1]).sum() >= 3
    row, column = np.unravel_index(found.maps[2].argmax(), ROI.shape)
    assert 8 <= row <= 15
    assert 8 <= column <= 15


def test_tiles_without_a_pixel_that_counts_are_not_looked_at(monkeypatch):
    tiled = TiledDetector(contrast(), tile_size=16, overlap=0.0).fit(X)
    seen, compute = [], LocalContrast._compute_maps

    def counting(self, pixels):
        seen.append(len(pixels))
        return compute(self, pixels)

    monkeypatch.setattr(LocalContrast, "_compute_maps", counting)
    tiled.score_samples(X[:2])
    assert sum(seen) == 2 * 9
    seen.clear()
    corner = np.zeros((40, 48), bool)
    corner[:9, :9] = True
    tiled.score_samples(X[:2], roi=corner)
    assert sum(seen) == 2


def test_a_small_defect_survives_that_shrinking_loses():
    rng = np.random.default_rng(1)
    good = rng.integers(100, 130, (24, 256, 256), np.uint8)
    bad = good[20:].copy()
    bad[:, 100:104, 121:125] = 145
    few = {"image_size": 32, "smoothing": 1.0, "random_state": 0}
    shrunk = LocalContrast(**few).fit(good[:20])
    tiled = TiledDetector(LocalContrast(**few), tile_size=32).fit(good[:20])
    margin = {}
    for name, fitted in (("shrunk", shrunk), ("tiled", tiled)):
        scores = fitted.decision_function(np.concatenate([good[20:], bad]))
        margin[name] = scores[:4].min() - scores[4:].max()
    assert margin["tiled"] > 0 > margin["shrunk"]


@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_seams_hide_no_defect(overlap):
    """A spot scores on a border of tiles as it does inside, as contrast sees no border."""
    plain = np.full((12, 96, 96), 120, np.uint8) + RNG.integers(0, 4, (12, 96, 96), np.uint8)
    tiled = TiledDetector(contrast(standardize=None), tile_size=48, overlap=overlap).fit(plain)
    (grid,) = tiled._grids(tiled._open(plain[:1]))
    border, inside = grid.lefts[1], 20
    scores = []
    for column in (border - 2, border, inside):
        spoilt = plain[:1].copy()
        spoilt[:, 20:24, column : column + 4] = 200
        scores.append(tiled.score_samples(spoilt)[0])
    assert_allclose(scores, scores[-1], rtol=0.3 if overlap == 0 else 0.05)


def test_a_detector_of_positions_needs_places_of_its_own():
    for inner in (PaDiM(), MedianDifference(), make_ensemble(PaDiM(), PatchCore())):
        with pytest.raises(ValueError, match='set position="own"'):
            TiledDetector(inner, tile_size=24).fit(X)
    tiled = TiledDetector(MedianDifference(image_size=24), tile_size=24, position="own").fit(X)
    assert len(tiled.detectors_) == 6
    with pytest.raises(InvalidImageError, match="image 1: is 30 x 48 pixels, expected 40 x 48"):
        tiled.predict([X[0], X[1, :30]])
    with pytest.raises(InvalidImageError, match="image 1: is 30 x 48 pixels, expected 40 x 48"):
        TiledDetector(detector(), tile_size=24, position="own").fit([X[0], X[1, :30], X[2]])


def test_what_is_no_detector_of_images_is_refused():
    behind = TransformedImageDetector(Crop((0, 0, 9, 9)), detector())
    for inner in (TiledDetector(detector()), behind):
        with pytest.raises(ValueError, match=f"detector is a {type(inner).__name__}, expected"):
            TiledDetector(inner).fit(X)
    with pytest.raises(ValueError, match="tile_size"):
        TiledDetector(detector(), tile_size=0).fit(X)
    with pytest.raises(ValueError, match="overlap"):
        TiledDetector(detector(), overlap=1.0).fit(X)


def test_errors_name_the_image_and_not_the_tile(tmp_path):
    for i, image in enumerate(X[:6]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    files = ImageFiles.from_folder(tmp_path)
    tiled = TiledDetector(contrast(), tile_size=16).fit(files)
    assert_array_equal(tiled.score_samples(files), tiled.score_samples(X[:6]))
    (tmp_path / "4.png").write_bytes(b"")
    for call in (tiled.score_samples, tiled.transform, tiled.fit):
        with pytest.raises(InvalidImageError, match=r"image 4 \(.*4.png\)"):
            call(files)
    bad = X[:6] / 255
    bad[3, 2, 30] = np.nan
    for call in (tiled.score_samples, tiled.fit):
        with pytest.raises(InvalidImageError, match="image 3: holds nan at row 2, column 30"):
            call(bad)
    with pytest.raises(InvalidImageError, match="image 1: .* channels"):
        tiled.score_samples([X[0], X[1, ..., 0]])


def test_images_of_several_sizes():
    images = [X[0], np.pad(X[1], ((0, 30), (0, 0), (0, 0)), mode="reflect"), X[2, :20, :20]]
    tiled = TiledDetector(contrast(), tile_size=24).fit([*X, *images])
    maps = tiled.transform(images)
    assert [m.shape for m in maps] == [(40, 48), (70, 48), (20, 20)]
    assert_allclose(maps[0], tiled.transform(X[:1])[0], rtol=1e-5)


def test_parameters_after_the_fit():
    tiled = TiledDetector(contrast(false_alarm_rate=0.3), tile_size=24).fit(X)
    loose = tiled.offset_
    assert tiled.set_params(detector__false_alarm_rate=0.01).calibrate().offset_ < loose
    before = tiled.score_samples(X)
    tiled.set_params(detector__batch_size=1, detector__n_jobs=2)
    assert_allclose(tiled.score_samples(X), before, rtol=1e-5)
    tiled.set_params(detector__smoothing=2.0)
    with pytest.raises(ValueError, match="detector__smoothing .* call calibrate"):
        tiled.predict(X)
    tiled.calibrate(X)
    assert not np.allclose(tiled.score_samples(X), before)
    tiled.set_params(tile_size=20)
    with pytest.raises(ValueError, match="tile_size .* fit anew"):
        tiled.predict(X)


def test_files_streams_and_threads(tmp_path):
    tiled = TiledDetector(
        PatchCore(image_size=32, coreset=50, random_state=0),
        tile_size=24,
        coarse=PaDiM(image_size=32, n_features=10, random_state=0),
    ).fit(X)
    expected = tiled.transform(X[:3])
    assert_array_equal(pickle.loads(pickle.dumps(tiled)).transform(X[:3]), expected)
    save(tiled, tmp_path / "model.skanomaly")
    assert_array_equal(load(tmp_path / "model.skanomaly").transform(X[:3]), expected)
    for found in tiled.stream(iter(X[:3])):
        assert_allclose(found.map, expected[found.index], rtol=1e-4, atol=1e-4)
    with pytest.raises(ExportError, match="takes an image whole"):
        export_onnx(tiled, tmp_path / "never.onnx", X[:2])


def test_searched_with_masks_behind_a_crop():
    images, y = X.copy(), np.zeros((20, 40, 48), bool)
    images[14:, 20:24, 30:34] = 255
    y[14:, 20:24, 30:34] = True
    composite = TransformedImageDetector(
        Crop((2, 2, 40, 48)), TiledDetector(contrast(), tile_size=16)
    )
    search = GridSearchCV(
        composite, {"detector__tile_size": [16, 30]}, scoring=aupro, cv=NormalKFold(3)
    ).fit(images, y)
    assert search.best_score_ > 0.9
    assert evaluate(search, images, y)["pixel_roc_auc"] > 0.95


@pytest.mark.parametrize("position", ["shared", "own"])
def test_gradients_are_as_they_were(position):
    """However the maps of several detectors are taken in turn, to their end or not."""
    tiled = TiledDetector(contrast(), tile_size=24, position=position, coarse=contrast()).fit(X)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    found = tiled._maps(tiled._open(X[:4]))
    next(found)
    assert not torch.is_inference_mode_enabled()
    del found
    tiled.score_samples(X[:4])
    assert not torch.is_inference_mode_enabled()
