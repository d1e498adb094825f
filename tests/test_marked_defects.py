"""Marked defects in `fit`: who gets which, and that thresholds come from normal images alone."""

import numpy as np
import pytest
from conftest import DistanceToMean
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skanomaly import (
    EnsembleDetector,
    ImageFiles,
    InvalidImageError,
    MultiProductDetector,
    TiledDetector,
    TransformedImageDetector,
)
from skanomaly.preprocessing import Crop, EqualizeHistogram

N, MARKED = 24, np.array([3, 4, 11, 20])


class Marked(DistanceToMean):
    """Remembers what it was given to learn from."""

    _learns_from_defects = True

    def _fit_images(self, images, validation, defects=None):
        super()._fit_images(images, validation)
        self.defects_ = self.masks_ = self.digest_ = None
        if defects is not None:
            self.defects_ = [defects.images.index_of(i) for i in range(len(defects))]
            self.digest_ = defects.digest()
            self.on_grid_ = defects.masks_on((4, 4))
            if defects.has_masks:
                self.masks_ = [defects.mask(i) for i in range(len(defects))]


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(0, 256, (N, 16, 24), np.uint8)


@pytest.fixture
def masks():
    """A defect of 3 x 5 pixels in each of the marked images, at another place in each."""
    found = np.zeros((N, 16, 24), bool)
    for k, i in enumerate(MARKED):
        found[i, 2 * k : 2 * k + 3, 4 * k : 4 * k + 5] = True
    return found


@pytest.fixture
def labels(masks):
    return np.where(masks.any(axis=(1, 2)), -1, 1)


def small(**parameters):
    return Marked(image_size=(16, 24), **parameters)


def test_masks_are_handed_to_who_learns_from_them(X, masks):
    found = small().fit(X, masks)
    assert found.defects_ == list(MARKED)
    assert (found.n_defects_, found.n_left_out_) == (4, 0)
    assert_array_equal(found.masks_, masks[MARKED])


def test_labels_are_handed_on_without_masks(X, labels):
    found = small().fit(X, labels)
    assert found.defects_ == list(MARKED)
    assert found.masks_ is None
    assert (found.on_grid_ == -1).all()


@pytest.mark.parametrize("y", [None, "all normal"])
def test_without_defects_nothing_is_handed_on(X, y):
    found = small().fit(X, y if y is None else np.ones(N, int))
    assert found.defects_ is None
    assert (found.n_defects_, found.n_left_out_) == (0, 0)


def test_others_leave_them_out(X, masks):
    found = DistanceToMean().fit(X, masks)
    assert (found.n_defects_, found.n_left_out_) == (0, 4)


def test_threshold_comes_from_normal_images_alone(X, masks):
    """The same ones are held out as without the defects, and none is learnt from as normal."""
    alone = small().fit(np.delete(X, MARKED, axis=0))
    found = small().fit(X, masks)
    normal = np.delete(np.arange(N), MARKED)
    for own, expected in zip(found.seen_, alone.seen_):
        assert own == {normal[i] for i in expected}
    assert found.offset_ == alone.offset_
    assert_array_equal(found.validation_scores_, alone.validation_scores_)


def test_a_position_is_marked_that_a_defect_touches(X, masks):
    found = small().fit(X, masks)
    for on_grid, mask in zip(found.on_grid_, masks[MARKED]):
        expected = mask.reshape(4, 4, 4, 6).any(axis=(1, 3))
        assert_array_equal(on_grid.numpy().astype(bool) & expected, expected)
    assert found.on_grid_.mean() < 0.5


def test_defects_of_a_lot_that_is_held_out_are_left_out(X, masks):
    """A part's other shots would make its normal ones look too normal."""
    groups = np.arange(N) // 3
    found = small().fit(X, masks, groups=groups)
    held_out = {groups[i] for i in found.seen_[1]}
    kept = [i for i in MARKED if groups[i] not in held_out]
    assert 0 < len(kept) < 4
    assert found.defects_ == kept
    assert (found.n_defects_, found.n_left_out_) == (len(kept), 4 - len(kept))


