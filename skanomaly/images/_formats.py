"""Files of which Pillow would give less than they hold: more bits, more channels, frames."""

from __future__ import annotations

import io
import logging
import struct
import threading

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError

# Decoders of imagecodecs for what Pillow reads with 8 bits a channel only.
_DECODERS = {"PNG": "png_decode", "JPEG2000": "jpeg2k_decode", "AVIF": "avif_decode"}

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# TIFF's names for what its samples mean, of those that are not grey or RGB.
_PHOTOMETRIC = {0: "grey with white as 0", 3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "LAB"}

# Grey TIFF files by (sample format, bits) that Pillow gives as another dtype of as many bits.
_SAME_BITS = {(1, 32): np.uint32, (2, 8): np.int8}

_opening = threading.local()


def opened_quietly(file):
    """As `PIL.Image.open`, without what Pillow logs of TIFF files that others read, or none does.

    Without a handler it would stand on the standard error; what is wrong is raised anyway.

    Parameters
    ----------
    file : str, path-like or binary file object

    Returns
    -------
    PIL image
    """
    _opening.quietly = True
    try:
        return Image.open(file)
    finally:
        _opening.quietly = False


logging.getLogger("PIL.TiffImagePlugin").addFilter(
    lambda record: not getattr(_opening, "quietly", False)
)


def check_single_frame(image):
    """Raise InvalidImageError if a PIL image is one frame of several."""
    n = getattr(image, "n_frames", 1)
    if n > 1 and image.format != "PSD":  # whose frames are the layers its picture was made of
        kind = "pages" if image.format in ("TIFF", "DCX") else "frames"
        raise InvalidImageError(several(n, kind))


def several(n, kind):
    """What is said of a file of several frames or pages.

    Parameters
    ----------
    n : int
    kind : str
        What there are several of.

    Returns
    -------
    str
    """
    return (
        f"the file holds {n} {kind}; save each as an image of its own, or stack them as channels "
        "of one array"
    )


def stored_bits(image):
    """Bits a channel of the file of a PIL image that has not been loaded, where Pillow drops some.

    Returns
    -------
    int or None
        None where Pillow keeps all.
    """
    if image.mode.startswith(("I", "F")) or not getattr(image, "tile", None):
        return None
    codec, _, _, arguments = image.tile[0]
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    bits = None
    if image.format in ("PNG", "SGI") and (codec == "SGI16" or str(arguments[0]).endswith(";16B")):
        bits = 16
    elif image.format == "PPM" and len(arguments) == 2:
        bits = arguments[1].bit_length()  # of the value that the file states for white
    elif image.format in ("JPEG2000", "AVIF"):
        bits = _bits_in_header(_head(image), image.format)
    return bits if bits is not None and bits > 8 else None


def _head(image):
    position = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**20)  # a colour profile may come first
    image.fp.seek(position)
    return head


def _bits_in_header(head, file_format):
    if file_format == "AVIF":  # the box "pixi": version, number of channels, bits of each
        at = head.find(b"pixi")
        if at < 0:
            return None
        return max(head[at + 9 : at + 9 + head[at + 8]], default=None)
    at = head.find(b"\xff\x4f\xff\x51")  # the marker SIZ: 36 bytes, channels, bits of each
    if at < 0:
        return None
    (n_channels,) = struct.unpack_from(">H", head, at + 40)
    return max(((b & 0x7F) + 1 for b in head[at + 42 : at + 42 + 3 * n_channels : 3]), default=None)


def read_in_full(content, file_format, bits):
    """All bits of a file, of which Pillow would give 8 a channel: array (H, W, C)."""
    what_to_do = (
        "save it with 8 bits a channel, as a TIFF file without compression, or as a grey image a "
        "channel"
    )
    found = f"the file holds {bits} bits a channel, of which Pillow reads 8"
    if file_format not in _DECODERS:
        raise InvalidImageError(f"{found}; {what_to_do}")
    try:
        import imagecodecs
    except ImportError:
        raise InvalidImageError(
            f"{found}; install imagecodecs, which reads all of them, or {what_to_do}"
        ) from None
    return getattr(imagecodecs, _DECODERS[file_format])(content)


def is_tiff(head):
    """Whether a file starts as TIFF files do."""
    return head[:4] in _TIFF_MAGIC


def tiff_is_kept(image):
    """Whether Pillow gives all channels and bits of a TIFF file."""
    tags = image.tag_v2
    n_samples, bits = tags.get(277, 1), tags.get(258, (1,))
    return n_samples == 1 or (max(bits) <= 8 and n_samples == len(image.getbands()))


def as_stored_in_tiff(array, image):
    """Pillow's array of a grey TIFF file, in the dtype that the file states."""
    tags = image.tag_v2
    stated = tags.get(339, (1,))[0], tags.get(258, (1,))[0]
    if array.ndim == 2 and stated in _SAME_BITS and 8 * array.itemsize == stated[1]:
        return array.view(_SAME_BITS[stated])
    return array


def read_tiff(content):
    """A TIFF file that Pillow cannot read in full.

    Returns
    -------
    array, shape (H, W) or (H, W, C)
    orientation : int
        1 to 8, as EXIF has it; not applied.
    """
    try:
        import tifffile
    except ImportError:
        raise InvalidImageError(
            "the file is TIFF of a kind that Pillow does not read in full; install tifffile, which "
            "does, or save it with 8 bits a channel, or as a grey image a channel"
        ) from None
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        if len(tiff.pages) > 1:
            raise InvalidImageError(several(len(tiff.pages), "pages"))
        page = tiff.pages.first
        meaning = int(page.photometric)
        if meaning not in (1, 2):
            raise InvalidImageError(
                f"the file holds {_PHOTOMETRIC.get(meaning, page.photometric.name)} of "
                f"{page.bitspersample} bits in {page.samplesperpixel} channels, expected grey or "
                "RGB; save it as such"
            )
        if page.axes not in ("YX", "YXS", "SYX"):
            raise InvalidImageError(
                f"the file holds an array of axes {page.axes}, expected (H, W) or (H, W, C)"
            )
        _check_bytes(page)
        try:
            array = page.asarray()
        except (ValueError, ModuleNotFoundError) as error:
            if page.compression == 1:
                raise
            raise InvalidImageError(
                f"the file's compression {page.compression.name} cannot be read ({error}); "
                "install imagecodecs, or save the file without compression"
            ) from error
        orientation = page.tags.valueof(274, 1)
    return (np.moveaxis(array, 0, -1) if page.axes == "SYX" else array), orientation


def _check_bytes(page):
    limit = Image.MAX_IMAGE_PIXELS
    n_pixels = page.imagewidth * page.imagelength
    if limit is not None and (n_pixels > limit or page.nbytes > 8 * limit):
        raise InvalidImageError(
            f"the image is too large to be read safely ({page.imagewidth} x {page.imagelength} "
            f"pixels of {page.samplesperpixel} channels); if the file is to be trusted, raise "
            "PIL.Image.MAX_IMAGE_PIXELS, else remove it"
        )


def oriented(array, orientation):
    """An image (H, W, ...) turned as its EXIF orientation, 1 to 8, says it is to be shown."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)
