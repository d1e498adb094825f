"""Parts of images: a box, an object before a plain background; and another size."""

from __future__ import annotations

import warnings
from dataclasses import MISSING
from numbers import Integral, Real

import numpy as np
from scipy import ndimage

from .._parameters import parameter
from .._sklearn import Interval, Numbers, StrOptions
from ..exceptions import InvalidImageError, TransformWarning
from ..images import checked_image_size
from ._pixels import as_dtype, of_size
from ._placement import Placement
from ._transformer import BaseImageTransformer

# Side of what the object is looked for in, and pixels of its border that tell the background.
LOOKED_AT, BORDER = 256, 2


class Crop(BaseImageTransformer):
    """Cut a box out of every image.

    Parameters
    ----------
    box : (int, int, int, int)
        Top, left, bottom and right in pixels; the last two are not included.

    See Also
    --------
    CropToObject : A box that follows the part.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import Crop
    >>> X = np.zeros((3, 60, 80), np.uint8)
    >>> Crop(box=(10, 20, 50, 70)).fit_transform(X)[0].shape
    (40, 50)
    """

    box: tuple[int, int, int, int] = parameter(
        MISSING, Numbers(Integral, 0, length=4), kw_only=False
    )

    def _validate_params(self):
        super()._validate_params()
        top, left, bottom, right = self.box
        if bottom <= top or right <= left:
            raise ValueError(f"box={self.box} is empty; it is (top, left, bottom, right)")

    @property
    def _cut(self):
        return self.box

    def _traced(self, images):
        top, left, bottom, right = self.box
        return images[:, top:bottom, left:right]

    def _apply(self, image):
        height, width = image.shape[:2]
        top, left, bottom, right = self.box
        if bottom > height or right > width:
            raise InvalidImageError(
                f"is {height} x {width} pixels, and the box {self.box} (top, left, bottom, right) "
                "reaches beyond it"
            )
        return image[top:bottom, left:right], Placement.cut((height, width), self.box)


class CropToObject(BaseImageTransformer):
    """Cut out the largest object that stands before a plain background.

    The background's colour is the median of the image's border; what differs from it by more
    than Otsu's threshold on these differences, and is the largest connected region, is the
    object.

    Parameters
    ----------
    margin : float
        What is left around the object, as a share of the longer side of its box.
    square : bool
        Whether the box is made square, as far as the image reaches, so that resizing to a
        square `image_size` keeps the part's proportions.
    min_contrast : float
        Least mean difference of the object from the background, as a multiple of what the
        border itself differs (its third quartile). Below it there is no object.
    on_failure : {"raise", "warn"}
        What is done with an image without an object: an error, or a warning and the image as it
        is, which a detector will then find unlike the others.

    Notes
    -----
    The box follows the object to the pixel, and so does the scale that a detector with an
    `image_size` sees it in. Where parts are of one size and `Align` works, it does more.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on
    Systems, Man, and Cybernetics 9(1), 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import CropToObject
    >>> X = np.full((2, 100, 120), 30, np.uint8)
    >>> X[:, 20:60, 30:100] = 200
    >>> CropToObject(margin=0.0).fit_transform(X)[1].shape
    (40, 70)
    """

    margin: float = parameter(0.05, Interval(Real, 0, None, closed="left"))
    square: bool = parameter(False, bool)
    min_contrast: float = parameter(3.0, Interval(Real, 0, None, closed="left"))

    on_failure: str = parameter("raise", StrOptions({"raise", "warn"}))

    def _apply(self, image):
        try:
            box = self._box(image)
        except InvalidImageError as error:
            if self.on_failure == "raise":
                raise
            message = f"an image {error.reason}; it stays as it is"
            warnings.warn(message, TransformWarning, stacklevel=2)
            return image, None
        top, left, bottom, right = box
        return image[top:bottom, left:right], Placement.cut(image.shape[:2], box)

    def _box(self, image):
        size = image.shape[:2]
        small = _small(image)
        standing_out = self._object(small)
        rows, columns = (np.flatnonzero(standing_out.any(axis=axis)) for axis in (1, 0))
        edges = [
            (found[0] * n / m, (found[-1] + 1) * n / m)
            for found, n, m in zip((rows, columns), size, small.shape)
        ]
        margin = self.margin * max(end - start for start, end in edges)
        edges = [(start - margin, end + margin) for start, end in edges]
        if self.square:
            side = max(end - start for start, end in edges)
            edges = [_widened(*edge, side, n) for edge, n in zip(edges, size)]
        (top, bottom), (left, right) = (
            (max(0, int(np.floor(start + 1e-9))), min(n, int(np.ceil(end - 1e-9))))
            for (start, end), n in zip(edges, size)
        )
        return top, left, bottom, right

    def _object(self, small):
        from skimage.filters import threshold_otsu

        border = _border(small)
        difference = np.abs(small - np.median(border, axis=0)).max(axis=2)
        of_border = np.quantile(_border(difference[..., np.newaxis]), 0.75)
        if difference.max() == 0:
            raise InvalidImageError("is of one colour; there is no object to crop to")
        labels, _ = ndimage.label(difference > threshold_otsu(difference), np.ones((3, 3)))
        largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        contrast = difference[largest].mean() / of_border if of_border > 0 else np.inf
        if contrast < self.min_contrast:
            raise InvalidImageError(
                "shows no object before a plain background: what stands out most differs from "
                f"the border's median by {contrast:.2g} times what the border itself does, "
                f"expected min_contrast={self.min_contrast:g} times"
            )
        return largest


class Resize(BaseImageTransformer):
    """Bring every image to one size: bilinear, anti-aliased where it shrinks.

    Parameters
    ----------
    size : int, or (int, int)
        Height and width; an int is both.

    Notes
    -----
    A detector's `image_size` does the same, and its maps are of the images' own size all the
    same. This is for steps that come between, such as those that cost less on small images.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import Resize
    >>> Resize((30, 40)).fit_transform(np.zeros((3, 60, 80), np.uint8))[0].shape
    (30, 40)
    """

    size: int | tuple[int, int] = parameter(
        256,
        Interval(Integral, 1, None, closed="left"),
        Numbers(Integral, 1, length=2),
        kw_only=False,
    )

    def _apply(self, image):
        old, new = image.shape[:2], checked_image_size(self.size)
        return as_dtype(of_size(image, new), image.dtype), Placement.resized(old, new)


def _small(image):
    """The image, not above 256 pixels wide or high, without its noise."""
    height, width = image.shape[:2]
    shrinks = max(1.0, max(height, width) / LOOKED_AT)
    size = max(1, round(height / shrinks)), max(1, round(width / shrinks))
    return ndimage.gaussian_filter(of_size(image, size), (1, 1, 0))


def _border(image):
    """Pixels (n, C) of an image's border."""
    n, channels = BORDER, image.shape[2]
    sides = image[:n], image[-n:], image[:, :n], image[:, -n:]
    return np.concatenate([side.reshape(-1, channels) for side in sides])


def _widened(start, end, side, n):
    """An interval of a length around another's middle, within 0 and n as far as it fits."""
    start = (start + end - side) / 2
    start = min(max(start, 0), max(n - side, 0))
    return start, start + side
