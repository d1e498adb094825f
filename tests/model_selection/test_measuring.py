import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.utils import Bunch

from skanomaly.images import Regions
from skanomaly.metrics import aupro_score
from skanomaly.model_selection._drawing import DrawnDefects, Recipe
from skanomaly.model_selection._measuring import N_AT_ONCE, measure, parts_of_pixels

ROOM = (24, 24)


class Blurry:
    """Maps are the images' first channel, in a few grey levels so that many pixels tie."""

    offset_ = -0.75

    def __init__(self, levels=4):
        self.levels = levels

    def detect(self, X, *, roi=None):
        maps = [np.round(image[..., 0] * self.levels) / self.levels for image in X]
        if roi is not None:
            maps = [np.where(roi, m, m[roi].min()) for m in maps]
        scores = np.array([-m.max() for m in maps])
        labels = np.where(scores < self.offset_, -1, 1)
        return Bunch(scores=scores, labels=labels, maps=np.array(maps))


def some(n_images=20, n_drawn=N_AT_ONCE + 5, roi=None):
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (n_images, *ROOM, 1)) ** 3
    recipes = [
        Recipe(int(i), int(j), "missing", 1.0, 1.0, seed)
        for seed, (i, j) in enumerate(rng.integers(0, n_images, (n_drawn, 2)))
    ]
    regions = Regions(roi, n_images)
    drawn = DrawnDefects(X, recipes, None, regions)
    return X, regions, drawn, regions.subset([r.image for r in recipes])


@pytest.mark.parametrize("roi", [None, np.arange(24 * 24).reshape(ROOM) % 24 < 15])
@pytest.mark.parametrize("max_fpr", [0.3, 1.0])
def test_figures_are_those_of_the_metrics(roi, max_fpr):
    X, regions, drawn, of_drawn = some(roi=roi)
    found = measure(Blurry(), X, regions, drawn, of_drawn, max_fpr)
    images = [*X, *drawn]
    everything = Blurry().detect(images, **({} if roi is None else {"roi": roi}))
    labels = np.repeat([1, -1], [len(X), len(drawn)])
    assert found.wins.mean() == pytest.approx(roc_auc_score(labels, everything.scores))
    masks = [np.zeros(ROOM, bool)] * len(X) + [drawn.mask(i) for i in range(len(drawn))]
    expected = aupro_score(masks, everything.maps, max_fpr=max_fpr, roi=roi)
    assert found.pro.mean() == pytest.approx(expected)
    assert np.array_equal(found.is_flagged, everything.labels[: len(X)] == -1)
    assert found.seconds > 0


def slow_part(value, normal, max_fpr, n=20_001):
    """The area under the step that a pixel puts into the curve, by the trapezoid rule."""
    above, from_on = np.mean(normal > value), np.mean(normal >= value)
    fpr = np.linspace(0, max_fpr, n)
    step = np.where(fpr >= from_on, 1.0, 0.0)
    ramp = (fpr > above) & (fpr < from_on)
    step[ramp] = (fpr[ramp] - above) / (from_on - above)
    return np.trapezoid(step, fpr) / max_fpr


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.lists(st.integers(-1, 7), min_size=1, max_size=5),
    st.sampled_from([0.1, 0.3, 1.0]),
)
def test_parts_of_pixels(normal, values, max_fpr):
    normal = np.sort(np.array(normal, float))
    found = parts_of_pixels(np.array(values, float), normal, max_fpr)
    expected = [slow_part(v, normal, max_fpr) for v in values]
    assert found == pytest.approx(expected, abs=1e-3)


def test_of_large_images_a_grid_of_normal_pixels_is_enough():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (3, 600, 600, 1))
    regions = Regions(None, 3)
    drawn = DrawnDefects(X, [Recipe(0, 1, "spot", 1.0, 1.0, 0)], None, regions)
    found = measure(Blurry(1000), X, regions, drawn, regions.subset([0]), 0.3)
    maps = np.round(np.array([*X, drawn[0]])[..., 0], 3)
    masks = np.zeros(maps.shape, bool)
    masks[3] = drawn.mask(0)
    assert found.pro[0] == pytest.approx(aupro_score(masks, maps), abs=0.02)
