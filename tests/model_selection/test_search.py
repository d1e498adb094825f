"""`SyntheticDefectSearchCV` and `recommend`."""

import pickle
import threading
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

import skanomaly
from skanomaly import ImageFiles, LocalContrast, MedianDifference, PaDiM, PatchAE
from skanomaly._unwrap import unwrap
from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import SelectionWarning, ThresholdWarning
from skanomaly.images import Regions
from skanomaly.metrics import evaluate, image_roc_auc
from skanomaly.model_selection import NormalKFold, SyntheticDefectSearchCV, _schedule, recommend
from skanomaly.model_selection._folds import estimated_seconds, judged, make_fold

pytestmark = [
    pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning"),
    pytest.mark.filterwarnings("ignore::skanomaly.exceptions.SelectionWarning"),
]
DEFECTS = ("score", "image_roc_auc", "aupro")


def padim(**parameters):
    return PaDiM(**{"image_size": 64, "n_features": 10} | parameters)


QUICK = {
    "cv": 2,
    "n_drawn": 12,
    "sizes": (0.5, 1.0, 2.0),
    "scoring": "mean",
    "n_resamples": 100,
    "random_state": 0,
}


def search_of(detectors=None, **parameters):
    detectors = [padim()] if detectors is None else detectors
    return SyntheticDefectSearchCV(detectors, **QUICK | parameters)


@pytest.fixture(scope="module")
def bricks():
    return make_texture_defects("brick", n_normal=30, image_size=64, random_state=0).images


