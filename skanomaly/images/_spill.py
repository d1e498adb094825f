"""Temporary files for what does not fit into memory, gone with the process however it ends."""

from __future__ import annotations

import errno
import os
import tempfile

import numpy as np

from ..exceptions import DiskSpaceError

_CANNOT_ALLOCATE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def allocated_file(n_bytes):
    """A temporary file without a name, whose space is taken before anything is written.

    It lies in `tempfile.gettempdir`, which is the folder that ``TMPDIR`` names.

    Parameters
    ----------
    n_bytes : int

    Returns
    -------
    binary file object

    Raises
    ------
    DiskSpaceError
        If the disk has no room for it.
    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115, as it is the caller's to close
        if n_bytes:
            _allocate(file, n_bytes)
        return file
    except OSError as error:
        raise no_space(error, n_bytes) from error


def allocated_array(shape, dtype=np.float32):
    """An array in such a file; writing to it cannot fail for want of space."""
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with allocated_file(n_bytes) as file:  # the mapping outlives the handle
        return np.memmap(file, dtype, "r+", shape=tuple(shape))


def no_space(error, n_bytes):
    """The error of a disk that cannot keep what does not fit into memory.

    Parameters
    ----------
    error : OSError
        What the system said.
    n_bytes : int
        That were to be kept.

    Returns
    -------
    DiskSpaceError
    """
    return DiskSpaceError(
        f"{n_bytes / 2**30:.1f} GiB that do not fit into memory cannot be kept in "
        f"{tempfile.gettempdir()} ({error.strerror or error}); make room there, or name another "
        "folder by the environment variable TMPDIR or as tempfile.tempdir"
    )


def _allocate(file, n_bytes):
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            return
        except OSError as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
    zeros = bytes(2**20)
    for start in range(0, n_bytes, len(zeros)):
        file.write(zeros[: n_bytes - start])
    file.flush()
    file.seek(0)


class TensorFile:
    """A sequence of float32 tensors in a temporary file, written once and read often.

    Parameters
    ----------
    n_bytes : int
        Space to take at once; more is taken as tensors are added.
    """

    def __init__(self, n_bytes=0):
        self._file = allocated_file(n_bytes)
        self._ends, self._shapes = [0], []
        self._values = None

    def append(self, tensor):
        """Write one more; before any is read."""
        array = np.ascontiguousarray(tensor.numpy(), dtype=np.float32)
        try:
            self._file.write(array.data)
        except OSError as error:
            raise no_space(error, self._ends[-1] + array.nbytes) from error
        self._ends.append(self._ends[-1] + array.nbytes)
        self._shapes.append(array.shape)

    def __len__(self):
        return len(self._shapes)

    def __getitem__(self, i):
        import torch

        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} tensors, and no number {i}")
        i %= len(self)
        values = self._mapped()[self._ends[i] // 4 : self._ends[i + 1] // 4]
        return torch.from_numpy(np.array(values).reshape(self._shapes[i]))

    def _mapped(self):
        if self._values is None:
            try:
                self._file.flush()
            except OSError as error:
                raise no_space(error, self._ends[-1]) from error
            self._values = np.memmap(self._file, np.float32, "r", shape=(self._ends[-1] // 4,))
        return self._values
