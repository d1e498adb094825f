import pytest
from hypothesis import given
from hypothesis import strategies as st

from skanomaly.datasets._folder_names import BAD, GOOD, FolderNames, fold, may_be_good


@given(st.sampled_from(sorted(GOOD | BAD)), st.data())
def test_known_names_in_any_case_and_punctuation(name, data):
    spelled = data.draw(st.tuples(*(st.sampled_from([c, c.upper()]) for c in name)))
    gap = data.draw(st.sampled_from(["", "_", "-", " ", "."]))
    spelled = gap.join(spelled)
    assert fold(spelled) == name
    names = FolderNames()
    assert names.is_good(spelled) == (name in GOOD)
    assert names.is_defect(spelled) == (name in BAD)


def test_no_name_is_both():
    assert not GOOD & BAD


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("good_cam1", True),
        ("goodCam1", True),
        ("Good (copy)", True),
        ("ok2", True),
        ("noDefects2", True),
        ("free of defects", True),
        ("clean", True),
        ("not_good_2", False),
        ("scratch", False),
        ("broken_large", False),
        ("abnormal_2", False),
        ("token", False),
        ("goodyear", False),
    ],
)
def test_names_that_may_be_good(name, expected):
    assert may_be_good(name) == expected


def test_told_names_are_exact_and_replace_the_known():
    names = FolderNames(["Gut"], ["Schlecht"])
    assert names.is_good("Gut")
    assert names.is_defect("Schlecht")
    for name in ("gut", "schlecht", "good", "bad"):
        assert not names.is_good(name)
        assert not names.is_defect(name)


def test_one_kind_told_leaves_the_other_known():
    names = FolderNames(defect_folders="good")
    assert names.is_defect("good")
    assert not names.is_good("good")
    assert names.is_good("ok")


def test_folder_told_as_images_is_none_of_masks():
    assert FolderNames().is_mask_folder("Ground Truth")
    assert not FolderNames(defect_folders=["mask"]).is_mask_folder("mask")
    assert not FolderNames(mask_folder="labels").is_wanted_mask_folder("masks")
    assert not FolderNames(mask_folder=None).is_wanted_mask_folder("masks")


@pytest.mark.parametrize("parameter", ["good_folders", "defect_folders", "mask_folder"])
@pytest.mark.parametrize("name", ["test/good", "..", "", r"a\b", 3])
def test_names_have_no_path(parameter, name):
    value = name if parameter == "mask_folder" else [name]
    with pytest.raises(ValueError, match=f"{parameter} takes names of folders"):
        FolderNames(**{parameter: value})


def test_name_of_both_kinds():
    with pytest.raises(ValueError, match="'x' is in good_folders and in defect_folders"):
        FolderNames(["x", "y"], "x")
