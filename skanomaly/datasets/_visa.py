"""VisA, as it is distributed or converted by its authors' script."""

from __future__ import annotations

import csv
from pathlib import Path

from ..exceptions import InvalidImageError
from ._folder_files import File
from ._folders import as_bunch, load_image_folder

_COLUMNS = ["object", "split", "label", "image", "mask"]

_DESCR = """VisA, category "{category}", {split} split: {n} images.

Y. Zou, J. Jeong, L. Pemula, D. Zhang, O. Dabeer, "SPot-the-Difference Self-Supervised
Pre-training for Anomaly Detection and Segmentation", ECCV 2022. Licence CC BY 4.0.

{found}"""


def load_visa(root, category, *, split="train", split_file="split_csv/1cls.csv"):
    """Load one category of VisA from disk.

    Parameters
    ----------
    root : str or path-like
        The folder that holds the categories: as distributed
        (``candle/Data/Images/Normal`` and so on, with the file that tells the
        splits), or converted by the authors' script (``candle/train/good`` and so on).
    category : str
        Such as "candle".
    split : {"train", "test"}, default="train"
    split_file : str or path-like, default="split_csv/1cls.csv"
        Relative to `root`. It is not read for the converted layout.

    Returns
    -------
    Bunch
        As of `load_image_folder`. The type of all defects is "anomaly" ("bad" where
        converted). A mask holds the number of a kind of defect, so that every value
        but 0 is a defect.

    Raises
    ------
    InvalidImageError
        As `load_image_folder`; also if the file of splits is missing or names
        what is not there.

    References
    ----------
    Y. Zou, J. Jeong, L. Pemula, D. Zhang, O. Dabeer, "SPot-the-Difference
    Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    root = Path(root)
    if (root / category / "train").is_dir():
        bunch = load_image_folder(root / category, split=split, mask_threshold=0)
    else:
        bunch = _load_distributed(root, category, split, root / split_file)
    bunch.DESCR = _DESCR.format(
        category=category, split=split, n=len(bunch.images), found=bunch.DESCR
    )
    return bunch


def _load_distributed(root, category, split, split_file):
    rows = _read_rows(split_file)
    categories = sorted({row["object"] for row in rows})
    if category not in categories:
        raise InvalidImageError(
            f"there is no category {category!r}; found {', '.join(categories) or 'none'}",
            path=str(split_file),
        )
    images, masks, left_out, listed = [], [], {}, set()
    for row in rows:
        if row["object"] != category:
            continue
        if row["image"] in listed:
            raise InvalidImageError(f"names {row['image']} twice", path=str(split_file))
        listed.add(row["image"])
        is_good = row["label"] == "normal"
        if row["split"] != split:
            continue
        if split == "train" and not is_good:
            left_out[row["image"]] = "not good; a detector is fitted on good images"
            continue
        path = _existing(root, row["image"], split_file)
        images.append(File(path, (), "good" if is_good else "anomaly"))
        masks.append([] if is_good else [_existing(root, row["mask"], split_file)])
    if not images:
        raise InvalidImageError(
            f"names no image of the {split} split of {category!r}", path=str(split_file)
        )
    for path in sorted((root / category / "Data" / "Images").glob("*/*")):
        if (name := path.relative_to(root).as_posix()) not in listed:
            left_out[name] = f"not in {split_file.name}"
    order = sorted(range(len(images)), key=lambda i: images[i].path)
    images, masks = [images[i] for i in order], [masks[i] for i in order]
    return as_bunch(root, images, masks, True, left_out, 0, split)


def _read_rows(split_file):
    try:
        with open(split_file, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError:
        raise InvalidImageError(
            "there is no such file; root must be the folder that holds VisA's categories and "
            "split_csv, or pass split_file",
            path=str(split_file),
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidImageError(f"is no table of splits ({error})", path=str(split_file)) from error
    if not set(_COLUMNS) <= set(reader.fieldnames or ()):
        raise InvalidImageError(
            f"has the columns {reader.fieldnames}, expected {_COLUMNS}", path=str(split_file)
        )
    for number, row in enumerate(rows, start=2):
        for column, known in (("split", ("train", "test")), ("label", ("normal", "anomaly"))):
            if row[column] not in known:
                raise InvalidImageError(
                    f"line {number}: {column} is {row[column]!r}, expected one of {known}",
                    path=str(split_file),
                )
    return rows


def _existing(root, name, split_file):
    if not name or not (root / name).is_file():
        raise InvalidImageError(
            f"names {name!r}, which is not there; unpack the data set again", path=str(split_file)
        )
    return root / name
