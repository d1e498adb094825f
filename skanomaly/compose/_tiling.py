"""Tiles of images: where they are cut, how their maps become one, regions cut along."""

from __future__ import annotations

from itertools import product
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..images import LazyImages, Marks, Regions


class Grid(NamedTuple):
    """Where the tiles of an image are cut, row by row."""

    size: tuple  #: height and width of the image
    tile: tuple  #: of a tile
    tops: np.ndarray
    lefts: np.ndarray

    def boxes(self):
        """(top, left, bottom, right) of each tile."""
        (h, w) = self.tile
        return [(y, x, y + h, x + w) for y, x in product(self.tops, self.lefts)]

    def weights(self):
        """What each tile's rows, and columns, count: two arrays (n, side), float32.

        At each row of the image those of the tiles that cover it sum to 1.
        """
        return [
            _partition(starts, side, n)
            for starts, side, n in zip((self.tops, self.lefts), self.tile, self.size)
        ]


def grid_of(size, tile_size, overlap):
    """The fewest tiles that cover an image, evenly spread.

    Parameters
    ----------
    size : (int, int)
        Height and width of the image.
    tile_size : (int, int)
        Of a tile; it is no larger than the image.
    overlap : float in [0, 1)
        Share of a tile's side that it has at least in common with the next one.

    Returns
    -------
    Grid
    """
    tile = tuple(min(side, n) for side, n in zip(tile_size, size))
    return Grid(tuple(size), tile, *(_starts(n, side, overlap) for n, side in zip(size, tile)))


def _starts(n, side, overlap):
    step = max(1.0, side * (1 - overlap))
    n_tiles = 1 + int(np.ceil((n - side) / step - 1e-9))
    return np.round(np.linspace(0, n - side, n_tiles)).astype(int)


def _partition(starts, side, n):
    """Ramps where tiles overlap, divided by their sum at each place."""
    offsets = np.arange(side) + 0.5
    ramp = np.minimum(offsets, side - offsets)
    total = np.zeros(n)
    for start in starts:
        total[start : start + side] += ramp
    return np.stack([ramp / total[start : start + side] for start in starts]).astype(np.float32)


def places_of(grids, chosen=None, at=None):
    """The image, by position, and the box of each tile of images, one after the other.

    Parameters
    ----------
    grids : sequence of Grid
    chosen : sequence of (sequence of bool) or None, default=None
        Which tiles of each image; None is all.
    at : int or None, default=None
        The only tile of each image, by number.

    Returns
    -------
    list of (int, (top, left, bottom, right))
    """
    return [
        (i, box)
        for i, grid in enumerate(grids)
        for k, box in enumerate(grid.boxes())
        if (chosen is None or chosen[i][k]) and at in (None, k)
    ]


def bands(grid, kept, tile_maps):
    """Rows of an image's map that are finished, from the maps of its tiles one after the other.

    Parameters
    ----------
    grid : Grid
    kept : sequence of bool
        For each tile whether there is a map of it.
    tile_maps : iterator of array (h, w)

    Yields
    ------
    ndarray, shape (n_rows, W), float32
        One below the other; 0 where there is no tile.
    """
    rows, columns = grid.weights()
    height, width = grid.tile
    buffer = np.zeros((height, grid.size[1]), np.float32)
    for i, top in enumerate(grid.tops):
        for j, left in enumerate(grid.lefts):
            if kept[i * len(grid.lefts) + j]:
                weights = rows[i][:, np.newaxis] * columns[j]
                buffer[:, left : left + width] += weights * next(tile_maps)
        n_finished = height if i + 1 == len(grid.tops) else grid.tops[i + 1] - top
        yield buffer[:n_finished].copy()
        buffer[: height - n_finished] = buffer[n_finished:]
        buffer[height - n_finished :] = 0


