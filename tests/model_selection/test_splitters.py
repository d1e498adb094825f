import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_validate

from skanomaly._validation import image_labels
from skanomaly.images import ImageFiles
from skanomaly.model_selection import NormalGroupKFold, NormalKFold, NormalShuffleSplit

property_test = settings(max_examples=50, deadline=None)
every_splitter = pytest.mark.parametrize(
    "splitter",
    [NormalKFold(3), NormalGroupKFold(3), NormalShuffleSplit(4, random_state=0)],
    ids=lambda splitter: type(splitter).__name__,
)

Y = np.array([1, -1, 1, 1, -1, 1, 1, 1])
LOTS = np.array(["a", "b", "b", "c", "d", "a", "d", "c"])


def folds_of(splitter, y, groups=None, X=None):
    """The folds as pairs of lists, after a look at what each fold must be."""
    y = np.asarray(y)
    X = np.zeros(len(y)) if X is None else X
    folds = [(train.tolist(), test.tolist()) for train, test in splitter.split(X, y, groups)]
    assert len(folds) == splitter.get_n_splits()
    for train, test in folds:
        assert train
        assert train == sorted(train)
        assert test == sorted(test)
        assert not set(train) & set(test)
        assert (y[train] == 1).all()
        assert (y[test] == 1).any()
        assert set(np.flatnonzero(y == -1)) <= set(test)
    return folds


def held_out(folds, y):
    """The normal images of each test fold."""
    return [[i for i in test if y[i] == 1] for _, test in folds]


def groups_for(splitter, groups=LOTS):
    return groups if isinstance(splitter, NormalGroupKFold) else None


@st.composite
def labels_and_splits(draw):
    """Labels, and a number of splits they have normal images enough for."""
    y = draw(st.lists(st.sampled_from([1, -1]), min_size=2, max_size=40))
    n_splits = draw(st.integers(2, 6))
    missing = max(0, n_splits - y.count(1))
    return draw(st.permutations(y + [1] * missing)), n_splits


shuffles = st.one_of(st.none(), st.integers(0, 2**32 - 1))


# Properties -----------------------------------------------------------------------------


@property_test
@given(labels_and_splits(), shuffles)
def test_k_folds_partition_the_normal_images(labels, seed):
    y, n_splits = labels
    splitter = NormalKFold(n_splits, shuffle=seed is not None, random_state=seed)
    folds = folds_of(splitter, y)
    parts = held_out(folds, y)
    normal = [i for i, label in enumerate(y) if label == 1]
    assert sorted(i for part in parts for i in part) == normal
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for (train, _), part in zip(folds, parts):
        assert sorted(train + part) == normal
    assert folds == folds_of(splitter, y)


@property_test
@given(labels_and_splits(), shuffles, st.data())
def test_lots_are_on_one_side(labels, seed, data):
    y, n_splits = labels
    lots = np.array(data.draw(st.lists(st.integers(0, 8), min_size=len(y), max_size=len(y))))
    normal = [i for i, label in enumerate(y) if label == 1]
    lots[normal[:n_splits]] = range(n_splits)
    splitter = NormalGroupKFold(n_splits, shuffle=seed is not None, random_state=seed)
    folds = folds_of(splitter, y, lots)
    parts = held_out(folds, y)
    assert sorted(i for part in parts for i in part) == normal
    for (train, _), part in zip(folds, parts):
        assert sorted(train + part) == normal
        assert not set(lots[train]) & set(lots[part])
    assert folds == folds_of(splitter, y, lots)


@property_test
@given(labels_and_splits(), st.integers(0, 2**32 - 1), st.floats(0.1, 0.5))
def test_random_splits(labels, seed, test_size):
    y, n_splits = labels
    splitter = NormalShuffleSplit(n_splits, test_size=test_size, random_state=seed)
    folds = folds_of(splitter, y)
    n_normal = y.count(1)
    for train, part in zip((train for train, _ in folds), held_out(folds, y)):
        assert len(part) == np.ceil(test_size * n_normal)
        assert len(train) + len(part) == n_normal
    assert folds == folds_of(splitter, y)


def test_seeds_differ():
    y = [1] * 30 + [-1] * 3
    for make in (
        lambda seed: NormalKFold(shuffle=True, random_state=seed),
        lambda seed: NormalGroupKFold(shuffle=True, random_state=seed),
        lambda seed: NormalShuffleSplit(random_state=seed),
    ):
        groups = groups_for(make(0), np.arange(33))
        assert folds_of(make(0), y, groups) != folds_of(make(1), y, groups)


