import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.ImageFile
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing, indexable

from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset, ImageFiles, PartOfBatch, check_images, read_image

NAMES = [f"{letter}.png" for letter in "abcdef"]


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path, array):
    Image.fromarray(array).save(path)
    return str(path)


def pixels_of(X, batch_size=1, n_jobs=None, **parameters):
    dataset = ImageDataset(X, **parameters)
    return [image for batch in dataset.batches(batch_size, n_jobs) for image in batch.pixels]


def assert_same(found, expected, atol=0.0):
    assert len(found) == len(expected)
    for image, other in zip(found, expected):
        torch.testing.assert_close(image, other, rtol=0, atol=atol)


# ImageFiles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "chosen"),
    [
        (slice(1, 3), ["b.png", "c.png"]),
        (slice(None, None, -2), ["f.png", "d.png", "b.png"]),
        ([4, 0], ["e.png", "a.png"]),
        (np.array([-1, 2]), ["f.png", "c.png"]),
        (np.arange(6) > 3, ["e.png", "f.png"]),
        ([], []),
        ((np.array([3, 3]), ...), ["d.png", "d.png"]),
    ],
    ids=str,
)
def test_indexing_with_several_reads_no_file(key, chosen):
    assert ImageFiles(NAMES)[key] == ImageFiles(chosen)


@pytest.mark.parametrize("key", [1, -1, np.int64(1), (1, ...)], ids=repr)
def test_indexing_with_one_reads_that_image(key, tmp_path):
    image = noise(4, 5)
    files = ImageFiles(["missing.png", save(tmp_path / "b.png", image)])
    np.testing.assert_array_equal(files[key], image)


def test_iterating_reads_the_images(tmp_path):
    images = [noise(4, 5, seed=seed) for seed in range(3)]
    files = ImageFiles([save(tmp_path / f"{i}.png", image) for i, image in enumerate(images)])
    for found, image in zip(files, images, strict=True):
        np.testing.assert_array_equal(found, image)


def test_index_beyond_the_end():
    with pytest.raises(IndexError):
        ImageFiles(NAMES)[6]


@pytest.mark.parametrize(
    "indices", [[4, 0], np.array([4, 0]), np.array([0, 1, 1, 0, 0, 0], bool), slice(0, 2)], ids=repr
)
def test_scikit_learn_indexes_files_like_an_array(indices):
    assert list(_safe_indexing(ImageFiles(NAMES), indices).paths) == list(
        _safe_indexing(np.array(NAMES), indices)
    )


def test_folds_over_files_stay_lazy():
    files = ImageFiles(NAMES)
    tested = [_safe_indexing(files, test) for _, test in KFold(3).split(files)]
    assert tested == [ImageFiles(NAMES[i : i + 2]) for i in (0, 2, 4)]


def test_train_test_split_stays_lazy():
    train, test = train_test_split(ImageFiles(NAMES), test_size=2, random_state=0)
    assert isinstance(train, ImageFiles)
    assert sorted([*train.paths, *test.paths]) == NAMES


def test_indexable_keeps_files():
    files = ImageFiles(NAMES)
    assert indexable(files, np.zeros(6))[0] is files


def test_indexable_counts_files():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        indexable(ImageFiles(NAMES), np.zeros(5))


def test_length_and_shape():
    files = ImageFiles(NAMES)
    assert (len(files), files.shape) == (6, (6,))


@pytest.mark.parametrize(
    "paths", [[Path("a.png")], ("a.png",), np.array(["a.png"]), ImageFiles(["a.png"])], ids=repr
)
def test_files_from_any_sequence_of_paths(paths):
    assert list(ImageFiles(paths).paths) == ["a.png"]


@pytest.mark.parametrize("path", ["a.png", Path("a.png")], ids=repr)
def test_files_refuse_a_single_path(path):
    with pytest.raises(InvalidImageError, match=r"use \[path\]") as caught:
        ImageFiles(path)
    assert caught.value.path == "a.png"


def test_files_are_equal_by_path():
    assert ImageFiles(["a.png"]) == ImageFiles([Path("a.png")])
    assert ImageFiles(["a.png"]) != ImageFiles(["b.png"])
    assert ImageFiles(["a.png"]) != ["a.png"]


