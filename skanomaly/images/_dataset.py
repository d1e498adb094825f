"""The images of a batch as networks see them."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..exceptions import InvalidImageError
from ._checks import (
    check_channels,
    check_images,
    check_size,
    check_values,
    checked_image_size,
    checked_value_range,
    path_of,
    range_of,
    to_array,
)
from ._lazy import LazyImages
from ._reading import read_size
from ._resizing import as_pixels, seen_pixels
from ._spill import TensorFile
from ._threads import n_threads_of
from ._urls import is_url, state_of_url

# Images or features above this live in a file instead of in memory.
MAX_BYTES_IN_MEMORY = 2**32

# What may lie ready for the batches to come.
_MAX_BYTES_AHEAD = 2**27


class ImageBatch(NamedTuple):
    """Consecutive images that a network sees in one size."""

    pixels: object  #: tensor (n, C, h, w), float32 in [0, 1]
    sizes: list  #: each image's own (height, width), before any resizing


class ImageDataset:
    """The images of one `X` as networks see them: float32 in [0, 1], (C, h, w).

    It is a map-style PyTorch dataset (`dataset[i]` is one tensor) and a stream
    (`dataset.batches(8)`), and reads every image anew each time it is asked, so
    it costs no memory however many there are. Images are resized one by one as they
    are read, so that a batch holds what the network sees and no more.

    Parameters
    ----------
    X : batch of images
        As `BaseImageDetector.fit` takes it.
    image_size : int, (int, int) or None, default=None
        Height and width to resize to (bilinear, anti-aliased); None keeps each
        image's own.
    value_range : (float, float) or None, default=None
        Values that mean black and white. None: 0 to the largest value of an
        unsigned 8- or 16-bit dtype, 0 to 1 for floats.
    n_channels : int or None, default=None
        Channels every image must have; None takes the first image's.
    min_size : int, default=1
        Pixels that height and width must have, as the network sees them.
    required_size : (int, int) or None, default=None
        Height and width that every image must have.
    indices : array of int or None, default=None
        The images of `X` that belong to the dataset; None means all.

    Attributes
    ----------
    n_channels : int

    Raises
    ------
    ValueError
        If `image_size` or `value_range` cannot be; nothing has been read then.
    InvalidImageError
        If `X` is no batch of images, or its first image cannot be used.
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
        self.image_size = checked_image_size(image_size)
        self.value_range = checked_value_range(value_range)
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
        return self._as_pixels(self._seen(i)[0])

    def as_stored(self, i):
        """Image i as it is: array (H, W, C) of its own dtype.

        Raises
        ------
        InvalidImageError
            If it cannot be used; it names the image.
        """
        return self._read(i)

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        index = int(self.indices[i])
        return self.X.path_at(index) if isinstance(self.X, LazyImages) else path_of(self.X[index])

    def index_of(self, i):
        """The number that errors call image i by."""
        index = int(self.indices[i])
        return self.X.index_of(index) if isinstance(self.X, LazyImages) else index

    def size_of(self, i):
        """Height and width of image i itself; of a file only its head is read."""
        index = int(self.indices[i])
        if isinstance(self.X, np.ndarray):
            return self.X.shape[1:3]
        try:
            size = self.X.size_at(index) if isinstance(self.X, LazyImages) else None
            if size is not None:
                return size
            item = self.X[index]
            return to_array(item).shape[:2] if path_of(item) is None else read_size(item)
        except InvalidImageError as error:
            path = self.path_at(i) or error.path
            raise InvalidImageError(
                error.reason, index=self.index_of(i), path=path
            ) from error.__cause__

    def batches(self, batch_size, n_jobs=None):
        """Stream the images in order.

        Parameters
        ----------
        batch_size : int
            Images a batch; fewer where the size that the network sees changes.
        n_jobs : int or None, default=None
            Threads that read and resize the next images while the caller works on
            these; None is one.

        Yields
        ------
        ImageBatch
        """
        waiting = []
        for image in self._read_ahead(self._seen, batch_size, n_jobs):
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
        for i, image in enumerate(self._read_ahead(self._read, batch_size)):
            if image.dtype != dtype:
                raise InvalidImageError(
                    f"holds {image.dtype}, expected {dtype}", index=self.index_of(i)
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
        list of tensor, or TensorFile
            In a temporary file without a name where they take more.

        Raises
        ------
        InvalidImageError
            If an image cannot be used.
        DiskSpaceError
            If the disk has no room for them.
        """
        kept, n_bytes = [], 0
        for pixels, _ in self.batches(batch_size, n_jobs):
            n_bytes += pixels.nbytes
            if isinstance(kept, list) and n_bytes > max_bytes:
                kept = self._moved_to_file(kept, pixels[0].nbytes)
            for image in pixels:
                kept.append(image)
        return kept

    def digest(self):
        """What says which images these are: files by name, size and time, others by content.

        Returns
        -------
        str
        """
        digest = hashlib.sha256(repr((self.image_size, self.value_range)).encode())
        for index in map(int, self.indices):
            path = self._file_of(index)
            if path is None:
                image = to_array(self.X[index])
                digest.update(f"{image.shape} {image.dtype}".encode())
                digest.update(np.ascontiguousarray(image))
            else:
                digest.update(repr(_state_of(path)).encode())
        return digest.hexdigest()

    def _file_of(self, index):
        return self.X.file_of(index) if isinstance(self.X, LazyImages) else path_of(self.X[index])

    def _moved_to_file(self, images, n_bytes):
        """The images in a file, which has room for all if they are of one size."""
        file = TensorFile(0 if self.image_size is None else n_bytes * len(self))
        for image in images:
            file.append(image)
        return file

    def _same_sized(self, images):
        for _, group in groupby(images, key=lambda image: image[0].shape):
            stored, sizes = zip(*group)
            yield ImageBatch(self._stacked(stored), list(sizes))

    def _stacked(self, images):
        import torch

        first = self._as_pixels(images[0])
        batch = torch.empty((len(images), *first.shape))
        batch[0] = first
        for pixels, image in zip(batch[1:], images[1:]):
            pixels.copy_(self._as_pixels(image))
        return batch

    def _read_ahead(self, read, batch_size, n_jobs=None):
        """Yield what `read` gives for each image, while others are read."""
        if len(self) == 1:  # a thread would take a millisecond to begin
            yield read(0)
            return
        n_threads = n_threads_of(n_jobs)
        with ThreadPoolExecutor(n_threads) as pool:
            pending, n_ahead = deque(), n_threads
            try:
                for i in range(len(self)):
                    pending.append(pool.submit(read, i))
                    while len(pending) > n_ahead:
                        found = pending.popleft().result()
                        image = found[0] if isinstance(found, tuple) else found
                        fitting = _MAX_BYTES_AHEAD // image.nbytes
                        n_ahead = min(2 * batch_size, max(n_threads, fitting))
                        yield found
                while pending:
                    yield pending.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, i):
        """One validated image, (H, W, C), in its own dtype."""
        index = int(self.indices[i])
        path = None
        try:
            if isinstance(self.X, LazyImages):
                path = self.X.path_at(index)
            item = self.X[index]
            path = path_of(item) if path is None else path
            image = to_array(item)
            check_size(image, self.min_size, self.required_size, self.image_size)
            check_channels(image, self.n_channels)
            check_values(image, self.value_range)
            return image
        except InvalidImageError as error:
            path = error.path if path is None else path
            index = self.index_of(i)
            raise InvalidImageError(error.reason, index=index, path=path) from error.__cause__

    def _seen(self, i):
        """One image and its own size: as the network sees it, or, of its own size, as stored.

        What is not resized is brought to single precision when its batch is made.
        """
        image = self._read(i)
        size = image.shape[:2]
        if self.image_size is not None:
            low, high = range_of(image.dtype, self.value_range)
            image = seen_pixels(image, self.image_size, low, high)
        return image, size

    def _as_pixels(self, image):
        if self.image_size is not None:
            return image
        return as_pixels(image, *range_of(image.dtype, self.value_range))


def _state_of(path):
    """What tells a file, as it is now, from others."""
    if is_url(path):
        return path, *state_of_url(path)
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
