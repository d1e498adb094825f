"""What an audit finds, each beside its slow and obvious version."""

import copy
import pickle
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from conftest import DistanceToMean
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.utils import check_random_state

from skanomaly import ImageFiles, InvalidImageError, audit_images
from skanomaly.datasets import make_texture_defects
from skanomaly.preprocessing import ImageAudit, _leave_one_out
from skanomaly.preprocessing._duplicates import joined_groups, near_duplicates
from skanomaly.preprocessing._leave_one_out import LeaveOutMemory

N_GOOD = 16
# After the good ones: three with defects, the last of which is there twice, and what is odd.
DEFECTS, DOUBLE, DARK, BRIGHT, BLURRED, WIDE = [16, 17, 18], 19, 20, 21, 22, 23


@pytest.fixture(scope="module")
def images():
    made = make_texture_defects(
        "brick",
        n_normal=N_GOOD + 4,
        n_defective=3,
        image_size=96,
        defect_types=["scratch", "crack", "foreign"],
        random_state=0,
    ).images
    good, odd, defects = made[:N_GOOD], made[N_GOOD : N_GOOD + 4], made[N_GOOD + 4 :]
    noise = np.random.default_rng(0).normal(0, 2, defects[2].shape)
    return [
        *good,
        *defects,
        np.clip(defects[2] + noise, 0, 255).astype(np.uint8),
        (0.3 * odd[0]).astype(np.uint8),
        (255 - 0.3 * (255.0 - odd[1])).astype(np.uint8),
        ndimage.gaussian_filter(odd[2], 1.5),
        odd[3][:80],
    ]


