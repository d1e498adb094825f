"""Images that lie elsewhere: addresses such as ``s3://bucket/part.png``, opened by fsspec."""

from __future__ import annotations

import re
from contextlib import contextmanager

from ..exceptions import InvalidImageError

# Two letters or more, as one is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")

# What file systems call the state of a file beside its size; the first that there is counts.
_STATES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


def is_url(path):
    """Whether a path is an address for fsspec.

    Parameters
    ----------
    path : object

    Returns
    -------
    bool
    """
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def content_of_url(url):
    """The bytes of the file at an address.

    Raises
    ------
    InvalidImageError
        If it cannot be read.
    """
    with _opened(url) as (system, path):
        return system.cat_file(path)


def state_of_url(url):
    """What tells one state of a file at an address from another.

    Returns
    -------
    size : int
        Of the file, in bytes.
    state : object
        The time it was modified, or what else the file system has for that; None if nothing.

    Raises
    ------
    InvalidImageError
        If it cannot be told.
    """
    with _opened(url) as (system, path):
        found = system.info(path)
    return found["size"], next((found[name] for name in _STATES if name in found), None)


def urls_below(folder, recursive):
    """Files of a folder at an address.

    Returns
    -------
    dict of str by str
        Their addresses by their names below it.

    Raises
    ------
    InvalidImageError
        If there is no such folder or it cannot be looked into.
    """
    _, *around = folder.split("::")  # such as the archive that the folder is in
    with _opened(folder, what="folder") as (system, path):
        if not system.isdir(path):
            raise InvalidImageError(
                "not a folder; check the address, or pass a list of files instead", path=folder
            )
        names = system.find(path, maxdepth=None if recursive else 1)
        return {
            name.removeprefix(path).lstrip("/"): "::".join([system.unstrip_protocol(name), *around])
            for name in names
        }


@contextmanager
def _opened(url, what="file"):
    """The file system and the path there that an address stands for; its errors are ours."""
    try:
        from fsspec.core import url_to_fs

        yield url_to_fs(url)
    except InvalidImageError:
        raise
    except ImportError as error:  # fsspec itself, or what it needs for the address
        raise InvalidImageError(
            f"this address needs another package ({error}); install it", path=url
        ) from error
    except FileNotFoundError as error:
        reason = f"there is no such {what}; check the address"
        raise InvalidImageError(reason, path=url) from error
    except IsADirectoryError as error:
        raise InvalidImageError("a folder, expected a file; check the address", path=url) from error
    except Exception as error:  # every file system has errors of its own
        raise InvalidImageError(
            f"the {what} cannot be read ({type(error).__name__}: {error}); check the address, "
            "access and the network",
            path=url,
        ) from error