def test_repr_is_short():
    assert repr(ImageFiles(NAMES)) == "ImageFiles(['a.png', 'b.png', 'c.png', ...])"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "folder.png").mkdir()
    for name in ("b.PNG", "a.jpeg", "c.tif", "notes.txt", "sub/0.bmp"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("recursive", "names"),
    [(False, ["a.jpeg", "b.PNG", "c.tif"]), (True, ["a.jpeg", "b.PNG", "c.tif", "sub/0.bmp"])],
)
def test_from_folder_finds_the_images_sorted(folder, recursive, names):
    files = ImageFiles.from_folder(folder, recursive=recursive)
    assert [Path(path).relative_to(folder).as_posix() for path in files.paths] == names


@pytest.mark.parametrize("name", ["missing", "a.jpeg"])
def test_from_folder_needs_a_folder(folder, name):
    with pytest.raises(InvalidImageError, match="not a folder; check the path") as caught:
        ImageFiles.from_folder(folder / name)
    assert caught.value.path == str(folder / name)


@pytest.mark.parametrize(("recursive", "where"), [(False, "directly in it"), (True, "below it")])
def test_from_folder_without_images_says_where_it_looked(tmp_path, recursive, where):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidImageError, match=f"holds no image; looked {where}.*.png") as caught:
        ImageFiles.from_folder(tmp_path, recursive=recursive)
    assert caught.value.path == str(tmp_path)


# read_image ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)], ids=["L", "LA", "RGB", "RGBA"])
def test_png_round_trips(tmp_path, channels):
    image = noise(5, 7, *channels)
    found = read_image(save(tmp_path / "a.png", image))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, image)


def test_16_bit_png_round_trips(tmp_path):
    image = noise(5, 7, dtype=np.uint16)
    found = read_image(save(tmp_path / "a.png", image))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image)


def test_big_endian_16_bit_tiff_is_read_in_native_order(tmp_path):
    image = noise(5, 7, dtype=np.uint16)
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (7, 5), image.astype(">u2").tobytes()).save(path)
    found = read_image(path)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_tiff_keeps_its_dtype(tmp_path, dtype):
    image = (1000.0 * np.arange(35).reshape(5, 7) - 500).astype(dtype)
    found = read_image(save(tmp_path / "a.tif", image))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, image)


def test_palette_is_decoded_to_rgb(tmp_path):
    colors, indices = noise(4, 3), noise(5, 7) % 4
    image = Image.fromarray(indices)
    image.putpalette(colors.ravel().tolist())
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[indices])


def test_bilevel_is_decoded_to_black_and_white(tmp_path):
    image = noise(5, 7) > 127
    path = save(tmp_path / "a.png", image)
    assert Image.open(path).mode == "1"
    found = read_image(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(image, 255, 0))


def test_real_images_are_read_as_stored(mvtec_root):
    bottle = read_image(mvtec_root / "bottle/train/good/000.png")
    grid = read_image(mvtec_root / "grid/train/good/000.png")
    assert (bottle.shape, bottle.dtype) == ((256, 256, 3), np.uint8)
    assert (grid.shape, grid.dtype) == ((512, 512), np.uint8)


# Files that cannot be read ------------------------------------------------------------


def png_that_claims(width, height):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + rest


def _missing(path):
    pass


def _text(path):
    path.write_text("no image")


def _empty(path):
    path.touch()


def _truncated_png(path):
    save(path, noise(64, 64))
    path.write_bytes(path.read_bytes()[:2000])


def _truncated_jpeg(path):
    Image.fromarray(noise(64, 64)).save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def _multi_page_tiff(path):
    pages = [Image.fromarray(noise(8, 8, seed=seed)) for seed in range(3)]
    pages[0].save(path, format="TIFF", save_all=True, append_images=pages[1:])


def _bomb(path):
    path.write_bytes(png_that_claims(50_000, 50_000))


BAD_FILES = [
    (_missing, "no such file; check the path"),
    (_text, "not an image Pillow can read; remove it or save it again"),
    (_empty, "not an image Pillow can read; remove it or save it again"),
    (_truncated_png, "damaged or cut short"),
    (_truncated_jpeg, "damaged or cut short"),
    (_multi_page_tiff, "holds 3 pages; save each as an image of its own"),
    (_bomb, "too large to be read safely"),
]
bad_files = pytest.mark.parametrize(
    ("make", "message"), BAD_FILES, ids=[make.__name__[1:] for make, _ in BAD_FILES]
)


