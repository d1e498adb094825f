"""Small folders of images and masks, for the tests beside this file."""

import numpy as np
from PIL import Image

MASK = np.zeros((8, 10), bool)
MASK[2:4, 3:7] = True


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_image(path, size=(8, 10), seed=0):
    write(path, np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def write_mask(path, mask=MASK):
    write(path, mask * np.uint8(255))


def lay_out(root, images, masks=()):
    """Write images, and masks that mark `MASK`, at these paths below a folder; it is returned."""
    for name in images:
        write_image(root / name)
    for name in masks:
        write_mask(root / name)
    return root


def kinds(bunch):
    """The type of each image by its name; target and masks are checked to say the same."""
    is_good = bunch.defect_types == "good"
    np.testing.assert_array_equal(bunch.target, np.where(is_good, 1, -1))
    if bunch.masks is not None:
        assert [bool(mask.any()) for mask in bunch.masks] == (~is_good).tolist()
    assert len(bunch.images) == len(bunch.filenames)
    return dict(zip(bunch.filenames, bunch.defect_types.tolist()))
