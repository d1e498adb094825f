"""The files of a folder: images, masks, and what is left out, each with its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..exceptions import InvalidImageError
from ..images import IMAGE_SUFFIXES
from ._folder_names import COLOUR, POINTS, fold, uncased

# Folders in which systems keep what is no image of the user's.
_FOREIGN = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}
_MASK_ENDINGS = ("_mask", "-mask", "_gt", "-gt", "_label", "-label")


class File(NamedTuple):
    """An image or a mask.

    `place` is what an image and its masks have in common: the folders below the
    split, and the file's name without suffix, all without regard to case.
    """

    path: Path
    place: tuple
    defect_type: str | None = None  # "good" for normal images, None for masks


def place_of(folders, stem):
    """What an image and its mask share: the names of the folders above it, and its own stem."""
    return (*(uncased(name) for name in folders if fold(name) != COLOUR), uncased(stem))


def image_stems(mask_stem):
    """The names that the image of a mask may have, the likeliest first."""
    endings = [ending for ending in _MASK_ENDINGS if mask_stem.endswith(ending)]
    return [mask_stem, *(mask_stem.removesuffix(ending) for ending in endings)]


class FileTree:
    """What lies below a folder.

    Parameters
    ----------
    root : Path
    names : FolderNames

    Attributes
    ----------
    masks : list of File
        Those of the folders visited so far.
    mask_folders : list of Path
        Where they lie.
    has_masks : bool
        Whether there are masks, be they wanted or not.
    left_out : dict
        Reasons by path relative to the root; a folder's name ends in "/".
    """

    def __init__(self, root, names):
        self.root, self.names = root, names
        self.masks, self.mask_folders, self.has_masks = [], [], False
        self.left_out = {}

    def list(self, folder):
        """Image files and folders in a folder; what is neither is left out."""
        files, folders = [], []
        for path in _entries(folder):
            if path.name.startswith(".") or path.name in _FOREIGN:
                self.leave_out(path, "hidden, or a system's own")
            elif path.is_dir():
                folders.append(path)
            elif not path.exists():
                self.leave_out(path, "a link to nothing")
            elif path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
                self.leave_out(path, "not an image, by its suffix")
            else:
                files.append(path)
        return files, folders

    def images(self, folder):
        """Images in and below a folder, as `File`; masks below it are kept apart."""
        return self._walk(folder, (folder.name,), _above(folder), self._list_images)

    def add_masks(self, folder, below=()):
        """Take all images in and below a folder as masks, if they are wanted."""
        self.has_masks = True
        if self.names.masks is None:
            self.leave_out(folder, "masks, and mask_folder is None")
        elif not self.names.is_wanted_mask_folder(folder.name):
            self.leave_out(folder, "not the mask_folder")
        else:
            self.add_masks_of(folder, below)

    def add_masks_of(self, folder, below=()):
        """Take the files of a folder for masks."""
        self.mask_folders.append(folder)
        self.masks += self._walk(folder, below, _above(folder), self._list_masks)

    def leave_out(self, path, reason):
        """Note why a file or folder is left out."""
        self.left_out[self.name(path) + ("/" if path.is_dir() else "")] = reason

    def name(self, path):
        """A path relative to the root, with "/" on every system."""
        return path.relative_to(self.root).as_posix()

    def _walk(self, folder, below, seen, list_):
        """Files below a folder, each real folder once: links may lead to it again, or up."""
        real = os.path.realpath(folder)
        if real in seen:
            other = seen[real]
            which = "a folder above it" if other is None else f"{self.name(other)}, which is read"
            self.leave_out(folder, f"a link to {which}")
            return []
        seen[real] = folder
        files, folders = list_(folder, below)
        found = [File(path, place_of(below, path.stem)) for path in files]
        for path in folders:
            found += self._walk(path, (*below, path.name), seen, list_)
        return found

    def _list_masks(self, folder, below):
        return self.list(folder)

    def _list_images(self, folder, below):
        """As `list`, without masks and what MVTec 3D-AD has beside colour images."""
        files, folders = self.list(folder)
        has_colour = any(fold(path.name) == COLOUR for path in folders)
        kept = []
        for path in folders:
            if self.names.is_mask_folder(path.name):
                self.add_masks(path, below)
            elif has_colour and fold(path.name) != COLOUR:
                self.leave_out(path, f"beside {COLOUR}/")
            elif fold(path.name) == POINTS:
                self.leave_out(path, "points in space, not images")
            else:
                kept.append(path)
        if has_colour:
            for path in files:
                self.leave_out(path, f"beside {COLOUR}/")
            files = []
        return files, kept


def without_repeats(images, tree):
    """Links make one file appear twice: once is enough, and as two kinds it is an error."""
    first = {}
    for image in images:
        other = first.setdefault(os.path.realpath(image.path), image)
        if other is image:
            continue
        if other.defect_type != image.defect_type:
            raise InvalidImageError(
                f"is the same file as {other.path}, but there it is {other.defect_type!r} and "
                f"here {image.defect_type!r}; remove one of the links",
                path=str(image.path),
            )
        tree.leave_out(image.path, f"the same file as {tree.name(other.path)}")
    return list(first.values())


def check_neighbours(images):
    """Refuse files among the images that may be masks of others, or copies."""
    by_name = {}
    for image in images:
        by_name.setdefault((image.path.parent, uncased(image.path.stem)), []).append(image.path)
    for (folder, stem), paths in by_name.items():
        if len(paths) > 1:
            raise InvalidImageError(
                f"{listed(paths)} differ in their suffix only: one may be the other's mask or "
                "copy; move masks into a folder called ground_truth, and remove copies",
                path=str(folder),
            )
        for other in image_stems(stem)[1:]:
            if (folder, other) in by_name:
                raise InvalidImageError(
                    f"may be the mask of {by_name[folder, other][0].name} beside it; move masks "
                    "into a folder called ground_truth, or rename the image",
                    path=str(paths[0]),
                )


def _above(folder):
    return {str(above): None for above in Path(os.path.realpath(folder)).parents}


def folders_in(folder):
    """The folders directly in one, hidden ones left out."""
    return [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]


def listed(names):
    """The first names, for an error, and how many more there are."""
    names = [name.name if isinstance(name, Path) else name for name in names]
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" * (len(names) > 8))


def _entries(folder):
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InvalidImageError(
            f"the folder cannot be read ({error.strerror}); change its permissions or move it",
            path=str(folder),
        ) from error
