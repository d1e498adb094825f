"""Test data with known defects, made from real textures."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch, check_random_state

TEXTURES = ("brick", "grass", "gravel")

# Columns of the texture that training images are cut from; test images come from
# the rest, so that no test pixel has been seen.
_TRAIN_SHARE = 0.6

_DESCR = """Crops of the texture "{texture}" (scikit-image), {split} split: {n_normal} as they are
and {n_defective} with one drawn defect each ({defect_types}).

Training images are cut from the left {share:.0%} of the texture, test images from
the rest. Each is mirrored at random and varies a little in brightness, contrast and noise.
Masks are exact: outside its mask an image is what it would be without the defect.
"""


def make_texture_defects(
    texture="brick",
    *,
    split="train",
    n_normal=100,
    n_defective=None,
    image_size=128,
    defect_types=None,
    random_state=None,
):
    """Crops of a real texture, some with a defect drawn onto them.

    Parameters
    ----------
    texture : {"brick", "grass", "gravel"}, default="brick"
        A photograph of 512 x 512 grey pixels that comes with scikit-image.
    split : {"train", "test"}, default="train"
        The part of the texture that is used; the two do not overlap.
    n_normal : int, default=100
        Images without a defect; they come first.
    n_defective : int or None, default=None
        Images with a defect, the types in turn. None means none for training
        and ten of each type for testing.
    image_size : int, default=128
        Height and width in pixels, 16 to 205.
    defect_types : sequence of str or None, default=None
        Out of the keys of `DEFECT_TYPES` and `CORRUPTION_TYPES` of
        `skanomaly.synthesis`. None means the former: "scratch", "crack", "spot",
        "stain", "missing" and "foreign".
    random_state : int, RandomState or None, default=None

    Returns
    -------
    Bunch
        images : ndarray of uint8, shape (n, H, W)
            The normal ones come first.
        target : ndarray of int, shape (n,)
            +1 normal, -1 anomalous.
        masks : ndarray of bool, shape (n, H, W)
            True where the defect is.
        defect_types : ndarray of str, shape (n,)
            "good" for normal images.
        filenames : list of str
            What the images would be called in a folder.
        DESCR : str
            What was made, in words.

    Examples
    --------
    >>> from skanomaly.datasets import make_texture_defects
    >>> test = make_texture_defects("gravel", split="test", n_normal=4, random_state=0)
    >>> test.images.shape, int((test.target == -1).sum())
    ((64, 128, 128), 60)
    """
    import torch

    from ..synthesis import DefectGenerator

    region = _region(texture, split, image_size)
    generators = [DefectGenerator(types=[name]) for name in _types(defect_types)]
    if n_defective is None:
        n_defective = 0 if split == "train" else 10 * len(generators)
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31))
    others = [_texture(name) for name in TEXTURES if name != texture]

    def as_batch(image):
        return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]

    images = np.empty((n_normal + n_defective, image_size, image_size), np.uint8)
    masks = np.zeros(images.shape, bool)
    names = np.full(len(images), "good", dtype=object)
    for i in range(len(images)):
        gain, offset = rng.uniform(0.92, 1.08), rng.uniform(-0.04, 0.04)
        image = gain * (_crop(region, image_size, rng) - 0.5) + 0.5 + offset
        image = as_batch(np.clip(image + rng.normal(0, 0.01, image.shape), 0, 1))
        if i >= n_normal:
            foreign = as_batch(_crop(others[rng.integers(len(others))], image_size, rng))
            generator = generators[(i - n_normal) % len(generators)]
            image, mask, (names[i],) = generator.draw(image, [rng.integers(2**62)], foreign)
            masks[i] = mask[0]
        images[i] = (255 * image[0, 0]).round()
    names = names.astype(str)
    return Bunch(
        images=images,
        target=np.where(names == "good", 1, -1),
        masks=masks,
        defect_types=names,
        filenames=[f"{split}/{name}/{i:03d}.png" for i, name in enumerate(names)],
        DESCR=_DESCR.format(
            texture=texture,
            split=split,
            n_normal=n_normal,
            n_defective=n_defective,
            defect_types=", ".join(generator.types[0] for generator in generators),
            share=_TRAIN_SHARE,
        ),
    )


def _types(defect_types):
    from ..synthesis import CORRUPTION_TYPES, DEFECT_TYPES

    known = [*DEFECT_TYPES, *CORRUPTION_TYPES]
    names = list(DEFECT_TYPES if defect_types is None else defect_types)
    if not names or not set(names) <= set(known):
        raise ValueError(f"defect_types must be out of {known}, got {defect_types!r}")
    return names


def _region(texture, split, image_size):
    if texture not in TEXTURES:
        raise ValueError(f"texture must be one of {TEXTURES}, got {texture!r}")
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    whole = _texture(texture)
    border = int(_TRAIN_SHARE * len(whole))
    region = whole[:, :border] if split == "train" else whole[:, border:]
    most = len(whole) - border
    if not 16 <= image_size <= most:
        raise ValueError(f"image_size must be 16 to {most} pixels, got {image_size}")
    return region


def _texture(name):
    from skimage import data

    return getattr(data, name)()[..., np.newaxis] / 255.0


def _crop(region, size, rng):
    row = rng.integers(region.shape[0] - size + 1)
    column = rng.integers(region.shape[1] - size + 1)
    crop = region[row : row + size, column : column + size]
    return crop[:, ::-1] if rng.random() < 0.5 else crop
