"""Masks of defects: which file belongs to which image, and what it marks."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image

from ..exceptions import InvalidImageError
from ..images import read_image, read_size
from ._folder_files import image_stems

# What a mask's pixels may be; of others (CMYK, LAB, ...) zero does not mean black.
_MODES_WITH_BLACK_AT_0 = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "I", "F")


def match_masks(images, dropped, masks):
    """The mask files of each image.

    Parameters
    ----------
    images, dropped : list of File
        Those wanted, and others that masks may belong to.
    masks : list of File

    Returns
    -------
    list of list of Path
        One list an image: no file, one, or all files of a folder of its name.
    """
    everything = [*images, *dropped]
    by_place, by_stem = {}, {}
    for i, image in enumerate(everything):
        by_place.setdefault(image.place, []).append(i)
        if image.defect_type != "good":
            by_stem.setdefault(image.place[-1], []).append(i)
    files = [{} for _ in everything]  # by file, or by the folder that holds several of one image
    for mask in masks:
        found, source = _images_of(mask, by_place, by_stem)
        if len(found) != 1:
            matches = " and ".join(sorted(str(everything[i].path) for i in found)[:2]) or "no image"
            raise InvalidImageError(
                f"the mask matches {matches}; a mask lies in folders of the same names as its "
                "image does below the split, and is called like it or like it with _mask. Move "
                "or remove it, or pass mask_folder=None to load without masks",
                path=str(mask.path),
            )
        files[found[0]].setdefault(source, []).append(mask.path)
    for image, sources in zip(images, files):
        if len(sources) > 1:
            first, second = (paths[0] for paths in list(sources.values())[:2])
            raise InvalidImageError(
                f"has two masks, {first} and {second}; keep one, or put them all into a folder "
                f"called {image.path.stem}, to be joined",
                path=str(image.path),
            )
    return [next(iter(sources.values()), []) for _, sources in zip(images, files)]


def _images_of(mask, by_place, by_stem):
    """Images that a mask may belong to, and what it is counted by as one mask."""
    *folders, stem = mask.place
    for image_stem in image_stems(stem):
        if found := by_place.get((*folders, image_stem)):
            return found, mask.path
    if found := by_place.get(tuple(folders)):  # as in MVTec LOCO AD, a folder for an image
        return found, mask.path.parent
    if not folders:
        for image_stem in image_stems(stem):
            if found := by_stem.get(image_stem):
                return found, mask.path
    return [], None


def load_masks(images, files, threshold):
    """What the masks mark: an array if the images are of one size, else a list.

    Parameters
    ----------
    images : list of File
    files : list of list of Path
        Those of each image, none for a good one that has none.
    threshold : float or None
        As `mask_threshold` of `load_image_folder`.

    Returns
    -------
    ndarray of bool, shape (n, H, W), or list of ndarray of bool, shape (H, W)
    """
    sizes = [read_size(image.path) for image in images]
    uniform = len(set(sizes)) == 1
    if uniform and not any(files):
        return np.broadcast_to(np.False_, (len(images), *sizes[0]))  # takes no memory
    masks, marked_good = [], []
    for image, paths, size in zip(images, files, sizes):
        mask = np.zeros(size, bool)
        for path in paths:
            mask |= read_mask(path, size, threshold)
        if image.defect_type == "good" and mask.any():
            marked_good += paths[:1]
            mask[:] = False
        masks.append(mask)
    if marked_good:
        warnings.warn(
            f"{len(marked_good)} images in folders of good images have masks that mark defects, "
            f"the first {marked_good[0]}: they are taken as good, and these masks as empty. "
            "Correct the masks, or move the images",
            UserWarning,
            stacklevel=4,
        )
    return np.stack(masks) if uniform else masks


def read_mask(path, size, threshold=None):
    """The pixels that a mask file marks.

    Parameters
    ----------
    path : Path
    size : (int, int)
        Height and width that it must have.
    threshold : float or None
        Stored values above it are marked; None takes a file of 0 and one other value.

    Returns
    -------
    ndarray of bool, shape (H, W)
    """
    try:
        values = _brightest_channel(path)
    except InvalidImageError as error:
        raise InvalidImageError(error.reason, path=str(path)) from error
    if values.shape != size:
        raise InvalidImageError(
            f"the mask is {values.shape[0]} x {values.shape[1]} pixels, its image {size[0]} x "
            f"{size[1]}; save it at the image's size",
            path=str(path),
        )
    if threshold is not None:
        return values > threshold
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise InvalidImageError(
            f"the mask holds {len(found)} values ({found[0]} to {found[-1]}), expected 0 and one "
            "other; pass mask_threshold=0 if every value but 0 marks a defect, "
            f"mask_threshold={found[-1] // 2} if it was blurred by resizing or by JPEG",
            path=str(path),
        )
    return values > 0


def _brightest_channel(path):
    mode = _mode(path)
    values = read_image(path)
    if not (mode is None or mode in _MODES_WITH_BLACK_AT_0 or mode.startswith("I;16")):
        raise InvalidImageError(f"the mask is of {mode} colours; save it as grey levels")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InvalidImageError("the mask holds values that are not finite; save it as grey levels")
    if values.ndim == 2:
        return values
    if values.shape[2] in (2, 4):  # the last is opacity, which says nothing of defects
        values, opacity = values[..., :-1], values[..., -1]
        if opacity.min() != opacity.max() and ((opacity > 0) != (values > 0).any(axis=2)).any():
            raise InvalidImageError(
                "the mask's opacity (alpha) varies and marks other pixels than its colours do; "
                "save it without alpha, black where there is no defect"
            )
    if mode == "P" and (values == values[:1, :1]).all() and _n_palette_indices(path) > 1:
        raise InvalidImageError(
            "the mask's palette gives all its indices one colour; save it as grey levels"
        )
    return values.max(axis=2)


def _mode(path):
    try:
        with Image.open(path) as image:
            return image.mode
    except Exception:
        return None  # read_image reads more than Pillow, and says what is wrong with the file


def _n_palette_indices(path):
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image)))