@bad_files
def test_bad_file_is_named(tmp_path, make, message):
    path = tmp_path / "bad.png"
    make(path)
    with pytest.raises(InvalidImageError, match=message) as caught:
        read_image(path)
    assert (caught.value.index, caught.value.path) == (None, str(path))
    assert str(caught.value).startswith(f"{path}: ")


@bad_files
@pytest.mark.parametrize("form", [list, np.array, ImageFiles])
def test_bad_file_of_a_batch_is_named_by_index_and_path(tmp_path, make, message, form):
    bad = tmp_path / "bad.png"
    make(bad)
    dataset = ImageDataset(form([save(tmp_path / "good.png", noise(8, 8)), str(bad)]))
    with pytest.raises(InvalidImageError, match=message) as caught:
        list(dataset.batches(2))
    assert (caught.value.index, caught.value.path) == (1, str(bad))
    assert str(caught.value).startswith(f"image 1 ({bad}): ")


def test_folder_is_not_called_a_damaged_file(tmp_path):
    with pytest.raises(InvalidImageError) as caught:
        read_image(tmp_path)
    assert "damaged" not in caught.value.reason


def test_bomb_is_refused_before_its_pixels_are_decoded(tmp_path, monkeypatch):
    def load(image):
        pytest.fail("the pixels were decoded")

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", load)
    _bomb(tmp_path / "bomb.png")
    with pytest.raises(InvalidImageError, match="too large to be read safely"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_image_slightly_above_the_pixel_limit_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(11, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 109)
    with pytest.raises(InvalidImageError, match=r"10 x 11 pixels.*raise PIL.Image.MAX_IMAGE"):
        read_image(path)


def test_pixel_limit_is_named_where_warnings_are_errors(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", noise(11, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 109)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidImageError, match="too large to be read safely"):
            read_image(path)


@pytest.mark.parametrize("limit", [110, None])
def test_image_within_the_pixel_limit_is_read(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "a.png", noise(11, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_image(path).shape == (11, 10)


def test_pil_image_above_the_pixel_limit_is_refused(monkeypatch):
    images = [Image.fromarray(noise(5, 5)), Image.fromarray(noise(11, 10))]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 109)
    with pytest.raises(InvalidImageError, match="too large to be read safely") as caught:
        pixels_of(images)
    assert caught.value.index == 1


def test_truncated_pil_image_is_named_by_index(tmp_path):
    _truncated_png(tmp_path / "a.png")
    with (
        Image.open(tmp_path / "a.png") as opened,
        pytest.raises(InvalidImageError, match="damaged or cut short") as caught,
    ):
        pixels_of([Image.fromarray(noise(64, 64)), opened])
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("index", "path", "text"),
    [
        (None, None, "is bad"),
        (3, None, "image 3: is bad"),
        (None, "a.png", "a.png: is bad"),
        (0, "a.png", "image 0 (a.png): is bad"),
    ],
)
def test_error_pickles_with_its_attributes(index, path, text):
    error = pickle.loads(pickle.dumps(InvalidImageError("is bad", index=index, path=path)))
    assert type(error) is InvalidImageError
    assert (error.reason, error.index, error.path) == ("is bad", index, path)
    assert str(error) == text


# Batches that are none ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "holds no images; pass at least one"),
        (np.empty((0, 8, 8)), "holds no images; pass at least one"),
        (ImageFiles([]), "holds no images; pass at least one"),
        (np.array(0.5), r"shape \(\), expected \(n, H, W\)"),
        (np.zeros(8), r"shape \(8,\), expected \(n, H, W\)"),
        (np.zeros((8, 8)), r"shape \(8, 8\), expected .*for one grey image pass X\[np.newaxis\]"),
        (np.zeros((1, 1, 8, 8, 3)), r"shape \(1, 1, 8, 8, 3\), expected \(n, H, W\)"),
        (np.array([["a.png"]]), r"of shape \(1, 1\); an array of images or paths has one dim"),
        (np.array("a.png"), r"of shape \(\); an array of images or paths has one dim"),
        (Image.new("L", (8, 8)), r"one PIL image, expected a batch; pass \[image\]"),
        ("a.png", r"one path; pass a list of paths, or ImageFiles.from_folder"),
        (Path("a.png"), r"one path; pass a list of paths, or ImageFiles.from_folder"),
        (torch.zeros(8, 8), r"shape \(8, 8\), expected .*for one grey image"),
        ((path for path in NAMES), "is a generator, expected an array"),
        ({"a.png"}, "is a set, expected an array"),
        (None, "is a NoneType, expected an array"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_batch_is_refused(X, message):
    with pytest.raises(InvalidImageError, match=message) as caught:
        check_images(X)
    assert caught.value.index is None
    assert caught.value.path == (str(X) if isinstance(X, (str, Path)) else None)


@pytest.mark.parametrize("X", [["missing.png"], ImageFiles(["missing.png"])], ids=repr)
def test_check_images_reads_no_file(X):
    assert check_images(X) is X


def test_dataset_with_known_channels_reads_no_file():
    assert len(ImageDataset(ImageFiles(NAMES), n_channels=3)) == 6


# Images that are none -----------------------------------------------------------------


def spoiled(value):
    image = np.full((8, 8, 3), 0.5)
    image[2, 3, 1] = value
    return image


GOOD = np.full((8, 8, 3), 0.5)
BAD_IMAGES = {
    "nan": (spoiled(np.nan), {}, "holds nan at row 2, column 3, channel 1; repair the pixel"),
    "inf": (spoiled(np.inf), {}, "holds inf at row 2, column 3, channel 1; repair the pixel"),
    "-inf": (spoiled(-np.inf), {"value_range": (0, 1)}, "holds -inf at row 2, column 3"),
    "above 1": (spoiled(1.5), {}, "from 0.5 to 1.5, expected 0 to 1; state .* value_range"),
    "below 0": (spoiled(-0.1), {}, "from -0.1 to 0.5, expected 0 to 1; state .* value_range"),
    "out of range": (spoiled(9), {"value_range": (0, 4)}, "from 0.5 to 9, expected 0 to 4"),
    "int32": (np.zeros((8, 8, 3), np.int32), {}, r"holds int32.*value_range=\(low, high\)"),
    "int8": (np.zeros((8, 8, 3), np.int8), {}, r"holds int8.*value_range=\(low, high\)"),
    "4 channels": (np.zeros((8, 8, 4)), {}, "has 4 channels, expected 3; convert it"),
    "grey": (np.zeros((8, 8)), {}, "has 1 channels, expected 3; convert it"),
    "C, H, W": (np.zeros((3, 8, 8)), {}, r"has 8 channels.*\(H, W, C\).*looks like \(C, H, W\)"),
    "other size": (
        np.zeros((9, 7, 3)),
        {"required_size": (8, 8)},
        "is 9 x 7 pixels, expected 8 x 8 as the others.* image_size",
    ),
    "too small": (np.zeros((9, 7, 3)), {"min_size": 8}, "is 9 x 7 pixels .* smaller than .* 8"),
    "no height": (np.zeros((0, 8, 3)), {}, r"has no pixels \(shape \(0, 8, 3\)\)"),
    "no width": (np.zeros((8, 0, 3)), {}, r"has no pixels \(shape \(8, 0, 3\)\)"),
    "no channel": (np.zeros((8, 8, 0)), {}, r"has no pixels \(shape \(8, 8, 0\)\)"),
    "1-D": (np.zeros(8), {}, r"has shape \(8,\), expected \(H, W\) or \(H, W, C\)"),
    "4-D": (np.zeros((1, 8, 8, 3)), {}, r"has shape \(1, 8, 8, 3\), expected \(H, W\)"),
    "list": ([[0.5]], {}, "is a list, expected an array"),
    "tensor": (torch.zeros(3, 8, 8), {}, r"has 8 channels.*this one looks like \(C, H, W\)"),
    "None": (None, {}, "is a NoneType, expected an array"),
}


@pytest.mark.parametrize(
    ("image", "parameters", "message"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys()
)
def test_bad_image_is_named_by_index(image, parameters, message):
    with pytest.raises(InvalidImageError, match=message) as caught:
        pixels_of([GOOD, GOOD, image], **parameters)
    assert (caught.value.index, caught.value.path) == (2, None)
    assert str(caught.value).startswith("image 2: ")


@pytest.mark.parametrize(
    "dtype", [np.complex64, "datetime64[s]"], ids=lambda dtype: str(np.dtype(dtype))
)
@pytest.mark.parametrize("value_range", [None, (0, 1)])
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_dtypes_that_are_no_numbers_are_refused(dtype, value_range):
    with pytest.raises(InvalidImageError, match="holds"):
        pixels_of([np.zeros((8, 8), dtype)], value_range=value_range)


def test_bad_image_of_an_array_is_named_by_index():
    with pytest.raises(InvalidImageError, match="holds nan") as caught:
        pixels_of(np.stack([GOOD, GOOD, spoiled(np.nan)]))
    assert caught.value.index == 2


def test_bad_first_image_is_found_at_once():
    with pytest.raises(InvalidImageError, match="holds nan") as caught:
        ImageDataset([spoiled(np.nan), GOOD])
    assert caught.value.index == 0


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 100])
def test_index_of_an_error_in_a_subset_is_the_position_in_X(n_jobs, batch_size):
    X = [GOOD, GOOD, GOOD, spoiled(np.nan), GOOD]
    subset = ImageDataset(X).subset([4, 3]).subset([1, 0])
    with pytest.raises(InvalidImageError, match="holds nan") as caught:
        list(subset.batches(batch_size, n_jobs))
    assert caught.value.index == 3


def test_a_part_of_a_batch_is_its_images_by_their_places():
    X = noise(6, 8, 8)
    part = PartOfBatch(X, [5, 1, 3])
    assert np.shares_memory(part[0], X)
    np.testing.assert_array_equal(np.stack(list(part)), X[[5, 1, 3]])
    whole, dataset = ImageDataset(X), ImageDataset(part)
    assert [torch.equal(dataset[i], whole[j]) for i, j in enumerate([5, 1, 3])] == [True] * 3
    assert torch.equal(ImageDataset(part, indices=[2])[0], whole[3])
    assert [dataset.subset([2, 0]).index_of(i) for i in range(2)] == [3, 5]
    bad = list(X)
    bad[3] = np.full((8, 8), np.nan)
    with pytest.raises(InvalidImageError, match="image 3: holds nan"):
        list(ImageDataset(PartOfBatch(bad, [5, 1, 3])).batches(2))


def test_path_of_an_error_in_a_subset(tmp_path):
    X = [save(tmp_path / "a.png", noise(8, 8)), "missing-1.png", "missing-2.png"]
    with pytest.raises(InvalidImageError) as caught:
        ImageDataset(X).subset([0, 2])[1]
    assert (caught.value.index, caught.value.path) == (2, "missing-2.png")


@pytest.mark.parametrize("value", [1.000002, 1.00001, 1.001])
def test_message_tells_a_value_from_the_limit_it_breaks(value):
    with pytest.raises(InvalidImageError) as caught:
        pixels_of([spoiled(value)])
    assert "to 1, expected" not in caught.value.reason


# The forms of a batch -----------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


images = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (2,), (3,), (4,)])
).flatmap(lambda shape: arrays(np.uint8, (*shape[:2], *shape[2])))


