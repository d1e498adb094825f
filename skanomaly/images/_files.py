"""Image files that are read when they are looked at, and not before."""

from __future__ import annotations

import os

import numpy as np

from ..exceptions import InvalidImageError
from ._conversion import check_convert
from ._lazy import LazyImages
from ._listing import image_paths
from ._preview import preview
from ._reading import read_image, read_size
from ._threads import n_threads_of


class ImageFiles(LazyImages):
    """Image files that are read when they are looked at, and not before.

    scikit-learn can index it like an array, so a cross-validation fold over a
    folder is again an `ImageFiles` and costs no memory. Files of one kind are
    joined by ``+``.

    Parameters
    ----------
    paths : sequence of str or path-like
        The files, in order. They are not opened here. A str may be an address that
        fsspec opens: ``s3://bucket/part.png``, ``gs://``, ``https://``; the package that it
        needs, such as s3fs, is to be installed.
    convert : {"rgb", "grey"} or None, default=None
        Channels that every image is converted to when it is read, see `read_image`;
        None converts nothing, or as `paths` do if they are an `ImageFiles`.

    Attributes
    ----------
    paths : ndarray of str, shape (n,), dtype object
    convert : {"rgb", "grey"} or None
    shape : tuple (n,)

    Examples
    --------
    >>> from skanomaly.images import ImageFiles
    >>> files = ImageFiles(["a.png", "b.png", "c.png"])
    >>> files[[2, 0]]
    ImageFiles(['c.png', 'a.png'])
    >>> files[:1] + ImageFiles(["d.png"])
    ImageFiles(['a.png', 'd.png'])
    >>> ImageFiles(files, convert="grey")[1:]
    ImageFiles(['b.png', 'c.png'], convert='grey')
    """

    def __init__(self, paths, *, convert=None):
        check_convert(convert)
        if isinstance(paths, ImageFiles):
            convert = paths.convert if convert is None else convert
            paths = paths.paths
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise InvalidImageError(
                "ImageFiles takes a sequence of paths, not one path; "
                "use [path], or ImageFiles.from_folder(path) for a folder",
                path=os.fsdecode(paths),
            )
        self.convert = convert
        self.paths = np.array([_path(path, i) for i, path in enumerate(paths)], dtype=object)

    @classmethod
    def from_folder(cls, folder, *, recursive=False, convert=None):
        """All image files of a folder, sorted by path.

        Taken are the suffixes of still images that the installed Pillow reads.
        Left out are hidden files and folders, whose names start with a dot
        (``._x.png`` is what macOS puts beside ``x.png``), and the folders
        ``__MACOSX``, ``@eaDir`` and ``$RECYCLE.BIN``. Links to folders are followed.

        Parameters
        ----------
        folder : str or path-like
            Or an address, ``s3://bucket/parts``.
        recursive : bool, default=False
            Look into sub-folders too.
        convert : {"rgb", "grey"} or None, default=None
            As for the class.

        Returns
        -------
        ImageFiles

        Raises
        ------
        InvalidImageError
            If the folder does not exist, cannot be read or holds no file with an
            image's suffix.
        """
        return cls(image_paths(folder, recursive), convert=convert)

    def readable(self, n_jobs=None):
        """Which of the files can be read; each is read once, in full.

        Parameters
        ----------
        n_jobs : int or None, default=None
            Threads that read.

        Returns
        -------
        files : ImageFiles
            Those that can be read, in order.
        errors : list of InvalidImageError
            One for each of the others, with its ``index`` here, ``path`` and ``reason``.

        Examples
        --------
        >>> from skanomaly.images import ImageFiles
        >>> files, errors = ImageFiles(["missing.png"]).readable()
        >>> len(files), [str(error) for error in errors]
        (0, ['image 0 (missing.png): there is no such file; check the path'])
        """
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(n_threads_of(n_jobs)) as pool:
            errors = list(pool.map(self._error_of, range(len(self))))
        chosen = [i for i, error in enumerate(errors) if error is None]
        return self[chosen], [error for error in errors if error is not None]

    def _error_of(self, i):
        try:
            self[i]
        except InvalidImageError as error:
            return InvalidImageError(error.reason, index=i, path=error.path)
        return None

    def path_at(self, i):
        """The path of image i."""
        return self.paths[i]

    def file_of(self, i):
        """The same, as its content is the image."""
        return self.paths[i]

    def size_at(self, i):
        """Height and width of image i, from its file's head."""
        return read_size(self.paths[i])

    def __len__(self):
        return len(self.paths)

    def _image(self, i):
        return read_image(self.paths[i], convert=self.convert)

    def _subset(self, indices):
        return ImageFiles(self.paths[indices], convert=self.convert)

    def __add__(self, other):
        if not isinstance(other, ImageFiles):
            return NotImplemented
        if self.convert != other.convert:
            raise ValueError(
                f"files with convert={self.convert!r} and files with convert={other.convert!r} "
                "cannot be joined; state one of them with ImageFiles(files, convert=...)"
            )
        return ImageFiles([*self.paths, *other.paths], convert=self.convert)

    def __eq__(self, other):
        return (
            isinstance(other, ImageFiles)
            and list(self.paths) == list(other.paths)
            and self.convert == other.convert
        )

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(repr(path) for path in self.paths[:3])
        convert = "" if self.convert is None else f", convert={self.convert!r}"
        return f"ImageFiles([{shown}{', ...' if len(self) > 3 else ''}]{convert})"

    def _repr_html_(self):
        return preview(self.paths, self.convert)


def _path(path, i):
    if isinstance(path, (str, os.PathLike)):
        return os.fsdecode(path)
    raise InvalidImageError(
        f"is a {type(path).__name__}, expected a path; images of other kinds may be passed as a "
        "list instead of ImageFiles",
        index=i,
    )
