"""Defects drawn onto images of good parts, of which only what was changed is kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ..exceptions import InvalidImageError
from ..images import range_of, resized, to_array

# Mean change over a defect, as a share of the range from black to white, below which nobody
# sees it, as where a white scratch crosses a white background.
LEAST_CHANGE = 0.01
N_TRIES = 30


class Recipe(NamedTuple):
    """What is drawn onto one image."""

    image: int  #: position of the image that is drawn onto
    source: int  #: of the one that foreign texture is cut from
    kind: str
    size: float  #: factor on the kind's lengths
    contrast: float  #: factor on the kind's opacities
    seed: int


class Patch(NamedTuple):
    """What was changed of an image."""

    size: tuple  #: (H, W) of the image
    top: int
    left: int
    pixels: np.ndarray  #: (h, w, C), in the image's own dtype
    mask: np.ndarray  #: (h, w), bool


def recipes_for(n_images, n_drawn, kinds, sizes, contrasts, rng):
    """Recipes in which kinds, sizes, contrasts and images are as equally often as can be.

    Parameters
    ----------
    n_images, n_drawn : int
    kinds : sequence of str
    sizes, contrasts : sequence of float
    rng : numpy.random.Generator

    Returns
    -------
    list of Recipe, of length n_drawn
    """
    designs = list(product(kinds, sizes, contrasts))
    chosen, images = _in_turn(len(designs), n_drawn, rng), _in_turn(n_images, n_drawn, rng)
    others = rng.integers(1, max(n_images, 2), n_drawn)
    seeds = rng.integers(2**62, size=n_drawn).tolist()
    return [
        Recipe(int(i), int((i + other) % n_images), *designs[k], seed)
        for k, i, other, seed in zip(chosen, images, others, seeds)
    ]


def _in_turn(n, length, rng):
    """Numbers below n in random order, and again, until there are enough."""
    rounds = [rng.permutation(n) for _ in range(-(-length // n))]
    return np.concatenate(rounds)[:length]


class DrawnDefects(Sequence):
    """Images of good parts, each with one drawn defect, as a batch of images.

    Parameters
    ----------
    X : sequence of images
        What is drawn onto; read again when an image is asked for.
    recipes : list of Recipe
        Their positions are in X.
    value_range : (float, float) or None
        Pixel values that mean black and white.
    regions : Regions
        Of X; a defect lies at least in part in its image's.
    sources : sequence of images or None, default=None
        What foreign texture is cut from; None means X.

    Attributes
    ----------
    recipes : list of Recipe
        What could not be seen was drawn with more contrast, which is then given here.
    patches : list of Patch
    """

    def __init__(self, X, recipes, value_range, regions, sources=None):
        self._X, self._value_range = X, value_range
        self._sources = X if sources is None else sources
        drawn = [self._drawn(recipe, regions) for recipe in recipes]
        self.recipes, self.patches = map(list, zip(*drawn))

    def __len__(self):
        return len(self.recipes)

    def __getitem__(self, i):
        image = to_array(self._X[self.recipes[i].image]).copy()
        patch = self.patches[i]
        height, width = patch.mask.shape
        below = image[patch.top : patch.top + height, patch.left : patch.left + width]
        below[patch.mask] = patch.pixels[patch.mask]
        return image

    def mask(self, i):
        """Where the defect of image i is, (H, W) of bool."""
        patch = self.patches[i]
        mask = np.zeros(patch.size, bool)
        height, width = patch.mask.shape
        mask[patch.top : patch.top + height, patch.left : patch.left + width] = patch.mask
        return mask

    def _drawn(self, recipe, regions):
        image = to_array(self._X[recipe.image])
        region = regions.of(recipe.image, image.shape[:2])
        pixels = self._pixels(recipe.image)
        source = self._pixels(recipe.source, self._sources)
        if source.shape[2:] != pixels.shape[2:]:
            source = resized(source, tuple(pixels.shape[2:]))
        rng = np.random.default_rng(recipe.seed)
        for contrast in _rising(recipe.contrast):
            stronger = recipe._replace(contrast=contrast)
            for _ in range(N_TRIES):
                found, mask = _one_defect(pixels, source, stronger, int(rng.integers(2**62)))
                counted = mask if region is None else mask & region
                if counted.any() and _change(pixels, found, counted) >= LEAST_CHANGE:
                    return stronger, self._patch(image, found, counted)
        raise InvalidImageError(
            f'no drawn defect ("{recipe.kind}", size={recipe.size:g}) could be seen in it; leave '
            "the image out, widen its region of interest, or draw larger defects of other kinds",
            index=int(regions.indices[recipe.image]),
        )

    def _pixels(self, i, X=None):
        """An image as a tensor (1, C, H, W) in [0, 1]."""
        import torch

        image = to_array((self._X if X is None else X)[i])
        low, high = range_of(image.dtype, self._value_range)
        pixels = (image.astype(np.float32) - low) / (high - low)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]

    def _patch(self, image, found, mask):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        low, high = range_of(image.dtype, self._value_range)
        pixels = low + (high - low) * found[0].permute(1, 2, 0).numpy()[box]
        if image.dtype.kind in "bui":
            pixels = pixels.round()
        place = int(rows[0]), int(columns[0])
        return Patch(image.shape[:2], *place, pixels.astype(image.dtype), mask[box])


def _rising(contrast):
    """A contrast, and twice as much each time until all of it."""
    while contrast < 1:
        yield contrast
        contrast *= 2
    yield 1.0


def _one_defect(pixels, source, recipe, seed):
    """An image with a defect, (1, C, H, W), and its mask (H, W)."""
    from ..synthesis import CORRUPTION_TYPES, DEFECT_TYPES, DefectGenerator

    low, high = {**CORRUPTION_TYPES, **DEFECT_TYPES}[recipe.kind].opacity
    generator = DefectGenerator(
        types=[recipe.kind],
        n_regions=(1, 1),
        opacity=(low * recipe.contrast, high * recipe.contrast),
        size=recipe.size,
    )
    drawn = generator.draw(pixels, [seed], source)
    return drawn.images, drawn.masks[0].numpy()


def _change(before, after, mask):
    return float((after - before).abs().mean(dim=(0, 1)).numpy()[mask].mean())