@pytest.fixture(scope="module")
def fitted(bricks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return search_of().fit(bricks)


class Broken(MedianDifference):
    """Cannot be fitted."""

    def _fit_images(self, images, validation):
        raise RuntimeError("no light")


class Watching(MedianDifference):
    """Remembers the groups that it was given."""

    seen: ClassVar[list] = []

    def fit(self, X, y=None, *, roi=None, groups=None, X_val=None):
        self.seen.append(set(groups))
        return super().fit(X, y, roi=roi, groups=groups, X_val=X_val)


class Blind(MedianDifference):
    """Sees nothing."""

    def _compute_maps(self, pixels):
        return pixels.new_ones(pixels[:, 0].shape)


# What is measured ------------------------------------------------------------------------


def test_columns(fitted):
    results = fitted.cv_results_
    assert {len(column) for column in results.values()} == {3}
    assert results["detector"].tolist() == ["LocalContrast", "MedianDifference", "PaDiM"]
    for measure in DEFECTS:
        splits = np.array([results[f"split{i}_test_{measure}"] for i in range(2)])
        assert results[f"mean_test_{measure}"] == pytest.approx(splits.mean(axis=0))
        assert results[f"std_test_{measure}"] == pytest.approx(splits.std(axis=0))
        low, high = results[f"low_test_{measure}"], results[f"high_test_{measure}"]
        assert (low <= results[f"mean_test_{measure}"]).all()
        assert (high >= results[f"mean_test_{measure}"]).all()
    both = (results["mean_test_image_roc_auc"] + results["mean_test_aupro"]) / 2
    assert results["mean_test_score"] == pytest.approx(both)
    assert results["behind_best"] == pytest.approx(both.max() - both)
    for column in ("mean_fit_time", "mean_image_time", "state_bytes"):
        assert (results[column] > 0).all()
    assert (results["false_alarm_rate"] == 0.05).all()
    assert (results["high_test_false_alarm_rate"] < 1).all()


def test_the_best_is_that_with_the_highest_score(fitted):
    results = fitted.cv_results_
    assert fitted.best_index_ == np.argmax(results["mean_test_score"])
    assert results["rank_test_score"][fitted.best_index_] == 1
    assert sorted(results["rank_test_score"]) == [1, 2, 3]
    assert fitted.best_name_ == "PaDiM"
    assert fitted.best_score_ == results["mean_test_score"].max()
    assert fitted.best_params_["detector"].get_params()["n_features"] == 10
    assert not hasattr(fitted.best_params_["detector"], "offset_")
    assert (fitted.n_splits_, fitted.n_left_out_) == (2, 0)
    assert fitted.search_time_ > fitted.refit_time_ > 0


def test_figures_by_kind_size_and_contrast_are_parts_of_those_over_all(fitted):
    found = fitted.by_defect_
    for group in ("kind", "size", "contrast"):
        for name, mean in zip(
            fitted.cv_results_["detector"], fitted.cv_results_["mean_test_aupro"]
        ):
            rows = (found["group"] == group) & (found["detector"] == name)
            assert found["n_drawn"][rows].sum() == 2 * 12
            by_size = np.average(found["aupro"][rows], weights=found["n_drawn"][rows])
            assert by_size == pytest.approx(mean, abs=0.06)  # groups are not in both folds alike
    assert set(found["name"][found["group"] == "kind"]) == {
        "scratch",
        "crack",
        "spot",
        "stain",
        "missing",
        "foreign",
    }


def test_the_order_is_that_of_obvious_quality(bricks):
    search = search_of([padim(), ("blind", Blind(image_size=64))], baselines=False).fit(bricks)
    assert search.best_name_ == "PaDiM"
    blind = search.cv_results_["detector"].tolist().index("blind")
    assert search.cv_results_["mean_test_image_roc_auc"][blind] == pytest.approx(0.5)
    assert search.cv_results_["low_behind_best"][blind] > 0


def test_an_image_auroc_is_what_scikit_learn_makes_of_the_same_images(bricks):
    fold = make_fold(
        bricks,
        np.arange(20),
        np.arange(20, 30),
        Regions(None, 30),
        None,
        None,
        12,
        (["crack", "spot"], (1.0,), (1.0,)),
        np.random.default_rng(0),
    )
    detector = padim(random_state=0)
    found = judged(detector, fold, 0.3, may_fail=False).found
    detector.fit(bricks[:20])
    scores = detector.score_samples([*bricks[20:][..., None], *fold.drawn])
    labels = np.repeat([1, -1], [10, 12])
    assert found.wins.mean() == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize("scoring", ["image_roc_auc", "aupro"])
def test_scoring(bricks, scoring):
    search = search_of(scoring=scoring, refit=False).fit(bricks)
    results = search.cv_results_
    assert np.array_equal(results["mean_test_score"], results[f"mean_test_{scoring}"])


def without_times(search):
    return {
        name: column.tolist()
        for name, column in search.cv_results_.items()
        if not name.endswith("_time") and name not in ("peak_bytes", "state_bytes", "params")
    }


def test_equal_seeds_give_equal_bits_and_others_differ(bricks, fitted):
    np.random.seed(0)  # noqa: NPY002
    again, other = search_of().fit(bricks), search_of(random_state=1).fit(bricks)
    np.testing.assert_equal(without_times(again), without_times(fitted))
    assert np.array_equal(again.score_samples(bricks), fitted.score_samples(bricks))
    assert without_times(other) != without_times(fitted)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    assert drawn == np.random.random()  # noqa: NPY002


def test_jobs_change_nothing(bricks):
    """Without a network, which each process would load."""
    one, two = (
        search_of([MedianDifference(image_size=64)], baselines=False, n_jobs=n_jobs).fit(bricks)
        for n_jobs in (None, 2)
    )
    np.testing.assert_equal(without_times(two), without_times(one))


def test_a_detector_sees_the_same_defects_in_any_company(bricks, fitted):
    alone = search_of(baselines=False).fit(bricks)
    in_company = without_times(fitted)
    for name, column in without_times(alone).items():
        if "rank" not in name:
            np.testing.assert_equal(column[0], in_company[name][-1])


# Images, labels, groups, regions ---------------------------------------------------------


def test_files_give_the_figures_of_arrays(bricks, fitted, tmp_path):
    from PIL import Image

    for i, image in enumerate(bricks):
        Image.fromarray(image).save(tmp_path / f"{i:03d}.png")
    of_files = search_of().fit(ImageFiles(sorted(tmp_path.iterdir())))
    np.testing.assert_equal(
        without_times(of_files)["mean_test_score"], without_times(fitted)["mean_test_score"]
    )


def test_anomalous_images_are_left_out(bricks, fitted):
    X = np.concatenate([np.zeros((4, 64, 64), np.uint8), bricks])
    y = np.repeat([-1, 1], [4, 30])
    search = search_of().fit(X, y)
    assert search.n_left_out_ == 4
    np.testing.assert_equal(without_times(search), without_times(fitted))
    with pytest.raises(ValueError, match="y holds no normal image"):
        search_of().fit(X, -np.ones(34, int))


def test_groups_are_kept_on_one_side_and_handed_on(bricks):
    Watching.seen.clear()
    groups = np.arange(30) // 5
    search_of([Watching(image_size=64)], baselines=False).fit(bricks, groups=groups)
    first, second, last = Watching.seen
    assert not first & second
    assert last == set(range(6))
    with pytest.raises(ValueError, match=r"groups has shape \(3,\), expected \(30,\)"):
        search_of().fit(bricks, groups=[1, 2, 3])


def test_region_of_interest(bricks):
    roi = np.zeros((64, 64), bool)
    roi[:40, :40] = True
    each = np.repeat(roi[None], 30, axis=0)
    shared, listed = (search_of(baselines=False).fit(bricks, roi=r) for r in (roi, each))
    np.testing.assert_equal(without_times(shared), without_times(listed))
    assert without_times(shared) != without_times(search_of(baselines=False).fit(bricks))


def test_splitters_and_pairs_of_indices(bricks):
    folds = list(KFold(2, shuffle=True, random_state=3).split(bricks))
    by_pairs = search_of(cv=folds, baselines=False, refit=False).fit(bricks)
    splitters = (
        KFold(2, shuffle=True, random_state=3),
        NormalKFold(2, shuffle=True, random_state=3),
    )
    for splitter in splitters:
        again = search_of(cv=splitter, baselines=False, refit=False).fit(bricks)
        np.testing.assert_equal(without_times(again), without_times(by_pairs))


# Budget ----------------------------------------------------------------------------------


@pytest.fixture
def costs(monkeypatch):
    """Stands for what fits on a few images tell: seconds of a fit, by a detector's `batch_size`."""
    monkeypatch.setattr(_schedule, "seconds_on_few", lambda d, fold: d.batch_size)
    monkeypatch.setattr(_schedule, "estimated_seconds", lambda d, *_: (1e4 * d.batch_size, 1.0))


def test_what_does_not_fit_into_the_budget_is_left_out_and_said_to_be(bricks, costs):
    slow = ("slow", MedianDifference(image_size=64, batch_size=5))
    found = search_of([slow, padim(batch_size=1)], budget=1e5, baselines=False).fit(bricks)
    note = found.cv_results_["note"]
    # Two folds, and a last fit on twice as many images.
    assert note[0].startswith("left out: it needs about 200002 s, and 9")
    assert note[1] == ""
    assert np.isnan(found.cv_results_["mean_test_score"][0])
    assert found.cv_results_["rank_test_score"].tolist() == [2, 1]
    assert found.cv_results_["estimated_time"].tolist() == [200002, 20002]
    assert f"slow: {note[0]}" in str(found)
    assert found.best_name_ == "PaDiM"


def test_the_last_fit_of_a_dearer_one_is_provided_for(bricks, costs):
    """The cheap one takes 20,002 s; the dear one 40,002 and, on all images, 40,000 once more."""
    two = [("dear", padim(batch_size=2)), ("cheap", MedianDifference(image_size=64, batch_size=1))]
    for budget, left_out in ((105_000, ["", ""]), (75_000, ["dear", ""])):
        found = search_of(two, budget=budget, baselines=False).fit(bricks)
        assert [bool(note) for note in found.cv_results_["note"]] == [bool(n) for n in left_out]


def test_estimates_are_of_the_detectors_own_fits(bricks):
    fold = make_fold(
        bricks,
        np.arange(20),
        np.arange(20, 30),
        Regions(None, 30),
        None,
        None,
        6,
        (["spot"], (1.0,), (1.0,)),
        np.random.default_rng(0),
    )
    detector = MedianDifference(image_size=64)
    assert estimated_seconds(detector, fold, most=0)[0] == np.inf
    fit, judgement = estimated_seconds(detector, fold, most=1e6)
    assert 0 < fit < np.inf
    assert 0 < judgement < np.inf


def test_a_budget_for_nothing_is_an_error(bricks):
    with pytest.raises(ValueError, match="none of the detectors could be judged. Local"):
        search_of(budget=1e-3).fit(bricks)


def test_the_cheapest_come_first(bricks, costs, capsys):
    three = [(str(cost), MedianDifference(image_size=64, batch_size=cost)) for cost in (3, 1, 2)]
    search_of(three, budget=1e9, verbose=1, baselines=False).fit(bricks)
    assert capsys.readouterr().out.splitlines() == ["1: judged", "2: judged", "3: judged"]


def test_a_real_budget(bricks):
    search = search_of([MedianDifference(image_size=64)], budget=600.0, baselines=False)
    assert search.fit(bricks).cv_results_["estimated_time"][0] > 0


# Failures and doubts ---------------------------------------------------------------------


def test_a_detector_that_fails_is_a_row_that_says_so(bricks):
    broken = ("broken", Broken(image_size=64))
    with pytest.warns(FitFailedWarning, match="(?s)broken could not be judged.*no light"):
        search = search_of([broken, padim()], baselines=False).fit(bricks)
    assert search.cv_results_["note"][0] == "failed: RuntimeError: no light"
    assert search.best_name_ == "PaDiM"
    with pytest.warns(FitFailedWarning):
        zero = search_of([broken, padim()], baselines=False, error_score=0.0).fit(bricks)
    assert zero.cv_results_["mean_test_score"][0] == 0
    with pytest.raises(RuntimeError, match="no light"):
        search_of([broken], error_score="raise").fit(bricks)
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="none of the detectors could be judged"),
    ):
        search_of([broken], baselines=False).fit(bricks)