def test_number_of_held_out_images():
    for train, test in NormalShuffleSplit(3, test_size=2).split(Y, Y):
        assert (len(train), len(test)) == (4, 2 + 2)


def test_unshuffled_folds_are_consecutive():
    assert held_out(folds_of(NormalKFold(3), Y), Y) == [[0, 2], [3, 5], [6, 7]]


def test_lots_of_anomalous_images_do_not_count():
    folds = folds_of(NormalGroupKFold(2), [1, 1, -1, 1, -1], ["a", "b", "a", "b", "b"])
    assert folds == [([0], [1, 2, 3, 4]), ([1, 3], [0, 2, 4])]


@every_splitter
def test_without_anomalous_images(splitter):
    assert folds_of(splitter, np.ones(8, int), groups_for(splitter))


# What is taken --------------------------------------------------------------------------


def masks_of(y, sizes):
    masks = [np.zeros(size, bool) for size in sizes]
    for label, mask in zip(y, masks):
        mask[-1, 0] = label == -1
    return masks


MIXED = masks_of(Y, [(4, 3 + i) for i in range(len(Y))])
OBJECTS = np.empty(len(Y), object)
OBJECTS[:] = MIXED
FORMS = {
    "list": Y.tolist(),
    "float": Y.astype(float),
    "object": Y.astype(object),
    "masks": np.stack(masks_of(Y, [(4, 4)] * len(Y))),
    "masks of 0 and 1": np.stack(masks_of(Y, [(4, 4)] * len(Y))).astype(np.uint8),
    "masks of mixed sizes": MIXED,
    "object array of masks": OBJECTS,
    "masks as lists": [mask.tolist() for mask in MIXED],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_of_labels(form):
    labels = image_labels(form, n=len(Y))
    assert labels.tolist() == Y.tolist()
    assert labels.dtype.kind == "i"


@every_splitter
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_give_the_same_splits(splitter, form):
    groups = groups_for(splitter)
    found = [(a.tolist(), b.tolist()) for a, b in splitter.split(Y, form, groups)]
    assert found == folds_of(splitter, Y, groups)


@every_splitter
@pytest.mark.parametrize(
    "X",
    [list("abcdefgh"), np.zeros((8, 2, 2)), ImageFiles(f"missing/{i}.png" for i in range(8))],
    ids=["list", "array", "files"],
)
def test_only_the_length_of_X_is_looked_at(splitter, X):
    assert folds_of(splitter, Y, groups_for(splitter), X)


# In scikit-learn ------------------------------------------------------------------------


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    y = np.where(np.arange(60) % 4 == 0, -1, 1)
    return rng.normal(np.where(y == 1, 0, 2)[:, np.newaxis], 1, (60, 2)), y, np.arange(60) // 6


def expected_scores(splitter, X, y, groups=None, **parameters):
    detector = IsolationForest(random_state=0, **parameters)
    return [
        roc_auc_score(y[test], detector.fit(X[train]).decision_function(X[test]))
        for train, test in splitter.split(X, y, groups)
    ]


@every_splitter
def test_cross_validate(splitter, features):
    X, y, lots = features
    groups = groups_for(splitter, lots)
    scores = cross_validate(
        IsolationForest(random_state=0), X, y, groups=groups, cv=splitter, scoring="roc_auc"
    )
    assert scores["test_score"].tolist() == expected_scores(splitter, X, y, groups)


def test_grid_search(features):
    X, y, _ = features
    search = GridSearchCV(
        IsolationForest(random_state=0),
        {"n_estimators": [5, 50]},
        cv=NormalKFold(3),
        scoring="roc_auc",
        refit=False,
    ).fit(X, y)
    for n_estimators, score in zip((5, 50), search.cv_results_["mean_test_score"]):
        expected = expected_scores(NormalKFold(3), X, y, n_estimators=n_estimators)
        assert score == pytest.approx(np.mean(expected))


def test_lots_are_routed_as_metadata(features):
    X, y, lots = features
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(
            IsolationForest(random_state=0),
            X,
            y,
            params={"groups": lots},
            cv=NormalGroupKFold(3),
            scoring="roc_auc",
            return_indices=True,
        )
    for train, test in zip(*scores["indices"].values()):
        assert not set(lots[train]) & set(lots[test][y[test] == 1])


def test_repr():
    assert repr(NormalKFold()) == "NormalKFold(n_splits=5, random_state=None, shuffle=False)"
    assert (
        repr(NormalGroupKFold(3, shuffle=True, random_state=1))
        == "NormalGroupKFold(n_splits=3, random_state=1, shuffle=True)"
    )
    assert (
        repr(NormalShuffleSplit(test_size=5))
        == "NormalShuffleSplit(n_splits=10, random_state=None, test_size=5)"
    )


# What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, r"y is None, expected a label \(\+1 normal, -1 anomalous\) or a mask"),
        (1, "y is 1, expected a label"),
        (np.array(1), r"y is array\(1\), expected a label"),
        ([1, 1, 2], r"y\[2\] is 2, expected a label \(\+1 normal.* or a mask \(H, W\)$"),
        (np.array([1, 0, -1]), r"y\[1\] is 0, expected .* or a mask \(H, W\)$"),
        (np.array([1, np.nan]), r"y\[1\] is nan, expected"),
        (["1", "-1"], r"y\[0\] is '1', expected"),
        ([1, None], r"y\[1\] is None, expected"),
        (np.array([1, 0]), r"y\[1\] is 0, .*np\.where\(y == 0, 1, -1\) if 0 means normal"),
        (np.array([True, True]), r"y\[0\] is True, expected .* pass np\.where\(y == 0, 1, -1\)"),
        (np.ones((3, 1)), r"y\[0\] has shape \(1,\), expected a mask \(H, W\)"),
        ([np.ones((2, 2)), -1], r"y\[1\] has shape \(\), expected a mask \(H, W\)"),
        ([np.ones((2, 2)), np.full((2, 2), 255)], r"mask y\[1\] holds .*; pass mask > 0"),
        ([np.full((2, 2), np.nan)], r"mask y\[0\] holds other values than 0 and 1"),
    ],
)
def test_neither_labels_nor_masks(y, match):
    with pytest.raises(ValueError, match=match):
        image_labels(y)


