"""What an image batch is: the accepted forms, their validation, lazy files, resizing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from .exceptions import InvalidImageError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

# Images or features above this are read anew, or live in a file, instead of in memory.
MAX_BYTES_IN_MEMORY = 2**32

# Pillow's modes whose arrays are the image as it was stored; the others are
# encodings (a palette, a bit mask) that have to be decoded first.
_DECODED_AS = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}


class ImageFiles(Sequence):
    """Image files that are read when they are looked at, and not before.

    scikit-learn can index it like an array, so a cross-validation fold over a
    folder is again an `ImageFiles` and costs no memory.

    Parameters
    ----------
    paths : sequence of str or path-like
        The files, in order. They are not opened here.

    Attributes
    ----------
    paths : ndarray of str, shape (n,), dtype object
    shape : tuple (n,)

    Examples
    --------
    >>> from skanomaly.images import ImageFiles
    >>> files = ImageFiles(["a.png", "b.png", "c.png"])
    >>> files[[2, 0]]
    ImageFiles(['c.png', 'a.png'])
    """

    def __init__(self, paths):
        if isinstance(paths, ImageFiles):
            paths = paths.paths
        if isinstance(paths, (str, os.PathLike)):
            raise InvalidImageError(
                "ImageFiles takes a sequence of paths, not one path; "
                "use [path], or ImageFiles.from_folder(path) for a folder",
                path=os.fspath(paths),
            )
        self.paths = np.array([os.fspath(path) for path in paths], dtype=object)

    @classmethod
    def from_folder(cls, folder, *, recursive=False):
        """All image files of a folder, sorted by path.

        Parameters
        ----------
        folder : str or path-like
        recursive : bool, default=False
            Look into sub-folders too.

        Returns
        -------
        ImageFiles

        Raises
        ------
        InvalidImageError
            If the folder does not exist or holds no file with an image's suffix.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InvalidImageError(
                "not a folder; check the path, or pass a list of files instead", path=str(folder)
            )
        found = folder.rglob("*") if recursive else folder.iterdir()
        paths = sorted(p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not paths:
            raise InvalidImageError(
                f"the folder holds no image; looked {'below' if recursive else 'directly in'} it "
                f"for files that end in {', '.join(sorted(IMAGE_SUFFIXES))}",
                path=str(folder),
            )
        return cls(paths)

    @property
    def shape(self):
        """(n,), by which scikit-learn knows what it can index."""
        return self.paths.shape

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, key):
        if isinstance(key, tuple):  # scikit-learn indexes arrays with (indices, ...)
            (key,) = (part for part in key if part is not Ellipsis)
        chosen = self.paths[key]
        return read_image(chosen) if isinstance(chosen, str) else ImageFiles(chosen)

    def __eq__(self, other):
        return isinstance(other, ImageFiles) and list(self.paths) == list(other.paths)

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(repr(path) for path in self.paths[:3])
        return f"ImageFiles([{shown}{', ...' if len(self) > 3 else ''}])"


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
            _check_pixel_count(image)
            if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
                raise InvalidImageError(
                    f"the file holds {image.n_frames} pages; save each as an image of its own, "
                    "or stack them as channels of one array"
                )
            return _decode(image)
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


def _decode(image):
    array = np.asarray(image.convert(_DECODED_AS.get(image.mode, image.mode)))
    # Big-endian 16-bit files come back byte-swapped, which torch does not take.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_pixel_count(image):
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise InvalidImageError(_too_large(f"{width} x {height} pixels"))


def _too_large(found):
    return (
        f"the image is too large to be read safely ({found}); if the file is to be trusted, "
        "raise PIL.Image.MAX_IMAGE_PIXELS, else remove it"
    )


def check_images(X):
    """Check that `X` is a batch of images, without reading any of them.

    Parameters
    ----------
    X : array, or sequence of arrays, PIL images or paths, or ImageFiles

    Returns
    -------
    sequence
        `X` itself, or its items as a list.

    Raises
    ------
    InvalidImageError
        If `X` is empty, one image instead of a batch, or nothing of the kind.
    """
    if isinstance(X, (str, os.PathLike)):
        raise InvalidImageError(
            "X is one path; pass a list of paths, or ImageFiles.from_folder(path) for a folder",
            path=os.fspath(X),
        )
    if isinstance(X, Image.Image):
        raise InvalidImageError("X is one PIL image, expected a batch; pass [image]")
    if hasattr(X, "iloc"):  # a pandas Series of paths
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.dtype == object or X.dtype.kind == "U":
            X = _one_dimensional(X)
        elif X.ndim not in (3, 4):
            hint = "; for one grey image pass X[np.newaxis]" if X.ndim == 2 else ""
            raise InvalidImageError(
                f"X is an array of shape {X.shape}, expected (n, H, W) or (n, H, W, C){hint}"
            )
    elif not isinstance(X, Sequence):
        raise InvalidImageError(
            f"X is a {type(X).__name__}, expected an array (n, H, W) or (n, H, W, C), a sequence "
            "of arrays, PIL images or paths, or ImageFiles"
        )
    if len(X) == 0:
        raise InvalidImageError("X holds no images; pass at least one")
    return X


