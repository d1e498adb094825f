"""One pass over images, of which all that a report shows is kept in small."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from .._unwrap import value_range_of
from ..calibration import conformal_p_values, verdicts
from ..images import LazyImages, PartOfBatch, Regions, check_images, check_values, stack, to_array
from ..regions import find_regions
from ._pictures import (
    SHARE_OF_MAP,
    SMALLEST,
    TOTAL_BYTES,
    side_for,
    small_map,
    small_mask,
    thumbnail,
)
from ._provenance import data_checksum, pixel_checksum

IMAGES_AT_ONCE, BYTES_OF_MAPS = 64, 2**27  # at most, unless a batch of the detector's is more


class WatchedDetector:
    """A detector that keeps, in small, what it sees and finds in the images that it is given.

    `evaluate` takes it as it takes a detector, so that each image is read once.
    """

    def __init__(self, detector, X, masks, roi, min_area, side):
        n = len(X)
        self.detector, self.X = detector, check_images(X)
        self.value_range = value_range_of(detector)
        self.offset_, self.map_threshold_ = detector.offset_, detector.map_threshold_
        self.masks, self.roi, self.min_area = masks, Regions(roi, n), min_area
        self.side = side_for(n) if side is None else side
        self.bytes_of_map = TOTAL_BYTES / n * SHARE_OF_MAP
        self.bytes_of_image = TOTAL_BYTES / n - self.bytes_of_map
        self.seen, self.found, self.tables = {}, [], []

    def score_samples(self, X, *, roi=None):
        """As of the detector, of which no map is kept in full."""
        for _ in self._maps(X):
            pass
        return np.array([found.score for found in self.found])

    def detect(self, X, *, roi=None):
        """As of the detector."""
        maps = stack(self._maps(X), len(X))
        scores = np.array([found.score for found in self.found])
        return Bunch(scores=scores, labels=verdicts(scores, self.offset_), maps=maps)

    def results(self):
        """What a report is made of."""
        seen = [self.seen[i] for i in range(len(self.found))]
        scores = np.array([found.score for found in self.found])
        regions = {name: np.concatenate([t[name] for t in self.tables]) for name in self.tables[0]}
        reference = self.detector.validation_scores_
        return {
            "scores": scores,
            "labels": verdicts(scores, self.offset_),
            "p_values": conformal_p_values(scores, reference, np.random.RandomState(0)),
            "regions": Bunch(**regions),
            "pictures": [Bunch(**of_image, **found) for of_image, found in zip(seen, self.found)],
            "data_sha256": data_checksum([of_image.checksum for of_image in seen]),
        }

    def _maps(self, X):
        """Yield each image's map, having kept what the report needs."""
        X, start, n_at_once = check_images(X), 0, getattr(self.detector, "batch_size", 8)
        while start < len(X):
            at = np.arange(start, min(start + n_at_once, len(X)))
            part = _Watched(PartOfBatch(X, at), PartOfBatch(self.X, at), self._see)
            found = self.detector.detect(part, roi=self.roi.subset(at))
            self._keep(at, found, part)
            yield from found.maps
            start += len(at)
            fitting = BYTES_OF_MAPS // (4 * found.maps[-1].size)
            n_at_once = max(n_at_once, min(fitting, IMAGES_AT_ONCE))
            del found, part

    def _see(self, i, image):
        """Keep image i, (H, W, C), in small; it is called while the detector reads."""
        if i not in self.seen:
            check_values(image, self.value_range)
            picture = thumbnail(image, self.value_range, self.side, self.bytes_of_image)
            self.seen[i] = Bunch(
                size=image.shape[:2], thumbnail=picture, checksum=pixel_checksum(image)
            )

    def _keep(self, at, found, part):
        """Keep what was found in the images at these positions."""
        regions = self.roi.roi
        if regions is not None and not self.roi.shared:
            regions = [regions[i] for i in at]
        table = find_regions(found.maps, self.map_threshold_, min_area=self.min_area, roi=regions)
        self.tables.append({**table, "image": table.image + at[0]})
        for k, (i, score, values) in enumerate(zip(at.tolist(), found.scores, found.maps)):
            if i not in self.seen:  # what a detector has looked up elsewhere
                self._see(i, part[k])
            side = max(SMALLEST, self.side // 2)
            png, low, high = small_map(values, self.map_threshold_, side, self.bytes_of_map)
            mask = None if self.masks is None else np.asarray(self.masks[i]).astype(bool)
            drawn = small_mask(mask, side) if mask is not None and mask.any() else None
            self.found.append(Bunch(score=float(score), map=png, low=low, high=high, mask=drawn))


class _Watched(LazyImages):
    """A part of a batch that shows each image to an observer when it is read.

    What `evaluate` hands over are the images; what is known of them without reading them is
    asked of those that were given to it.
    """

    def __init__(self, images, part, observe):
        self.images, self.part, self.observe = images, part, observe

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        return self.part.path_at(i)

    def file_of(self, i):
        """The file whose content image i is, or None."""
        return self.part.file_of(i)

    def size_at(self, i):
        """Height and width of image i where they are known without its pixels, or None."""
        return self.part.size_at(i)

    def index_of(self, i):
        """The number that errors call image i by."""
        return self.part.index_of(i)

    def __len__(self):
        return len(self.part)

    def _image(self, i):
        image = to_array(self.images[i])
        self.observe(int(self.part.indices[i]), image)
        return image

    def _subset(self, indices):
        return _Watched(self.images[indices], self.part[indices], self.observe)
