"""Image files that come into a folder, each when it is complete and not before."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

from .._rows import stamp_from, stamp_of
from ..exceptions import InvalidImageError
from ..images import is_listed, read_image

# Seconds for which a new folder is looked at.
NEW_FOR = 5.0


class Arrival(NamedTuple):
    """A file that is complete, or of which nothing will come any more."""

    name: str  #: below the folder
    stamp: tuple  #: bytes, and when it was modified
    image: object  #: ndarray, or None if it cannot be read
    error: str | None


class _Pending:
    """A file that is waited for: as it is, since when, and when to look again."""

    def __init__(self, stamp, now):
        self.stamp, self.since, self.next_look, self.error = stamp, now, now, None


class Arrivals:
    """Files of a folder that are new, or have changed, and are complete.

    A file is complete that can be decoded, and has not changed for `settle` seconds, or was
    renamed into place (its status is then newer than its content). One that cannot be decoded is
    given up `patience` seconds after it last changed, and is looked at again if it changes.

    Parameters
    ----------
    folder : str or path-like
    is_done : callable
        Of a name and a stamp: whether the file was taken in this state before.
    settle, patience : float
        Seconds.
    """

    def __init__(self, folder, is_done, settle=1.0, patience=10.0):
        self.folder, self.is_done = Path(folder), is_done
        self.settle, self.patience = settle, max(patience, settle)
        self._pending, self._given_up, self._new_folders = {}, {}, {}

    def __len__(self):
        return len(self._pending)

    def look(self, folder=None):
        """Notice all files that are there, or below a folder of it."""
        for above, folders, names in os.walk(folder or self.folder):
            folders.sort()
            for name in sorted(names):
                self.notice(os.path.join(above, name))

    def hear_of(self, path):
        """Notice a file, or what is in a folder, of which there was word.

        Of files that come into a new folder before the system has begun to watch it there is
        none, so that it is looked at for a while.
        """
        if os.path.isdir(path):
            self._new_folders[path] = time.monotonic() + NEW_FOR
        else:
            self.notice(path)

    def notice(self, path):
        """Wait for a file."""
        name = os.path.relpath(path, self.folder)
        if is_listed(name):
            self._pending.setdefault(name, None)

    def ready(self, limit):
        """Up to so many files that are complete by now; they are waited for no longer.

        Returns
        -------
        list of Arrival
        """
        for folder, until in list(self._new_folders.items()):
            self.look(folder)
            if time.monotonic() > until:
                del self._new_folders[folder]
        found = []
        for name in list(self._pending):
            arrival = self._looked_at(name)
            if arrival is not None:
                found.append(arrival)
                if len(found) == limit:
                    break
        return found

    def _looked_at(self, name):
        path, now = self.folder / name, time.monotonic()
        try:
            status = os.stat(path)
        except OSError:  # gone again
            del self._pending[name]
            return None
        stamp = stamp_from(status)
        if self._given_up.get(name) == stamp or self.is_done(name, stamp):
            del self._pending[name]
            return None
        pending = self._pending[name]
        if pending is None or pending.stamp != stamp:
            pending = self._pending[name] = _Pending(stamp, now)
        if now < pending.next_look or not (
            self._may_be_whole(status) or now - pending.since >= self.settle
        ):
            return None
        image, error = _read(path)
        if stamp_of(path) != stamp:  # written to while it was read
            return None
        if error is not None and now - pending.since < self.patience:
            pending.next_look = now + self.settle
            return None
        del self._pending[name]
        if error is not None:
            self._given_up[name] = stamp
        return Arrival(name, stamp, image, error)

    def _may_be_whole(self, status):
        """Whether nobody can have written to a file of late: renamed into place, or old."""
        was_renamed = status.st_ctime_ns > status.st_mtime_ns
        return was_renamed or time.time() - status.st_mtime > self.settle


def _read(path):
    try:
        return read_image(path), None
    except InvalidImageError as error:
        return None, error.reason