def _one_dimensional(X):
    if X.ndim != 1:
        raise InvalidImageError(
            f"X is an array of {X.dtype} of shape {X.shape}; an array of images or paths has "
            "one dimension"
        )
    return X.tolist() if X.dtype.kind == "U" else list(X)


class ImageBatch(NamedTuple):
    """Consecutive images of one size, ready for a network."""

    pixels: object  #: tensor (n, C, h, w), float32 in [0, 1]
    sizes: list  #: each image's own (height, width), before any resizing


class ImageDataset:
    """The images of one `X` as networks see them: float32 in [0, 1], (C, h, w).

    It is a map-style PyTorch dataset (`dataset[i]` is one tensor) and a stream
    (`dataset.batches(8)`), and reads every image anew each time it is asked, so
    it costs no memory however many there are.

    Parameters
    ----------
    X : batch of images
        As `BaseImageDetector.fit` takes it.
    image_size : (int, int) or None, default=None
        Height and width to resize to (bilinear, anti-aliased); None keeps each
        image's own.
    value_range : (float, float) or None, default=None
        Values that mean black and white. None: 0 to the largest value of an
        unsigned 8- or 16-bit dtype, 0 to 1 for floats.
    n_channels : int or None, default=None
        Channels every image must have; None takes the first image's.
    min_size : int, default=1
        Pixels that height and width must have, in the image itself and as seen.
    required_size : (int, int) or None, default=None
        Height and width that every image must have.
    indices : array of int or None, default=None
        The images of `X` that belong to the dataset; None means all.

    Attributes
    ----------
    n_channels : int
    """

    def __init__(
        self,
        X,
        *,
        image_size=None,
        value_range=None,
        n_channels=None,
        min_size=1,
        required_size=None,
        indices=None,
    ):
        self.X = check_images(X)
        self.image_size = image_size
        self.value_range = value_range
        self.min_size = min_size
        self.required_size = required_size
        self.indices = np.arange(len(self.X)) if indices is None else np.asarray(indices)
        self.n_channels = n_channels
        if n_channels is None:
            self.n_channels = self._read(0).shape[2]

    def subset(self, indices):
        """The dataset of the images at these positions of this one."""
        return ImageDataset(
            self.X,
            image_size=self.image_size,
            value_range=self.value_range,
            n_channels=self.n_channels,
            min_size=self.min_size,
            required_size=self.required_size,
            indices=self.indices[indices],
        )

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        return self._to_pixels([self._read(i)])[0]

    def batches(self, batch_size, n_jobs=None):
        """Stream the images in order.

        Parameters
        ----------
        batch_size : int
            Images a batch; fewer where the size changes.
        n_jobs : int or None, default=None
            Threads that read the next images while the caller works on these.

        Yields
        ------
        ImageBatch
        """
        images = self._read_ahead(2 * batch_size, n_jobs)
        waiting = []
        for image in images:
            waiting.append(image)
            if len(waiting) == batch_size:
                yield from self._same_sized(waiting)
                waiting = []
        yield from self._same_sized(waiting)

    def raw_batches(self, batch_size, dtype):
        """Stream the images in order, as they are stored.

        Parameters
        ----------
        batch_size : int
            Images a batch; fewer where the size changes.
        dtype : numpy.dtype
            That they must have.

        Yields
        ------
        ndarray, shape (n, H, W, C)

        Raises
        ------
        InvalidImageError
            If an image cannot be used, or is of another dtype.
        """
        waiting = []
        for i in range(len(self)):
            image = self._read(i)
            if image.dtype != dtype:
                raise InvalidImageError(
                    f"holds {image.dtype}, expected {dtype}", index=int(self.indices[i])
                )
            if waiting and (len(waiting) == batch_size or image.shape != waiting[0].shape):
                yield np.stack(waiting)
                waiting = []
            waiting.append(image)
        yield np.stack(waiting)

    def in_memory(self, batch_size=16, n_jobs=None, max_bytes=MAX_BYTES_IN_MEMORY):
        """What `dataset[i]` gives, read once, for those who look many times.

        Parameters
        ----------
        batch_size : int, default=16
        n_jobs : int or None, default=None
            Threads that read images.
        max_bytes : int, default=MAX_BYTES_IN_MEMORY
            Most memory to take.

        Returns
        -------
        list of tensor, or the data set itself where the images take more
        """
        kept, n_bytes = [], 0
        for pixels, _ in self.batches(batch_size, n_jobs):
            kept += pixels
            n_bytes += pixels.nbytes
            if n_bytes > max_bytes:
                return self
        return kept

    def _same_sized(self, images):
        for _, group in groupby(images, key=lambda image: (image.shape, image.dtype)):
            group = list(group)
            yield ImageBatch(self._to_pixels(group), [image.shape[:2] for image in group])

    def _read_ahead(self, n_ahead, n_jobs):
        from joblib import effective_n_jobs

        with ThreadPoolExecutor(effective_n_jobs(n_jobs)) as pool:
            pending = deque()
            try:
                for i in range(len(self)):
                    pending.append(pool.submit(self._read, i))
                    if len(pending) > n_ahead:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, i):
        """One validated image, (H, W, C), in its own dtype."""
        index = int(self.indices[i])
        source = None
        try:
            if isinstance(self.X, ImageFiles):
                image, source = None, self.X.paths[index]
            else:
                image = self.X[index]
                source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
            image = _to_array(image if source is None else read_image(source))
            _check_size(image, self.min_size, self.required_size)
            _check_channels(image, self.n_channels)
            _check_values(image, self.value_range)
            return image
        except InvalidImageError as error:
            raise InvalidImageError(error.reason, index=index, path=source) from error.__cause__

    def _to_pixels(self, images):
        import torch
        import torch.nn.functional as F

        low, high = range_of(images[0].dtype, self.value_range)
        batch = torch.from_numpy(_stack(images)).permute(0, 3, 1, 2)
        batch = batch.to(torch.float32, memory_format=torch.contiguous_format)
        batch = batch.sub_(low).div_(high - low) if low else batch.div_(high - low)
        if self.image_size is not None and batch.shape[2:] != tuple(self.image_size):
            batch = F.interpolate(
                batch, self.image_size, mode="bilinear", align_corners=False, antialias=True
            )
        return batch