@pytest.fixture(scope="module", autouse=True)
def few_patches():
    """A smaller memory, as of fewer positions each: quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_leave_one_out, "MAX_PATCHES", 2000)
        yield


@pytest.fixture(scope="module")
def audit(images, few_patches):
    return audit_images(images, random_state=0)


def marked(flag):
    return np.flatnonzero(flag).tolist()


def test_defects_are_the_most_suspicious_even_beside_their_doubles(audit):
    rank = np.argsort(audit.order)
    assert rank[[*DEFECTS, DOUBLE]].max() < rank[:N_GOOD].min()
    assert {*DEFECTS[:2]} <= {*marked(audit.flags.anomalous)}
    assert not audit.flags.anomalous[:N_GOOD].any()


def test_beside_its_double_a_defect_would_not_be_odd(images):
    X = [*images[:10], images[DEFECTS[2]], images[DOUBLE]]
    together = audit_images(X, random_state=0)
    apart = audit_images(X, duplicate_distance=0, random_state=0)
    assert {*together.order[:2].tolist()} == {10, 11}
    assert (together.scores[10:] < apart.scores[10:] - 1.5).all()


def test_maps_say_where():
    made = make_texture_defects(
        "brick", n_normal=12, n_defective=2, defect_types=["spot"], image_size=96, random_state=1
    )
    found = audit_images(made.images, random_state=0)
    for i in (12, 13):
        row, column = np.unravel_index(found.maps[i].argmax(), (32, 32))
        near = ndimage.binary_dilation(made.masks[i], iterations=4)
        assert near[3 * row : 3 * row + 3, 3 * column : 3 * column + 3].any()


def test_what_is_odd_by_size_light_or_sharpness_is_flagged_as_such(audit):
    assert marked(audit.flags.dark) == [DARK]
    assert marked(audit.flags.bright) == [BRIGHT]
    assert marked(audit.flags.size) == [WIDE]
    assert BLURRED in marked(audit.flags.blurred)
    assert not audit.flags.blurred[:N_GOOD].any()
    assert not audit.flags.unreadable.any()
    assert_array_equal(audit.flagged, np.any(list(audit.flags.values()), axis=0))


def test_measures_are_those_of_the_image(images, audit):
    grey = images[3] / 255
    assert audit.sizes[WIDE].tolist() == [80, 96]
    assert_allclose(audit.brightness[3], grey.mean(), rtol=1e-3)
    assert_allclose(audit.contrast[3], grey.std(), rtol=0.05)
    # Of light the sharpness is independent, as of colour.
    doubled = audit_images([images[3] // 2 * 2, images[3] // 2, *images[4:6]], random_state=0)
    assert_allclose(doubled.sharpness[1], doubled.sharpness[0], rtol=1e-4)
    colour = audit_images([np.stack([x, x, x], axis=2) for x in images[:2]], random_state=0)
    assert_allclose(colour.sharpness, audit.sharpness[:2], rtol=1e-4)


def test_p_values_are_ranks_among_all(audit):
    expected = [np.mean(audit.scores <= score) for score in audit.scores]
    assert_allclose(audit.p_values, expected)


def test_deviations_are_robust(audit):
    x = audit.brightness
    mad = np.median(np.abs(x - np.median(x)))
    assert_allclose(audit.deviations.brightness, (x - np.median(x)) / (1.4826 * mad), rtol=1e-4)


def test_a_set_of_equal_light_and_size_has_nothing_odd_for_a_trifle():
    X = np.full((6, 40, 40), 100, np.uint8) + np.random.default_rng(0).integers(
        0, 9, (6, 40, 40), np.uint8
    )
    X[5] += 2  # a third of the least deviation that counts
    found = audit_images(X, random_state=0)
    assert not (found.flags.bright | found.flags.dark | found.flags.size).any()


# Leave-one-out --------------------------------------------------------------------------


def test_the_memory_leaves_out_an_images_group_as_if_it_had_not_been_there():
    random_state = np.random.RandomState(0)
    rows = [torch.from_numpy(random_state.randn(9, 4)).float() for _ in range(6)]
    group = np.array([0, 1, 1, 3, 4, 0])
    memory = LeaveOutMemory(rows, group, check_random_state(1), max_patches=6 * 5)
    parts = memory.patches.split(5)
    for i, own in enumerate(rows):
        assert {*map(tuple, parts[i].tolist())} < {*map(tuple, own.tolist())}
        others = torch.cat([part for j, part in enumerate(parts) if group[j] != group[i]])
        expected = torch.cdist(own, others).min(dim=1).values
        assert_allclose(memory.distances(own, group[i]), expected, rtol=1e-5)


def test_more_images_than_patches_give_one_each():
    rows = [torch.randn(3, 2, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    assert LeaveOutMemory(rows, np.arange(5), check_random_state(0), 2).patches.shape == (5, 2)


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 3, 4, 5]])
def test_a_detector_scores_what_its_fit_has_not_seen(images, groups):
    detector = DistanceToMean(image_size=32)
    X = np.stack(images[:8])
    found = audit_images(X, detector, cv=8, groups=groups, random_state=0)
    of = np.arange(8) if groups is None else np.array(groups)
    for i in range(8):
        fitted = clone(detector).fit(X[of != of[i]], groups=of[of != of[i]])
        assert_allclose(found.scores[i], fitted.score_samples(X[i : i + 1])[0], rtol=1e-6)
        largest = fitted.transform(X[i : i + 1])[0].reshape(32, 3, 32, 3).max(axis=(1, 3))
        assert_allclose(found.maps[i], largest, rtol=1e-5)
    assert not hasattr(detector, "offset_")


class Brightness(BaseEstimator):
    """No detector of images, but has what is asked for."""

    n_fits = 0

    def fit(self, X, y=None):
        Brightness.n_fits += 1
        self.mean_ = np.mean([x.mean() for x in X])
        self.n_ = len(X)
        return self

    def score_samples(self, X):
        return np.array([-abs(x.mean() - self.mean_) for x in X])


def test_any_estimator_with_scores_will_do(images, monkeypatch):
    monkeypatch.setattr(Brightness, "n_fits", 0)
    found = audit_images(images, Brightness(), cv=4, random_state=0)
    assert Brightness.n_fits == 4
    assert {*found.order[:2].tolist()} == {DARK, BRIGHT}
    assert found.maps is None


def test_equal_scores_are_equally_rare():
    pixels = np.random.default_rng(0).permuted([np.arange(256, dtype=np.uint8)] * 5, axis=1)
    found = audit_images(pixels.reshape(5, 16, 16), Brightness(), cv=5, random_state=0)
    assert_array_equal(found.scores, 0)
    assert_array_equal(found.p_values, 1)
    assert not found.flags.anomalous.any()


def test_scores_that_are_no_numbers_are_an_error_that_names_the_image(images):
    class Broken(Brightness):
        def score_samples(self, X):
            return np.where([x.shape == (80, 96) for x in X], np.nan, 1.0)

    with pytest.raises(ValueError, match=f"Broken gives image {WIDE} the score nan"):
        audit_images(images, Broken(), cv=2, random_state=0)


def test_images_of_one_group_are_not_compared(images):
    X = [*images[:10], images[16], np.roll(images[16], 7, axis=1)]  # no near-duplicates
    apart = audit_images(X, random_state=0)
    together = audit_images(X, groups=[*range(10), 10, 10], random_state=0)
    assert not together.flags.duplicate.any()
    assert (together.scores[10:] < apart.scores[10:]).all()


# Near-duplicates ------------------------------------------------------------------------


def test_doubles_are_found_and_belong_together(audit):
    assert marked(audit.flags.duplicate) == [DOUBLE]
    assert audit.duplicate_of[DOUBLE] == DEFECTS[2]
    assert audit.group[DOUBLE] == audit.group[DEFECTS[2]]
    assert len(np.unique(audit.group)) == len(audit.group) - 1


@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from([1, 7, 2**22]))
@example(0, 4, 1)  # the median lies between a small and a large distance
@settings(max_examples=40, deadline=None)
def test_near_duplicates_are_those_of_all_pairs(seed, n, n_elements):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 12)).astype(np.float32)
    for i in rng.permutation(n)[: n // 2]:
        x[i] = x[rng.integers(n)] + rng.normal(0, 0.03, 12)
    distances = np.linalg.norm(x[:, None].astype(float) - x, axis=2)
    usual = np.median(distances[np.triu_indices(n, 1)]) if n > 1 else 0
    near = distances <= 0.1 * usual
    of = [-1] * n
    for i in range(n):
        earlier = [j for j in range(i) if near[i, j]]
        of[i] = min(earlier, key=lambda j: distances[i, j]) if earlier else -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skanomaly.preprocessing._duplicates.MAX_ELEMENTS", n_elements)
        duplicate_of, group = near_duplicates(x, 0.1)
    assert ((duplicate_of >= 0) == (np.array(of) >= 0)).all()
    found = np.flatnonzero(duplicate_of >= 0)
    nearest = distances[found, duplicate_of[found]]
    assert_allclose(nearest, distances[found, np.array(of)[found]], atol=0.01)
    assert_array_equal(group[:, None] == group, reachable(near))


def reachable(near):
    near = near | np.eye(len(near), dtype=bool)
    for _ in near:
        near = near @ near
    return near


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.data())
def test_groups_are_joined_by_pairs(group, data):
    at = st.integers(0, len(group) - 1)
    pairs = data.draw(st.lists(st.tuples(at, at), min_size=1, max_size=6))
    edges = np.array(group)[:, None] == np.array(group)
    for a, b in pairs:
        edges[a, b] = edges[b, a] = True
    found = joined_groups(group, tuple(np.array(pairs).T))
    assert_array_equal(found[:, None] == found, reachable(edges))


def test_equal_images_leave_nothing_to_compare_with(images):
    with pytest.warns(UserWarning, match=r"all 3 images .* one group.*duplicate_distance"):
        found = audit_images([images[0]] * 3)
    assert found.duplicate_of.tolist() == [-1, 0, 0]
    assert np.isnan(found.scores).all()
    assert not found.flags.anomalous.any()


# What cannot be used --------------------------------------------------------------------


@pytest.fixture
def folder(images, tmp_path):
    for i, image in enumerate(images[:10]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    content = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(content[: len(content) // 2])
    Image.fromarray(np.stack([images[5]] * 3, axis=2)).save(tmp_path / "5.png")
    return tmp_path


def test_an_estimator_of_rows_is_told_what_makes_rows_of_images(images):
    with pytest.raises(ValueError, match=r"IsolationForest cannot be .* FeatureOutlierDetector"):
        audit_images(images, IsolationForest(), cv=2)


@pytest.mark.parametrize("detector", [None, DistanceToMean(image_size=32)])
def test_what_cannot_be_used_has_a_reason_and_no_score(folder, images, detector):
    files = ImageFiles([*(folder / f"{i}.png" for i in range(10)), folder / "missing.png"])
    found = audit_images(files, detector, random_state=0)
    assert marked(found.flags.unreadable) == [3, 5, 10] == marked(np.isnan(found.scores))
    assert "cut short" in found.reasons[3]
    assert found.reasons[5] == "has 3 channels, 8 others have 1; convert it as them"
    assert "no such file" in found.reasons[10]
    assert found.order[-3:].tolist() == [3, 5, 10]
    assert found.names == list(files.paths)
    rest = [i for i in range(10) if i not in (3, 5)]
    alone = audit_images([images[i] for i in rest], detector, random_state=0)
    assert_allclose(found.scores[rest], alone.scores)
    assert_allclose(found.p_values[rest], alone.p_values)
    assert "missing.png: there is no such file" in str(found)


def test_nothing_can_be_read(tmp_path):
    found = audit_images([tmp_path / "a.png", tmp_path / "b.png"])
    assert found.flags.unreadable.all()
    assert not found.flags.anomalous.any()
    found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8").count("<figure") == 2


class Refusing(DistanceToMean):
    """Refuses small images, as some methods do, when it reads them."""

    def _fit_images(self, images, validation):
        self._need_size(90, images, validation)
        super()._fit_images(images, validation)


def test_an_image_that_the_detector_refuses_is_named_by_its_number_in_the_whole(images):
    detector = Refusing(image_size=None)
    X = ["missing.png", *images[:8], images[WIDE]]
    with pytest.raises(InvalidImageError, match="smaller than the 90") as caught:
        audit_images(X, detector, cv=2, random_state=0)
    assert caught.value.index == 9


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"detector": object()}, "is a object, which has no fit"),
        ({"groups": [1, 2]}, "groups is of length 2, X of length 4"),
        ({"cv": 1}, "cv must be an int of 2 or more, got 1"),
        ({"cutoff": 0}, "cutoff must be above 0, got 0"),
        ({"duplicate_distance": 1.0}, r"must lie in \[0, 1\), got 1.0"),
        ({"value_range": (1, 0)}, "value_range must be two finite numbers"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_read(parameters, message):
    with pytest.raises(ValueError, match=message):
        audit_images(ImageFiles(["a.png"] * 4), **parameters)


def test_values_are_of_the_range_that_is_stated(images):
    X = np.stack(images[:6])
    expected = audit_images(X, random_state=0)
    twelve_bits = X.astype(np.uint16) * 16
    found = audit_images(twelve_bits, value_range=(0, 255 * 16), random_state=0)
    assert_allclose(found.brightness, expected.brightness, rtol=1e-5)
    assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-3)
    by_detector = DistanceToMean(image_size=32, value_range=(0, 255 * 16))
    found = audit_images(twelve_bits, by_detector, cv=2, random_state=0)
    assert_allclose(found.brightness, expected.brightness, rtol=1e-5)


@pytest.mark.parametrize("n_channels", [2, 4])
def test_images_of_any_number_of_channels(n_channels, tmp_path):
    X = np.random.default_rng(0).random((4, 40, 48, n_channels)).astype(np.float32)
    found = audit_images(X, random_state=0)
    assert np.isfinite(found.scores).all()
    found.to_html(tmp_path / "page.html")


# The result -----------------------------------------------------------------------------


def test_equal_seeds_give_equal_audits_on_any_number_of_threads(images):
    seeds = {"first": (0, None), "again": (0, 3), "other": (1, None)}
    found = {
        name: audit_images(images[:6], random_state=seed, n_jobs=n_jobs)
        for name, (seed, n_jobs) in seeds.items()
    }
    assert_array_equal(found["again"].scores, found["first"].scores)
    assert found["again"].thumbnails == found["first"].thumbnails
    assert (found["other"].scores != found["first"].scores).any()


def test_it_is_a_bunch_that_can_be_kept(audit):
    kept = pickle.loads(pickle.dumps(audit))
    assert isinstance(kept, ImageAudit)
    assert str(kept) == str(audit) == repr(copy.copy(audit))
    assert_array_equal(kept["scores"], audit.scores)


def test_it_prints_as_a_short_table(audit):
    first, header, *rows = str(audit).splitlines()
    assert first.startswith(f"24 images, {audit.flagged.sum()} flagged: ")
    assert f"{audit.flags.anomalous.sum()} anomalous, 1 duplicate, 1 size, 1 dark" in first
    assert header.split() == ["index", "score", "p", "name", "flags"]
    assert len(rows) == 10
    assert [int(row.split()[1]) for row in rows] == audit.order[:10].tolist()


def test_records_are_those_of_the_arrays(audit):
    frame = audit.to_frame()
    assert frame.index.tolist() == audit.order.tolist()
    assert_array_equal(frame.loc[range(24), "score"], audit.scores)
    assert frame.loc[DOUBLE, "duplicate_of"] == DEFECTS[2]
    assert "duplicate" in frame.loc[DOUBLE, "flags"].split()
    assert (frame.loc[WIDE, "height"], frame.loc[WIDE, "width"]) == (80, 96)


def test_a_data_frame_needs_pandas(audit, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="to_records does not"):
        audit.to_frame()


class Page(HTMLParser):
    """What a page holds; tags must be closed in turn."""

    EMPTY = {"meta", "img", "input", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.figures, self.images, self.inputs, self.links = [], [], [], [], []
        self.tags, self.text = set(), ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)
        kinds = {"figure": self.figures, "img": self.images, "input": self.inputs, "a": self.links}
        kinds.get(tag, []).append(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(audit, tmp_path):
    audit.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    return Page(text), text


def test_the_page_shows_all_by_suspicion_and_needs_no_other_file(audit, tmp_path):
    page, text = page_of(audit, tmp_path)
    assert [int(figure["id"][1:]) for figure in page.figures] == audit.order.tolist()
    for name, flag in audit.flags.items():
        of_class = [f["id"] for f in page.figures if name in f["class"].split()]
        assert of_class == [f"i{i}" for i in audit.order if flag[i]]
    assert all(image["src"].startswith("data:image/") for image in page.images)
    assert all(image["loading"] == "lazy" for image in page.images)
    assert not page.tags & {"script", "link", "iframe"}
    assert not re.search(r"https?:|url\(|@import", text)
    assert [link["href"] for link in page.links] == [f"#i{DEFECTS[2]}"]


def test_the_page_is_filtered_by_the_flags_that_there_are(audit, tmp_path):
    page, text = page_of(audit, tmp_path)
    names = [i["id"] for i in page.inputs if i["type"] == "radio"]
    present = [name for name, flag in audit.flags.items() if flag.any()]
    assert names == ["all", "flagged", *present]
    for name in names[1:]:
        assert f":root:has(#{name}:checked) figure:not(.{name}) {{ display: none; }}" in text
    with_map = [image for image in page.images if "class" in image]
    assert len(with_map) == len({*audit.order[:24].tolist(), *marked(audit.flagged)})


def test_names_are_shown_and_not_obeyed(images, tmp_path):
    name = "<b onload='x'>&\" \udcff.png"
    found = audit_images([f"/nowhere/{name}", *images[:3]], random_state=0)
    page, text = page_of(found, tmp_path)
    assert "<b onload" not in text
    assert page.figures[-1]["id"] == "i0"
    assert "<b onload='x'>&\" \\udcff.png" in page.text
    str(found).encode("utf-8")
    assert found.to_records()[-1]["name"].endswith("\\udcff.png")


def test_a_page_is_written_whole_or_not_at_all(audit, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")
    broken = copy.copy(audit)
    broken.thumbnails = None
    with pytest.raises(TypeError):
        broken.to_html(path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