@settings(max_examples=40, deadline=None)
@given(image=images)
def test_every_form_of_an_image_gives_the_same_pixels(image, scratch_folder):
    path = save(scratch_folder / "image.png", image)
    boxed = np.empty(1, object)
    boxed[0] = image
    forms = {
        "uint8 array": image[np.newaxis],
        "uint8 list": [image],
        "uint8 tuple": (image,),
        "object array": boxed,
        "float64 array": image[np.newaxis] / 255,
        "float32 list": [(image / 255).astype(np.float32)],
        "uint16 array": image[np.newaxis].astype(np.uint16) * 257,
        "PIL": [Image.fromarray(image)],
        "str path": [path],
        "path": [Path(path)],
        "array of str": np.array([path]),
        "files": ImageFiles([path]),
    }
    channels_last = image if image.ndim == 3 else image[..., np.newaxis]
    expected = torch.from_numpy(channels_last.transpose(2, 0, 1) / 255).float()
    for form, X in forms.items():
        (pixels,) = pixels_of(X)
        assert pixels.dtype == torch.float32, form
        assert pixels.shape == expected.shape, form
        torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-6, msg=form)


@pytest.mark.parametrize("dtype", [bool, np.float16, np.float32, np.float64])
def test_black_is_0_and_white_is_1(dtype):
    (pixels,) = pixels_of(np.array([[[0, 1]]], dtype))
    assert pixels.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_largest_value_of_an_unsigned_dtype_is_white(dtype):
    (pixels,) = pixels_of(np.array([[[0, np.iinfo(dtype).max]]], dtype))
    assert pixels.tolist() == [[[0, 1]]]


