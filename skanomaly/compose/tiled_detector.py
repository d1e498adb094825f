"""A detector on tiles of large images, which keep their resolution."""

from __future__ import annotations

from dataclasses import MISSING
from functools import partial
from itertools import repeat
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone

from .._fitting import SHIFTS, HoldsOut
from .._image_detector import ImageDetector
from .._judging import JudgesByNormals
from .._map_units import KeptMaps, MapMoments
from .._parameters import parameter
from .._sklearn import HasMethods, Interval, Numbers, StrOptions
from ..base import BaseImageDetector
from ..exceptions import InvalidImageError
from ..images import ImageDataset, MarkedImages, Regions, check_images, checked_image_size
from ..maps import reduce_maps
from ._tiling import (
    BranchMaps,
    TileMarks,
    TileRegions,
    Tiles,
    WholeRegions,
    bands,
    grid_of,
    places_of,
)
from ._wrapping import asked_of, kind_of, with_parameters_of

# The branch of the maps that the detector of whole images gives.
COARSE = -1


class TiledDetector(HoldsOut, JudgesByNormals, ImageDetector):
    """Let a detector see large images in tiles, so that small defects are not shrunk away.

    Tiles are cut out of the image as it is stored, before anything is resized; the detector's
    `image_size` is what each *tile* is brought to. Those at the edges are moved inwards instead
    of being padded. Maps of tiles are blended by weights that sum to 1 at every pixel, and
    scores and thresholds are of whole images. Beside the image itself, scoring takes the memory
    of a batch of tiles and of a row of them, however large the image is, and of the map where one
    is asked for.

    Parameters
    ----------
    detector : detector of images
        It is cloned. Thresholds, units of maps and all else are as it says, such as
        ``detector__false_alarm_rate`` or ``detector__n_jobs``.
    tile_size : int or (int, int)
        Height and width of a tile in pixels of the image. A smaller image is one tile.
    overlap : float in [0, 1)
        Share of a tile's side that it has at least in common with the next one. Tiles are spread
        evenly, so that it may be more.
    position : {"shared", "own"}
        One detector for all tiles, for surfaces that look the same everywhere, or one for each
        place in the image, for parts that lie where they lie; images are of one size then, and a
        fit takes the time and memory of as many detectors. A detector that learns what each place
        looks like, such as `PaDiM`, needs "own".
    coarse : detector of images or None
        Another one that sees the whole image, shrunk to its `image_size`, for defects that are
        larger than a tile. Of both maps what lies above their mean counts, in their standard
        deviations on the images that set the threshold: the root of the sum of squares.

    Attributes
    ----------
    detectors_ : list of detector
        The fitted ones: one, or one for each tile, row by row.
    coarse_ : detector or None
        The fitted one of whole images.
    branch_means_ : ndarray, shape (2,), float64
        Of the maps of tiles and of those of whole images, if there are both.
    branch_deviations_ : ndarray, shape (2,), float64
        Standard deviations of these.
    tiled_size_ : (int, int) or None
        Height and width that images must have, if each place has its own detector.
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    validation_scores_ : ndarray, shape (n_validation,), float64
        Scores of normal images by what had not learnt from them.
    validation_maxima_ : ndarray, shape (n_validation,), float64
        Their maps' largest values.
    map_threshold_ : float
        Map value that `false_alarm_rate` of new normal images exceed somewhere.
    is_provisional_ : bool
        Whether `validation_scores_` are of a single training image, moved by a pixel.
    n_channels_in_ : int
        Channels of the images seen in `fit`.
    n_left_out_ : int
        Images that `y` called anomalous, which were not learnt from.
    n_defects_ : int
        Those that were learnt from as such.
    fitted_parameters_ : dict
        Values, when the threshold was set, of the parameters that scores depend on.

    See Also
    --------
    TransformedImageDetector : For steps that come before, such as a crop.

    Notes
    -----
    With one tile as large as the image the result equals the detector's own, to the bit.
    Smoothing and units by position are within a tile. An image takes as many times the network's
    time as it has tiles.

    A detector that learns from marked defects gets the tiles that a mask has a pixel in. Labels
    do not say which tiles these are, so that images with labels alone go to `coarse` only.

    Examples
    --------
    >>> from skanomaly import PatchCore, TiledDetector
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("gravel", n_normal=12, image_size=200, random_state=0).images
    >>> detector = TiledDetector(PatchCore(image_size=64, random_state=0), tile_size=100).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 200, 200)
    """

    detector: object = parameter(MISSING, HasMethods(["fit"]), kw_only=False)
    tile_size: int | tuple[int, int] = parameter(
        512, Interval(Integral, 1, None, closed="left"), Numbers(Integral, 1, length=2)
    )
    overlap: float = parameter(0.25, Interval(Real, 0, 1, closed="left"))
    position: str = parameter("shared", StrOptions({"shared", "own"}))
    coarse: object = parameter(None, HasMethods(["fit"]), None)

    _not_exportable = (
        "a file's graph takes an image whole, and this one cuts it; export detectors_[0], and cut "
        "and blend around it"
    )

    def _validate_params(self):
        super()._validate_params()
        for name in ("detector", "coarse"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, BaseImageDetector):
                raise ValueError(
                    f"{name} is {kind_of(given)}, expected a detector of images such as "
                    "PatchCore(); other composites go around a TiledDetector"
                )
            if given is not None:
                given._validate_params()
        if self.position == "shared" and self.detector._models_positions:
            raise ValueError(
                f"{type(self.detector).__name__} learns what each place of an image looks like, "
                'and one is to see tiles of all places; set position="own", or choose a detector '
                "without positions, such as PatchCore"
            )

    def _sorted_images(self, X, y, roi, groups):
        images = self._open(X)
        regions = WholeRegions(Regions.given(roi, images.X), images)
        return super()._sorted_images(X, y, regions, groups)

    def _learns_from(self, has_masks):
        # Labels do not say which tiles a defect is in.
        by_tiles = has_masks and self.detector._learns_from(has_masks)
        return by_tiles or (self.coarse is not None and self.coarse._learns_from(has_masks))

    def _maps_of_shifted(self, images):
        image = images.as_stored(0)
        wider = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = image.shape[:2]
        shifted = [wider[y : y + height, x : x + width] for y, x in SHIFTS]
        return self._kept_maps(self._open(shifted))

    def _fit_images(self, images, validation, defects=None):
        self.tiled_size_ = images.size_of(0) if self.position == "own" else None
        grids, of_validation = self._grids(images), self._grids(validation)
        self.detectors_, found = [], {}
        n_detectors = len(grids[0].boxes()) if self.position == "own" else 1
        for branch in range(n_detectors):
            fitted = self._unfitted(self.detector)
            self.detectors_.append(fitted)
            parts = (
                fitted._open(Tiles(part, self._places(branch, of_part)))
                for part, of_part in ((images, grids), (validation, of_validation))
            )
            marked = self._tiles_of(defects, fitted, branch)
            found[branch] = self._fit_branch(fitted, *parts, marked)
        self.coarse_ = None
        if self.coarse is not None:
            self.coarse_ = self._unfitted(self.coarse)
            parts = (_whole(self.coarse_, part) for part in (images, validation))
            if defects is not None:
                defects = defects.with_images(_whole(self.coarse_, defects.images))
            found[COARSE] = self._fit_branch(self.coarse_, *parts, defects)
        return BranchMaps(found)

    def _unfitted(self, detector):
        blank = clone(detector)
        blank.n_channels_in_ = self.n_channels_in_
        return blank

    def _tiles_of(self, defects, detector, branch):
        """The tiles of defective images that a defect is in."""
        if defects is None or not defects.has_masks:
            return None
        masks = [defects.mask(i) for i in range(len(defects))]
        places = [
            (i, (top, left, bottom, right))
            for i, (top, left, bottom, right) in self._places(branch, self._grids(defects.images))
            if masks[i][top:bottom, left:right].any()
        ]
        if not places:
            return None
        marks = TileMarks(masks, places)
        return MarkedImages(detector._open(Tiles(defects.images, places)), marks)

    def _fit_branch(self, detector, images, validation, defects):
        found = detector._learnt_from(images, validation, defects)
        return found or detector._raw_map_batches(validation)

    def _kept_maps(self, images, batches=None):
        found = {} if batches is None else batches.of
        kept = {}
        for branch in self._branches():
            anew = partial(self._maps_of_branch, branch, images)
            kept[branch] = KeptMaps(found.get(branch) or anew(), anew)
        return BranchMaps(kept)

    def _maps_of_branch(self, branch, images):
        detector = self._branches()[branch]
        if branch == COARSE:
            return detector._raw_map_batches(_whole(detector, images))
        tiles = Tiles(images, self._places(branch, self._grids(images)))
        return detector._raw_map_batches(detector._open(tiles))

    def _branches(self):
        """The fitted detectors by the names of their maps."""
        found = dict(enumerate(self.detectors_))
        return found if self.coarse_ is None else {**found, COARSE: self.coarse_}

    def _judge_by(self, maps, regions, provisional=False):
        maps = maps if isinstance(maps, BranchMaps) else BranchMaps.sorted(maps)
        if self.coarse_ is not None:
            self._find_scales(self._judging_maps(maps, regions, provisional), regions)
        self.is_provisional_ = False
        found = enumerate(self._judging_maps(maps, regions, provisional))
        finished = (self._finished(*pair, regions, i) for i, pair in found)
        self._add_validation(finished, regions, provisional)

    def _judge_anew(self, X, roi):
        images = self._open(X)
        regions = WholeRegions(Regions.given(roi, images.X), images)
        super()._judge_anew(X, regions)

    def _assembled(self, finished, regions):
        return finished

    def _judging_maps(self, maps, regions, provisional):
        """Maps by tiles and of whole images, or None, in units that each has no part in."""
        grids = [self._grid(regions.size(i)) for i in range(len(regions))]
        chosen = [_chosen(grid, regions, i) for i, grid in enumerate(grids)]
        sources = []
        for branch, detector in enumerate(self.detectors_):
            of_tiles = TileRegions(regions, self._places(branch, grids), grids)
            batches = detector._set_units(maps.of[branch], of_tiles, provisional)
            counted = np.array([of_tiles.counts(i) for i in range(len(of_tiles.places))])
            batches, of_tiles = _only(batches, counted), of_tiles.subset(np.flatnonzero(counted))
            sources.append(detector._assembled(batches, of_tiles))
        whole = repeat((None, None))
        if self.coarse_ is not None:
            batches = self.coarse_._set_units(maps.of[COARSE], regions, provisional)
            whole = self.coarse_._assembled(batches, regions)
        for grid, of_image in zip(grids, chosen):
            rows = list(bands(grid, of_image, self._in_turn(sources, of_image)))
            yield np.concatenate(rows), next(whole)[0]
        for source in sources:  # to its end, so that its maps are kept
            next(source, None)

    def _in_turn(self, sources, chosen):
        """The maps of an image's tiles, each from the detector of its place."""
        for k in np.flatnonzero(chosen):
            yield next(sources[k if self.position == "own" else 0])[0]

    def _find_scales(self, pairs, regions):
        moments = [MapMoments(per_position=False) for _ in range(2)]
        for i, pair in enumerate(pairs):
            region = [regions.of(i, pair[0].shape)]
            for of_branch, found in zip(moments, pair):
                of_branch.add(torch.from_numpy(found)[None], region)
        found = [of_branch.mean_and_deviation() for of_branch in moments]
        self.branch_means_, self.branch_deviations_ = np.array(found, float).reshape(2, 2).T

    def _joined(self, fine, whole):
        """One map, or some rows of it, of both branches'."""
        if whole is None:
            return fine
        scaled = (
            np.maximum((phi - np.float32(mean)) / np.float32(deviation), 0)
            for phi, mean, deviation in zip(
                (fine, whole), self.branch_means_, self.branch_deviations_
            )
        )
        return np.hypot(*scaled)

    def _finished(self, fine, whole, regions, i):
        """The map of image i, and its score."""
        found = self._joined(fine, whole)
        region = regions.of(i, found.shape)
        counted = found if region is None else found[region]
        score = -float(reduce_maps(torch.from_numpy(counted.reshape(1, -1)), self.score_reduction))
        self._require_finite([torch.tensor(score)], regions.indices[i:])
        if region is not None:
            found = np.where(region, found, counted.min())
        return found, score

    def _maps(self, images, roi=None):
        regions = WholeRegions(Regions.given(roi, images.X), images)
        for i, (rows, whole) in enumerate(self._scored(images, regions)):
            found, top = np.empty(regions.size(i), np.float32), 0
            for band in rows:
                found[top : top + len(band)] = band
                top += len(band)
            yield self._finished(found, whole, regions, i)

    def _scores(self, X, roi):
        if self.score_reduction != "max":
            return super()._scores(X, roi)
        images = self._open(X)
        regions = WholeRegions(Regions.given(roi, images.X), images)
        found = self._scored(images, regions)
        return np.array([self._highest(*pair, regions, i) for i, pair in enumerate(found)])

    def _highest(self, rows, whole, regions, i):
        """The score of image i, without its map."""
        region, top, score = regions.of(i, regions.size(i)), 0, np.inf
        for band in rows:
            part = slice(top, top + len(band))
            found = self._joined(band, None if whole is None else whole[part])
            counted = found if region is None else found[region[part]]
            if counted.size:
                score = np.minimum(score, -float(counted.max()))
            top += len(band)
        self._require_finite([torch.tensor(score)], regions.indices[i:])
        return float(score)

    def _scored(self, images, regions):
        """For each image an iterator of the rows of its map by tiles, and its map as a whole."""
        # Each place has a source of its own, and an image is read by all of them.
        n_at_once = 1 if len(self.detectors_) > 1 else self.batch_size
        for start in range(0, len(images), n_at_once):
            positions = np.arange(start, min(start + n_at_once, len(images)))
            part, of_part = images.subset(positions), regions.subset(positions)
            grids = self._grids(part)
            chosen = [_chosen(grid, of_part, i) for i, grid in enumerate(grids)]
            sources = [
                self._tile_maps(branch, detector, part, of_part, grids, chosen)
                for branch, detector in enumerate(self.detectors_)
            ]
            whole = repeat((None, None))
            if self.coarse_ is not None:
                whole = self.coarse_._maps(_whole(self.coarse_, part), of_part)
            for grid, of_image in zip(grids, chosen):
                yield bands(grid, of_image, self._in_turn(sources, of_image)), next(whole)[0]

    def _tile_maps(self, branch, detector, images, regions, grids, chosen):
        places = self._places(branch, grids, chosen)
        if not places:
            return iter(())
        of_tiles = TileRegions(regions, places, grids)
        return detector._maps(detector._open(Tiles(images, places)), of_tiles)

    def _grids(self, images):
        grids = [self._grid(images.size_of(i)) for i in range(len(images))]
        for i, grid in enumerate(grids):
            if self.position == "own" and grid.size != (self.tiled_size_ or grid.size):
                raise InvalidImageError(
                    f"is {grid.size[0]} x {grid.size[1]} pixels, expected {self.tiled_size_[0]} x "
                    f'{self.tiled_size_[1]} as the others, as position="own" judges each place by '
                    "itself",
                    index=images.index_of(i),
                    path=images.path_at(i),
                )
        return grids

    def _grid(self, size):
        return grid_of(size, checked_image_size(self.tile_size), self.overlap)

    def _places(self, branch, grids, chosen=None):
        """The tiles of images that a detector is for."""
        return places_of(grids, chosen, at=branch if self.position == "own" else None)

    def _open(self, X, n_channels=None):
        return ImageDataset(
            check_images(X),
            image_size=self.detector._seen_size,
            value_range=self.detector.value_range,
            n_channels=getattr(self, "n_channels_in_", n_channels),
        )

    def _as_it_is(self, *checked):
        now = super()._as_it_is(*checked)
        now.detectors_ = [with_parameters_of(now.detector, d) for d in now.detectors_]
        if now.coarse_ is not None:
            now.coarse_ = with_parameters_of(now.coarse, now.coarse_)
        return now

    def _parameters_that_affect(self, *what):
        found = super()._parameters_that_affect(*what)
        for name in ("detector", "coarse"):
            given = getattr(self, name)
            if name in found:
                found[name] = given if given is None else type(given).__name__
            own = {} if given is None else given._parameters_that_affect(*what)
            found |= {f"{name}__{key}": value for key, value in own.items()}
        return found

    def __getattr__(self, name):
        # Asked of instances only, so that scikit-learn takes none of it for a parameter.
        if name in ("_device", "_holds_out_in_turn") and "detector" in vars(self):
            return getattr(self.detector, name)
        return asked_of(self, name)


def _whole(detector, images):
    """Whole images as a detector sees them."""
    return detector._open(images.X).subset(images.indices)


def _chosen(grid, regions, i):
    """Which tiles of image i have pixels that count."""
    region = regions.of(i, grid.size)
    return [
        region is None or bool(region[top:bottom, left:right].any())
        for top, left, bottom, right in grid.boxes()
    ]


def _only(batches, counted):
    """Batches of maps of those tiles that count."""
    start = 0
    for maps, sizes in batches:
        kept = np.flatnonzero(counted[start : start + len(sizes)])
        start += len(sizes)
        if len(kept) == len(sizes):
            yield maps, sizes
        elif len(kept):
            chosen = torch.from_numpy(kept)
            parts = [maps] if isinstance(maps, torch.Tensor) else maps
            parts = tuple(phi[chosen.to(phi.device)] for phi in parts)
            yield parts, [sizes[k] for k in kept]
