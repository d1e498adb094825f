"""Large images of real textures, with small defects drawn onto them, made when looked at."""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from skanomaly.images import LazyImages
from skanomaly.synthesis import DEFECT_TYPES, DefectGenerator

# Sides of the crops that an image is blended of and of their soft edges, how far apart they are,
# and how far off a grid: always near enough for soft edges to meet.
CROP, EDGE, APART, OFF = 448, 128, 272, 24

# What is drawn, how opaque, and in a window of which side.
DRAWN, OPACITY, WINDOW = ("scratch", "crack", "spot", "missing"), (0.3, 0.7), 96


def photographs(folder):
    """Photographs that tiles named by their place, as in 000_0_256.png, were cut out of."""
    tiles = {}
    for path in sorted(Path(folder).iterdir()):
        name, top, left = re.fullmatch(r"(.+)_(\d+)_(\d+)\.png", path.name).groups()
        tiles.setdefault(name, {})[int(top), int(left)] = np.array(Image.open(path))
    return [_joined(of_one) for of_one in tiles.values()]


def _joined(tiles):
    rows = sorted({top for top, _ in tiles})
    columns = sorted({left for _, left in tiles})
    return np.block([[[tiles[top, left]] for left in columns] for top in rows])


class LargeImages(LazyImages):
    """Images blended of crops of photographs, one for each seed.

    Crops lie on a grid, a little off it, and fade into each other by weights that keep the
    texture's variance, so that no repetition lies beside itself and nothing is blurred.

    Parameters
    ----------
    sources : list of array (h, w, C), uint8
        Photographs of a surface, larger than a crop.
    size : (int, int)
        Height and width of the images.
    seeds : sequence of int
    extent : (int, int) or None, default=None
        Fewest and most pixels that the longer side of a defect's box has; None draws none.
    """

    def __init__(self, sources, size, seeds, extent=None):
        self.sources, self.size, self.seeds, self.extent = sources, size, np.array(seeds), extent
        self._mean = np.mean([source.mean(axis=(0, 1)) for source in sources], axis=0)

    def size_at(self, i):
        return self.size

    def mask(self, i):
        """Where the defect of image i is."""
        found = np.zeros(self.size, bool)
        if self.extent is not None:
            blank = np.zeros((WINDOW, WINDOW, len(self._mean)), np.uint8)
            found[self.place(i)] = self._drawn(i, blank)[1]
        return found

    def place(self, i):
        """The window, two slices, that the defect of image i is drawn in."""
        rng = np.random.default_rng([int(self.seeds[i]), 1])
        top, left = (int(rng.integers(n - WINDOW + 1)) for n in self.size)
        return slice(top, top + WINDOW), slice(left, left + WINDOW)

    def __len__(self):
        return len(self.seeds)

    def _image(self, i):
        image = self._surface(i)
        if self.extent is not None:
            place = self.place(i)
            image[place] = self._drawn(i, image[place])[0]
        return image

    def _subset(self, indices):
        return LargeImages(self.sources, self.size, self.seeds[indices], self.extent)

    def _surface(self, i):
        rng = np.random.default_rng([int(self.seeds[i]), 0])
        n_channels = len(self._mean)
        total = np.zeros((*self.size, n_channels), np.float32)
        squares = np.zeros(self.size, np.float32)
        starts = [np.arange(-EDGE, n, APART) for n in self.size]
        for top, left in np.stack(np.meshgrid(*starts), axis=-1).reshape(-1, 2):
            source = self.sources[rng.integers(len(self.sources))]
            y, x = (rng.integers(n - CROP + 1) for n in source.shape[:2])
            crop = source[y : y + CROP, x : x + CROP].astype(np.float32)
            crop -= crop.mean(axis=(0, 1))
            top, left = np.array([top, left]) + rng.integers(-OFF, OFF + 1, 2)
            (rows, of_rows), (columns, of_columns) = (
                _overlap(start, n) for start, n in zip((top, left), self.size)
            )
            weights = _weights()[of_rows, of_columns]
            total[rows, columns] += weights[..., None] * crop[of_rows, of_columns]
            squares[rows, columns] += weights**2
        total /= np.sqrt(squares)[..., None]
        total += np.float32(self._mean)
        return np.rint(total).clip(0, 255).astype(np.uint8)

    def _drawn(self, i, window):
        """A window with the defect of image i drawn onto it, and its mask."""
        rng = np.random.default_rng([int(self.seeds[i]), 2])
        kind = str(rng.choice(DRAWN))
        return draw(window, kind, rng, size_for(kind, self.extent), self.extent)


def size_for(kind, extent):
    """The factor on a kind of defect's size with which it mostly has an extent."""
    return np.mean(extent) / (2 * np.sqrt(np.prod(DEFECT_TYPES[kind].length)) * WINDOW)


def draw(window, kind, rng, size, extent, opacity=OPACITY):
    """Draw a defect until the longer side of its box is within an extent, in pixels.

    Returns
    -------
    window : array (h, w, C), uint8
    mask : array (h, w), bool
    """
    image = torch.from_numpy(window).permute(2, 0, 1)[None] / 255
    generator = DefectGenerator(types=[kind], n_regions=(1, 1), opacity=opacity, size=float(size))
    for _ in range(1000):
        drawn = generator.draw(image, [rng.integers(2**31)])
        mask = drawn.masks[0].numpy()
        if mask.any() and extent[0] <= max(map(_reach, (mask.any(0), mask.any(1)))) <= extent[1]:
            pixels = (255 * drawn.images[0]).round().to(torch.uint8)
            return pixels.permute(1, 2, 0).numpy(), mask
    raise RuntimeError(f"no {kind} of {extent} pixels within 1000 draws")


def _reach(line):
    found = np.flatnonzero(line)
    return found[-1] - found[0] + 1


def _overlap(start, n):
    """The part of an image's side that a crop covers, and the part of the crop that it is."""
    low, high = max(0, start), min(n, start + CROP)
    return slice(low, max(low, high)), slice(low - start, max(low, high) - start)


@lru_cache(1)
def _weights():
    """1 within, falling to 0 over the edges."""
    offsets = np.minimum(np.arange(CROP) + 0.5, CROP - np.arange(CROP) - 0.5)
    ramp = np.sin(np.pi / 2 * np.minimum(1, offsets / EDGE)) ** 2
    return np.outer(ramp, ramp).astype(np.float32)
