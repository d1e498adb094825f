import numpy as np
import pytest

from skanomaly.synthesis import DEFECT_TYPES, draw_defect

SHAPES = [(64, 64, 1), (96, 72, 3), (128, 128, 1), (256, 256, 1)]
every_type = pytest.mark.parametrize("defect_type", DEFECT_TYPES)


def clean(shape, seed):
    return np.random.default_rng(1000 + seed).random(shape)


def draw(defect_type, shape=(64, 64, 1), seed=0):
    """The clean image, the defective one and the mask."""
    image = clean(shape, seed)
    rng = np.random.default_rng(seed)
    return image, *draw_defect(image, defect_type, rng, foreign=clean(shape, seed + 1))


@every_type
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mask_is_exact(defect_type, shape):
    image, defective, mask = draw(defect_type, shape)
    assert (mask.shape, mask.dtype) == (shape[:2], bool)
    assert defective.shape == shape
    np.testing.assert_array_equal(defective[~mask], image[~mask])
    assert (defective != image)[mask].any(axis=1).mean() > 0.9


@every_type
def test_defect_is_neither_nothing_nor_everything(defect_type):
    for seed in range(20):
        _, _, mask = draw(defect_type, seed=seed)
        assert 0 < mask.mean() < 0.6


@every_type
def test_defect_can_be_seen(defect_type):
    changes = []
    for seed in range(10):
        image, defective, mask = draw(defect_type, seed=seed)
        changes.append(np.abs(defective - image)[mask].mean())
    assert np.mean(changes) > 0.05


@every_type
def test_values_stay_in_range(defect_type):
    for seed in range(10):
        _, defective, _ = draw(defect_type, seed=seed)
        assert defective.min() >= 0
        assert defective.max() <= 1


@every_type
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_flat_image_stays_finite(defect_type, value):
    image = np.full((64, 64, 3), value)
    defective, mask = draw_defect(image, defect_type, np.random.default_rng(0), foreign=image)
    assert np.isfinite(defective).all()
    np.testing.assert_array_equal(defective[~mask], image[~mask])


@every_type
def test_same_seed_gives_the_same_bits(defect_type):
    for first, second in zip(draw(defect_type, seed=3), draw(defect_type, seed=3)):
        np.testing.assert_array_equal(first, second)


@every_type
def test_other_seeds_give_other_defects(defect_type):
    image = clean((64, 64, 1), 0)
    masks = [
        draw_defect(image, defect_type, np.random.default_rng(seed), foreign=image)[1]
        for seed in range(5)
    ]
    assert len({mask.tobytes() for mask in masks}) == 5


@every_type
def test_inputs_are_not_changed(defect_type):
    image, foreign = clean((64, 64, 1), 0), clean((64, 64, 1), 1)
    draw_defect(image, defect_type, np.random.default_rng(0), foreign=foreign)
    np.testing.assert_array_equal(image, clean((64, 64, 1), 0))
    np.testing.assert_array_equal(foreign, clean((64, 64, 1), 1))


def test_only_the_foreign_patch_shows_foreign_texture():
    image = clean((64, 64, 1), 0)
    for defect_type in DEFECT_TYPES:
        first, second = (
            draw_defect(image, defect_type, np.random.default_rng(0), foreign=clean(image.shape, i))
            for i in (1, 2)
        )
        assert np.array_equal(first[0], second[0]) == (defect_type != "foreign")
        np.testing.assert_array_equal(first[1], second[1])
