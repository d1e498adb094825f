"""One image file, as it was stored."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError

# Pillow's modes whose arrays are the image as it was stored; the others are
# encodings (a palette, a bit mask) that have to be decoded first.
_DECODED_AS = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}


def read_image(path):
    """Read one image file as it was stored.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    ndarray, shape (H, W) or (H, W, C)
        uint8 or uint16 for the usual formats, int32 or float32 for the rare
        files that hold those. A palette is decoded to RGB; nothing else is
        converted, and an orientation tag is not applied.

    Raises
    ------
    InvalidImageError
        If the file is missing, is no image, is cut short, holds several pages,
        or is larger than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        found = "a folder, expected a file" if os.path.isdir(path) else "there is no such file"
        raise InvalidImageError(f"{found}; check the path", path=path)
    try:
        with Image.open(path) as image:
            check_pixel_count(image)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise InvalidImageError(
                    f"the file holds {image.n_frames} pages; save each as an image of its own, "
                    "or stack them as channels of one array"
                )
            return decode(image)
    except InvalidImageError as error:
        raise InvalidImageError(error.reason, path=path) from None
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


def decode(image):
    array = np.asarray(image.convert(_DECODED_AS.get(image.mode, image.mode)))
    # Big-endian 16-bit files come back byte-swapped, which torch does not take.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_pixel_count(image):
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise InvalidImageError(_too_large(f"{width} x {height} pixels"))


def _too_large(found):
    return (
        f"the image is too large to be read safely ({found}); if the file is to be trusted, "
        "raise PIL.Image.MAX_IMAGE_PIXELS, else remove it"
    )
