"""Folders of images, as they are or laid out like MVTec AD."""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from ..exceptions import InvalidImageError
from ..images import IMAGE_SUFFIXES, ImageFiles, read_image

_MVTEC_DESCR = """MVTec AD, category "{category}", {split} split: {n} images.

P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD - A Comprehensive Real-World
Dataset for Unsupervised Anomaly Detection", CVPR 2019. Licence CC BY-NC-SA 4.0: for
non-commercial use, with attribution.
"""


def load_image_folder(root, *, split="train"):
    """Load a folder of images: laid out in splits and defects, or plain.

    A folder with ``train/good`` or ``test`` in it is read as::

        train/good/*.png             split="train"
        test/good/*.png              split="test", normal
        test/<defect>/*.png          split="test", anomalous
        ground_truth/<defect>/*.png  their masks, same stem or stem + "_mask"

    Any other folder is plain: all images in it are taken as normal.

    Parameters
    ----------
    root : str or path-like
    split : {"train", "test"}, default="train"
        Ignored for a plain folder.

    Returns
    -------
    Bunch
        images : ImageFiles of length n, not read yet
        target : ndarray of int, shape (n,); +1 normal, -1 anomalous
        masks : True where the defect is; ndarray of bool (n, H, W), a list of
            (H, W) arrays where sizes differ; None for a test split that has no
            ``ground_truth`` folder beside it
        defect_types : ndarray of str, shape (n,); "good" for normal images
        filenames : list of str, relative to `root`
        DESCR : str

    Raises
    ------
    InvalidImageError
        If the folder is missing or holds no image of the split, or if a mask is
        missing or does not have its image's size.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    root = Path(root)
    laid_out = (root / "train" / "good").is_dir() or (root / "test").is_dir()
    if not laid_out:
        images = ImageFiles.from_folder(root)
        defect_types = ["good"] * len(images)
    elif split == "train":
        images = ImageFiles.from_folder(root / "train" / "good")
        defect_types = ["good"] * len(images)
    else:
        images = ImageFiles.from_folder(root / "test", recursive=True)
        defect_types = [Path(path).parent.name for path in images.paths]
    filenames = [str(Path(path).relative_to(root)) for path in images.paths]
    defect_types = np.array(defect_types)
    has_masks = (root / "ground_truth").is_dir() or not laid_out or split == "train"
    return Bunch(
        images=images,
        target=np.where(defect_types == "good", 1, -1),
        masks=_load_masks(root, images, defect_types) if has_masks else None,
        defect_types=defect_types,
        filenames=filenames,
        DESCR=f"{len(images)} images below {root}" + (f", {split} split" if laid_out else ""),
    )


def load_mvtec_ad(root, category, *, split="train"):
    """Load one category of MVTec AD from disk.

    Parameters
    ----------
    root : str or path-like
        The folder that holds the categories.
    category : str
        Such as "bottle".
    split : {"train", "test"}, default="train"

    Returns
    -------
    Bunch
        As of `load_image_folder`.

    Raises
    ------
    InvalidImageError
        As `load_image_folder`; also if `root` holds no such category.

    References
    ----------
    P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD - A Comprehensive
    Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019.
    """
    root = Path(root)
    folder = root / category
    if not (folder / "train" / "good").is_dir():
        found = sorted(p.parent.parent.name for p in root.glob("*/train/good"))
        raise InvalidImageError(
            f"there is no category {category!r}; found {', '.join(found) or 'none'} "
            "(a category is a folder with train/good in it)",
            path=str(root),
        )
    bunch = load_image_folder(folder, split=split)
    bunch.DESCR = _MVTEC_DESCR.format(category=category, split=split, n=len(bunch.images))
    return bunch


def _load_masks(root, images, defect_types):
    sizes = [_size(path) for path in images.paths]
    uniform = len(set(sizes)) == 1
    if uniform and (defect_types == "good").all():
        return np.broadcast_to(np.False_, (len(images), *sizes[0]))  # takes no memory
    masks = [
        np.zeros(size, bool) if name == "good" else _load_mask(root, path, name, size)
        for path, name, size in zip(images.paths, defect_types.tolist(), sizes)
    ]
    return np.stack(masks) if uniform else masks


def _load_mask(root, image_path, defect_type, size):
    folder, stem = root / "ground_truth" / defect_type, Path(image_path).stem
    for name in (f"{stem}_mask", stem):
        for path in sorted(folder.glob(f"{glob.escape(name)}.*")):
            if path.stem == name and path.suffix.lower() in IMAGE_SUFFIXES:
                return _read_mask(path, size)
    raise InvalidImageError(
        f"has no mask; expected {folder / stem}_mask.png, for the defect {defect_type!r}",
        path=image_path,
    )


def _read_mask(path, size):
    mask = read_image(path)
    if mask.ndim == 3:
        mask = mask.max(axis=2)
    if mask.shape != size:
        raise InvalidImageError(
            f"the mask is {mask.shape[0]} x {mask.shape[1]} pixels, its image {size[0]} x "
            f"{size[1]}; save it at the image's size",
            path=str(path),
        )
    values = np.unique(mask)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise InvalidImageError(
            f"the mask holds {len(values)} values ({values[0]} to {values[-1]}), expected 0 and "
            "one other; binarise it before it is resized, or resize to the nearest neighbour",
            path=str(path),
        )
    return mask > 0


def _size(path):
    try:
        with Image.open(path) as image:
            return image.size[::-1]
    except Exception:
        return read_image(path).shape[:2]  # says what is wrong with the file
