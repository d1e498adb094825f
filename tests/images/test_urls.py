import io
import pickle
import sys
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conftest import small_detector
from numpy.testing import assert_array_equal
from PIL import Image

from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset, ImageFiles, read_image, read_size

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 40, 48, 3), dtype=np.uint8)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def store():
    """A file system in memory, with images, what is none, and what is hidden."""
    system = fsspec.filesystem("memory")
    for i, image in enumerate(IMAGES):
        system.pipe(f"/parts/{i}.png", png(image))
    for name in ("notes.txt", ".hidden.png", "__MACOSX/a.png", ".cache/a.png"):
        system.pipe(f"/parts/{name}", b"none")
    system.pipe("/parts/deep/er/8.PNG", png(IMAGES[0]))
    yield system
    system.rm("/parts", recursive=True)


def test_an_image_is_read_from_an_address(store):
    assert_array_equal(read_image("memory://parts/3.png"), IMAGES[3])
    assert read_size("memory://parts/3.png") == (40, 48)


def test_a_folder_is_listed_like_a_local_one(store, tmp_path):
    for name in store.find("/parts"):
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.cat_file(name))
    for recursive in (False, True):
        far = ImageFiles.from_folder("memory://parts", recursive=recursive)
        near = ImageFiles.from_folder(tmp_path / "parts", recursive=recursive)
        assert [url.partition("parts/")[2] for url in far.paths] == [
            Path(path).relative_to(tmp_path / "parts").as_posix() for path in near.paths
        ]
        assert all(url.startswith("memory://") for url in far.paths)
        assert_array_equal(far[2], near[2])


def test_a_folder_in_an_archive_at_an_address(store):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in (0, 1):
            archive.writestr(f"inside/{i}.png", png(IMAGES[i]))
    store.pipe("/parts/all.zip", buffer.getvalue())
    files = ImageFiles.from_folder("zip://inside::memory://parts/all.zip")
    assert len(files) == 2
    assert_array_equal(files[1], IMAGES[1])


def test_a_detector_takes_addresses_as_it_takes_files(store):
    files = ImageFiles.from_folder("memory://parts")
    far, near = small_detector().fit(files), small_detector().fit(IMAGES)
    assert_array_equal(far.transform(files[:2]), near.transform(IMAGES[:2]))
    assert_array_equal(far.score_samples(list(files.paths[:2])), near.score_samples(IMAGES[:2]))
    assert pickle.loads(pickle.dumps(files)) == files


def test_a_digest_tells_the_states_of_a_file(store):
    files = ImageFiles.from_folder("memory://parts")
    first = ImageDataset(files).digest()
    assert ImageDataset(files).digest() == first
    store.pipe("/parts/3.png", png(IMAGES[0]))
    assert ImageDataset(files).digest() != first


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://parts/none.png", r"^memory://parts/none\.png: there is no such file; check"),
        ("memory://parts/notes.txt", "not an image"),
        ("nowhere://parts/1.png", r"^nowhere://.*cannot be read \(ValueError: Protocol not known"),
        ("file:///no/such/file.png", "there is no such file"),
        ("file:///", "folder"),
    ],
)
def test_what_cannot_be_read_is_named(store, url, message):
    with pytest.raises(InvalidImageError, match=message) as error:
        read_image(url)
    assert error.value.path == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://none", "not a folder; check the address"),
        ("memory://parts/1.png", "not a folder"),
        ("memory://parts/deep", "holds no image; looked directly in"),
    ],
)
def test_what_is_no_folder_of_images_is_named(store, url, message):
    with pytest.raises(InvalidImageError, match=message):
        ImageFiles.from_folder(url)


def test_a_package_that_is_missing_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InvalidImageError, match=r"needs another package .*fsspec.*; install it"):
        read_image("memory://parts/1.png")


def test_a_drive_is_no_address_and_neither_is_a_name():
    for path in (r"C:\parts\1.png", "C://parts/1.png", "part:1.png"):
        with pytest.raises(InvalidImageError, match="there is no such file; check the path"):
            read_image(path)
