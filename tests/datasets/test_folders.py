from pathlib import Path

import numpy as np
import pytest
from image_folders import MASK, write_image, write_mask

from skanomaly.datasets import load_image_folder, load_mvtec_ad
from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageFiles, read_image


@pytest.fixture
def root(tmp_path):
    """A category with 3 training images, and a good, a scratched and a dented test image."""
    root = tmp_path / "part"
    for i in range(3):
        write_image(root / f"train/good/{i:03d}.png", seed=i)
    for name in ("good", "scratch", "dent"):
        write_image(root / f"test/{name}/000.png")
    write_mask(root / "ground_truth/scratch/000_mask.png")
    write_mask(root / "ground_truth/dent/000_mask.png", MASK[::-1])
    return root


def test_train_split(root):
    train = load_image_folder(root)
    assert isinstance(train.images, ImageFiles)
    assert train.filenames == [f"train/good/00{i}.png" for i in range(3)]
    assert train.images == ImageFiles([root / name for name in train.filenames])
    assert train.target.tolist() == [1, 1, 1]
    assert train.defect_types.tolist() == ["good"] * 3
    assert (train.masks.shape, train.masks.dtype) == ((3, 8, 10), bool)
    assert not train.masks.any()


def test_test_split(root):
    test = load_image_folder(root, split="test")
    assert test.filenames == ["test/dent/000.png", "test/good/000.png", "test/scratch/000.png"]
    assert test.images == ImageFiles([root / name for name in test.filenames])
    assert test.target.tolist() == [-1, 1, -1]
    assert test.target.dtype.kind == "i"
    assert test.defect_types.tolist() == ["dent", "good", "scratch"]
    assert test.masks.dtype == bool
    np.testing.assert_array_equal(test.masks, [MASK[::-1], np.zeros_like(MASK), MASK])


def test_test_split_of_good_images_only(root):
    for name in ("scratch", "dent"):
        (root / f"test/{name}/000.png").unlink()
        (root / f"ground_truth/{name}/000_mask.png").unlink()
    test = load_image_folder(root, split="test")
    assert test.target.tolist() == [1]
    assert not test.masks.any()


def test_images_are_what_the_files_hold(root):
    train = load_image_folder(root)
    np.testing.assert_array_equal(train.images[1], read_image(root / "train/good/001.png"))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_are_not_read_before_they_are_asked_for(root, split):
    for path in root.glob(f"{split}/*/*.png"):
        cut_short(path)
    bunch = load_image_folder(root, split=split)
    assert bunch.masks.shape == (3, 8, 10)
    with pytest.raises(InvalidImageError, match="damaged or cut short"):
        bunch.images[0]


def test_file_that_is_no_image_is_named(root):
    (root / "train/good/001.png").write_text("no image")
    with pytest.raises(InvalidImageError, match="not an image Pillow can read") as caught:
        load_image_folder(root)
    assert caught.value.path == str(root / "train/good/001.png")


@pytest.mark.parametrize("split", ["train", None])
def test_plain_folder_is_normal(root, split):
    bunch = load_image_folder(root / "train/good", split=split)
    assert bunch.filenames == ["000.png", "001.png", "002.png"]
    assert bunch.target.tolist() == [1, 1, 1]
    assert bunch.defect_types.tolist() == ["good"] * 3
    assert not np.any(bunch.masks)


def test_folder_may_be_a_string(root):
    assert load_image_folder(str(root)).filenames == load_image_folder(root).filenames


def test_train_split_without_a_test_split(root):
    (root / "test").rename(root / "elsewhere")
    assert len(load_image_folder(root).images) == 3


@pytest.mark.parametrize(
    ("split", "found"), [("train", "'test' in test"), ("test", "'train' in train")]
)
def test_missing_split(root, split, found):
    (root / split).rename(root / "elsewhere")
    with pytest.raises(InvalidImageError, match=f"no split '{split}'; found {found}") as caught:
        load_image_folder(root, split=split)
    assert caught.value.path == str(root)


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_split(root, split):
    for path in root.glob(f"{split}/*/*"):
        path.unlink()
    with pytest.raises(InvalidImageError, match=rf"no image of the {split} split.*holds no image"):
        load_image_folder(root, split=split, mask_folder=None)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_plain_folder_has_no_other_split(root, split):
    with pytest.raises(InvalidImageError, match=f"no split '{split}'.*pass split=None"):
        load_image_folder(root / "train/good", split=split)


def test_missing_folder(tmp_path):
    with pytest.raises(InvalidImageError, match="not a folder; check the path") as caught:
        load_image_folder(tmp_path / "missing")
    assert caught.value.path == str(tmp_path / "missing")


def test_folder_without_images(tmp_path):
    with pytest.raises(InvalidImageError, match="holds no image"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("load", [load_image_folder, lambda r, **k: load_mvtec_ad(r, "part", **k)])
def test_unknown_split(root, load):
    with pytest.raises(ValueError, match="must be 'train', .* got 'val'"):
        load(root if load is load_image_folder else root.parent, split="val")


def test_mvtec_category_is_its_folder(root):
    of_category = load_mvtec_ad(root.parent, "part", split="test")
    of_folder = load_image_folder(root, split="test")
    assert of_category.images == of_folder.images
    assert of_category.filenames == of_folder.filenames
    np.testing.assert_array_equal(of_category.masks, of_folder.masks)


def test_mvtec_description_names_category_licence_and_count(root):
    descr = load_mvtec_ad(root.parent, "part", split="test").DESCR
    assert 'MVTec AD, category "part", test split: 3 images' in descr
    assert "- 1 dent, in test/dent" in descr
    assert "CC BY-NC-SA" in descr


def test_unknown_mvtec_category_lists_the_known(root):
    write_image(root.parent / "other/train/good/000.png")
    with pytest.raises(
        InvalidImageError, match="no category 'bottle'; found other, part"
    ) as caught:
        load_mvtec_ad(root.parent, "bottle")
    assert caught.value.path == str(root.parent)


def test_no_mvtec_category_at_all(tmp_path):
    with pytest.raises(InvalidImageError, match="no category 'bottle'; found none"):
        load_mvtec_ad(tmp_path, "bottle")


@pytest.mark.parametrize(
    ("category", "n_train", "n_test", "n_good"), [("bottle", 209, 83, 20), ("grid", 243, 78, 21)]
)
def test_real_categories(mvtec_root, category, n_train, n_test, n_good):
    train = load_mvtec_ad(mvtec_root, category)
    test = load_mvtec_ad(mvtec_root, category, split="test")
    assert (len(train.images), len(test.images)) == (n_train, n_test)
    assert (train.target == 1).all()
    assert (test.target == 1).sum() == n_good
    np.testing.assert_array_equal(test.masks.any(axis=(1, 2)), test.target == -1)
    assert test.images[0].shape[:2] == test.masks.shape[1:]
    assert all(Path(path).is_file() for path in test.images.paths)
