"""Image files in a notebook."""

import io
import re
from base64 import b64decode
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image

from skanomaly import ImageFiles
from skanomaly.images import _preview


def shown(html):
    """Pictures as arrays, and the text, of HTML whose tags are all closed."""

    class Page(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.text, self.pictures = [], [], []

        def handle_starttag(self, tag, attributes):
            if tag == "img":
                data = dict(attributes)["src"].removeprefix("data:image/png;base64,")
                self.pictures.append(np.asarray(Image.open(io.BytesIO(b64decode(data)))))
            elif tag != "br":
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            self.text.append(data)

    page = Page()
    page.feed(html)
    assert not page.open
    return page.pictures, "\n".join(page.text)


def of_files(folder, **images):
    for name, image in images.items():
        tifffile.imwrite(folder / f"{name}.tif", image)
    return ImageFiles.from_folder(folder)._repr_html_()


def test_a_small_picture_of_each_with_its_size(tmp_path):
    image = np.arange(60 * 50 * 3, dtype=np.uint8).reshape(60, 50, 3)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image[..., 0]).resize((500, 300)).save(tmp_path / "b.png")
    (first, second), text = shown(ImageFiles.from_folder(tmp_path)._repr_html_())
    assert_array_equal(first, image)
    assert second.shape == (58, 96)
    assert "ImageFiles: 2 files" in text
    assert "60 x 50, 3 channels, uint8" in text
    assert "300 x 500, 1 channel, uint8" in text
    _, text = shown(ImageFiles.from_folder(tmp_path, convert="grey")[:1]._repr_html_())
    assert "ImageFiles: 1 file, converted to grey" in text
    assert "60 x 50, 1 channel, uint8" in text


def test_few_of_many_are_opened(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    opened = []

    def reading(path, **options):
        opened.append(path)
        return np.zeros((8, 8), np.uint8)

    monkeypatch.setattr(_preview, "read_image", reading)
    monkeypatch.setattr(_preview, "read_size", lambda path: (8, 8))
    paths = [f"{i}.png" for i in range(100_000)]
    pictures, text = shown(ImageFiles(paths)._repr_html_())
    assert len(opened) == len(pictures) == 8
    assert (opened[0], opened[-1]) == ("0.png", "99999.png")
    assert "100,000 files; 8 of them" in text
    monkeypatch.setattr(_preview, "read_size", lambda path: (10_000, 5_000))
    pictures, text = shown(ImageFiles(paths[:2])._repr_html_())
    assert len(pictures) == 1
    assert "10000 x 5000, not read as it is large" in text


def test_none():
    assert shown(ImageFiles([])._repr_html_()) == ([], "ImageFiles: 0 files")


def test_what_cannot_be_read_is_said_and_names_are_escaped(tmp_path):
    name = "<b>&\"'\udcff.png"
    html = ImageFiles([str(tmp_path / name)])._repr_html_()
    pictures, text = shown(html)
    assert not pictures
    assert "no picture" in text
    assert "cannot be read: there is no such file; check the path" in text
    assert "<b>&\"'\\udcff.png" in text
    title = re.search(r'title="([^"]*)"', html)[1]
    assert Path(unescape(title)).name == "<b>&\"'\\udcff.png"
    html.encode("utf-8")


def test_more_bits_are_shown_between_the_smallest_and_the_largest(tmp_path):
    image = np.array([[100, 200], [300, 4100]], np.uint16)
    (picture,), text = shown(of_files(tmp_path, a=image))
    assert_array_equal(picture, np.rint((image - 100.0) / 4000 * 255).astype(np.uint8))
    assert "2 x 2, 1 channel, uint16, shown from 100 to 4100" in text


@pytest.mark.parametrize("fill", [0, 7])
def test_an_image_of_one_value_is_black(fill, tmp_path):
    (picture,), text = shown(of_files(tmp_path, a=np.full((4, 4), fill, np.uint16)))
    assert not picture.any()
    assert f"shown from {fill} to {fill}" in text


def test_numbers_that_are_not_finite_do_no_harm(tmp_path):
    (picture,), text = shown(of_files(tmp_path, a=np.float32([[np.nan, 1], [2, 3]])))
    assert_array_equal(picture, [[0, 0], [128, 255]])
    assert "shown from 1 to 3" in text
    (picture,), _ = shown(of_files(tmp_path, a=np.full((2, 2), np.nan, np.float32)))
    assert not picture.any()


def test_many_channels_are_shown_as_their_mean(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 7), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig")
    (picture,), text = shown(ImageFiles.from_folder(tmp_path)._repr_html_())
    mean = image.mean(axis=2)
    scaled = (mean - mean.min()) / (mean.max() - mean.min())
    assert_array_equal(picture, np.rint(255 * scaled).astype(np.uint8))
    assert "7 channels, uint8, shown as the mean of 7 channels, shown from" in text
