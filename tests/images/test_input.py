"""What people have: frames' columns, tensors, file objects, folders of several systems."""

import array
import io
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skanomaly import ImageFiles
from skanomaly.exceptions import InvalidImageError
from skanomaly.images import IMAGE_SUFFIXES, ImageDataset, check_images

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 3), np.uint8)


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def paths(tmp_path):
    for i, image in enumerate(COLOUR):
        (tmp_path / f"{i}.png").write_bytes(encoded(image))
    return [str(tmp_path / f"{i}.png") for i in range(len(COLOUR))]


def assert_is_colour(X, images=COLOUR):
    found = torch.cat([pixels for pixels, _ in ImageDataset(X).batches(4)])
    expected = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


class WithArray:
    """A tensor of a library that NumPy knows by ``__array__`` only, as JAX's and TensorFlow's."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return type(self)(self.values[i])

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class OnlyDLPack:
    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        return OnlyDLPack(self.values[i])

    def __dlpack__(self, **parameters):
        return self.values.__dlpack__(**parameters)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class PolarsColumn:
    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.array(self.values, object)


class ArrowColumn:
    def __init__(self, values):
        self.values = values

    def to_pylist(self):
        return list(self.values)


@pytest.mark.parametrize("as_batch", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        torch.from_numpy,
        lambda X: (torch.from_numpy(X).float() / 255).requires_grad_(),
        lambda X: torch.from_numpy(X).double().div(255),
        WithArray,
        OnlyDLPack,
        memoryview,
    ],
    ids=["uint8", "with gradient", "float64", "__array__", "__dlpack__", "memoryview"],
)
def test_tensors_of_any_library(form, as_batch):
    if form is memoryview:
        assert_is_colour([memoryview(encoded(image)) for image in COLOUR])
        return
    assert_is_colour(form(COLOUR) if as_batch else [form(image) for image in COLOUR])


def test_half_precision_of_torch():
    X = torch.tensor([[[0, 0.5], [0.25, 1]]], dtype=torch.bfloat16)
    assert ImageDataset(X)[0].tolist() == [[[0, 0.5], [0.25, 1]]]


def test_tensors_are_converted_image_by_image(monkeypatch):
    X = WithArray(COLOUR)
    assert check_images(X) is X


def test_a_tensor_whose_library_does_not_hand_it_over():
    class OnADevice(WithArray):
        def __array__(self, dtype=None, copy=None):
            raise TypeError("is on device 3")

    with pytest.raises(InvalidImageError, match="OnADevice that cannot be had.*is on device 3"):
        ImageDataset(OnADevice(COLOUR))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("form", [np.array, torch.from_numpy])
def test_channels_first_is_recognised(channels, form):
    X = np.zeros((2, channels, 32, 40), np.float32)
    with pytest.raises(InvalidImageError, match=r"image 0.*this one looks like \(C, H, W\)"):
        ImageDataset(form(X), image_size=64)


@pytest.mark.parametrize("column", [pd.Series, PolarsColumn, ArrowColumn])
def test_columns(column, paths):
    assert_is_colour(column(paths))
    assert_is_colour(column([Path(path) for path in paths]))
    assert_is_colour(column([encoded(image) for image in COLOUR]))
    boxed = np.empty(6, object)
    boxed[:] = list(COLOUR)
    assert_is_colour(column(boxed))


def test_columns_of_a_data_frame(paths):
    table = pd.DataFrame({"path": paths, "lot": range(6)}, index=list("fedcba"))
    assert_is_colour(table["path"])
    assert_is_colour(table.query("lot > 1")["path"], COLOUR[2:])
    assert_is_colour(table["path"].astype("category"))
    assert ImageFiles(table["path"]) == ImageFiles(paths)
    with pytest.raises(InvalidImageError, match="X is a DataFrame; pass the column"):
        check_images(table)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_path_is_named(missing, paths):
    with pytest.raises(InvalidImageError, match="image 1: is a"):
        ImageDataset(pd.Series([paths[0], missing], dtype=object))[1]
    with pytest.raises(InvalidImageError, match="image 1: is a .* expected a path"):
        ImageFiles([paths[0], missing])


def test_arrays_of_paths(paths):
    for dtype in (str, object, np.dtypes.StringDType()):
        assert_is_colour(np.array(paths, dtype))


def test_everything_may_be_mixed(paths):
    with open(paths[5], "rb") as file:
        X = [
            paths[0],
            Path(paths[1]),
            Image.fromarray(COLOUR[2]),
            torch.from_numpy(COLOUR[3]),
            bytearray(encoded(COLOUR[4])),
            file,
        ]
        assert_is_colour(X)
        assert_is_colour(tuple(X))
        boxed = np.empty(6, object)
        boxed[:] = X
        assert_is_colour(boxed)
        assert_is_colour(X)  # again, though the file has been read to its end
    more = [io.BytesIO(encoded(COLOUR[0])), COLOUR[1] / 255, WithArray(COLOUR[2])]
    assert_is_colour(more, COLOUR[:3])


def test_a_file_object_may_stand_twice(monkeypatch):
    file = io.BytesIO(encoded(COLOUR[0]))
    for _ in range(10):
        (batch,) = ImageDataset([file] * 8).batches(8, n_jobs=4)
        assert (batch.pixels == batch.pixels[0]).all()


class Pipe(io.RawIOBase):
    name = "camera"

    def readable(self):
        return True


def test_file_objects_that_cannot_be_read(paths):
    with open(paths[0]) as text:
        for file, message in (
            (text, "opened as text; open it with mode 'rb'|cannot be read"),
            (Pipe(), r"is a Pipe that cannot be read from its start.*pass the path"),
        ):
            with pytest.raises(InvalidImageError, match=message) as caught:
                ImageDataset([file])
            assert (caught.value.index, caught.value.path) == (0, file.name)
    with pytest.raises(InvalidImageError, match="cannot be read from its start .*closed"):
        ImageDataset([text])


def test_content_that_is_no_image():
    for content in (b"", b"no image", encoded(COLOUR[0])[:60]):
        with pytest.raises(InvalidImageError, match="image 1: the file") as caught:
            ImageDataset([COLOUR[0], content])[1]
        assert caught.value.path is None


@pytest.mark.parametrize("X", [encoded(COLOUR[0]), io.BytesIO(), bytearray(b"a")], ids=type)
def test_one_file_is_no_batch(X):
    with pytest.raises(InvalidImageError, match="X is one .*expected a batch; pass"):
        check_images(X)


@pytest.mark.parametrize("X", [array.array("d", [0.5]), {"a": 1}, 3, range(3)], ids=type)
def test_what_is_no_image_is_refused(X):
    with pytest.raises(InvalidImageError):
        ImageDataset(X)


# Masked arrays ------------------------------------------------------------------------


def test_masked_arrays_are_refused():
    X = np.ma.masked_array(COLOUR, COLOUR > 250)
    for form in (X, list(X), [np.ma.masked_array(COLOUR[0])], pd.Series(list(X))):
        with pytest.raises(InvalidImageError, match="masked array.*region of interest"):
            ImageDataset(form)


# Folders ------------------------------------------------------------------------------


def test_suffixes_are_those_of_still_images():
    assert {".jpg", ".jfif", ".jpe", ".png", ".tif", ".bmp", ".tga", ".webp"} <= IMAGE_SUFFIXES
    assert not {".pdf", ".eps", ".ps", ".mpg", ".h5", ".wmf", ".txt", ".db"} & IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".jfif", "JPEG"), (".jpe", "JPEG"), (".jp2", "JPEG2000"), (".tga", "TGA"), (".avif", "AVIF")],
)
def test_images_of_any_suffix_are_taken(suffix, kind, tmp_path):
    try:
        content = encoded(COLOUR[0], kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {kind}")
    (tmp_path / f"part{suffix}").write_bytes(content)
    (image,) = ImageFiles.from_folder(tmp_path)
    assert image.shape == COLOUR[0].shape


def test_companions_of_other_systems_are_left_out(tmp_path):
    for name in ("a.png", "B.PNG", "sub/c.png", "dir.png/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(COLOUR[0]))
    for name in (
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        ".hidden.png",
        ".ipynb_checkpoints/a-checkpoint.png",
        "__MACOSX/a.png",
        "sub/@eaDir/c.png",
        "$RECYCLE.BIN/x.png",
        "sub/.trash/x.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [
        Path(path).relative_to(tmp_path).as_posix()
        for path in ImageFiles.from_folder(tmp_path, recursive=True).paths
    ]
    assert names == ["B.PNG", "a.png", "dir.png/d.png", "sub/c.png"]


def test_a_folder_with_nothing_but_companions_says_so(tmp_path):
    (tmp_path / "._a.png").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InvalidImageError, match="holds no image.*found notes.txt"):
        ImageFiles.from_folder(tmp_path)


def test_linked_folders_are_followed_and_do_not_go_round(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "sub" / "round").symlink_to(tmp_path / "root")
    files = ImageFiles.from_folder(tmp_path / "root", recursive=True)
    names = [Path(path).relative_to(tmp_path / "root").as_posix() for path in files.paths]
    assert names == ["again/a.png", "link/a.png"]


def test_a_link_to_nothing_is_named_when_it_is_read(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    files = ImageFiles.from_folder(tmp_path)
    with pytest.raises(InvalidImageError, match="there is no such file"):
        files[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    (tmp_path / "a.png").touch()
    with pytest.raises(InvalidImageError, match="the folder cannot be read") as caught:
        ImageFiles.from_folder(tmp_path, recursive=True)
    assert caught.value.path == str(tmp_path / "closed")


# What files keep ----------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """Files of one, three and four channels."""
    for i, image in enumerate((COLOUR[0], COLOUR[1, ..., 0], COLOUR[2][..., [0, 1, 2, 2]])):
        (tmp_path / f"{i}.png").write_bytes(encoded(image))
    return tmp_path


@pytest.mark.parametrize(("convert", "shape"), [("rgb", (9, 8, 3)), ("grey", (9, 8))])
def test_conversion_is_kept(convert, shape, mixed):
    files = ImageFiles.from_folder(mixed, convert=convert)
    for kept in (
        files,
        files[:2],
        files[[2, 0]],
        files[np.array([True, False, True])],
        files + files,
        files.readable()[0],
        ImageFiles(files),
        pickle.loads(pickle.dumps(files)),
    ):
        assert kept.convert == convert
        assert all(image.shape == shape for image in kept)
        assert f"convert={convert!r}" in repr(kept)
    assert files != ImageFiles(files.paths)
    assert len(list(ImageDataset(files).batches(3))) == 1


def test_nothing_is_converted_unless_it_is_stated(mixed):
    with pytest.raises(InvalidImageError, match="image 1.*has 1 channels.*convert="):
        list(ImageDataset(ImageFiles.from_folder(mixed)).batches(1))


def test_a_stated_conversion_replaces_another(mixed):
    files = ImageFiles.from_folder(mixed, convert="rgb")
    assert ImageFiles(files, convert="grey").convert == "grey"


def test_files_are_joined(paths):
    joined = ImageFiles(paths[:2]) + ImageFiles(paths[4:])
    assert joined == ImageFiles([*paths[:2], *paths[4:]])
    assert sum([ImageFiles(paths[:1]), ImageFiles(paths[1:])], ImageFiles([])) == ImageFiles(paths)


def test_files_of_two_conversions_cannot_be_joined(paths):
    with pytest.raises(ValueError, match="convert='rgb' and files with convert=None"):
        ImageFiles(paths, convert="rgb") + ImageFiles(paths)
    with pytest.raises(TypeError):
        ImageFiles(paths) + paths


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_readable(n_jobs, paths, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "short.png").write_bytes(encoded(COLOUR[0])[:60])
    files = ImageFiles(
        [paths[0], str(tmp_path / "text.png"), paths[1], str(tmp_path / "short.png")]
    )
    good, errors = (files + ImageFiles(["missing.png"])).readable(n_jobs)
    assert good == ImageFiles(paths[:2])
    assert [error.index for error in errors] == [1, 3, 4]
    assert [Path(error.path).name for error in errors] == ["text.png", "short.png", "missing.png"]
    assert "damaged" in errors[1].reason


def test_readable_of_nothing():
    good, errors = ImageFiles([]).readable()
    assert (len(good), errors) == (0, [])


def test_readable_reads_in_threads(paths, monkeypatch):
    threads = set()
    meet = threading.Barrier(2, timeout=20)

    def read(path, convert):
        threads.add(threading.get_ident())
        meet.wait()

    monkeypatch.setattr("skanomaly.images._files.read_image", read)
    ImageFiles(paths).readable(n_jobs=2)
    assert len(threads) == 2
