"""Folders of images, as they are or laid out like the public data sets."""

from __future__ import annotations

from collections import Counter
from numbers import Real
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..exceptions import InvalidImageError
from ..images import ImageFiles
from ._folder_names import COLOUR, IMAGES, SPLITS, FolderNames, fold
from ._folder_scan import scan_folder
from ._masks import load_masks, match_masks

_MVTEC_DESCR = """{title}, category "{category}", {split} split: {n} images.

{reference} Licence CC BY-NC-SA 4.0: for non-commercial use, with attribution.

{found}"""

_MVTEC_REFERENCES = {
    "MVTec AD": """P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD - A Comprehensive
Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019.""",
    "MVTec AD 2": """L. Heckler-Kram, J.-H. Neudeck, U. Scheler, R. König, C. Steger, "The MVTec
AD 2 Dataset: Advanced Scenarios for Unsupervised Anomaly Detection", arXiv:2503.21622, 2025.""",
    "MVTec LOCO AD": """P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "Beyond Dents
and Scratches: Logical Constraints in Unsupervised Anomaly Detection and Localization",
International Journal of Computer Vision 130, 2022.""",
    "MVTec 3D-AD": """P. Bergmann, X. Jin, D. Sattlegger, C. Steger, "The MVTec 3D-AD Dataset for
Unsupervised 3D Anomaly Detection and Localization", VISAPP 2022.""",
}


def load_image_folder(
    root,
    *,
    split="train",
    good_folders=None,
    defect_folders=None,
    mask_folder="auto",
    mask_threshold=None,
):
    """Load a folder of images: laid out in splits and kinds, or plain.

    The layouts of MVTec AD, MVTec AD 2, MVTec LOCO AD, MVTec 3D-AD, BTAD and VisA
    are known, and their relatives: ::

        train/good/*.png                    split="train"
        validation/good/*.png               split="validation"
        test/good/*.png                     split="test", normal
        test/<defect>/*.png                 split="test", anomalous
        ground_truth/<defect>/*_mask.png    their masks, if there are any

    Folders of good images may be called "good", "ok", "normal", ... and those of
    defects "bad", "ko", "ng", "anomaly", ... in any case and punctuation; beside a
    folder of good test images every other one is a type of defect. Images may lie
    deeper, such as in a folder for each camera. A folder without splits may hold
    images, all of which are taken as good, or a folder of good and one of bad
    images. What is left out is listed; where a kind could only be guessed, there is
    an error that says which parameter decides.

    Parameters
    ----------
    root : str or path-like
    split : {"train", "test", "validation"} or None, default="train"
        "train" gives good images only. None, for a folder without splits, gives
        all its images; its good ones are its "train" split too.
    good_folders : str, sequence of str or None, default=None
        Names, exact, of the folders of good images in the folder of the split (or
        in `root`, if it has no splits); "." stands for images that lie in it
        directly. None means the known names. Each must be there.
    defect_folders : str, sequence of str or None, default=None
        Names of the folders of defects, in the same way; with it, folders of other
        names are left out. None means the known names and, beside a folder of good
        test images, all others. Each must be there, except in the train split.
    mask_folder : str or None, default="auto"
        Name of the folder of masks, beside the splits or in them. "auto" means the
        known names ("ground_truth", "gt", "masks", ...), None no masks.
    mask_threshold : float or None, default=None
        A pixel is defective where a mask's grey value, or the largest of its red,
        green and blue, is above this; in the stored unit (0 to 255 for 8 bits).
        None takes masks that hold 0 and one other value, which marks the defect,
        and refuses others. Opacity (alpha) does not count.

    Returns
    -------
    Bunch
        images : ImageFiles
            Of length n, not read yet, sorted by path.
        target : ndarray of int, shape (n,)
            +1 normal, -1 anomalous.
        masks : ndarray of bool, shape (n, H, W), list of (H, W), or None
            True where the defect is; a list where sizes differ, None for images with
            defects without a folder of masks.
        defect_types : ndarray of str, shape (n,)
            "good" for normal images, the folder's name for others.
        filenames : list of str
            Relative to `root`, with "/".
        left_out : dict
            Why each file or folder (its name ends in "/") that belongs to no other split
            was not taken, by its name relative to `root`.
        DESCR : str
            What was read, in words.

    Raises
    ------
    InvalidImageError
        If the folder is missing or holds no image of the split; if a kind could
        only be guessed; if a mask is missing, has no image, is one of two or is
        not of its image's size.

    Warns
    -----
    UserWarning
        If the mask of a good image marks something; it is taken as empty.

    See Also
    --------
    load_mvtec_ad : A category of one of MVTec's data sets.
    load_visa : A category of VisA, as distributed.

    Examples
    --------
    >>> from skanomaly.datasets import load_image_folder
    >>> load_image_folder("parts", split="test", good_folders=["gut"])  # doctest: +SKIP
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be {', '.join(map(repr, SPLITS))} or None, got {split!r}")
    if mask_threshold is not None and not (
        isinstance(mask_threshold, Real) and 0 <= mask_threshold < np.inf
    ):
        raise ValueError(f"mask_threshold must be a number from 0 or None, got {mask_threshold!r}")
    names = FolderNames(good_folders, defect_folders, mask_folder)
    root = Path(root)
    scan = scan_folder(root, split, names)
    files = match_masks(scan.images, scan.dropped, scan.masks)
    has_masks = bool(scan.mask_folders)
    for image, paths in zip(scan.images, files):
        if has_masks and image.defect_type != "good" and not paths:
            raise InvalidImageError(
                f"has no mask; expected {_expected_mask(image, scan, root)}, for the defect "
                f"{image.defect_type!r}; or pass mask_folder=None to load without masks",
                path=str(image.path),
            )
    return as_bunch(root, scan.images, files, has_masks, scan.left_out, mask_threshold, scan.split)


def _expected_mask(image, scan, root):
    """Where the nearest folder of masks should hold an image's own."""
    above = [folder for folder in scan.mask_folders if folder.parent in image.path.parents]
    folder = max(above, key=lambda folder: len(folder.parts), default=None)
    if folder is None:
        below = (image.defect_type,)
        (folder, *_) = scan.mask_folders
    else:
        below = image.path.parent.relative_to(folder.parent).parts
        if folder.parent == root and (scan.split or fold(below[0]) in IMAGES):
            below = below[1:]
        below = (name for name in below if fold(name) != COLOUR)
    return folder.joinpath(*below, f"{image.path.stem}_mask.png")


