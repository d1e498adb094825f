import numpy as np
import pytest
from image_folders import MASK, kinds, lay_out, write, write_image, write_mask
from PIL import Image

from skanomaly.datasets import load_image_folder
from skanomaly.exceptions import InvalidImageError


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


@pytest.mark.parametrize("name", ["000.png", "000_mask.bmp", "000.tif"])
def test_mask_may_have_another_suffix_or_the_image_s_name(root, name):
    folder = root / "ground_truth/scratch"
    (folder / "000_mask.png").rename(folder / "old.txt")
    write_mask(folder / name)
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


@pytest.mark.parametrize("stem", ["part[1]", "part?", "a.b"])
def test_mask_of_an_image_with_a_special_name(root, stem):
    (root / "test/scratch/000.png").rename(root / f"test/scratch/{stem}.png")
    (root / "ground_truth/scratch/000_mask.png").rename(
        root / f"ground_truth/scratch/{stem}_mask.png"
    )
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


def test_mask_of_an_image_whose_name_begins_alike(root):
    write_image(root / "test/scratch/000.left.png")
    write_mask(root / "ground_truth/scratch/000.left.png", MASK[::-1])
    (root / "ground_truth/scratch/000_mask.png").rename(root / "ground_truth/scratch/000.png")
    test = load_image_folder(root, split="test")
    masks = dict(zip(test.filenames, test.masks))
    np.testing.assert_array_equal(masks["test/scratch/000.left.png"], MASK[::-1])
    np.testing.assert_array_equal(masks["test/scratch/000.png"], MASK)


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        MASK * np.uint8(1),
        MASK * np.uint8(128),
        MASK * np.uint16(65535),
        MASK[..., np.newaxis] * np.array([255, 0, 0], np.uint8),
    ],
    ids=["1 bit", "0 and 1", "0 and 128", "16 bit", "red"],
)
def test_any_two_values_are_a_mask(root, mask):
    write(root / "ground_truth/scratch/000_mask.png", mask)
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


def test_empty_mask_is_taken(root):
    write_mask(root / "ground_truth/scratch/000_mask.png", np.zeros_like(MASK))
    test = load_image_folder(root, split="test")
    assert not test.masks[2].any()
    assert test.target[2] == -1


def test_masks_are_a_list_where_sizes_differ(root):
    write_image(root / "test/good/000.png", size=(6, 7))
    masks = load_image_folder(root, split="test").masks
    assert isinstance(masks, list)
    assert [mask.shape for mask in masks] == [(8, 10), (6, 7), (8, 10)]
    np.testing.assert_array_equal(masks[2], MASK)


def test_training_masks_where_sizes_differ(root):
    write_image(root / "train/good/001.png", size=(6, 7))
    masks = load_image_folder(root).masks
    assert [mask.shape for mask in masks] == [(8, 10), (6, 7), (8, 10)]
    assert not any(mask.any() for mask in masks)


def test_no_ground_truth_no_masks(root):
    (root / "ground_truth").rename(root / "elsewhere")
    test = load_image_folder(root, split="test")
    assert test.masks is None
    assert test.target.tolist() == [-1, 1, -1]


def test_missing_mask(root):
    (root / "ground_truth/dent/000_mask.png").unlink()
    with pytest.raises(InvalidImageError, match=r"has no mask; expected .*000_mask\.png") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(root / "test/dent/000.png")
    assert str(root / "ground_truth/dent/000_mask.png") in caught.value.reason
    assert "for the defect 'dent'" in caught.value.reason


def test_mask_of_another_size(root):
    path = root / "ground_truth/dent/000_mask.png"
    write_mask(path, MASK[:, :-1])
    with pytest.raises(InvalidImageError, match="mask is 8 x 9 pixels, its image 8 x 10") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(path)


def test_grey_mask(root):
    path = root / "ground_truth/dent/000_mask.png"
    write(path, np.arange(80, dtype=np.uint8).reshape(8, 10))
    with pytest.raises(
        InvalidImageError, match=r"80 values \(0 to 79\).*mask_threshold=39"
    ) as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(path)