def test_defects_of_all_lots_are_learnt_from_where_others_set_the_threshold(X, masks):
    found = small().fit(X, masks, groups=np.arange(N) // 3, X_val=X[:3])
    assert found.n_defects_ == 4


class EveryFit(Marked):
    """Remembers each of its fits."""

    fits = []

    def _fit_images(self, images, validation, defects=None):
        super()._fit_images(images, validation, defects)
        self.fits.append((set(validation.indices), self.defects_))


def test_folds_leave_out_the_defects_of_their_lots_and_the_last_fit_none(X, masks):
    groups = np.arange(N) // 3
    EveryFit.fits.clear()
    found = EveryFit(image_size=(16, 24), cv=4).fit(X, masks, groups=groups)
    *folds, (_, last) = EveryFit.fits
    assert len(folds) == 4
    for held_out, defects in folds:
        lots = {groups[i] for i in held_out}
        assert (defects or []) == [i for i in MARKED if groups[i] not in lots]
    assert last == list(MARKED)
    assert (found.n_defects_, found.n_left_out_) == (4, 0)


def test_regions_of_interest_go_with_their_images(X, masks):
    roi = [None] * N
    roi[5] = np.ones((16, 24), bool)
    roi[5][0] = False
    assert small().fit(X, masks, roi=roi).n_defects_ == 4


def test_a_mask_of_another_size_is_refused_by_name(X, masks):
    y = list(masks)
    y[MARKED[1]] = np.ones((5, 5), bool)
    with pytest.raises(InvalidImageError, match=r"image 4: its mask has shape \(5, 5\), expected"):
        small().fit(X, y)


def test_images_stay_files(X, masks, tmp_path):
    from PIL import Image

    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    found = small().fit(ImageFiles.from_folder(tmp_path), masks)
    assert found.defects_ == list(MARKED)
    assert_array_equal(found.masks_, masks[MARKED])


def test_digest_is_of_images_and_masks(X, masks, labels):
    digest = small().fit(X, masks).digest_
    others = masks.copy()
    others[MARKED[0], 0, 0] ^= True
    brighter = X.copy()
    brighter[MARKED[0], 0, 0] ^= 1
    for images, y in ((X, others), (brighter, masks), (X, labels)):
        assert small().fit(images, y).digest_ != digest
    assert small().fit(X.copy(), masks.copy()).digest_ == digest


def test_a_search_hands_each_fold_its_own(X, labels):
    EveryFit.fits.clear()
    GridSearchCV(
        EveryFit(image_size=(16, 24)), {"smoothing": [1.0]}, cv=2, scoring=lambda *a: 0.0
    ).fit(X, labels)
    first, second = ([k for k, i in enumerate(MARKED) if (i < N // 2) == early] for early in (1, 0))
    assert [len(defects) for _, defects in EveryFit.fits] == [len(second), len(first), 4]


def test_members_of_an_ensemble_get_them_that_learn_from_them(X, masks):
    members = [("marked", small()), ("plain", DistanceToMean())]
    found = EnsembleDetector(members, image_size=(16, 24), random_state=0).fit(X, masks)
    assert found.detectors_[0].defects_ == list(MARKED)
    assert (found.n_defects_, found.n_left_out_) == (4, 0)
    plain = EnsembleDetector(members[1:], image_size=(16, 24), random_state=0).fit(X, masks)
    assert (plain.n_defects_, plain.n_left_out_) == (0, 4)


def test_each_product_has_its_own(X, masks):
    product = np.array(["a", "b"])[np.arange(N) % 2]
    found = MultiProductDetector(small()).fit(X, masks, product=product)
    for name in "ab":
        own = [i for i in MARKED if product[i] == name]
        assert found.detectors_[name].defects_ == own
        assert_array_equal(found.detectors_[name].masks_, masks[own])


@pytest.mark.parametrize("position", ["shared", "own"])
def test_tiles_are_learnt_from_that_a_defect_is_in(X, masks, position):
    tiled = TiledDetector(Marked(image_size=8), tile_size=8, overlap=0, position=position)
    found = tiled.fit(X, masks)
    assert (found.n_defects_, found.n_left_out_) == (4, 0)
    tiles = [
        (i, k, masks[i, y : y + 8, x : x + 8])
        for i in MARKED
        for k, (y, x) in enumerate((y, x) for y in (0, 8) for x in (0, 8, 16))
        if masks[i, y : y + 8, x : x + 8].any()
    ]
    for branch, detector in enumerate(found.detectors_):
        expected = [(i, m) for i, k, m in tiles if position == "shared" or k == branch]
        assert (detector.defects_ or []) == [i for i, _ in expected]
        for own, (_, mask) in zip(detector.masks_ or [], expected):
            assert_array_equal(own, mask)


def test_labels_say_nothing_of_tiles_and_all_of_the_whole_image(X, labels):
    tiled = TiledDetector(Marked(image_size=8), tile_size=8, overlap=0)
    found = tiled.fit(X, labels)
    assert found.detectors_[0].defects_ is None
    assert (found.n_defects_, found.n_left_out_) == (0, 4)
    found = clone(tiled).set_params(coarse=small()).fit(X, labels)
    assert found.detectors_[0].defects_ is None
    assert found.coarse_.defects_ == list(MARKED)
    assert (found.n_defects_, found.n_left_out_) == (4, 0)


def test_masks_move_with_the_images(X, masks):
    crop = Crop((3, 4, 15, 20))
    found = TransformedImageDetector(crop, Marked(image_size=(12, 16))).fit(X, masks)
    cropped = masks[MARKED, 3:15, 4:20]
    seen = cropped.any(axis=(1, 2))
    assert 0 < seen.sum() < 4  # one was cut away, and its image is neither good nor bad
    assert found.defects_ == list(MARKED[seen])
    assert_array_equal(found.masks_, cropped[seen])
    assert (found.n_defects_, found.n_left_out_) == (seen.sum(), 4 - seen.sum())
    assert not set(MARKED) & set.union(*found.seen_)


def test_masks_move_through_one_composite_into_the_next(X, masks):
    tiled = TiledDetector(Marked(image_size=7), tile_size=(7, 8), overlap=0)
    found = TransformedImageDetector(Crop((1, 4, 15, 20)), tiled).fit(X, masks)
    inner = found.detector_.detectors_[0]
    boxes = [(y, x) for y in (1, 8) for x in (4, 12)]
    cut = [masks[i, y : y + 7, x : x + 8] for i in MARKED for y, x in boxes]
    assert_array_equal(inner.masks_, [mask for mask in cut if mask.any()])


def test_labels_go_through_a_transformer(X, labels):
    found = TransformedImageDetector(Crop((1, 4, 15, 20)), Marked(image_size=(14, 16)))
    assert found.fit(X, labels).defects_ == list(MARKED)


def test_a_pipeline_that_moves_pixels_refuses_masks_and_takes_labels(X, masks, labels):
    """The masks that its last step gets are still those of the images as they were."""
    pipeline = make_pipeline(Crop((1, 0, 16, 24)), Marked(image_size=(16, 24)))
    with pytest.raises(InvalidImageError, match="image 3: was moved by.*TransformedImageDetector"):
        pipeline.fit(X, masks)
    assert pipeline.fit(X, labels)[-1].defects_ == list(MARKED)


def test_a_pipeline_that_leaves_pixels_in_place_takes_masks(X, masks):
    pipeline = make_pipeline(EqualizeHistogram(), Marked(image_size=(16, 24)))
    assert_array_equal(pipeline.fit(X, masks)[-1].masks_, masks[MARKED])