def _stack(images):
    """Images as one array that PyTorch takes: of the machine's byte order, uint8 or float32."""
    stacked = np.stack(images)
    return stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32)


def _to_array(image):
    if isinstance(image, Image.Image):
        _check_pixel_count(image)
        try:
            image = _decode(image)
        except Exception as error:  # a PIL image may not have been read yet
            raise InvalidImageError(f"is damaged or cut short ({error}); open it again") from error
    if not isinstance(image, np.ndarray):
        raise InvalidImageError(
            f"is a {type(image).__name__}, expected an array (H, W) or (H, W, C), a PIL image "
            "or a path"
        )
    if image.ndim not in (2, 3):
        raise InvalidImageError(f"has shape {image.shape}, expected (H, W) or (H, W, C)")
    if image.size == 0:
        raise InvalidImageError(f"has no pixels (shape {image.shape})")
    return image[..., np.newaxis] if image.ndim == 2 else image


def _check_size(image, min_size, required_size):
    height, width, channels = image.shape
    if required_size is not None and (height, width) != tuple(required_size):
        raise InvalidImageError(
            f"is {height} x {width} pixels, expected {required_size[0]} x {required_size[1]} as "
            "the others; to bring all to one size set image_size"
        )
    if min(height, width) < min_size:
        raise InvalidImageError(
            f"is {height} x {width} pixels with {channels} channels, smaller than the "
            f"{min_size} that the method needs; images are (H, W) or (H, W, C) and a batch has one "
            "dimension more"
        )


def _check_channels(image, n_channels):
    found = image.shape[2]
    if n_channels is not None and found != n_channels:
        hint = (
            "; images are (H, W, C), and this one looks like (C, H, W)"
            if image.shape[0] == n_channels
            else "; convert it, or fit on images of that kind"
        )
        raise InvalidImageError(f"has {found} channels, expected {n_channels}{hint}")


def range_of(dtype, value_range):
    """Pixel values that mean black and white, of images of a dtype."""
    if value_range is not None and dtype.kind in "buif":
        return value_range
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 0, np.iinfo(dtype).max
    if dtype.kind in "bf":
        return 0, 1
    raise InvalidImageError(
        f"holds {dtype}, whose black and white are not known; state them with "
        "value_range=(low, high), which numbers need to be real for"
    )


def _check_values(image, value_range):
    low, high = range_of(image.dtype, value_range)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        row, column, channel = np.argwhere(~np.isfinite(image))[0]
        raise InvalidImageError(
            f"holds {image[row, column, channel]} at row {row}, column {column}, channel "
            f"{channel}; repair the pixel or remove the image"
        )
    if value_range is None and image.dtype.kind != "f":
        return  # an unsigned dtype cannot leave its own range
    smallest, largest = image.min(), image.max()
    slack = 1e-6 * (high - low)  # what resizing in single precision may add
    if smallest < low - slack or largest > high + slack:
        raise InvalidImageError(
            f"holds values from {smallest:.8g} to {largest:.8g}, expected {low:g} to {high:g}; "
            "state what means black and white with value_range=(low, high)"
        )