def test_damaged_mask(root):
    path = root / "ground_truth/dent/000_mask.png"
    path.write_text("no image")
    with pytest.raises(InvalidImageError, match="not an image Pillow can read") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_opacity_is_no_mask(root, mode):
    """Editors save black and white as they like; what is black is no defect in any of them."""
    grey = Image.fromarray(MASK * np.uint8(255))
    grey.convert(mode).save(root / "ground_truth/scratch/000_mask.png")
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


def with_opacity(colour, opacity):
    """RGBA pixels of one grey value (H, W) and opacity (H, W)."""
    return np.stack([colour] * 3 + [opacity], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("opacity", [128, MASK * 255, MASK * 99], ids=str)
def test_opacity_that_agrees_with_the_colours(root, opacity):
    opacity = np.broadcast_to(opacity, MASK.shape)
    write(root / "ground_truth/scratch/000_mask.png", with_opacity(MASK * 255, opacity))
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


@pytest.mark.parametrize("colour", [0, 255, MASK[::-1] * 255], ids=["black", "white", "elsewhere"])
def test_defects_drawn_in_opacity_are_refused(root, colour):
    colour = np.broadcast_to(colour, MASK.shape)
    path = root / "ground_truth/scratch/000_mask.png"
    write(path, with_opacity(colour, MASK * 255))
    with pytest.raises(InvalidImageError, match=r"opacity \(alpha\) varies") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(path)


def test_palette_is_read_by_its_colours(root):
    mask = Image.fromarray(np.where(MASK, 0, 1).astype(np.uint8)).convert("P")
    mask.putpalette([128, 0, 0, 0, 0, 0])  # index 0 is red, 1 is black
    mask.save(root / "ground_truth/scratch/000_mask.png")
    np.testing.assert_array_equal(load_image_folder(root, split="test").masks[2], MASK)


def test_palette_of_one_colour_is_refused(root):
    mask = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 0, 0, 0])
    mask.save(root / "ground_truth/scratch/000_mask.png")
    with pytest.raises(InvalidImageError, match="palette gives all its indices one colour"):
        load_image_folder(root, split="test")


def test_cmyk_mask_is_refused(root):
    Image.fromarray(MASK * np.uint8(255)).convert("CMYK").save(
        root / "ground_truth/scratch/000_mask.tif"
    )
    (root / "ground_truth/scratch/000_mask.png").unlink()
    with pytest.raises(InvalidImageError, match="CMYK"):
        load_image_folder(root, split="test")


def test_jpeg_mask_needs_a_threshold(root):
    (root / "ground_truth/scratch/000_mask.png").unlink()
    Image.fromarray(MASK * np.uint8(255)).save(root / "ground_truth/scratch/000_mask.jpg")
    with pytest.raises(InvalidImageError, match="JPEG"):
        load_image_folder(root, split="test")
    masks = load_image_folder(root, split="test", mask_threshold=127).masks
    np.testing.assert_array_equal(masks[2], MASK)


def test_threshold_is_exclusive(root):
    values = np.arange(80, dtype=np.uint8).reshape(8, 10)
    write(root / "ground_truth/dent/000_mask.png", values)
    masks = load_image_folder(root, split="test", mask_threshold=40).masks
    np.testing.assert_array_equal(masks[0], values > 40)


@pytest.mark.parametrize("threshold", [-1, np.nan, np.inf, "127"])
def test_threshold_is_checked(root, threshold):
    with pytest.raises(ValueError, match="mask_threshold must be a number from 0"):
        load_image_folder(root, mask_threshold=threshold)


def test_mask_without_an_image(root):
    write_mask(root / "ground_truth/dent/001_mask.png")
    with pytest.raises(InvalidImageError, match="matches no image") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(root / "ground_truth/dent/001_mask.png")
    assert load_image_folder(root, split="test", mask_folder=None).masks is None


