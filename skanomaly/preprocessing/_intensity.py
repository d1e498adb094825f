"""Values of pixels: illumination, histograms, channels, a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from numbers import Real

import numpy as np
from scipy import ndimage

from .._parameters import parameter
from .._sklearn import Interval, Numbers, StrOptions
from ..exceptions import InvalidImageError
from ..images import converted, range_of, traced_conversion
from ._pixels import as_dtype
from ._placement import Placement
from ._transformer import BaseImageTransformer


class CorrectIllumination(BaseImageTransformer):
    """Take out how the light falls: what is dark because of the lamp becomes as bright as the rest.

    Every pixel is divided by the light that falls there, relative to its mean over the image.

    Parameters
    ----------
    method : {"flat_field", "background"}
        Where the light is known from. "flat_field" is the mean of good images, smoothed, for a
        lamp and a camera that stand still; all images are of one size then. "background" is
        each image itself, smoothed, for light that changes; it also takes out large defects
        that are darker or brighter.
    sigma : float
        Standard deviation of the Gaussian that smooths, as a share of the image's shorter side.
    value_range : (float, float) or None
        Pixel values that mean black and white. None: by dtype for uint8 and uint16, (0, 1) for
        floats. What would lie beyond white becomes white.

    Attributes
    ----------
    flat_field_ : ndarray, shape (H, W, C), float32
        The light, with a mean of 1 in each channel, if `method` is "flat_field".
    fitted_parameters_ : dict
        Values in `fit` of the parameters that what is learnt depends on.

    Notes
    -----
    It suits surfaces and plain backgrounds. A part with dark and bright regions of its own at a
    fixed place is in the flat field too, and taken out of the images as if it were light.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import CorrectIllumination
    >>> light = np.linspace(0.5, 1, 64)
    >>> X = np.uint8(np.full((5, 64, 64), 120) * light)
    >>> int(np.ptp(X[0])), int(np.ptp(CorrectIllumination().fit_transform(X)[0]))
    (60, 4)
    """

    method: str = parameter("flat_field", StrOptions({"flat_field", "background"}))
    sigma: float = parameter(0.05, Interval(Real, 0, 1, closed="neither"))
    value_range: tuple[float, float] | None = parameter(
        None, Numbers(Real, -np.inf, length=2, ascending=True), None
    )

    @property
    def _learns(self):
        return self.method == "flat_field"

    def _learn(self, images):
        first = images[0]
        total = np.zeros(first.shape)
        for i, image in enumerate(images):
            if image.shape != first.shape:
                raise images.error(
                    i,
                    f"has shape {image.shape} and the first one {first.shape}; a flat field is of "
                    'images of one size, method="background" takes any',
                )
            total += image - self._black(image)
        if not total.any(axis=(0, 1)).all():
            raise images.error(0, "is black, as are all others, in a channel; there is no light")
        self.flat_field_ = self._light(total / len(images)).astype(np.float32)

    def _apply(self, image):
        black, white = range_of(image.dtype, self.value_range)
        values = image.astype(np.float32) - np.float32(black)
        if self.method == "flat_field":
            if image.shape != self.flat_field_.shape:
                raise InvalidImageError(
                    f"has shape {image.shape}, expected {self.flat_field_.shape} as the flat field"
                )
            values /= self.flat_field_
        else:
            values /= self._light(values)
        values += np.float32(black)
        return as_dtype(np.minimum(values, np.float32(white)), image.dtype), None

    def _black(self, image):
        return range_of(image.dtype, self.value_range)[0]

    def _light(self, values):
        sigma = self.sigma * min(values.shape[:2])
        smooth = ndimage.gaussian_filter(values, (sigma, sigma, 0))
        mean = smooth.mean(axis=(0, 1))
        # Where there is no light nothing can be told; a thousandth bounds what noise becomes.
        return np.maximum(smooth, 1e-3 * mean + np.finfo(np.float32).tiny) / np.where(mean, mean, 1)


class EqualizeHistogram(BaseImageTransformer):
    """Spread the values of each image over the whole range, so that faint structure shows.

    Of images with three channels the brightness is equalised (V of HSV), and colours stay;
    of others each channel.

    Parameters
    ----------
    method : {"adaptive", "global"}
        By the histogram of each pixel's surroundings, with its contrast limited (CLAHE), or by
        that of the whole image.
    clip_limit : float
        Of the adaptive method: the higher, the more contrast; 1 limits nothing.
    value_range : (float, float) or None
        Pixel values that mean black and white. None: by dtype for uint8 and uint16, (0, 1) for
        floats.

    Notes
    -----
    It makes noise stronger where nothing is to be seen, and takes out how bright an image is,
    which may be what is wrong with a part.

    References
    ----------
    K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV,
    Academic Press, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import EqualizeHistogram
    >>> X = np.tile(np.arange(100, 164, dtype=np.uint8), (2, 64, 1))
    >>> int(np.ptp(X[0])), int(np.ptp(EqualizeHistogram(method="global").fit_transform(X)[0]))
    (63, 251)
    """

    method: str = parameter("adaptive", StrOptions({"adaptive", "global"}))
    clip_limit: float = parameter(0.01, Interval(Real, 0, 1, closed="right"))
    value_range: tuple[float, float] | None = parameter(
        None, Numbers(Real, -np.inf, length=2, ascending=True), None
    )

    def _apply(self, image):
        black, white = range_of(image.dtype, self.value_range)
        values = ((image - np.float64(black)) / (white - black)).clip(0, 1)
        values = black + (white - black) * self._equalized(values)
        return as_dtype(values, image.dtype), None

    def _equalized(self, values):
        from skimage.color import hsv2rgb, rgb2hsv

        if values.shape[2] == 3:
            hsv = rgb2hsv(values)
            hsv[..., 2] = self._of_channel(hsv[..., 2])
            return hsv2rgb(hsv)
        return np.dstack([self._of_channel(channel) for channel in np.moveaxis(values, 2, 0)])

    def _of_channel(self, channel):
        from skimage.exposure import equalize_adapthist, equalize_hist

        if np.ptp(channel) == 0:
            return channel
        if self.method == "global":
            return equalize_hist(channel)
        return equalize_adapthist(channel, clip_limit=self.clip_limit)


class ToGrey(BaseImageTransformer):
    """One channel: RGB is weighted by ITU-R BT.601, alpha is dropped.

    Files are converted as they are read by ``ImageFiles(paths, convert="grey")``, which does the
    same.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import ToGrey
    >>> ToGrey().fit_transform(np.zeros((2, 8, 8, 3), np.uint8))[0].shape
    (8, 8, 1)
    """

    def _apply(self, image):
        return np.atleast_3d(converted(image, "grey")), None

    def _traced(self, images):
        return traced_conversion(images, "grey")


class ToRGB(BaseImageTransformer):
    """Three channels: grey is repeated, alpha is dropped.

    Files are converted as they are read by ``ImageFiles(paths, convert="rgb")``, which does the
    same.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import ToRGB
    >>> ToRGB().fit_transform(np.zeros((2, 8, 8), np.uint8))[0].shape
    (8, 8, 3)
    """

    def _apply(self, image):
        return converted(image, "rgb"), None

    def _traced(self, images):
        return traced_conversion(images, "rgb")


class ImageTransformer(BaseImageTransformer):
    """A function of one's own, from an image to an image.

    Parameters
    ----------
    function : callable
        Takes an array (H, W, C) of the image's dtype, a copy, and gives one (H, W) or (H, W, C).
        It is called from several threads, and must be importable where the transformer is
        unpickled; `skanomaly.save` writes no functions.
    keeps_pixels : bool
        Whether every pixel stays in its place. If not, maps cannot be brought back to the
        original images, and a `TransformedImageDetector` refuses the transformer.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import ImageTransformer
    >>> X = np.full((2, 8, 8), 10, np.uint8)
    >>> int(ImageTransformer(np.invert).fit_transform(X)[0][0, 0])
    245
    """

    function: Callable = parameter(MISSING, callable, kw_only=False)
    keeps_pixels: bool = parameter(True, bool)

    def _apply(self, image):
        try:
            made = np.asarray(self.function(image.copy()))
        except InvalidImageError:
            raise
        except Exception as error:  # of whatever kind the function raises
            raise InvalidImageError(
                f"cannot be transformed by {self._name()}: {type(error).__name__}: {error}"
            ) from error
        if made.ndim not in (2, 3) or not made.size:
            raise InvalidImageError(
                f"became an array of shape {made.shape} by {self._name()}, expected (H, W) or "
                "(H, W, C)"
            )
        if self.keeps_pixels and made.shape[:2] != image.shape[:2]:
            raise InvalidImageError(
                f"became {made.shape[0]} x {made.shape[1]} pixels by {self._name()} and was "
                f"{image.shape[0]} x {image.shape[1]}; a function that moves pixels needs "
                "keeps_pixels=False"
            )
        if self.keeps_pixels:
            return np.atleast_3d(made), None
        return np.atleast_3d(made), Placement.unknown(image.shape[:2], made.shape[:2])

    def _name(self):
        return getattr(self.function, "__name__", repr(self.function))
