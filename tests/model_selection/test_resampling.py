import numpy as np
import pytest

from skanomaly.model_selection._measuring import Found
from skanomaly.model_selection._resampling import Resampling, bounds, over_folds

KINDS = np.array(["a"] * 6 + ["b"] * 4)


def found_of(seed, n_normal=8):
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 3, (len(KINDS), n_normal)) / 2
    return Found(wins, rng.uniform(0, 1, len(KINDS)), np.zeros(n_normal, bool), 0.1)


def resampling(scoring="mean", n_resamples=50, n_folds=1):
    rng = np.random.default_rng(0)
    return Resampling([KINDS] * n_folds, [8] * n_folds, n_resamples, scoring, rng)


@pytest.mark.parametrize("scoring", ["mean", "image_roc_auc", "aupro"])
def test_each_draw_is_of_images_taken_as_often_as_it_says(scoring):
    found, drawing = found_of(1), resampling(scoring)
    figures = drawing.figures([found])
    ((of_drawn, of_normal),) = drawing.weights
    assert (of_drawn[0] == 1).all()
    for i in range(51):
        d = np.repeat(np.arange(10), of_drawn[i].astype(int))
        n = np.repeat(np.arange(8), of_normal[i].astype(int))
        image, aupro = found.wins[np.ix_(d, n)].mean(), found.pro[d].mean()
        expected = {"image_roc_auc": image, "aupro": aupro, "mean": (image + aupro) / 2}
        assert figures["image_roc_auc"][0, i] == pytest.approx(image)
        assert figures["aupro"][0, i] == pytest.approx(aupro)
        assert figures["score"][0, i] == pytest.approx(expected[scoring])


def test_defects_are_drawn_within_their_kinds():
    ((of_drawn, _),) = resampling().weights
    assert (of_drawn[:, :6].sum(axis=1) == 6).all()
    assert (of_drawn[1:, 6:] != 1).any()


def test_groups_of_defects():
    found = found_of(2)
    figures = resampling().figures([found], [KINDS == "b"])
    assert figures["aupro"][0, 0] == pytest.approx(found.pro[6:].mean())
    assert figures["image_roc_auc"][0, 0] == pytest.approx(found.wins[6:].mean())


def test_folds_without_any_of_a_group_do_not_count():
    found = [found_of(3), found_of(4)]
    chosen = [KINDS == "b", np.zeros(10, bool)]
    figures = resampling(n_folds=2).figures(found, chosen)
    assert over_folds(figures["aupro"])[0] == pytest.approx(found[0].pro[6:].mean())
    nothing = resampling(n_folds=2).figures(found, [np.zeros(10, bool)] * 2)
    assert np.isnan(over_folds(nothing["aupro"])).all()


def test_bounds():
    rng = np.random.default_rng(0)
    low, high = bounds(rng.normal(0.5, 0.1, 100_000), 0.95)
    assert (low, high) == pytest.approx((0.5 - 0.196, 0.5 + 0.196), abs=3e-3)
    assert np.isnan(bounds(np.ones(20), 0.95)).all()
    assert np.isnan(bounds(np.full(20, np.nan), 0.95)).all()
