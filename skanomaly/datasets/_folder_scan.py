"""Which images a split of a folder holds, and of what kind each is."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ..exceptions import InvalidImageError
from ._folder_files import (
    File,
    FileTree,
    check_neighbours,
    folders_in,
    listed,
    place_of,
    without_repeats,
)
from ._folder_names import (
    ALL_SPLITS,
    GOOD,
    IMAGES,
    SPLITS,
    fold,
    may_be_good,
    says_nothing,
    uncased,
)

_HERE = "."  # stands for images that lie in the folder of the split directly
_SAY_WHICH = (
    "say which folders are good with good_folders=[...], and which are not with "
    'defect_folders=[...]; "." stands for the images directly in it, and with defect_folders '
    "given, the rest is left out"
)


class Scan(NamedTuple):
    """What was found of one split."""

    split: str | None  # None for a folder without splits
    images: list
    dropped: list  # images that are left out for their kind, and so their masks
    masks: list
    mask_folders: list
    left_out: dict


def scan_folder(root, split, names):
    """Find the images of a split of a folder, their kinds, and the masks.

    Parameters
    ----------
    root : Path
    split : {"train", "test", "validation"} or None
    names : FolderNames

    Returns
    -------
    Scan

    Raises
    ------
    InvalidImageError
        Where a kind could only be guessed, or there is nothing to be found.
    """
    if not root.is_dir():
        raise InvalidImageError("not a folder; check the path", path=str(root))
    tree = FileTree(root, names)
    splits = _splits(root)
    sorter = _Sorter(tree, names, only_good=split == "train", is_split=bool(splits))
    if splits and split not in splits:
        raise InvalidImageError(
            f"there is no split {split!r}; found "
            + ", ".join(f"{name!r} in {path.name}" for name, path in splits.items()),
            path=str(root),
        )
    if splits:
        images = sorter.images(splits[split])
        _add_masks_beside_splits(tree, split, splits, images)
    else:
        images = _images_without_splits(tree, split, sorter)
    images = without_repeats(sorted(images), tree)
    check_neighbours(images)
    if not images:
        raise InvalidImageError(_nothing(tree, split if splits else None), path=str(root))
    return Scan(
        split if splits else None,
        images,
        sorter.dropped,
        tree.masks,
        tree.mask_folders,
        dict(sorted(tree.left_out.items())),
    )


def _splits(root):
    found = {}
    for folder in folders_in(root):
        for split, spellings in SPLITS.items():
            if fold(folder.name) not in spellings:
                continue
            if split in found:
                raise InvalidImageError(
                    f"{found[split].name!r} and {folder.name!r} may both be the {split} split; "
                    "rename one",
                    path=str(root),
                )
            found[split] = folder
    return found


def _images_without_splits(tree, split, sorter):
    """Good images, folders of good and of bad ones, or these in a folder of images."""
    root, names = tree.root, tree.names
    if split not in (None, "train"):
        raise InvalidImageError(
            f"there is no split {split!r}, nor any other; pass split=None for all images with "
            "their kinds, and divide them (skanomaly.model_selection.NormalShuffleSplit)",
            path=str(root),
        )
    files, folders = tree.list(root)
    home = next((f for f in folders if fold(f.name) in IMAGES and not names.is_told(f.name)), None)
    if home and not files and all(f is home or names.is_mask_folder(f.name) for f in folders):
        for folder in folders:
            if folder is not home:
                tree.add_masks(folder)
        return sorter.images(home)
    if files and names.is_defect(root.absolute().name) and not names.is_told(_HERE):
        raise InvalidImageError(
            "the folder's own name says that its images are not good, and images without folders "
            'of good and of bad ones are taken as good; pass good_folders=["."] if they are',
            path=str(root),
        )
    return sorter.images(root)


def _add_masks_beside_splits(tree, split, splits, images):
    """They are of the test split, if no folder in them says otherwise."""
    homes = []
    files, folders = tree.list(tree.root)
    for path in files:
        tree.leave_out(path, "beside the splits")
    for folder in folders:
        if folder in splits.values():
            continue
        if tree.names.is_wanted_mask_folder(folder.name):
            homes.append(folder)
        elif tree.names.is_mask_folder(folder.name):
            tree.add_masks(folder)
        elif fold(folder.name).startswith("testprivate"):  # of MVTec AD 2
            tree.leave_out(folder, "images without labels; ImageFiles.from_folder reads them")
        else:
            tree.leave_out(folder, "neither a split nor masks")
    if len(homes) > 1:
        raise InvalidImageError(
            f"{listed(homes)} may all hold the masks; say which with mask_folder=...",
            path=str(tree.root),
        )
    for home in homes:
        by_split = _splits(home)
        if by_split:
            if split in by_split:
                tree.add_masks_of(by_split[split])
        elif split == "test" or (split == "validation" and "test" not in splits):
            tree.add_masks_of(home)
        elif any(image.defect_type != "good" for image in images):
            raise InvalidImageError(
                f"the masks may be those of the test or of the {split} split; put them into "
                f"folders of the splits' names, such as {home.name}/{split}/..., or pass "
                "mask_folder=None to load without masks",
                path=str(home),
            )


class _Sorter:
    """Gives each image of a split its kind, by the folder that it lies in.

    `only_good` leaves out defects. In a split with both kinds, any folder beside a
    good one is a type of defect; elsewhere its name must be known.
    """

    def __init__(self, tree, names, *, only_good, is_split):
        self.tree, self.names, self.only_good = tree, names, only_good
        self.any_defect = is_split and not only_good
        self.dropped = []

    def images(self, container):
        files, folders = self.tree.list(container)
        self._check_told(container, files, folders)
        holding = {}  # images by the folder in the container
        for folder in folders:
            if self.names.is_mask_folder(folder.name):
                self.tree.add_masks(folder)
            elif found := self.tree.images(folder):
                holding[folder.name] = found
            else:
                self.tree.leave_out(folder, "holds no image")
        loose = [File(path, place_of((), path.stem)) for path in files]
        if loose and not (
            holding or self.any_defect or self.tree.has_masks or self.names.is_told(_HERE)
        ):
            return [image._replace(defect_type="good") for image in loose]
        if loose:
            holding[_HERE] = loose
        kinds = self._kinds(container, holding)
        return [image for name in kinds for image in self._take(container, name, holding, kinds)]

    def _check_told(self, container, files, folders):
        present = {folder.name for folder in folders} | ({_HERE} if files else set())
        told = {"good_folders": self.names.good}
        if not self.only_good:
            told["defect_folders"] = self.names.defects
        for parameter, names in told.items():
            if missing := sorted((names or set()) - present):
                raise InvalidImageError(
                    f"{parameter} names {missing[0]!r}, which is not there; found "
                    f"{listed(sorted(present)) or 'nothing'}",
                    path=str(container),
                )

    def _kinds(self, container, holding):
        """The kind of each folder's images: "good", a defect's name, None to leave them out."""
        names, kinds = self.names, {}
        for name, found in holding.items():
            if names.is_good(name):
                kinds[name] = "good"
            elif names.is_defect(name):
                kinds[name] = "defect" if name == _HERE else name
            elif names.defects is not None or (self.only_good and names.good is not None):
                kinds[name] = None
            elif doubt := self._doubt(name, found):
                self._refuse(container, holding, f"{doubt}; {_SAY_WHICH}")
            else:
                kinds[name] = name
        good = [name for name, kind in kinds.items() if kind == "good"]
        if len(good) > 1 and names.good is None:
            self._refuse(container, holding, f"{listed(good)} all look good; {_SAY_WHICH}")
        guessed = [
            name
            for name, kind in kinds.items()
            if kind and kind != "good" and not names.is_defect(name)
        ]
        if kinds and not good and (self.only_good or (guessed and not self._have_masks(guessed))):
            self._refuse(
                container, holding, f"none of the folders is known to be good; {_SAY_WHICH}"
            )
        return kinds

    def _doubt(self, name, found):
        """Why the kind of a folder, whose name is not known, could only be guessed."""
        if name == _HERE:
            return f"{len(found)} images lie directly in it, the first {found[0].path.name}"
        if may_be_good(name) or fold(name) in GOOD:
            return f"the folder {name!r} looks good, but is not known or told to be"
        if says_nothing(name):
            return f"the folder {name!r} does not say what its images are"
        if not self.any_defect:
            return f"the folder {name!r} may hold good images or defects"
        return None

    def _refuse(self, container, holding, reason):
        reason = f"{reason}. Found: {listed(holding)}"
        root = self.tree.root
        categories = [folder for folder in folders_in(root) if (folder / "train").is_dir()]
        if categories:
            reason += f". To load one category, pass its own folder, such as {categories[0]}"
        if (root / "Data" / "Images").is_dir():
            reason += f". For a category of VisA: load_visa({str(root.parent)!r}, {root.name!r})"
        raise InvalidImageError(reason, path=str(container))

    def _have_masks(self, folder_names):
        homes = [f for f in folders_in(self.tree.root) if self.names.is_mask_folder(f.name)]
        homes += [f for home in homes for f in folders_in(home) if fold(f.name) in ALL_SPLITS]
        with_masks = {uncased(folder.name) for home in homes for folder in folders_in(home)}
        with_masks |= {mask.place[0] for mask in self.tree.masks if len(mask.place) > 1}
        return all(uncased(name) in with_masks for name in folder_names)

    def _take(self, container, name, holding, kinds):
        kind, found = kinds[name], holding[name]
        if kind is None or (self.only_good and kind != "good"):
            reason = (
                "not named as good or as a defect"
                if kind is None
                else "not good, and detectors are fitted on good images"
            )
            for path in [container / name] if name != _HERE else [file.path for file in found]:
                self.tree.leave_out(path, reason)
            self.dropped += found
            return []
        for image in found:
            self._check_nested(container, image, kind)
        return [image._replace(defect_type=kind) for image in found]

    def _check_nested(self, container, image, kind):
        top, *nested = image.path.parent.relative_to(container).parts or (_HERE,)
        contradicts = self.names.is_defect if kind == "good" else self.names.is_good
        for name in nested:
            if contradicts(name) or fold(name) in ALL_SPLITS:
                raise InvalidImageError(
                    f"{name!r} lies in {top!r}, which is taken as {kind!r}: its images could be "
                    f"either; load {container / top} by itself, or move {name!r} up",
                    path=str(image.path.parent),
                )


def _nothing(tree, split):
    what = f"there is no image of the {split} split" if split else "the folder holds no image"
    reasons = Counter(tree.left_out.values()).most_common(3)
    left_out = ", ".join(f"{n} x {reason}" for reason, n in reasons)
    return what + (f"; left out: {left_out}" if left_out else "; check the path")
