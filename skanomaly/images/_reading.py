"""One image file, as it was stored."""

from __future__ import annotations

import io
import os
import threading

import numpy as np
from PIL import ExifTags, Image

from ..exceptions import InvalidImageError
from ._conversion import check_convert, converted
from ._formats import (
    as_stored_in_tiff,
    check_single_frame,
    is_tiff,
    opened_quietly,
    oriented,
    read_in_full,
    read_tiff,
    stored_bits,
    tiff_is_kept,
)
from ._urls import content_of_url, is_url

# Pillow's modes whose arrays are the image as it was stored; the others are
# encodings (a palette, a bit mask) that have to be decoded first.
_DECODED_AS = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}

# Colour spaces whose channels are not red, green and blue.
_OTHER_COLOURS = {"CMYK", "HSV", "LAB", "YCbCr"}

# Bytes that are copied from Pillow at once.
_BAND = 2**22

# A file object may stand in a batch twice, and be read by two threads.
_reading_file_objects = threading.Lock()


def read_image(file, *, convert=None):
    """Read one image file as it was stored, and upright.

    Parameters
    ----------
    file : str, path-like, bytes or binary file object
        A path, an address that fsspec opens (``s3://bucket/part.png``), or the file's
        content. A file object is read from its start.
    convert : {"rgb", "grey"} or None, default=None
        Channels to convert to: grey is repeated, RGB weighted by ITU-R BT.601,
        other colour spaces go through RGB, alpha is dropped. None converts nothing.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, C)
        uint8 or uint16 for the usual formats, others for the rare files that hold
        those. A palette is decoded to RGB, or RGBA where it is transparent. The
        image is turned as its EXIF orientation says, so that its rows are those
        that a viewer shows. A PGM file is scaled to the largest value of its dtype.

    Raises
    ------
    InvalidImageError
        If the file is missing, is no image, is cut short, holds several frames
        or pages, or a colour space other than grey or RGB, or more bits than can
        be read, or is larger than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
    """
    check_convert(convert)
    return _read(file, lambda image, content: _pixels(image, content, convert))


def read_size(file):
    """Height and width of an image file, as `read_image` would give it.

    Parameters
    ----------
    file : str, path-like, bytes or binary file object

    Returns
    -------
    (int, int)

    Raises
    ------
    InvalidImageError
        If the file is missing or no image.
    """
    return _read(file, _upright_size)


def _read(file, look):
    """What `look(image, content)` finds; the image is None where Pillow cannot open it."""
    path, content = _opened(file)
    try:
        try:
            with opened_quietly(path if content is None else io.BytesIO(content)) as image:
                check_pixel_count(image)
                return look(image, lambda: _content(path) if content is None else content)
        except Image.UnidentifiedImageError:
            content = _content(path) if content is None else content
            if not is_tiff(content):
                raise
            return look(None, lambda: content)
    except InvalidImageError as error:
        raise InvalidImageError(error.reason, path=path) from error.__cause__
    except Image.UnidentifiedImageError:
        raise InvalidImageError(
            "the file's content is not an image Pillow can read; remove it or save it again",
            path=path,
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImageError(_too_large(str(error)), path=path) from None
    except Exception as error:  # every codec has errors of its own for a damaged file
        raise InvalidImageError(
            f"the file is damaged or cut short ({error}); copy it again or remove it", path=path
        ) from error


def _opened(file):
    """(path or None, content or None) of what may be a path, content or a file object."""
    if isinstance(file, (bytes, bytearray, memoryview)):
        return None, bytes(file)
    if hasattr(file, "read"):
        return _name_of(file), _content_of_file_object(file)
    path = os.fspath(file)
    if is_url(path):
        return path, content_of_url(path)
    if not os.path.isfile(path):
        found = "a folder, expected a file" if os.path.isdir(path) else "there is no such file"
        raise InvalidImageError(f"{found}; check the path", path=path)
    return path, None


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _name_of(file):
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else None


def _content_of_file_object(file):
    with _reading_file_objects:
        try:
            file.seek(0)
            content = file.read()
        except Exception as error:  # closed, or a stream that cannot go back
            raise InvalidImageError(
                f"is a {type(file).__name__} that cannot be read from its start ({error}); pass "
                "the path, or the file's bytes",
                path=_name_of(file),
            ) from error
    if not isinstance(content, bytes):
        raise InvalidImageError(
            f"is a file opened as text; open it with mode 'rb' (read {type(content).__name__})",
            path=_name_of(file),
        )
    return content


def _pixels(image, content, convert):
    if image is None or (image.format == "TIFF" and not tiff_is_kept(image)):
        return converted(oriented(*read_tiff(content())), convert)
    check_single_frame(image)
    bits = stored_bits(image)
    if bits is None:
        return decode(image, convert)
    _check_colours(image, None)
    array = read_in_full(content(), image.format, bits)
    return converted(oriented(array, _orientation(image)), convert)


def _upright_size(image, content):
    if image is None:
        array, orientation = read_tiff(content())
        return oriented(array, orientation).shape[:2]
    width, height = image.size
    if image.format == "TIFF":  # whose size some versions of Pillow give upright
        width, height = image.tag_v2[256], image.tag_v2[257]
    return (width, height) if _orientation(image) >= 5 else (height, width)


def decode(image, convert=None):
    """A PIL image as an array (H, W) or (H, W, C), upright."""
    check_single_frame(image)
    bits = stored_bits(image)
    if bits is not None:
        raise InvalidImageError(
            f"is a PIL image of a file with {bits} bits a channel, of which it gives 8; pass the "
            "path instead"
        )
    image.load()
    upright = _orientation(image)  # asked now, as loading a TIFF file turns it
    is_from_pgm = image.format == "PPM" and image.mode == "I"
    if convert is not None and image.mode in _OTHER_COLOURS:
        image = image.convert("RGB")
    _check_colours(image, convert)
    mode = _DECODED_AS.get(image.mode, image.mode)
    if image.mode == "P" and image.has_transparency_data:
        mode = "RGBA"
    array = _as_array(image if mode == image.mode else image.convert(mode))
    if getattr(image, "tag_v2", None) is not None:
        array = as_stored_in_tiff(array, image)
    if is_from_pgm:
        array = array.astype(np.uint16)
    # Big-endian 16-bit files come back byte-swapped, which torch does not take.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return converted(oriented(array, upright), convert)


def _as_array(image):
    """The same as np.asarray(image), which takes the memory of three images."""
    width, height = image.size
    first = np.asarray(image.crop((0, 0, width, 1)))
    array = np.empty((height, *first.shape[1:]), first.dtype)
    n_rows = max(1, _BAND // first.nbytes)
    for top in range(0, height, n_rows):
        bottom = min(top + n_rows, height)
        array[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return array


def _check_colours(image, convert):
    if image.mode in _OTHER_COLOURS:
        raise InvalidImageError(
            f"holds {image.mode} colours, expected grey or RGB; convert it, or have files "
            'converted by ImageFiles(paths, convert="rgb")'
        )


def _orientation(image):
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a block of EXIF that cannot be read states nothing
        return 1
    return orientation if orientation in range(1, 9) else 1


def check_pixel_count(image):
    """Refuse an image of more than `PIL.Image.MAX_IMAGE_PIXELS` pixels, before it is decoded.

    Parameters
    ----------
    image : PIL image

    Raises
    ------
    InvalidImageError
    """
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise InvalidImageError(_too_large(f"{width} x {height} pixels"))


def _too_large(found):
    return (
        f"the image is too large to be read safely ({found}); if the file is to be trusted, "
        "raise PIL.Image.MAX_IMAGE_PIXELS, else remove it"
    )
