"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager


@contextmanager
def replaced(path):
    """A file that takes the place of another once all is written, and not before.

    Parameters
    ----------
    path : pathlib.Path

    Yields
    ------
    binary file
        In the same folder; gone if an error leaves the context.
    """
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
