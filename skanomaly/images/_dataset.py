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
from ._checks import check_channels, check_images, check_size, check_values, range_of, to_array
from ._files import ImageFiles
from ._reading import read_image

# Images or features above this are read anew, or live in a file, instead of in memory.
MAX_BYTES_IN_MEMORY = 2**32


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

    def digest(self):
        """What says which images these are: files by name, size and time, others by content.

        Returns
        -------
        str
        """
        digest = hashlib.sha256(repr((self.image_size, self.value_range)).encode())
        for index in map(int, self.indices):
            path = self._path(index)
            if path is None:
                image = to_array(self.X[index])
                digest.update(f"{image.shape} {image.dtype}".encode())
                digest.update(np.ascontiguousarray(image))
            else:
                status = os.stat(path)
                found = os.path.abspath(path), status.st_size, status.st_mtime_ns
                digest.update(repr(found).encode())
        return digest.hexdigest()

    def _path(self, index):
        """The file that an image of `X` comes from, or None."""
        image = self.X.paths[index] if isinstance(self.X, ImageFiles) else self.X[index]
        return os.fspath(image) if isinstance(image, (str, os.PathLike)) else None

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
            image = to_array(image if source is None else read_image(source))
            check_size(image, self.min_size, self.required_size)
            check_channels(image, self.n_channels)
            check_values(image, self.value_range)
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
