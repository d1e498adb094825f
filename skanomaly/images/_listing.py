"""Which files of a folder are images."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from PIL import Image

from ..exceptions import InvalidImageError
from ._urls import is_url, urls_below

# What Pillow registers and is no picture of pixels, or none that it reads by itself.
_NO_STILL_IMAGES = {"BUFR", "EPS", "FLI", "GBR", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}

# Folders in which other systems keep what is no image of the user's.
_FOREIGN_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}


def _suffixes():
    Image.init()
    readable = {*Image.OPEN, "MPO"} - _NO_STILL_IMAGES  # MPO files are opened as JPEG
    return frozenset(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in readable
    )


#: Suffixes, in lower case, of the files that Pillow reads as still images.
IMAGE_SUFFIXES = _suffixes()


def is_listed(path):
    """Whether a file counts as an image of the folder that it lies in, by its name.

    Parameters
    ----------
    path : path-like
        Relative to the folder.

    Returns
    -------
    bool
    """
    return not _is_hidden_or_foreign(path) and _suffix(path) in IMAGE_SUFFIXES


def _is_hidden_or_foreign(path):
    *folders, _ = parts = PurePath(path).parts
    is_hidden = any(part.startswith(".") for part in parts)
    return is_hidden or any(folder in _FOREIGN_FOLDERS for folder in folders)


def _suffix(path):
    return PurePath(path).suffix.lower()


def image_paths(folder, recursive):
    """Image files of a folder, sorted by path; hidden ones are left out, links are followed.

    Raises
    ------
    InvalidImageError
        If the folder cannot be read or holds none.
    """
    if is_url(os.fspath(folder)):
        by_name = urls_below(folder, recursive)
        files = {n: by_name[n] for n in sorted(by_name) if not _is_hidden_or_foreign(n)}
    else:
        files = {path: path for path in _files_in(Path(folder), recursive)}
    paths = [path for name, path in files.items() if _suffix(name) in IMAGE_SUFFIXES]
    if not paths:
        found = ", ".join(sorted(PurePath(name).name for name in files)[:3])
        raise InvalidImageError(
            f"the folder holds no image; looked {'below' if recursive else 'directly in'} it "
            f"for files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
            + (f"; found {found}" if found else ""),
            path=str(folder),
        )
    return paths


def _files_in(folder, recursive):
    if not folder.is_dir():
        raise InvalidImageError(
            "not a folder; check the path, or pass a list of files instead", path=str(folder)
        )
    return sorted(_files_below(folder, recursive, ()))


def _files_below(folder, recursive, above):
    """Files of a folder; `above` are the folders that led to it, lest a link goes round."""
    above = (*above, os.path.realpath(folder))
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InvalidImageError(
            f"the folder cannot be read ({error.strerror}); change its permissions or leave it out",
            path=str(folder),
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue  # ._x.png is macOS's companion of x.png
        if not entry.is_dir():
            yield Path(entry.path)
            continue
        if not recursive or entry.name in _FOREIGN_FOLDERS:
            continue
        if os.path.realpath(entry.path) not in above:
            yield from _files_below(entry.path, recursive, above)
