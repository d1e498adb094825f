"""What one look at each image tells: size, light, sharpness, a thumbnail, or why it cannot be."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError
from ..images import (
    ImageFiles,
    check_channels,
    check_values,
    grey_of,
    path_of,
    range_of,
    resized,
    seen_pixels,
    sharpness_of,
    to_array,
)

# Common scale of what is measured; sides of what is compared, and of what is shown.
MEASURED, COMPARED, SHOWN = 512, 32, 160


class Look(NamedTuple):
    """What is known of an image; of one that cannot be used, its reason and no more."""

    reason: str = ""
    size: tuple = (0, 0)  #: height and width
    n_channels: int = 0
    brightness: float = np.nan
    contrast: float = np.nan
    sharpness: float = np.nan
    grey: object = None  #: what is compared, (COMPARED ** 2,), float32 in [0, 1]
    thumbnail: bytes = b""  #: JPEG


def look_at_all(X, value_range, n_jobs):
    """A `Look` at each image of a batch, each read once.

    Parameters
    ----------
    X : sequence
        As `check_images` gives it.
    value_range : (float, float) or None
    n_jobs : int or None
        Threads that read.

    Returns
    -------
    list of Look
        One of another number of channels than most cannot be used.
    """
    from joblib import Parallel, delayed

    threads = Parallel(n_jobs, require="sharedmem")
    looks = threads(delayed(_look)(X, i, value_range) for i in range(len(X)))
    counts = Counter(look.n_channels for look in looks if not look.reason)
    if len(counts) > 1:
        ((usual, n_usual),) = counts.most_common(1)
        for i, look in enumerate(looks):
            if not look.reason and look.n_channels != usual:
                reason = f"has {look.n_channels} channels, {n_usual} others have {usual}"
                looks[i] = look._replace(reason=f"{reason}; convert it as them")
    return looks


def names_of(X):
    """What to call each image: its path, or its number."""
    if isinstance(X, ImageFiles):
        return list(X.paths)
    paths = map(path_of, X)
    return [f"image {i}" if path is None else path for i, path in enumerate(paths)]


def _look(X, i, value_range):
    try:
        image = to_array(X[i])
        check_channels(image, None)
        check_values(image, value_range)
    except InvalidImageError as error:
        return Look(error.reason)
    height, width, n_channels = image.shape
    limits = range_of(image.dtype, value_range)
    pixels = seen_pixels(image, (MEASURED, MEASURED), *limits).clamp(0, 1)
    colours = pixels[:3] if n_channels in (3, 4) else pixels
    compared = resized(colours.mean(dim=0)[None, None], (COMPARED, COMPARED)).numpy().ravel()
    grey = grey_of(pixels)
    return Look(
        size=(height, width),
        n_channels=n_channels,
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
        sharpness=sharpness_of(grey),
        grey=compared,
        thumbnail=_jpeg(colours, height, width),
    )


def _jpeg(colours, height, width):
    shrinking = min(1.0, SHOWN / max(height, width))
    size = max(1, round(shrinking * height)), max(1, round(shrinking * width))
    if len(colours) not in (1, 3):
        colours = colours.mean(dim=0, keepdim=True)
    small = resized(colours[None], size)[0].permute(1, 2, 0).squeeze(2)
    file = BytesIO()
    Image.fromarray((255 * small).round().byte().numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()
