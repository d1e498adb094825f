"""Files that are there whole or not at all: the one way in which the package writes a file."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress

MAX_LINKS = 40  # as Linux follows


@contextmanager
def replaced(path):
    """A file that takes the place of another once all is written, and not before.

    It is opened before the body runs, so that a name that cannot be written to costs
    no work. Symbolic links are followed and stay. A file that was there passes on its
    mode and, where that is allowed, its owner; a new one has the mode that the umask
    leaves. Devices, pipes and the process's own descriptors (``/dev/stdout``) cannot be
    replaced and are written to.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    binary file
        In the folder of the file that it replaces; gone if an error, an interrupt or an
        exit leaves the context.

    Raises
    ------
    OSError
        If there is no such folder, it or the file may not be written to, or the name is
        a folder's. The file that was there stays as it was.
    """
    place = _followed(os.fsdecode(path))
    if isinstance(place, int):
        with os.fdopen(os.dup(place), "wb") as file:
            yield file
        return
    found = _stat(place)
    if found is not None and not stat.S_ISREG(found.st_mode):
        with open(place, "wb") as file:
            yield file
        return
    part = os.path.join(os.path.dirname(place), f".skanomaly-{secrets.token_hex(8)}")
    try:
        with _created(part, found, place) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place)
    finally:
        with suppress(OSError):  # after success there is none
            os.unlink(part)


def _followed(path):
    """The place that a name stands for once links are followed, or an open descriptor."""
    given = path
    for _ in range(MAX_LINKS):
        folder, name = os.path.split(path)
        if not name:
            raise IsADirectoryError(errno.EISDIR, "the name of a file is expected", given)
        folder = os.path.realpath(folder)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and name.isdecimal():
            return int(name)
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return path
        path = os.path.join(folder, os.readlink(path))
    raise OSError(errno.ELOOP, "links lead in a circle; remove one of them", given)


def _stat(place):
    """What is there, or None; an error if nothing can be."""
    folder = os.path.dirname(place)
    if not os.path.isdir(folder):
        is_file = os.path.exists(folder)
        error = NotADirectoryError if is_file else FileNotFoundError
        reason = f"{'is a file' if is_file else 'there is no such folder'}, to write "
        code = errno.ENOTDIR if is_file else errno.ENOENT
        raise error(code, f"{reason}{os.path.basename(place)} into", folder)
    try:
        found = os.stat(place)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; add the name of a file", place)
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "the file may not be written to", place)
    return found


def _created(part, replaced, place):
    """A new file, with the mode and owner of the one that it will replace."""

    def opener(name, flags):
        return os.open(name, flags, 0o666 if replaced is None else 0o600)

    try:
        file = open(part, "xb", opener=opener)  # noqa: SIM115
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"no file may be made in the folder, to write {place}",
            os.path.dirname(part),
        ) from None
    except OSError as error:  # which would name the part
        raise OSError(error.errno, error.strerror, place) from None
    if replaced is not None and hasattr(os, "fchown"):
        with suppress(PermissionError):
            os.fchown(file.fileno(), replaced.st_uid, replaced.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(replaced.st_mode))
    return file
