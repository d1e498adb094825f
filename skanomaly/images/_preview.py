"""How image files show themselves in a notebook: a few of them, small."""

from __future__ import annotations

import os
from base64 import b64encode
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError
from ._reading import read_image, read_size

# Files that are opened, side of their thumbnails, and pixels that are read for all of them.
_N_SHOWN, _SIDE, _MAX_PIXELS = 8, 96, 2**26

_FIGURE = (
    '<figure style="margin: 0; width: 130px; overflow-wrap: anywhere; font-size: 85%">{}'
    '<figcaption><b title="{}">{}</b><br>{}</figcaption></figure>'
)
_NONE = (
    '<div style="display: grid; place-items: center; height: 60px; width: 96px; '
    'border: 1px dashed currentColor; opacity: .6">no picture</div>'
)


def preview(paths, convert=None):
    """HTML that says how many files there are and shows some, spread over the whole list.

    Parameters
    ----------
    paths : ndarray of str, shape (n,)
    convert : {"rgb", "grey"} or None, default=None
        As `read_image` takes it.

    Returns
    -------
    str
        Whatever the files hold: what cannot be read is said in its place.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, _N_SHOWN).round().astype(int))
    chosen = chosen if len(paths) else ()
    n_pixels, figures = 0, []
    for i in chosen:
        found, n_pixels = _figure(int(i), paths[i], convert, n_pixels)
        figures.append(found)
    converted = "" if convert is None else f", converted to {convert}"
    some = f"; {len(figures)} of them" if len(figures) < len(paths) else ""
    s = "" if len(paths) == 1 else "s"
    return (
        f"<div><div>ImageFiles: {len(paths):,} file{s}{converted}{some}</div>"
        '<div style="display: flex; flex-wrap: wrap; gap: 10px; margin-top: 6px">'
        f"{''.join(figures)}</div></div>"
    )


def _figure(i, path, convert, n_pixels):
    """One file, and the pixels that have been read with it."""
    try:
        height, width = read_size(path)
        n_pixels += height * width
        if n_pixels > _MAX_PIXELS:
            picture, said = _NONE, f"{height} x {width}, not read as it is large"
        else:
            image = read_image(path, convert=convert)
            shown, how = _as_shown(image)
            n_channels = 1 if image.ndim == 2 else image.shape[2]
            s = "" if n_channels == 1 else "s"
            said = f"{height} x {width}, {n_channels} channel{s}, {image.dtype}{how}"
            picture = f'<img alt="image {i}" src="data:image/png;base64,{_png(shown)}">'
    except InvalidImageError as error:
        picture, said = _NONE, f"cannot be read: {error.reason}"
    name = os.path.basename(path)
    return _FIGURE.format(picture, _escaped(path), _escaped(name), _escaped(said)), n_pixels


def _escaped(text):
    # A file's name may hold bytes that are no UTF-8, which no page can.
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _as_shown(image):
    """An image as one of 8 bits that can be looked at, and what was done to it."""
    step = max(1, max(image.shape[:2]) // (4 * _SIDE))
    image, how = image[::step, ::step], ""
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4):
        image, how = image.mean(axis=2), f", shown as the mean of {image.shape[2]} channels"
    if image.dtype == np.uint8:
        return image, how
    finite = image[np.isfinite(image)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    how += f", shown from {low:g} to {high:g}"
    values = (image.astype(np.float64) - low) / (float(high) - float(low) or 1.0)
    return np.rint(255 * np.nan_to_num(values).clip(0, 1)).astype(np.uint8), how


def _png(pixels):
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    picture.thumbnail((_SIDE, _SIDE))
    file = BytesIO()
    picture.save(file, "PNG")
    return b64encode(file.getvalue()).decode("ascii")
