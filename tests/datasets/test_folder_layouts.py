"""The layouts of public data sets, in small, and folders whose images could be anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import MASK, kinds, lay_out, write, write_image

from skanomaly.datasets import load_image_folder, load_mvtec_ad
from skanomaly.datasets._folder_names import BAD, GOOD
from skanomaly.exceptions import InvalidImageError


def test_mvtec_loco(tmp_path):
    category = lay_out(
        tmp_path / "pushpins",
        [
            *(f"{split}/good/000.png" for split in ("train", "validation", "test")),
            "test/logical_anomalies/000.png",
            "test/structural_anomalies/000.png",
        ],
        ["ground_truth/structural_anomalies/000/000.png"],
    )
    (category / "defects_config.json").write_text("[]")
    (category / "license.txt").write_text("CC")
    parts = [np.roll(MASK, shift, axis=0) * np.uint8(value) for shift, value in ((0, 247), (4, 3))]
    for i, part in enumerate(parts):
        write(category / f"ground_truth/logical_anomalies/000/00{i}.png", part)
    for split in ("train", "validation"):
        bunch = load_mvtec_ad(tmp_path, "pushpins", split=split)
        assert kinds(bunch) == {f"{split}/good/000.png": "good"}
    test = load_mvtec_ad(tmp_path, "pushpins", split="test")
    assert kinds(test) == {
        "test/good/000.png": "good",
        "test/logical_anomalies/000.png": "logical_anomalies",
        "test/structural_anomalies/000.png": "structural_anomalies",
    }
    np.testing.assert_array_equal(test.masks[1], MASK | np.roll(MASK, 4, axis=0))
    assert 'MVTec LOCO AD, category "pushpins"' in test.DESCR
    assert sorted(test.left_out) == ["defects_config.json", "license.txt"]


def test_mvtec_3d(tmp_path):
    category = tmp_path / "bagel"
    for part in ("train/good", "validation/good", "test/good", "test/crack"):
        lay_out(category, [f"{part}/rgb/000.png"])
        write(category / f"{part}/xyz/000.tiff", np.ones((8, 10), np.float32))
    write(category / "test/good/gt/000.png", np.zeros((8, 10), np.uint8))
    lay_out(category, [], ["test/crack/gt/000.png"])
    train = load_mvtec_ad(tmp_path, "bagel")
    assert kinds(train) == {"train/good/rgb/000.png": "good"}
    assert train.left_out == {"train/good/xyz/": "beside rgb/"}
    test = load_mvtec_ad(tmp_path, "bagel", split="test")
    assert kinds(test) == {"test/crack/rgb/000.png": "crack", "test/good/rgb/000.png": "good"}
    np.testing.assert_array_equal(test.masks[0], MASK)
    assert 'MVTec 3D-AD, category "bagel"' in test.DESCR


def test_points_beside_images(tmp_path):
    root = lay_out(tmp_path, ["train/good/0.png"])
    write(root / "train/good/xyz/0.tiff", np.ones((8, 10), np.float32))
    train = load_image_folder(root)
    assert kinds(train) == {"train/good/0.png": "good"}
    assert train.left_out == {"train/good/xyz/": "points in space, not images"}


def test_missing_mask_of_mvtec_3d(tmp_path):
    root = lay_out(
        tmp_path,
        ["test/good/rgb/0.png", "test/hole/rgb/0.png", "test/crack/rgb/0.png"],
        ["test/hole/gt/0.png", "test/crack/gt/1.png"],
    )
    (root / "test/crack/gt/1.png").unlink()
    with pytest.raises(InvalidImageError, match=r"expected .*test/crack/gt/0_mask\.png"):
        load_image_folder(root, split="test")


def test_mvtec_ad_2(tmp_path):
    category = lay_out(
        tmp_path / "vial",
        [
            "train/good/000_regular.png",
            "validation/good/000_regular.png",
            "test_public/good/000_overexposed.png",
            "test_public/bad/000_regular.png",
            "test_private/000_regular.png",
            "test_private_mixed/000_mixed.png",
        ],
        ["test_public/ground_truth/bad/000_regular_mask.png"],
    )
    assert category.is_dir()
    assert kinds(load_mvtec_ad(tmp_path, "vial")) == {"train/good/000_regular.png": "good"}
    assert len(load_mvtec_ad(tmp_path, "vial", split="validation").images) == 1
    test = load_mvtec_ad(tmp_path, "vial", split="test")
    assert kinds(test) == {
        "test_public/bad/000_regular.png": "bad",
        "test_public/good/000_overexposed.png": "good",
    }
    assert set(test.left_out) == {"test_private/", "test_private_mixed/"}
    assert "without labels" in test.left_out["test_private/"]
    assert 'MVTec AD 2, category "vial"' in test.DESCR


def test_missing_mask_of_mvtec_ad_2(tmp_path):
    root = lay_out(tmp_path, ["test_public/good/0.png", "test_public/bad/1.png"])
    (root / "test_public/ground_truth/bad").mkdir(parents=True)
    with pytest.raises(
        InvalidImageError, match=r"expected .*test_public/ground_truth/bad/1_mask\.png"
    ):
        load_image_folder(root, split="test")


@pytest.mark.parametrize(("image", "mask"), [("bmp", "png"), ("png", "png"), ("bmp", "bmp")])
def test_btad(tmp_path, image, mask):
    images = [f"{part}/0000.{image}" for part in ("train/ok", "test/ok", "test/ko")]
    root = lay_out(tmp_path / "01", images, [f"ground_truth/ko/0000.{mask}"])
    assert kinds(load_image_folder(root)) == {f"train/ok/0000.{image}": "good"}
    assert kinds(load_image_folder(root, split="test")) == {
        f"test/ko/0000.{image}": "ko",
        f"test/ok/0000.{image}": "good",
    }


def test_folder_of_images_and_of_masks(tmp_path):
    root = lay_out(
        tmp_path,
        ["Images/Normal/0.JPG", "Images/Normal/1.JPG", "Images/Anomaly/0.JPG"],
        ["Masks/Anomaly/0.png"],
    )
    bunch = load_image_folder(root, split=None)
    assert list(kinds(bunch).values()) == ["Anomaly", "good", "good"]
    assert len(load_image_folder(root).images) == 2


def test_images_beside_masks_may_be_defects(tmp_path):
    root = lay_out(tmp_path, ["images/0.png", "images/1.png"], ["masks/0.png", "masks/1.png"])
    with pytest.raises(InvalidImageError, match=r"2 images lie directly in it.*defect_folders"):
        load_image_folder(root, split=None)
    bunch = load_image_folder(root, split=None, defect_folders=["."])
    assert kinds(bunch) == {"images/0.png": "defect", "images/1.png": "defect"}


def test_good_and_bad_without_splits(tmp_path):
    root = lay_out(tmp_path, ["OK/0.png", "OK/1.png", "NG/0.png"])
    train = load_image_folder(root)
    assert kinds(train) == {"OK/0.png": "good", "OK/1.png": "good"}
    assert train.left_out == {"NG/": "not good, and detectors are fitted on good images"}
    both = load_image_folder(root, split=None)
    assert kinds(both) == {"NG/0.png": "NG", "OK/0.png": "good", "OK/1.png": "good"}
    assert both.masks is None
    with pytest.raises(InvalidImageError, match="pass split=None"):
        load_image_folder(root, split="test")


@settings(max_examples=20, deadline=None)
@given(
    good=st.sampled_from(sorted(GOOD)),
    bad=st.sampled_from(sorted(BAD)),
    case=st.sampled_from([str.lower, str.upper, str.title]),
    depth=st.lists(st.sampled_from(["cam1", "2024-05-01", "rgb", "Lot 7"]), max_size=2),
    suffix=st.sampled_from([".png", ".PNG", ".Bmp", ".TIF"]),
    with_masks=st.booleans(),
)
def test_spellings_depths_and_suffixes(
    tmp_path_factory, good, bad, case, depth, suffix, with_masks
):
    good, bad, below = case(good), case(bad), "/".join([*depth, f"Part 1{suffix}"])
    root = tmp_path_factory.mktemp("parts")
    lay_out(root, [f"train/{good}/{below}", f"Test/{good}/{below}", f"Test/{bad}/{below}"])
    if with_masks:
        folders = "/".join(folder for folder in [bad, *depth] if folder != "rgb")
        lay_out(root, [], [f"Ground Truth/{folders}/Part 1_mask.png"])
    assert kinds(load_image_folder(root)) == {f"train/{good}/{below}": "good"}
    test = load_image_folder(root, split="test")
    assert kinds(test) == {f"Test/{good}/{below}": "good", f"Test/{bad}/{below}": bad}
    assert (test.masks is not None) == with_masks


def test_folder_a_camera(tmp_path):
    root = lay_out(
        tmp_path,
        ["train/good/0.png", "test/good/cam1/0.png", "test/good/cam2/0.png"],
        ["ground_truth/scratch/cam1/0_mask.png"],
    )
    lay_out(root, ["test/scratch/cam1/0.png"])
    assert kinds(load_image_folder(root, split="test")) == {
        "test/good/cam1/0.png": "good",
        "test/good/cam2/0.png": "good",
        "test/scratch/cam1/0.png": "scratch",
    }


# Where a kind would have to be guessed ------------------------------------------------

GUESSES = {
    "loose": (["test/0.png"], "1 images lie directly in it"),
    "loose beside folders": (["test/good/0.png", "test/0.png"], "1 images lie directly in it"),
    "two good": (["test/good/0.png", "test/OK/0.png"], "'OK', 'good' all look good"),
    "two spellings": (["test/good/0.png", "test/Good/0.png"], "'Good', 'good' all look good"),
    "good by half": (["test/good/0.png", "test/good_cam2/0.png"], "'good_cam2' looks good"),
    "no good": (["test/scratch/0.png", "test/dent/0.png"], "none of the folders is known to be"),
    "cameras": (["test/cam1/good/0.png", "test/cam1/bad/0.png"], "none of the folders is known"),
    "good in a defect": (["test/good/0.png", "test/cam1/good/0.png"], "'good' lies in 'cam1'"),
    "bad in good": (["test/good/0.png", "test/good/ng/0.png"], "'ng' lies in 'good'"),
    "unsorted": (["test/good/0.png", "test/unsorted/0.png"], "'unsorted' does not say"),
    "split in a split": (["test/good/0.png", "test/train/0.png"], "'train' does not say"),
}


@pytest.mark.parametrize("case", GUESSES)
def test_guesses_are_refused(tmp_path, case):
    images, reason = GUESSES[case]
    root = lay_out(tmp_path, ["train/good/0.png", *images])
    with pytest.raises(InvalidImageError, match=reason) as caught:
        load_image_folder(root, split="test")
    assert caught.value.path.startswith(str(root / "test"))
    if "lies in" not in reason:
        assert "good_folders=" in str(caught.value)
        assert "defect_folders=" in str(caught.value)


@pytest.mark.parametrize(
    ("images", "told", "expected"),
    [
        (["test/0.png"], {"good_folders": "."}, ["good"]),
        (["test/0.png"], {"defect_folders": ["."]}, ["defect"]),
        (["test/a/0.png", "test/b/0.png"], {"good_folders": ["a"]}, ["good", "b"]),
        (["test/a/0.png", "test/b/0.png"], {"good_folders": ["a", "b"]}, ["good", "good"]),
        (["test/a/0.png", "test/b/0.png"], {"defect_folders": ["a", "b"]}, ["a", "b"]),
        (
            ["test/OK/0.png", "test/good/0.png"],
            {"good_folders": ["good"], "defect_folders": ["OK"]},
            ["OK", "good"],
        ),
        (["test/good/0.png", "test/train/0.png"], {"defect_folders": "train"}, ["good", "train"]),
    ],
)
def test_told_names_decide(tmp_path, images, told, expected):
    bunch = load_image_folder(lay_out(tmp_path, images), split="test", **told)
    assert list(kinds(bunch).values()) == expected


def test_what_is_in_neither_list_is_left_out(tmp_path):
    images = [f"test/{name}/0.png" for name in ("good", "scratch", "dent", "good_old")]
    masks = ["ground_truth/scratch/0.png", "ground_truth/dent/0.png"]
    root = lay_out(tmp_path, ["test/0.png", *images], masks)
    test = load_image_folder(root, split="test", defect_folders=["dent"])
    assert kinds(test) == {"test/dent/0.png": "dent", "test/good/0.png": "good"}
    reason = "not named as good or as a defect"
    assert test.left_out == dict.fromkeys(["test/0.png", "test/good_old/", "test/scratch/"], reason)
    assert f"- 3 x {reason}" in test.DESCR


@pytest.mark.parametrize("name", ["good", "i.O.", "defect free"])
def test_good_name_that_was_not_told_is_no_defect(tmp_path, name):
    root = lay_out(tmp_path, ["test/part/0.png", f"test/{name}/0.png"])
    with pytest.raises(InvalidImageError, match=f"'{name}' looks good, but is not known or told"):
        load_image_folder(root, split="test", good_folders=["part"])


@pytest.mark.parametrize("parameter", ["good_folders", "defect_folders"])
def test_told_name_that_is_not_there(tmp_path, parameter):
    root = lay_out(tmp_path, ["test/good/0.png", "test/scratch/0.png"])
    with pytest.raises(InvalidImageError, match=f"{parameter} names 'scrach'.*'scratch'") as caught:
        load_image_folder(root, split="test", **{parameter: ["scrach"]})
    assert caught.value.path == str(root / "test")


def test_defects_with_masks_need_no_good_images_beside(tmp_path):
    root = lay_out(tmp_path, ["test/scratch/0.png"], ["ground_truth/scratch/0.png"])
    assert kinds(load_image_folder(root, split="test")) == {"test/scratch/0.png": "scratch"}


def test_training_images_without_folders_are_good(tmp_path):
    root = lay_out(tmp_path, ["train/0.png", "train/1.png", "test/good/0.png"])
    assert list(kinds(load_image_folder(root)).values()) == ["good", "good"]


@pytest.mark.parametrize(
    "images",
    [
        ["train/cam1/0.png", "train/cam2/0.png"],
        ["train/good/0.png", "train/0.png"],
        ["train/good/0.png", "train/other/0.png"],
        ["train/bad/0.png"],
    ],
)
def test_training_images_that_may_be_anything(tmp_path, images):
    with pytest.raises(InvalidImageError, match="good_folders="):
        load_image_folder(lay_out(tmp_path, images))


def test_told_training_images(tmp_path):
    root = lay_out(tmp_path, ["train/cam1/0.png", "train/cam2/0.png", "train/other/0.png"])
    train = load_image_folder(root, good_folders=["cam1", "cam2"])
    assert list(kinds(train).values()) == ["good", "good"]
    assert list(train.left_out) == ["train/other/"]


def test_training_defects_are_left_out(tmp_path):
    root = lay_out(tmp_path, ["train/good/0.png", "train/bad/1.png"])
    train = load_image_folder(root)
    assert kinds(train) == {"train/good/0.png": "good"}
    assert train.left_out == {"train/bad/": "not good, and detectors are fitted on good images"}


def test_two_folders_for_a_split(tmp_path):
    root = lay_out(tmp_path, ["test/good/0.png", "Test/good/0.png"])
    with pytest.raises(InvalidImageError, match="'Test' and 'test' may both be the test split"):
        load_image_folder(root, split="test")


def test_plain_folder_beside_others(tmp_path):
    root = lay_out(tmp_path, ["0.png", "thumbnails/0.png"])
    with pytest.raises(InvalidImageError, match="'thumbnails' may hold good images or defects"):
        load_image_folder(root)
    train = load_image_folder(root, good_folders=".")
    assert kinds(train) == {"0.png": "good"}
    assert list(train.left_out) == ["thumbnails/"]


def test_plain_folder_of_a_bad_name(tmp_path):
    root = lay_out(tmp_path / "NG", ["0.png"])
    with pytest.raises(InvalidImageError, match=r'pass good_folders=\["\."\]'):
        load_image_folder(root)
    assert kinds(load_image_folder(root, good_folders=["."])) == {"0.png": "good"}
    assert kinds(load_image_folder(root, split=None, defect_folders=["."])) == {"0.png": "defect"}


def test_folder_of_categories(tmp_path):
    lay_out(tmp_path, ["bottle/train/good/0.png", "grid/train/good/0.png"])
    with pytest.raises(InvalidImageError, match=r"To load one category.*bottle"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("second", ["0.jpg", "0.PNG", "0_mask.png", "0_GT.png", "0-label.bmp"])
def test_masks_among_the_images_are_refused(tmp_path, split, second):
    root = lay_out(tmp_path, [f"{split}/good/0.png"])
    write_image(root / f"{split}/good/{second}")
    with pytest.raises(InvalidImageError, match="mask"):
        load_image_folder(root, split=split)


# Links and other systems' files ------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["._0.png", ".DS_Store", "Thumbs.db", "notes.txt", ".cache/0.png", "@eaDir/0.png"]
)
@pytest.mark.parametrize("folder", ["test", "test/good", "test/good/cam1", "ground_truth/dent"])
def test_other_files_are_left_out(tmp_path, name, folder):
    root = lay_out(
        tmp_path,
        ["test/good/cam1/0.png", "test/dent/0.png"],
        ["ground_truth/dent/0.png"],
    )
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no image")
    test = load_image_folder(root, split="test")
    assert kinds(test) == {"test/dent/0.png": "dent", "test/good/cam1/0.png": "good"}
    left_out = f"{folder}/{name}" if "/" not in name else f"{folder}/{name.split('/')[0]}/"
    assert list(test.left_out) == [left_out]


@pytest.fixture
def store(tmp_path):
    """Folders of images elsewhere, to link to."""
    return lay_out(tmp_path / "store", ["a/0.png", "b/1.png", "m/1.png"], ["m/1.png"])


@pytest.fixture
def linked(tmp_path, store):
    """A folder whose kinds are links."""
    root = tmp_path / "parts"
    for part, target in (("test/good", "a"), ("test/dent", "b"), ("ground_truth/dent", "m")):
        (root / part).parent.mkdir(parents=True, exist_ok=True)
        (root / part).symlink_to(store / target)
    return root


LINKED_KINDS = {"test/dent/1.png": "dent", "test/good/0.png": "good"}


def test_linked_folders(linked):
    assert kinds(load_image_folder(linked, split="test")) == LINKED_KINDS


def test_linked_files(tmp_path, store):
    root = tmp_path / "parts"
    for name, target in (("good/0.png", "a/0.png"), ("dent/1.png", "b/1.png")):
        (root / "test" / name).parent.mkdir(parents=True)
        (root / "test" / name).symlink_to(store / target)
    assert kinds(load_image_folder(root, split="test")) == LINKED_KINDS


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "loop"])
@pytest.mark.parametrize("folder", ["test/good", "ground_truth"])
def test_loops_end(tmp_path, folder, target):
    root = lay_out(tmp_path, list(LINKED_KINDS), ["ground_truth/dent/1.png"])
    (root / folder / "loop").symlink_to(target)
    test = load_image_folder(root, split="test")
    assert kinds(test) == LINKED_KINDS
    assert [name.rstrip("/") for name in test.left_out] == [f"{folder}/loop"]


def test_link_to_a_folder_read_already(tmp_path):
    root = lay_out(tmp_path, ["good/2024-05-01/0.png", "good/2024-05-02/0.png"])
    (root / "good/latest").symlink_to("2024-05-02")
    bunch = load_image_folder(root)
    assert len(bunch.images) == 2
    assert list(bunch.left_out) == ["good/latest/"]


def test_many_links_take_no_time(tmp_path):
    """Two links a level would be 2**40 paths."""
    for level in range(40):
        lay_out(tmp_path, [f"store/{level}/{level}.png"])
        for link in ("x", "y"):
            (tmp_path / f"store/{level}" / link).symlink_to(tmp_path / f"store/{level + 1}")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/good").symlink_to(tmp_path / "store/0")
    assert len(load_image_folder(tmp_path / "parts").images) == 40


@pytest.mark.parametrize("link", ["test/dent/x.png", "test/dent/x"])
def test_one_file_of_two_kinds(tmp_path, link):
    root = lay_out(tmp_path, list(LINKED_KINDS))
    (root / link).symlink_to(root / ("test/good/0.png" if "." in link else "test/good"))
    with pytest.raises(InvalidImageError, match=r"is the same file as .*'dent'.*'good'"):
        load_image_folder(root, split="test")


def test_one_file_twice(tmp_path):
    root = lay_out(tmp_path, ["0.png"])
    (root / "1.png").symlink_to("0.png")
    bunch = load_image_folder(root)
    assert bunch.filenames == ["0.png"]
    assert bunch.left_out == {"1.png": "the same file as 0.png"}


def test_link_to_nothing(tmp_path):
    root = lay_out(tmp_path, ["0.png"])
    (root / "1.png").symlink_to("gone.png")
    assert load_image_folder(root).left_out == {"1.png": "a link to nothing"}


def test_nothing_but_what_is_left_out(tmp_path):
    (tmp_path / "0.heif").write_bytes(b"")
    with pytest.raises(InvalidImageError, match="no image; left out: 1 x not an image"):
        load_image_folder(tmp_path)