def test_byte_order_of_an_array_does_not_matter():
    X = noise(2, 4, 5, dtype=np.uint16)
    assert_same(pixels_of(X.astype(">u2")), pixels_of(X))


def test_value_range_of_a_12_bit_camera():
    X = noise(2, 4, 5, dtype=np.uint16) % 4096
    found = torch.stack(pixels_of(X, value_range=(0, 4095)))[:, 0]
    torch.testing.assert_close(found, torch.from_numpy(X / 4095).float())


def test_value_range_is_checked():
    with pytest.raises(InvalidImageError, match="from 0 to 4096, expected 0 to 4095"):
        pixels_of(np.array([[[0, 4096]]], np.uint16), value_range=(0, 4095))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_value_range_may_start_below_zero(dtype):
    (pixels,) = pixels_of(np.array([[[-1000, 0, 3000]]], dtype), value_range=(-1000, 3000))
    assert pixels.tolist() == [[[0, 0.25, 1]]]


def test_channels_are_those_of_the_first_image():
    assert ImageDataset(noise(2, 8, 8)).n_channels == 1
    assert ImageDataset(noise(2, 8, 8, 5)).n_channels == 5


def test_images_are_not_changed():
    X = np.full((2, 4, 4), 0.25, np.float32)
    for pixels in pixels_of(X):
        pixels.zero_()
    assert (X == 0.25).all()


