"""Image files that are read when they are looked at, and not before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..exceptions import InvalidImageError
from ._reading import read_image

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


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
