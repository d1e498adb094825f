from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset, Regions
from skanomaly.model_selection._drawing import LEAST_CHANGE, DrawnDefects, Recipe, recipes_for
from skanomaly.synthesis import DEFECT_TYPES

SIZE = (48, 64)
KINDS = ["scratch", "spot", "stain"]


def images_of(dtype, n=3, channels=3, high=None):
    high = (1 if dtype == "float32" else np.iinfo(dtype).max) if high is None else high
    values = np.random.default_rng(0).uniform(0.3, 0.7, (n, *SIZE, channels)) * high
    return values.astype(dtype)


def drawn_onto(X, recipes, value_range=None, roi=None):
    return DrawnDefects(X, recipes, value_range, Regions(roi, len(X)))


def some_recipes(n_images, n_drawn=9, contrasts=(1.0,)):
    rng = np.random.default_rng(0)
    return recipes_for(n_images, n_drawn, KINDS, (1.0, 2.0), contrasts, rng)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3))
def test_all_are_as_equally_often_as_can_be(n_images, n_drawn, n_sizes, n_contrasts):
    sizes, contrasts = (0.5, 1, 2)[:n_sizes], (0.25, 0.5, 1)[:n_contrasts]
    rng = np.random.default_rng(1)
    recipes = recipes_for(n_images, n_drawn, KINDS, sizes, contrasts, rng)
    assert len(recipes) == n_drawn
    designs = Counter((r.kind, r.size, r.contrast) for r in recipes)
    per_image = Counter(r.image for r in recipes)
    for counts, n in ((designs, 3 * n_sizes * n_contrasts), (per_image, n_images)):
        found = list(counts.values()) + [0] * (n - len(counts))
        assert max(found) - min(found) <= 1
    if n_images > 1:
        assert all(r.image != r.source for r in recipes)
    assert all(0 <= r.source < n_images for r in recipes)


@pytest.mark.parametrize(
    ("dtype", "high", "value_range"),
    [
        ("uint8", None, None),
        ("uint16", None, None),
        ("float32", None, None),
        ("uint16", 4095, (0, 4095)),
        ("float32", 9.0, (0.0, 9.0)),
    ],
)
def test_images_are_as_they_were_outside_of_the_masks(dtype, high, value_range):
    X = images_of(dtype, high=high)
    drawn = drawn_onto(X, some_recipes(len(X)), value_range)
    low, top = value_range or (0, 1 if dtype == "float32" else np.iinfo(dtype).max)
    for i, recipe in enumerate(drawn.recipes):
        mask, before = drawn.mask(i), X[recipe.image]
        assert drawn[i].dtype == X.dtype
        assert mask.any()
        assert np.array_equal(drawn[i][~mask], before[~mask])
        change = np.abs(drawn[i][mask].astype(float) - before[mask]).mean() / (top - low)
        assert change >= LEAST_CHANGE - 0.5 / 255
    ImageDataset(drawn, value_range=value_range).in_memory()  # all are valid images


def test_the_same_recipes_give_the_same_images():
    X = images_of("uint8")
    a, b = (drawn_onto(X, some_recipes(3)) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_the_kind_and_the_size_are_those_of_the_recipe():
    X = np.full((2, 128, 128), 0.5, np.float32)
    areas = {
        size: np.mean(
            [
                drawn_onto(X, [Recipe(0, 1, "missing", size, 1.0, seed)]).mask(0).sum()
                for seed in range(5)
            ]
        )
        for size in (0.5, 1.0, 2.0)
    }
    assert 2 < areas[1.0] / areas[0.5] < 6
    assert 2 < areas[2.0] / areas[1.0] < 6


def test_what_cannot_be_seen_is_drawn_with_more_contrast():
    X = np.full((2, *SIZE), 0.5, np.float32)
    faint, clear = (
        drawn_onto(X, [Recipe(0, 1, "stain", 1.0, contrast, 0)]).recipes[0].contrast
        for contrast in (0.01, 0.5)
    )
    assert clear == 0.5
    assert 0.04 <= faint < 0.5


def test_what_can_never_be_seen_is_an_error_that_names_the_image():
    X = np.zeros((3, *SIZE), np.float32)  # a black hole in black
    with pytest.raises(InvalidImageError, match=r'image 2: no drawn defect \("crack", size=1\)'):
        drawn_onto(X, [Recipe(2, 1, "crack", 1.0, 0.5, 0)])


def test_defects_lie_in_the_region_of_interest():
    X = images_of("uint8")
    roi = np.zeros(SIZE, bool)
    roi[:16, :20] = True
    drawn = drawn_onto(X, some_recipes(3, contrasts=(0.5,)), roi=roi)
    for i in range(len(drawn)):
        assert drawn.mask(i).any()
        assert not (drawn.mask(i) & ~roi).any()


def test_images_of_mixed_sizes():
    X = [images_of("uint8", 1)[0], np.full((40, 30, 3), 100, np.uint8)]
    recipes = [Recipe(i, 1 - i, kind, 1.0, 1.0, 5) for i in (0, 1) for kind in DEFECT_TYPES]
    drawn = drawn_onto(X, recipes)
    assert {image.shape for image in drawn} == {(48, 64, 3), (40, 30, 3)}