def test_a_fit_that_fails_leaves_the_search_as_it_was(bricks):
    search = search_of(baselines=False).fit(bricks)
    before = search.score_samples(bricks)
    search.set_params(cv=31)
    with pytest.raises(ValueError, match="the 30 normal images cannot be split into cv=31 folds"):
        search.fit(bricks)
    assert np.array_equal(search.score_samples(bricks), before)
    search.set_params(cv=2, refit=False).fit(bricks)
    assert not hasattr(search, "best_estimator_")


def test_it_is_said_that_nothing_works(bricks):
    with pytest.warns(SelectionWarning, match="no detector clearly finds .*: the best, blind"):
        search_of([("blind", Blind(image_size=64))], baselines=False).fit(bricks)


def test_it_is_said_that_what_learns_nothing_is_as_good(bricks):
    with pytest.warns(SelectionWarning) as caught:
        search_of([("blind", Blind(image_size=64))]).fit(bricks)
    assert any("clearly ahead of" in str(w.message) for w in caught)


@pytest.mark.filterwarnings("error::skanomaly.exceptions.SelectionWarning")
def test_nothing_is_said_where_a_detector_works(bricks):
    search_of(kinds=["missing", "crack"], sizes=(1.0,), contrasts=(1.0,)).fit(bricks)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"kinds": ["dent"]}, r"kinds must be out of \['scratch'.*got \['dent'\]"),
        ({"contrasts": (0.5, 1.5)}, r"contrasts must lie in \(0, 1\], got \(0.5, 1.5\)"),
        ({"scoring": "f1"}, "'scoring' parameter"),
        ({"budget": 0}, "'budget' parameter"),
        ({"n_drawn": 0}, "'n_drawn' parameter"),
        ({"detectors": []}, "detectors is empty"),
        ({"refit": lambda results: 7}, "refit gave 7, expected the position of a detector, 0 to 0"),
        ({"cv": [(np.arange(5), [])]}, "fold 0 of cv has no normal image"),
    ],
)
def test_what_is_refused(bricks, parameters, match):
    with pytest.raises(ValueError, match=match):
        search_of(**{"baselines": False} | parameters).fit(bricks)