# Batches ------------------------------------------------------------------------------

MIXED_SIZES = [noise(*size, 3, seed=i) for i, size in enumerate([(8, 8)] * 4 + [(8, 12), (9, 8)])]
MIXED_DTYPES = [
    noise(8, 8, 3),
    noise(8, 8, 3, dtype=np.uint16),
    noise(8, 8, 3, seed=1) / 255,
    noise(8, 8, 3, seed=2),
    noise(8, 8, 3, seed=3),
    (noise(8, 8, 3, seed=4) / 255).astype(np.float32),
]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("X", [MIXED_SIZES, MIXED_DTYPES], ids=["sizes", "dtypes"])
def test_batches_hold_all_images_in_order(X, batch_size, n_jobs):
    batches = list(ImageDataset(X).batches(batch_size, n_jobs))
    found = [image for batch in batches for image in batch.pixels]
    assert_same(found, [pixels_of([image])[0] for image in X])
    assert max(len(batch.pixels) for batch in batches) <= batch_size
    assert [size for batch in batches for size in batch.sizes] == [x.shape[:2] for x in X]


@pytest.mark.parametrize(("batch_size", "lengths"), [(1, [1] * 7), (3, [3, 3, 1]), (100, [7])])
def test_batches_of_one_size_are_full(batch_size, lengths):
    batches = ImageDataset(noise(7, 8, 8)).batches(batch_size)
    assert [len(batch.pixels) for batch in batches] == lengths


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_and_threads_do_not_matter_when_resizing(batch_size, n_jobs):
    found = pixels_of(MIXED_SIZES, batch_size, n_jobs, image_size=(5, 10))
    assert_same(found, pixels_of(MIXED_SIZES, image_size=(5, 10)), atol=1e-6)


def test_batches_can_be_streamed_again():
    dataset = ImageDataset(noise(5, 8, 8))
    first, second = (list(dataset.batches(2)) for _ in range(2))
    assert_same([batch.pixels for batch in first], [batch.pixels for batch in second])


def test_only_the_next_images_are_read_ahead(monkeypatch):
    dataset = ImageDataset(noise(50, 8, 8))
    seen = []
    read = dataset._read
    monkeypatch.setattr(dataset, "_read", lambda i: seen.append(i) or read(i))
    batches = dataset.batches(2)
    next(batches)
    batches.close()
    assert len(seen) < 10


@pytest.mark.parametrize("image_size", [(5, 3), (16, 20), (4, 20), (8, 8)], ids=str)
def test_resizing_is_torch_interpolation(image_size):
    X = noise(2, 8, 8, 3)
    found = torch.stack(pixels_of(X, batch_size=2, image_size=image_size))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(X / 255).float().permute(0, 3, 1, 2),
        image_size,
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_sizes_are_those_before_resizing():
    (batch,) = ImageDataset(noise(2, 8, 12), image_size=(4, 4)).batches(2)
    assert batch.pixels.shape == (2, 1, 4, 4)
    assert batch.sizes == [(8, 12), (8, 12)]


