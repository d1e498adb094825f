"""What a file holds is read in full and upright, or refused."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from skanomaly import ImageFiles
from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset, read_image, read_size


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def encoded(image, kind, **parameters):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **parameters)
    return buffer.getvalue()


def tiff(array, **parameters):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **parameters)
    return buffer.getvalue()


def png(array):
    """A PNG file of 16 bits, which Pillow writes for grey only."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width, channels = array.shape
    colours = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colours, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# More bits and channels than Pillow gives ---------------------------------------------

TIFF_FILES = {
    "RGB 16": (noise(5, 7, 3, dtype=np.uint16), {"photometric": "rgb"}),
    "RGB 16 big-endian": (
        noise(5, 7, 3, dtype=np.uint16),
        {"photometric": "rgb", "byteorder": ">"},
    ),
    "RGB 16 deflated": (
        noise(5, 7, 3, dtype=np.uint16),
        {"photometric": "rgb", "compression": "zlib"},
    ),
    "RGB 16 BigTIFF": (noise(5, 7, 3, dtype=np.uint16), {"photometric": "rgb", "bigtiff": True}),
    "RGBA 16": (
        noise(5, 7, 4, dtype=np.uint16),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    ),
    "LA 16": (
        noise(5, 7, 2, dtype=np.uint16),
        {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"},
    ),
    "RGB float": (noise(5, 7, 3) / np.float32(255), {"photometric": "rgb"}),
    "grey half": ((noise(5, 7) / 255).astype(np.float16), {"photometric": "minisblack"}),
    "5 channels": (
        noise(5, 7, 5),
        {"photometric": "rgb", "extrasamples": ["unspecified", "unspecified"]},
    ),
    "4 unnamed channels": (
        noise(5, 7, 4),
        {"photometric": "minisblack", "planarconfig": "contig"},
    ),
    "RGBX": (noise(5, 7, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "uint32": (noise(5, 7, dtype=np.uint32), {"photometric": "minisblack"}),
    "int8": (noise(5, 7).view(np.int8), {"photometric": "minisblack"}),
    "int16": (noise(5, 7, dtype=np.uint16).view(np.int16), {"photometric": "minisblack"}),
    "12 bits in 16": (noise(5, 7, dtype=np.uint16) % 4096, {"photometric": "minisblack"}),
}


@pytest.mark.parametrize("name", TIFF_FILES)
def test_tiff_is_read_as_stored(name, tmp_path):
    image, parameters = TIFF_FILES[name]
    content = tiff(image, **parameters)
    (tmp_path / "a.tif").write_bytes(content)
    for file in (content, tmp_path / "a.tif", io.BytesIO(content)):
        found = read_image(file)
        assert found.dtype == (np.int32 if name == "int16" else image.dtype)
        np.testing.assert_array_equal(found, image)
    assert read_size(content) == image.shape[:2]


def test_planes_of_a_tiff_are_channels():
    planes = noise(3, 5, 7, dtype=np.uint16)
    found = read_image(tiff(planes, photometric="rgb", planarconfig="separate"))
    np.testing.assert_array_equal(found, planes.transpose(1, 2, 0))


@pytest.mark.parametrize("compression", ["lzw", "packbits", "zstd"])
def test_compressed_16_bit_tiff(compression):
    imagecodecs = pytest.importorskip("imagecodecs")
    assert imagecodecs
    image = noise(5, 7, 3, dtype=np.uint16)
    found = read_image(tiff(image, photometric="rgb", compression=compression))
    np.testing.assert_array_equal(found, image)


def test_compressed_16_bit_tiff_without_its_decoder(monkeypatch):
    content = bytearray(tiff(noise(5, 7, 3, dtype=np.uint16), photometric="rgb"))
    at = content.find(struct.pack("<HHI", 259, 3, 1))  # the tag that says how it is compressed
    content[at + 8 : at + 10] = struct.pack("<H", 34712)  # as JPEG 2000

    def asarray(page):
        raise ValueError("<COMPRESSION.JPEG2000> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    with pytest.raises(InvalidImageError, match="JPEG2000 cannot be read.*install imagecodecs"):
        read_image(bytes(content))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_is_read_in_full(channels):
    pytest.importorskip("imagecodecs")
    image = noise(5, 7, channels, dtype=np.uint16)
    np.testing.assert_array_equal(read_image(png(image)), image)


@pytest.mark.parametrize("form", ["path", "bytes", "PIL"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_png_is_refused_without_imagecodecs(channels, form, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    content = png(noise(5, 7, channels, dtype=np.uint16))
    (tmp_path / "a.png").write_bytes(content)
    item = {
        "path": str(tmp_path / "a.png"),
        "bytes": content,
        "PIL": Image.open(io.BytesIO(content)),
    }[form]
    with pytest.raises(InvalidImageError, match="16 bits a channel") as caught:
        ImageDataset([item])
    advice = "pass the path instead" if form == "PIL" else "install imagecodecs"
    assert advice in caught.value.reason
    assert caught.value.path == (item if form == "path" else None)


def test_damaged_16_bit_png_is_named():
    pytest.importorskip("imagecodecs")
    content = png(noise(32, 32, 3, dtype=np.uint16))
    with pytest.raises(InvalidImageError, match="damaged or cut short"):
        read_image(content[: len(content) // 2])


# Headers alone, since nothing else of the file is looked at.
AVIF_OF_10_BITS = b"pixi\0\0\0\0\x03\x0a\x0a\x0a"
JPEG2000_OF_12_BITS = (
    b"jP" + b"\xff\x4f\xff\x51" + bytes(36) + b"\0\x03" + bytes([11, 1, 1, 11, 1, 1, 11, 1, 1])
)


@pytest.mark.parametrize(
    ("kind", "head", "bits"),
    [
        ("AVIF", AVIF_OF_10_BITS, 10),
        ("AVIF", AVIF_OF_10_BITS.replace(b"\x0a", b"\x08"), 8),
        ("JPEG2000", JPEG2000_OF_12_BITS, 12),
        ("JPEG2000", JPEG2000_OF_12_BITS.replace(b"\x0b", b"\x07"), 8),
    ],
)
def test_bits_that_a_header_states(kind, head, bits):
    from skanomaly.images._formats import _bits_in_header

    assert _bits_in_header(head, kind) == bits
    assert _bits_in_header(b"", kind) is None


@pytest.mark.parametrize("maxval", [4095, 65535])
def test_ppm_of_more_than_8_bits_is_refused(maxval):
    pixels = (noise(5, 7, 3, dtype=np.uint16) % maxval).astype(">u2").tobytes()
    with pytest.raises(InvalidImageError, match="bits a channel, of which Pillow reads 8"):
        read_image(b"P6 7 5 %d\n" % maxval + pixels)


def test_pgm_is_scaled_by_the_white_that_it_states():
    image = np.array([[0, 4095], [2048, 1]], ">u2")
    found = read_image(b"P5 2 2 4095\n" + image.tobytes())
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.round(image / 4095 * 65535))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("bpc", [1, 2])
def test_sgi_of_16_bits_is_refused(shape, bpc):
    content = encoded(noise(*shape), "SGI", bpc=bpc)
    if bpc == 1:
        np.testing.assert_array_equal(read_image(content), noise(*shape))
        return
    with pytest.raises(InvalidImageError, match="16 bits a channel"):
        read_image(content)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG2000"])
def test_8_bit_colour_is_read(kind):
    image = noise(16, 17, 3)
    lossless = {"WEBP": {"lossless": True}}.get(kind, {})
    np.testing.assert_array_equal(read_image(encoded(image, kind, **lossless)), image)


def test_large_images_are_copied_band_by_band(monkeypatch):
    monkeypatch.setattr("skanomaly.images._reading._BAND", 50)
    for image in (noise(33, 7, 3), noise(33, 7), noise(33, 7, dtype=np.uint16)):
        np.testing.assert_array_equal(read_image(encoded(image, "PNG")), image)


@pytest.mark.parametrize("header", ["width", "channels"])
def test_tiff_that_claims_too_much_is_refused_before_it_is_decoded(header, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("was decoded"))
    shape = (4, 200, 3) if header == "width" else (8, 8, 20)
    image = noise(*shape, dtype=np.uint16)
    with pytest.raises(InvalidImageError, match="too large to be read safely"):
        read_image(tiff(image, photometric="minisblack", planarconfig="contig"))


# Colours that are not red, green and blue ---------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF"), ("HSV", None)],
)
def test_other_colours_are_refused_or_converted(mode, kind, tmp_path):
    image = Image.fromarray(noise(8, 8, 3)).convert("RGB")
    image = Image.new("LAB", (8, 8), (128, 10, 20)) if mode == "LAB" else image.convert(mode)
    assert image.mode == mode
    with pytest.raises(InvalidImageError, match=f"holds {mode} colours.*convert") as caught:
        ImageDataset([image])
    assert caught.value.index == 0
    if kind is None:
        return
    path = tmp_path / "a"
    image.save(path, kind)
    if Image.open(path).mode != mode:
        pytest.skip(f"this Pillow reads {mode} as RGB")
    with pytest.raises(InvalidImageError, match=f"holds {mode} colours") as caught:
        read_image(path)
    assert caught.value.path == str(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path, convert="rgb"), expected)
    assert read_image(path, convert="grey").shape == (8, 8)


def test_16_bit_cmyk_is_refused():
    with pytest.raises(InvalidImageError, match="holds CMYK of 16 bits in 4 channels"):
        read_image(tiff(noise(5, 7, 4, dtype=np.uint16), photometric="separated"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), channels=st.sampled_from([3, 4]))
def test_grey_is_that_of_pillow(seed, channels):
    image = noise(6, 5, channels, seed=seed)
    found = read_image(encoded(image, "PNG"), convert="grey")
    expected = Image.fromarray(image[..., :3]).convert("L")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_of_16_bits(channels):
    image = noise(6, 5, channels, dtype=np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    found = read_image(tiff(image, photometric="rgb", **extra), convert="grey")
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, image[..., :3] @ [0.299, 0.587, 0.114], atol=1)
    white = np.full((2, 2, 3), 65535, np.uint16)
    assert (read_image(tiff(white, photometric="rgb"), convert="grey") == 65535).all()


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
def test_rgb_of_any_channels(channels):
    image = noise(6, 5, *channels)
    found = read_image(encoded(image, "PNG"), convert="rgb")
    grey = image if image.ndim == 2 else image[..., 0]
    expected = image[..., :3] if channels and channels[0] > 2 else np.stack([grey] * 3, axis=2)
    np.testing.assert_array_equal(found, expected)


def test_five_channels_cannot_be_converted():
    content = tiff(noise(5, 7, 5), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InvalidImageError, match="has 5 channels"):
        read_image(content, convert="rgb")


@pytest.mark.parametrize("convert", ["RGB", "gray", "", 3, True])
def test_conversions_that_are_none(convert):
    for use in (read_image, ImageFiles):
        with pytest.raises(ValueError, match='convert must be "rgb", "grey" or None'):
            use([], convert=convert)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_is_rgba(kind):
    image = Image.fromarray(noise(6, 5) % 4)
    image.putpalette(noise(4, 3).ravel().tolist())
    found = read_image(encoded(image, kind, transparency=1))
    expected = Image.open(io.BytesIO(encoded(image, kind, transparency=1))).convert("RGBA")
    assert found.shape == (6, 5, 4)
    np.testing.assert_array_equal(found, expected)


# Several frames -----------------------------------------------------------------------

ANIMATED = {"GIF": "frames", "PNG": "frames", "WEBP": "frames", "MPO": "frames", "TIFF": "pages"}


@pytest.mark.parametrize("form", ["bytes", "PIL"])
@pytest.mark.parametrize("kind", ANIMATED)
def test_several_frames_are_counted(kind, form):
    frames = [Image.fromarray(noise(16, 16, 3, seed=seed)) for seed in range(3)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    item = content if form == "bytes" else Image.open(io.BytesIO(content))
    with pytest.raises(InvalidImageError, match=f"holds 3 {ANIMATED[kind]}; save each"):
        ImageDataset([item])


def test_several_pages_of_16_bits_are_counted():
    content = tiff(noise(4, 5, 7, 3, dtype=np.uint16), photometric="rgb")
    with pytest.raises(InvalidImageError, match="holds 4 pages"):
        read_image(content)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "JPEG"])
def test_one_frame_is_an_image(kind):
    assert read_image(encoded(noise(16, 16), kind)).shape[:2] == (16, 16)


# Orientation --------------------------------------------------------------------------


def with_orientation(kind, orientation, array):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    return encoded(array, kind, exif=exif, **lossless)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright_in_every_form(kind, orientation, tmp_path):
    content = with_orientation(kind, orientation, noise(16, 24, 3))
    opened = Image.open(io.BytesIO(content))
    expected = np.asarray(ImageOps.exif_transpose(opened))
    path = tmp_path / "a"
    path.write_bytes(content)
    loaded = Image.open(io.BytesIO(content))
    loaded.load()
    copied = Image.open(io.BytesIO(content)).copy()
    forms = {
        "bytes": content,
        "path": path,
        "PIL": Image.open(io.BytesIO(content)),
        "loaded": loaded,
        "copied": copied,
        "upright already": ImageOps.exif_transpose(Image.open(io.BytesIO(content))),
    }
    for form, item in forms.items():
        found = ImageDataset([item])[0].permute(1, 2, 0) * 255
        assert found.shape == expected.shape, form
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=form)
    assert read_size(path) == read_size(content) == expected.shape[:2]
    if orientation >= 5:
        assert expected.shape[:2] == (24, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_tiff_is_upright(orientation):
    image = noise(16, 24, 3, dtype=np.uint16)
    content = tiff(image, photometric="rgb", extratags=[(274, 3, 1, orientation, False)])
    small = with_orientation("PNG", orientation, (image >> 8).astype(np.uint8))
    np.testing.assert_array_equal(read_image(content) >> 8, read_image(small))
    assert read_size(content) == read_size(small)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_an_orientation_that_cannot_be_read_is_none(exif):
    content = encoded(noise(16, 24, 3), "JPEG", exif=exif)
    assert read_image(content).shape == (16, 24, 3)