class Tiles(LazyImages):
    """Tiles of images, one image after the other, each cut out of its image as it is asked for.

    Parameters
    ----------
    images : ImageDataset
        Of whole images.
    places : list of (int, box)
        The image, by its position, and the box of each tile.
    """

    def __init__(self, images, places):
        self.images, self.places = images, places
        self._lock, self._latest = Lock(), {}

    def path_at(self, i):
        """The file of the image that tile i is of, or None if it comes from none."""
        return self.images.path_at(self.places[i][0])

    def index_of(self, i):
        """The number that errors call the image of tile i by."""
        return self.images.index_of(self.places[i][0])

    def __len__(self):
        return len(self.places)

    def _image(self, i):
        position, (top, left, bottom, right) = self.places[i]
        return self._whole(position)[top:bottom, left:right]

    def _whole(self, position):
        with self._lock:  # so that threads which want the same image read it once
            if position not in self._latest:
                self._latest = {p: a for p, a in self._latest.items() if p == position - 1}
                self._latest[position] = self.images.as_stored(position)
            return self._latest[position]

    def _subset(self, indices):
        return Tiles(self.images, [self.places[i] for i in indices])


class TileRegions(Regions):
    """Regions of interest of tiles, cut out of those of their images.

    Parameters
    ----------
    regions : Regions
        Of the whole images.
    places : list of (int, box)
        The image, by position in `regions`, and the box of each tile.
    grids : sequence of Grid
        Of each image.
    """

    def __init__(self, regions, places, grids):
        self.regions, self.places, self.grids = regions, places, grids
        self.indices = np.array([regions.indices[i] for i, _ in places])

    def subset(self, positions):
        """Those of the tiles at these positions."""
        return TileRegions(self.regions, [self.places[i] for i in positions], self.grids)

    def counts(self, i):
        """Whether there is a pixel that counts in tile i."""
        region = self.of(i, None)
        return region is None or bool(region.any())

    def of(self, i, size):
        """That of tile i: array (h, w) of bool, or None for all of it."""
        position, (top, left, bottom, right) = self.places[i]
        region = self.regions.of(position, self.grids[position].size)
        return None if region is None else region[top:bottom, left:right]


class TileMarks(Marks):
    """Masks of tiles that defects are in, cut out of those of their images.

    Parameters
    ----------
    masks : sequence of array (H, W) of bool
        Of the whole images.
    places : list of (int, box)
        The image, by position in `masks`, and the box of each tile.
    """

    has_masks = True

    def __init__(self, masks, places):
        self.masks, self.places = masks, places
        self.labels = np.full(len(places), -1)

    def subset(self, positions):
        """Those of the tiles at these positions."""
        return TileMarks(self.masks, [self.places[i] for i in positions])

    def of(self, i, size):
        """That of tile i: array (h, w) of bool."""
        position, (top, left, bottom, right) = self.places[i]
        return self.masks[position][top:bottom, left:right]


class WholeRegions(Regions):
    """Regions of interest of images, with the images' sizes.

    Parameters
    ----------
    regions : Regions
    images : ImageDataset
        Of all images that there are regions of.
    positions : array of int or None, default=None
        The images that these are of; None is all.
    """

    def __init__(self, regions, images, positions=None):
        self.regions, self.images = regions, images
        self.positions = np.arange(len(images)) if positions is None else np.asarray(positions)
        self.indices = regions.indices[self.positions]

    def __len__(self):
        return len(self.indices)

    def subset(self, positions):
        """Those of the images at these positions."""
        return WholeRegions(self.regions, self.images, self.positions[positions])

    def for_others(self, images):
        """Those of other images: the one that is for all, or none."""
        return WholeRegions(self.regions.for_others(images), images)

    def size(self, i):
        """Height and width of image i."""
        return self.images.size_of(int(self.positions[i]))

    def of(self, i, size):
        """That of image i, of a height and width: array (H, W) of bool, or None for all of it."""
        return self.regions.of(int(self.positions[i]), size)


class BranchMaps:
    """Maps of normal images by each of several detectors.

    Parameters
    ----------
    of : dict
        For each branch the batches of its maps, (maps, sizes).
    """

    def __init__(self, of):
        self.of = of

    def __iter__(self):
        for branch, batches in self.of.items():
            for maps, sizes in batches:
                yield maps, sizes, branch

    @classmethod
    def sorted(cls, batches):
        """What iterating gave, of one or several."""
        of = {}
        for maps, sizes, branch in batches:
            of.setdefault(branch, []).append((maps, sizes))
        return cls(of)