# The best, in place of the search --------------------------------------------------------


def test_it_detects_as_the_best(bricks, fitted):
    best = fitted.best_estimator_
    for method in ("predict", "score_samples", "decision_function", "transform", "p_values"):
        expected = getattr(best, method)(bricks[:3])
        assert np.array_equal(getattr(fitted, method)(bricks[:3]), expected)
    assert np.array_equal(fitted.detect(bricks[:3]).maps, best.transform(bricks[:3]))
    assert fitted.offset_ == best.offset_
    assert unwrap(fitted, bricks)[0] is best


def test_the_best_is_a_fit_on_all_images(bricks, fitted):
    expected = clone(fitted.best_params_["detector"]).fit(bricks)
    assert np.array_equal(fitted.score_samples(bricks), expected.score_samples(bricks))


def test_before_a_fit_and_without_refit(bricks):
    with pytest.raises(NotFittedError):
        search_of().predict(bricks)
    assert not hasattr(search_of(refit=False), "predict")
    assert not hasattr(search_of(), "offset_")


def test_refit_by_a_rule_of_ones_own(bricks):
    def smallest(results):
        return int(np.nanargmin(results["state_bytes"]))

    search = search_of(refit=smallest).fit(bricks)
    assert search.best_name_ == "LocalContrast"
    assert isinstance(search.best_estimator_, LocalContrast)