def as_bunch(root, images, mask_files, has_masks, left_out, mask_threshold, split):
    """The Bunch that `load_image_folder` returns, from a list of `File`."""
    defect_types = np.array([image.defect_type for image in images])
    is_good = defect_types == "good"
    masks = None
    if has_masks or is_good.all():
        masks = load_masks(images, mask_files, mask_threshold)
    return Bunch(
        images=ImageFiles([image.path for image in images]),
        target=np.where(is_good, 1, -1),
        masks=masks,
        defect_types=defect_types,
        filenames=[image.path.relative_to(root).as_posix() for image in images],
        left_out=left_out,
        DESCR=_description(root, images, masks, left_out, split),
    )


def _description(root, images, masks, left_out, split):
    lines = [f"{len(images)} images below {root}" + (f", {split} split:" if split else ":")]
    counts = Counter((im.defect_type, im.path.parent.relative_to(root).as_posix()) for im in images)
    lines += [f"- {n} {kind}, in {folder}" for (kind, folder), n in counts.items()]
    if masks is None:
        lines.append("There are no masks.")
    if left_out:
        reasons = Counter(left_out.values()).most_common()
        lines.append("Left out, see left_out:")
        lines += [f"- {n} x {reason}" for reason, n in reasons]
    return "\n".join(lines) + "\n"


def load_mvtec_ad(root, category, *, split="train", **options):
    """Load one category of MVTec AD, AD 2, LOCO AD or 3D-AD from disk.

    Parameters
    ----------
    root : str or path-like
        The folder that holds the categories.
    category : str
        Such as "bottle".
    split : {"train", "test", "validation"}, default="train"
        MVTec AD has no validation split. The test split of MVTec AD 2 is its
        public one.
    **options
        Those of `load_image_folder`.

    Returns
    -------
    Bunch
        As of `load_image_folder`. Several masks of one image (LOCO AD) are joined;
        of 3D-AD the colour images are given and the points left out.

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
    if not (folder / "train").is_dir():
        found = sorted(p.parent.name for p in root.glob("*/train") if p.is_dir())
        raise InvalidImageError(
            f"there is no category {category!r}; found {', '.join(found) or 'none'} "
            "(a category is a folder with train in it)",
            path=str(root),
        )
    bunch = load_image_folder(folder, split=split, **options)
    title = _mvtec_title(folder)
    bunch.DESCR = _MVTEC_DESCR.format(
        title=title,
        category=category,
        split=split,
        n=len(bunch.images),
        reference=_MVTEC_REFERENCES[title],
        found=bunch.DESCR,
    )
    return bunch


def _mvtec_title(folder):
    if (folder / "test_public").is_dir():
        return "MVTec AD 2"
    if any(fold(path.name) == COLOUR for path in folder.glob("train/*/*")):
        return "MVTec 3D-AD"
    if (folder / "test" / "logical_anomalies").is_dir():
        return "MVTec LOCO AD"
    return "MVTec AD"