def test_hint_does_what_it_says():
    y = np.array([0, 1, 0])
    assert image_labels(np.where(y == 0, 1, -1)).tolist() == [1, -1, 1]


@every_splitter
@pytest.mark.parametrize("y", [Y, np.zeros((8, 2, 2), bool)], ids=["labels", "masks"])
def test_length_of_y_and_X(splitter, y):
    with pytest.raises(ValueError, match="y is of length 8, X of length 9; expected the same"):
        next(splitter.split(np.zeros(9), y, groups_for(splitter)))


@every_splitter
def test_y_is_needed(splitter):
    with pytest.raises(ValueError, match="y is None"):
        next(splitter.split(np.zeros(8), groups=groups_for(splitter)))


@every_splitter
@pytest.mark.parametrize("y", [-np.ones(8), np.ones((8, 2, 2), bool), []])
def test_no_normal_image(splitter, y):
    with pytest.raises(ValueError, match="y holds no normal image"):
        next(splitter.split(np.zeros(len(y)), y, groups_for(splitter)))


def refused(splitter, y, match, groups=None):
    with pytest.raises(ValueError, match=match):
        next(splitter.split(np.zeros(len(y)), y, groups))


def test_fewer_normal_images_than_folds():
    refused(NormalKFold(4), [1, 1, 1, -1], r"the 3 normal images cannot .* NormalKFold\(n_splits=4")


def test_fewer_lots_of_normal_images_than_folds():
    refused(
        NormalGroupKFold(4), Y, r"the 6 normal images cannot .*number of groups: 3", [*"axbcxabc"]
    )


@pytest.mark.parametrize(("test_size", "n_normal"), [(0.2, 1), (3, 3), (0.9, 5), (0, 5)])
def test_nothing_to_train_on_or_hold_out(test_size, n_normal):
    y = [1] * n_normal + [-1]
    splitter = NormalShuffleSplit(test_size=test_size)
    refused(splitter, y, rf"the {n_normal} normal images cannot be split by NormalShuffleSplit\(")


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        (None, "groups is None, expected the production lot of each image"),
        (LOTS[:-1], r"groups has shape \(7,\), expected one lot for each of the 8 images"),
        (np.zeros((8, 1)), r"groups has shape \(8, 1\), expected"),
    ],
)
def test_lots_are_needed(groups, match):
    refused(NormalGroupKFold(2), Y, match, groups)


@pytest.mark.parametrize("splitter", [NormalKFold(3), NormalShuffleSplit(3)])
def test_lots_are_not_ignored_silently(splitter):
    with pytest.warns(UserWarning, match="ignores groups; NormalGroupKFold keeps them apart"):
        next(splitter.split(Y, Y, LOTS))


@pytest.mark.parametrize("splitter", [NormalKFold, NormalGroupKFold])
def test_parameters_are_those_of_scikit_learn(splitter):
    refused(splitter(1), Y, "n_splits=2 or more", LOTS if splitter is NormalGroupKFold else None)