def test_clone_parameters_and_pickle(bricks, fitted):
    copied = clone(fitted)
    assert not hasattr(copied, "cv_results_")
    assert copied.get_params()["detectors"][0] is not fitted.detectors[0]
    assert copied.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.score_samples(bricks), fitted.score_samples(bricks))
    assert str(loaded) == str(fitted)
    assert repr(fitted).startswith("SyntheticDefectSearchCV(")
    check_is_fitted(fitted)


def test_the_best_is_saved_and_loaded(bricks, fitted, tmp_path):
    skanomaly.save(fitted.best_estimator_, tmp_path / "best.skanomaly")
    loaded = skanomaly.load(tmp_path / "best.skanomaly")
    assert np.array_equal(loaded.score_samples(bricks), fitted.score_samples(bricks))


def test_threads(bricks, fitted):
    expected, found = fitted.score_samples(bricks), [None] * 3

    def score(i):
        found[i] = fitted.score_samples(bricks)

    threads = [threading.Thread(target=score, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(scores, expected) for scores in found)


# With scikit-learn's own -----------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled():
    data = make_texture_defects(
        "brick", split="test", n_normal=16, n_defective=6, image_size=64, random_state=1
    )
    return data.images, data.target


def test_a_grid_search_around_it(labelled):
    X, y = labelled
    outer = GridSearchCV(
        search_of(baselines=False),
        {"scoring": ["aupro", "mean"]},
        scoring=image_roc_auc,
        cv=NormalKFold(2),
    ).fit(X, y)
    assert outer.best_estimator_.n_left_out_ == 6
    assert np.array_equal(outer.predict(X), outer.best_estimator_.best_estimator_.predict(X))
    assert isinstance(unwrap(outer, X)[0], PaDiM)


def test_it_around_pipelines_and_in_one(bricks):
    inner = Pipeline([("nothing", "passthrough"), ("detector", padim(random_state=0))])
    groups = np.arange(30) // 3
    search = search_of([("piped", inner), ("bare", padim(random_state=0))], baselines=False)
    search.fit(bricks, groups=groups)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == scores[1]
    outer = Pipeline([("nothing", "passthrough"), ("search", clone(search))]).fit(bricks)
    assert outer.predict(bricks[:2]).shape == (2,)
    assert pickle.loads(pickle.dumps(outer)).score_samples(bricks[:2]).shape == (2,)
    report = evaluate(outer, bricks[:4], y=[1, 1, -1, -1], n_resamples=10)
    assert "image_roc_auc" in report


def halved(X):
    return [image[::2, ::2] for image in X]


def test_a_pipeline_that_changes_sizes_is_said_to_be_beyond_it(bricks):
    smaller = Pipeline([("half", FunctionTransformer(halved)), ("detector", padim())])
    with pytest.warns(FitFailedWarning, match="steps change the images' size cannot be compared"):
        search_of([("half", smaller), padim()], baselines=False, refit=False).fit(bricks)


def test_what_cannot_be_pickled_has_no_size(bricks):
    same = FunctionTransformer(lambda X: X)
    piped = Pipeline([("same", same), ("detector", padim())])
    search = search_of([("piped", piped), padim()], baselines=False).fit(bricks)
    assert np.isnan(search.cv_results_["state_bytes"]).tolist() == [True, False]
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0


@pytest.mark.parametrize("kind", [list, tuple, torch.from_numpy])
def test_forms_of_images(bricks, fitted, kind):
    search = search_of().fit(kind(bricks))
    np.testing.assert_equal(without_times(search), without_times(fitted))


def test_those_trained_with_drawn_defects_are_marked(bricks):
    trained = PatchAE(**{"image_size": 64, "max_epochs": 1})
    search = search_of([trained, padim()], baselines=False, refit=False).fit(bricks)
    results, found = search.cv_results_, search.by_defect_
    assert results["surfaces_learnt"].tolist() == ["flat, image, noise, tint", ""]
    assert np.isnan(results["learnt_advantage"]).tolist() == [False, True]
    assert "PatchAE*" in str(search)
    assert f"{results['learnt_advantage'][0]:+.3f} more than others" in str(search)
    differences = []
    for name in ("PatchAE", "PaDiM"):
        rows = (found["group"] == "kind") & (found["detector"] == name)
        known = np.isin(found["name"], ["scratch", "spot", "stain"])
        differences.append(
            np.average(found["score"][rows & known], weights=found["n_drawn"][rows & known])
            - np.average(found["score"][rows & ~known], weights=found["n_drawn"][rows & ~known])
        )
    assert results["learnt_advantage"][0] == pytest.approx(-np.diff(differences)[0], abs=0.05)


# Recommending ----------------------------------------------------------------------------


def test_recommend_is_the_search_in_a_line(bricks, fitted):
    found = recommend(bricks, [padim()], budget=None, **QUICK)
    np.testing.assert_equal(without_times(found), without_times(fitted))


def test_the_table_is_in_order_of_rank(fitted):
    text = str(fitted)
    assert text == str(fitted.table_) == repr(fitted.table_)
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("rank"))
    names = [line.split()[1] for line in lines[start + 1 : start + 4]]
    order = np.argsort(fitted.cv_results_["rank_test_score"])
    assert names == fitted.cv_results_["detector"][order].tolist()
    assert "contrast 0.25" in text
    assert max(map(len, lines)) < 160


def test_thresholds_are_warned_of_once_at_the_end(bricks):
    with pytest.warns(ThresholdWarning) as caught:
        search_of([padim(false_alarm_rate=0.01)], baselines=False).fit(bricks)
    assert len([w for w in caught if w.category is ThresholdWarning]) == 1