@pytest.mark.parametrize("second", ["000.png", "000_mask.bmp", "000_gt.png", "000/000.png"])
def test_two_masks_of_one_image(root, second):
    write_mask(root / "ground_truth/dent" / second)
    with pytest.raises(InvalidImageError, match="has two masks") as caught:
        load_image_folder(root, split="test")
    assert caught.value.path == str(root / "test/dent/000.png")
    for name in ("000_mask.png", second):
        assert str(root / "ground_truth/dent" / name) in caught.value.reason


def test_marked_mask_of_a_good_image(root):
    write_mask(root / "ground_truth/good/000_mask.png")
    with pytest.warns(UserWarning, match="1 images in folders of good images have masks that mark"):
        test = load_image_folder(root, split="test")
    assert kinds(test)["test/good/000.png"] == "good"


def test_flat_folder_of_masks(tmp_path):
    root = lay_out(tmp_path, ["good/a.png", "bad/b.png", "bad/c.png"])
    lay_out(root, [], ["masks/b.png", "masks/c_mask.png"])
    assert kinds(load_image_folder(root, split=None))["bad/c.png"] == "bad"
    assert kinds(load_image_folder(root)) == {"good/a.png": "good"}


def test_flat_mask_of_two_images(tmp_path):
    root = lay_out(tmp_path, ["good/a.png", "scratch/b.png", "dent/b.png"], ["masks/b.png"])
    match = r"matches .*dent/b\.png and .*scratch/b\.png"
    with pytest.raises(InvalidImageError, match=match):
        load_image_folder(root, split=None, defect_folders=["scratch", "dent"])
    with pytest.raises(InvalidImageError, match=match):  # leaving one out makes it no clearer
        load_image_folder(root, split=None, defect_folders=["scratch"])


def test_masks_in_folders_of_the_splits(tmp_path):
    images = [
        "train/good/0.png",
        "train/bad/0.png",
        "val/bad/0.png",
        "test/ok/1.png",
        "test/bad/0.png",
    ]
    masks = [f"ground_truth/{split}/bad/0.png" for split in ("train", "val", "test")]
    root = lay_out(tmp_path, images, masks)
    assert kinds(load_image_folder(root)) == {"train/good/0.png": "good"}
    assert kinds(load_image_folder(root, split="validation")) == {"val/bad/0.png": "bad"}
    assert kinds(load_image_folder(root, split="test")) == {
        "test/bad/0.png": "bad",
        "test/ok/1.png": "good",
    }


def test_masks_that_may_be_of_two_splits(tmp_path):
    images = ["train/good/0.png", "val/bad/0.png", "test/bad/0.png"]
    root = lay_out(tmp_path, images, ["masks/bad/0.png"])
    with pytest.raises(InvalidImageError, match=r"masks/validation/\.\.\., or pass mask_folder"):
        load_image_folder(root, split="validation")
    assert load_image_folder(root, split="validation", mask_folder=None).masks is None


def test_two_folders_of_masks(root):
    lay_out(root, [], ["masks/dent/000.png", "masks/scratch/000.png"])
    with pytest.raises(InvalidImageError, match="'ground_truth', 'masks' may all hold the masks"):
        load_image_folder(root, split="test")
    test = load_image_folder(root, split="test", mask_folder="masks")
    np.testing.assert_array_equal(test.masks[0], MASK)  # of ground_truth, it is upside down
    assert test.left_out["ground_truth/"] == "not the mask_folder"


def test_mask_folder_of_another_name(root):
    (root / "ground_truth").rename(root / "labels")
    test = load_image_folder(root, split="test")
    assert test.masks is None
    assert test.left_out == {"labels/": "neither a split nor masks"}
    assert kinds(load_image_folder(root, split="test", mask_folder="labels"))


def test_turned_image(root):
    """A photograph that is to be shown turned has the size that it is read with."""
    image = Image.fromarray(np.zeros((6, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "test/good/000.png").unlink()
    image.save(root / "test/good/000.jpg", exif=exif)
    test = load_image_folder(root, split="test")
    assert test.masks[1].shape == test.images[1].shape[:2]
