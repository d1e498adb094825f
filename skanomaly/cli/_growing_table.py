"""A table of scores that grows, and can be gone on with."""

from __future__ import annotations

import os
from pathlib import Path

from .._rows import HEADER, as_csv, cells, read_rows
from ._output import CommandError


class GrowingTable:
    """A CSV file that rows are appended to, each batch whole and on the disk.

    Parameters
    ----------
    path : str or path-like

    Attributes
    ----------
    rows : list of dict
        Those that were there.
    """

    def __init__(self, path):
        self.path, self._file = Path(path), None
        self.rows, _ = read_rows(self.path)

    def open(self):
        """Begin to write, alone: mend the end of a file that is there, or begin one."""
        file = open(self.path, "ab")  # noqa: SIM115
        try:
            _lock(file, self.path)
            self.rows, size = read_rows(self.path)
            os.truncate(self.path, size)
        except BaseException:
            file.close()
            raise
        self._file = file
        if not size:
            self._write(HEADER)
        return self

    def append(self, rows):
        """Write rows; they are on the disk when it returns."""
        if self._file is None:
            self.open()
        self._write(as_csv(map(cells, rows)))

    def _write(self, content):
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self):
        """Let others write to it."""
        if self._file is not None:
            self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _lock(file, path):
    """Refuse a file that another process appends to."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CommandError(
            f"another process writes to {path}; end it, or name another file"
        ) from None