@pytest.mark.parametrize(
    "indices", [[4, 1], np.array([4, 1]), np.arange(5) % 3 == 1, slice(1, 3)], ids=repr
)
def test_subset_holds_the_chosen_images_in_order(indices):
    dataset = ImageDataset(noise(5, 8, 8))
    subset = dataset.subset(indices)
    expected = [dataset[i] for i in np.arange(5)[indices]]
    assert len(subset) == 2
    assert_same([subset[i] for i in range(2)], expected)
    assert_same([image for batch in subset.batches(2) for image in batch.pixels], expected)


def test_subset_keeps_the_parameters():
    X = np.full((3, 8, 8), 2048, np.uint16)
    subset = ImageDataset(X, image_size=(4, 6), value_range=(0, 4096)).subset([2])
    assert subset[0].shape == (1, 4, 6)
    torch.testing.assert_close(subset[0], torch.full((1, 4, 6), 0.5))


def test_empty_subset_has_no_batches():
    assert list(ImageDataset(noise(3, 8, 8)).subset([]).batches(2)) == []


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_images_in_memory_are_those_of_the_dataset(n_jobs):
    sizes = [(6, 8, 3), (6, 8, 3), (5, 9, 3), (6, 8, 3)]
    X = [noise(*size, seed=i) for i, size in enumerate(sizes)]
    dataset = ImageDataset(X).subset([3, 1, 2, 0])
    kept = dataset.in_memory(batch_size=2, n_jobs=n_jobs)
    assert isinstance(kept, list)
    assert_same(kept, [dataset[i] for i in range(4)])


def test_images_in_memory_are_read_once(monkeypatch):
    dataset = ImageDataset(noise(3, 6, 8))
    kept = dataset.in_memory()
    monkeypatch.setattr(dataset, "_read", pytest.fail)
    assert len([image for _ in range(2) for image in kept]) == 6


@pytest.mark.parametrize(("max_bytes", "fits"), [(2 * 6 * 8 * 4, True), (2 * 6 * 8 * 4 - 1, False)])
def test_images_above_the_memory_limit_are_in_a_file(max_bytes, fits):
    dataset = ImageDataset(noise(2, 6, 8))  # float32 once read: 4 bytes a pixel
    kept = dataset.in_memory(max_bytes=max_bytes)
    assert isinstance(kept, list) == fits
    assert_same([kept[0], kept[1]], [dataset[0], dataset[1]])


@pytest.mark.parametrize("image_size", [None, (5, 4)])
def test_images_in_a_file_are_those_of_the_dataset_and_read_once(image_size, monkeypatch):
    X = [noise(*size, 3, seed=i) for i, size in enumerate([(6, 8), (6, 8), (5, 9), (7, 3), (6, 8)])]
    dataset = ImageDataset(X, image_size=image_size)
    expected, read, read_one = list(dataset), [], dataset._read
    monkeypatch.setattr(dataset, "_read", lambda i: read.append(i) or read_one(i))
    kept = dataset.in_memory(batch_size=2, max_bytes=3 * expected[0].nbytes)
    assert read == [0, 1, 2, 3, 4]
    assert_same(list(kept), expected)
    assert_same(list(kept), expected)
    assert_same([kept[-1]], [expected[-1]])
    assert len(kept) == 5


def test_dataset_can_be_iterated():
    X = noise(3, 8, 8)
    assert_same(list(ImageDataset(X)), pixels_of(X))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_real_images_stream(mvtec_root, n_jobs):
    files = ImageFiles.from_folder(mvtec_root / "bottle/train/good")[:5]
    batches = list(ImageDataset(files).batches(2, n_jobs))
    assert [tuple(batch.pixels.shape) for batch in batches] == [
        (2, 3, 256, 256),
        (2, 3, 256, 256),
        (1, 3, 256, 256),
    ]
    last = torch.from_numpy(read_image(files.paths[-1]) / 255).float().permute(2, 0, 1)
    torch.testing.assert_close(batches[-1].pixels[0], last, rtol=0, atol=1e-6)
