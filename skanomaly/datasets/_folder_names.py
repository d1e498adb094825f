"""What the names of folders say about the images in them."""

from __future__ import annotations

import re
import unicodedata


def uncased(name):
    """A name without regard to case, and to how a file system stores its accents."""
    return unicodedata.normalize("NFC", name).casefold()


def fold(name):
    """A name without case, spaces and punctuation: "Non-Defective" is "nondefective"."""
    return re.sub(r"[\W_]+", "", uncased(name))


def _folded(names):
    return frozenset(map(fold, names.split(", ")))


GOOD = _folded(
    "good, ok, okay, normal, nominal, pass, passed, i.o., defect-free, anomaly-free, fault-free, "
    "no defect, no defects, no anomaly, non-defective"
)
BAD = _folded(
    "bad, ko, ng, nok, n.i.o., not ok, not good, no good, defect, defects, defective, anomaly, "
    "anomalies, anomalous, abnormal, fault, faults, faulty, fail, failed, reject, rejects, "
    "rejected, damaged"
)
MASKS = _folded("ground_truth, ground_truths, gt, mask, masks")
IMAGES = _folded("image, images")
COLOUR = "rgb"  # in MVTec 3D-AD, beside xyz and gt
POINTS = "xyz"
SPLITS = {
    "train": _folded("train, training"),
    "validation": _folded("validation, val, valid"),
    "test": _folded("test, testing, test_public"),
}
ALL_SPLITS = frozenset().union(*SPLITS.values())

_UNLABELLED = _folded(
    "unlabelled, unlabeled, unsorted, unclassified, unknown, unclear, unsure, private"
)
_PRAISE = GOOD | _folded("clean, correct, fine, flawless, healthy, intact, perfect, undamaged")
_NEGATIONS = _folded("not, no, non, without, free")


def may_be_good(name):
    """Whether a name that is not known speaks of good images: "good_cam1", "noDefects2"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = set(re.findall(r"[^\W\d_]+", spaced.casefold()))
    if words & _NEGATIONS:
        return bool(words & BAD)
    return bool(words & _PRAISE)


def says_nothing(name):
    """Whether a name tells, of itself, that its images are of no known kind."""
    return fold(name) in _UNLABELLED | ALL_SPLITS


class FolderNames:
    """Which folders hold good images, defects and masks: as told, or else as known.

    Parameters
    ----------
    good_folders, defect_folders, mask_folder
        As of `load_image_folder`.
    """

    def __init__(self, good_folders=None, defect_folders=None, mask_folder="auto"):
        self.good = _checked(good_folders, "good_folders")
        self.defects = _checked(defect_folders, "defect_folders")
        both = sorted((self.good or set()) & (self.defects or set()))
        if both:
            raise ValueError(f"{both[0]!r} is in good_folders and in defect_folders; take one")
        self.masks = mask_folder
        if mask_folder is not None:
            _checked([mask_folder], "mask_folder")

    def is_told(self, name):
        """Whether the caller named the folder, as good or as of a defect."""
        return name in (self.good or ()) or name in (self.defects or ())

    def is_good(self, name):
        """Whether it holds good images: as told, or else by its name."""
        if self.good is not None or self.is_told(name):
            return name in (self.good or ())
        return fold(name) in GOOD

    def is_defect(self, name):
        """Whether it holds defective images: as told, or else by its name."""
        if self.defects is not None or self.is_told(name):
            return name in (self.defects or ())
        return fold(name) in BAD

    def is_mask_folder(self, name):
        """Whether a folder holds masks, be they wanted or not."""
        return (name == self.masks or fold(name) in MASKS) and not self.is_told(name)

    def is_wanted_mask_folder(self, name):
        """Whether it holds the masks that are to be read."""
        return self.is_mask_folder(name) and self.masks in ("auto", name)


def _checked(names, parameter):
    if names is None:
        return None
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or "\\" in name or name == "..":
            raise ValueError(
                f"{parameter} takes names of folders without a path, got {name!r}; '.' stands for "
                "the folder that images lie in directly"
            )
    return frozenset(names)
