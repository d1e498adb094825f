"""Parts that lie elsewhere, turned, or nearer to the camera, brought to where a reference lies."""

from __future__ import annotations

import warnings
from itertools import product
from numbers import Integral, Real
from operator import itemgetter

import numpy as np
from scipy import ndimage, optimize

from .._parameters import parameter
from .._sklearn import Interval, StrOptions
from ..exceptions import InvalidImageError, TransformWarning
from ..images import converted
from ._pixels import of_size
from ._placement import Placement, moved_by, scaled_by
from ._transformer import BaseImageTransformer

# Longest side of what angles and scales are tried on, and how far apart they are.
COARSE, DEGREES_APART, FACTOR_APART = 48, 10, 1.1

# Of these, how many are refined.
N_REFINED = 2

# Corners of an image, and pairs that have to agree.
N_CORNERS, MIN_PAIRS = 500, 8

# Images of a fit that are looked at, of which the first so many make the reference.
N_LEARNT, N_AVERAGED = 50, 16

# No correlation below this is taken for a fit, nor an image of which less is covered.
LEAST = 0.2

# What a defect may take of the correlation of the worst good image.
TOLERANCE = 0.8


class Align(BaseImageTransformer):
    """Move, turn and scale each image so that the part lies where it lies in a reference.

    The reference is the mean of good images, after they were aligned to the first of them;
    all that is transformed has that image's size. How well an image fits is the correlation
    of its grey values with the reference's where both have pixels.

    Parameters
    ----------
    motion : {"translation", "rigid", "similarity"}
        What may have happened to the part: it was moved, also turned, also scaled.
    method : {"correlation", "features"}
        "correlation" tries angles and scales, finds for each where images correlate most, and
        refines the best by least squares: for parts that look alike, on a plain background.
        "features" matches corners (ORB) and takes what most of them agree on (RANSAC): for
        prints, boards and other structure, of which much may be hidden.
    max_rotation : float
        Degrees to either side that are tried, if `motion` has a rotation.
    max_scale : float
        Factor up to which, and down to its inverse, scales are tried, if it has one.
    min_similarity : float or "auto"
        Correlation below which an image does not fit. "auto" is 0.8 of the least of the images
        in `fit`, and at least 0.2.
    on_failure : {"raise", "warn"}
        What is done with an image that does not fit: an error, or a warning and the image as
        it is, which a detector will then find unlike the others.
    working_size : int
        Longest side, in pixels, of what the place is found on; it is found to a fraction of
        these.

    Attributes
    ----------
    reference_ : ndarray, shape (h, w), float32
        Grey values of the reference in the working size, with mean 0 and deviation 1.
    reference_size_ : (int, int)
        Height and width of what is transformed.
    similarities_ : ndarray, shape (n,), float64
        Correlations of images in `fit` with the reference, of at most 50 that are evenly spread.
    min_similarity_ : float
        Correlation below which an image does not fit.
    fitted_parameters_ : dict
        Values in `fit` of the parameters that what is learnt depends on.

    Notes
    -----
    Pixels of the result that lie beyond the image that it is made of have the border's values;
    a `TransformedImageDetector` does not count them. A part that looks the same from several
    sides is turned to whichever fits best.

    References
    ----------
    J. P. Lewis, "Fast normalized cross-correlation", Vision Interface, 1995. E. Rublee et al.,
    "ORB: an efficient alternative to SIFT or SURF", ICCV 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.preprocessing import Align
    >>> X = np.full((3, 64, 64), 20, np.uint8)
    >>> for image, left in zip(X, (10, 14, 18)):
    ...     image[20:40, left : left + 30] = 200
    ...     image[20:30, left : left + 10] = 120
    >>> aligned = Align(motion="translation").fit_transform(X)
    >>> bool(np.abs(aligned[2].astype(int) - aligned[0]).max() < 20)
    True
    """

    motion: str = parameter("rigid", StrOptions({"translation", "rigid", "similarity"}))
    method: str = parameter("correlation", StrOptions({"correlation", "features"}))
    max_rotation: float = parameter(180.0, Interval(Real, 0, 180, closed="both"))
    max_scale: float = parameter(1.25, Interval(Real, 1, None, closed="left"))
    min_similarity: float | str = parameter(
        "auto", Interval(Real, -1, 1, closed="both"), StrOptions({"auto"})
    )
    on_failure: str = parameter("raise", StrOptions({"raise", "warn"}), affects="nothing")
    working_size: int = parameter(256, Interval(Integral, 32, None, closed="left"))

    def _learn(self, images):
        first = images[0]
        self.reference_size_ = first.shape[:2]
        alone = _standardized(self._working(first))
        if not alone.any():
            raise images.error(0, "is of one grey value; nothing can be aligned to it")
        chosen = np.unique(np.linspace(0, len(images) - 1, N_LEARNT).round().astype(int))
        greys = [self._working(images[i]) for i in chosen]
        aligned = [alone]
        for grey in greys[1:N_AVERAGED]:
            matrix, similarity = self._located(grey, alone)
            if similarity >= LEAST:
                aligned.append(_standardized(_warped(grey, matrix, alone.shape)))
        self.reference_ = _standardized(np.mean(aligned, axis=0)).astype(np.float32)
        found = np.array([self._located(grey, self.reference_)[1] for grey in greys])
        if found.min() < LEAST:
            worst = int(found.argmin())
            raise images.error(
                int(chosen[worst]),
                f"cannot be aligned with the others: its correlation is {found[worst]:.2f}, of "
                f"all of them {np.median(found):.2f} at the median; leave it out, or choose "
                "another method or motion",
            )
        self.similarities_ = found
        self.min_similarity_ = self.min_similarity
        if self.min_similarity == "auto":
            self.min_similarity_ = max(LEAST, TOLERANCE * self.similarities_.min())

    def _apply(self, image):
        size = image.shape[:2]
        matrix, similarity = self._located(self._working(image), self.reference_)
        if similarity < self.min_similarity_:
            reason = (
                f"cannot be aligned: its correlation with the reference is {similarity:.2f} at "
                f"best, expected {self.min_similarity_:.2f}"
            )
            if self.on_failure == "raise":
                raise InvalidImageError(
                    f"{reason}; leave it out, or set min_similarity or on_failure"
                )
            warnings.warn(f"an image {reason}; it stays as it is", TransformWarning, stacklevel=2)
            matrix = np.eye(3)
        seen = self.reference_.shape
        to_seen = scaled_by(*(n / m for n, m in zip(seen, self.reference_size_)))
        of_image = scaled_by(*(n / m for n, m in zip(size, self._working_size_of(size))))
        placement = Placement(of_image @ matrix @ to_seen, size, self.reference_size_)
        return placement.sampled(image), placement

    def _working_size_of(self, size):
        factor = max(1.0, max(self.reference_size_) / self.working_size)
        return tuple(max(1, round(n / factor)) for n in size)

    def _working(self, image):
        return of_size(
            np.atleast_3d(converted(image, "grey")), self._working_size_of(image.shape[:2])
        )[..., 0]

    def _located(self, grey, reference):
        """The matrix from the reference's pixels to the image's, and the correlation there."""
        if not np.ptp(grey):
            return np.eye(3), 0.0
        starts = self._by_features if self.method == "features" else self._by_correlation
        halves = _shrunk(grey, 2), _shrunk(reference, 2)
        down, up = (
            _between(i.shape, half.shape) for i, half in zip((reference, grey), halves[::-1])
        )
        found = []
        for start in starts(grey, reference):
            matrix = self._refined(*halves, up @ start @ np.linalg.inv(down))
            found.append((_similarity(*halves, matrix), matrix))
        if not found:
            return np.eye(3), 0.0
        _, best = max(found, key=itemgetter(0))
        matrix = self._refined(grey, reference, np.linalg.inv(up) @ best @ down)
        return matrix, _similarity(grey, reference, matrix)

    def _by_correlation(self, grey, reference):
        """Where images correlate most, of the angles and scales that are tried; the best two."""
        from skimage.feature import match_template

        shrinks = max(1.0, max(reference.shape) / COARSE)
        template, small = (_shrunk(image, shrinks) for image in (reference, grey))
        small = small - np.median(np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]]))
        side = 2 * max(*template.shape, *small.shape)
        found = []
        for angle, scale in product(self._angles(), self._scales()):
            about = [moved_by(*((n - 1) / 2 for n in image.shape)) for image in (small, template)]
            matrix = about[0] @ _turned(angle, scale) @ np.linalg.inv(about[1])
            margin = [(side - n) // 2 for n in template.shape]
            canvas = _warped(
                small, matrix @ moved_by(*(-m for m in margin)), (side, side), mode="constant"
            )
            similarity = match_template(canvas, template)
            peak = np.unravel_index(similarity.argmax(), similarity.shape)
            shift = moved_by(*(p - m for p, m in zip(peak, margin)))
            found.append((similarity[peak], matrix @ shift))
        found.sort(key=lambda pair: -pair[0])
        down, up = _between(reference.shape, template.shape), _between(small.shape, grey.shape)
        return [up @ matrix @ down for _, matrix in found[:N_REFINED]]

    def _by_features(self, grey, reference):
        """What most pairs of matching corners agree on, if enough do."""
        from skimage.feature import ORB, match_descriptors
        from skimage.measure import ransac
        from skimage.transform import EuclideanTransform, SimilarityTransform

        corners = []
        for image in (reference, grey):
            orb = ORB(n_keypoints=N_CORNERS, fast_threshold=0.05)
            try:
                orb.detect_and_extract((image - image.min()) / np.ptp(image))
            except RuntimeError:  # no corner at all
                return []
            corners.append(orb)
        if not all(len(orb.descriptors) for orb in corners):
            return []
        pairs = match_descriptors(*(orb.descriptors for orb in corners), cross_check=True)
        if len(pairs) < MIN_PAIRS:
            return []
        points = tuple(orb.keypoints[found] for orb, found in zip(corners, pairs.T))
        kind = SimilarityTransform if self.motion == "similarity" else EuclideanTransform
        model, agrees = ransac(points, kind, 3, residual_threshold=2, max_trials=500, rng=0)
        if agrees is None or agrees.sum() < MIN_PAIRS:
            return []
        if self.motion == "translation":
            return [moved_by(*np.median(points[1][agrees] - points[0][agrees], axis=0))]
        return [model.params]

    def _angles(self):
        if self.motion == "translation":
            return [0.0]
        n = int(self.max_rotation // DEGREES_APART)
        return np.radians(np.arange(-n, n + (self.max_rotation < 180)) * DEGREES_APART)

    def _scales(self):
        if self.motion != "similarity":
            return [1.0]
        n = int(np.log(self.max_scale) / np.log(FACTOR_APART))
        return FACTOR_APART ** np.arange(-n, n + 1.0)

    def _refined(self, grey, reference, start):
        """A matrix near another one that makes images agree best."""
        n_free = {"translation": 2, "rigid": 3, "similarity": 4}[self.motion]
        radius = np.hypot(*reference.shape) / 4  # so that all parameters move corners alike
        middle = [(n - 1) / 2 for n in reference.shape]
        places = np.indices(reference.shape, np.float32)

        def matrix_of(parameters):
            rows, columns, turn, growth = np.append(parameters, np.zeros(4 - n_free))
            about = _turned(turn / radius, np.exp(growth / radius))
            return (
                start
                @ moved_by(*middle)
                @ moved_by(rows, columns)
                @ about
                @ moved_by(*(-m for m in middle))
            )

        def moved(image, parameters):
            return _warped(image, matrix_of(parameters), reference.shape)

        def difference(parameters):
            return (_standardized(moved(grey, parameters)) - reference).ravel()

        def slopes(parameters):
            by_row, by_column = (moved(slope, parameters) for slope in np.gradient(grey))
            deviation = max(moved(grey, parameters).std(), np.finfo(float).tiny)
            columns = []
            for step in np.eye(n_free):
                change = matrix_of(parameters + step) - matrix_of(parameters)
                rows, across = (
                    along * places[0] + over * places[1] + offset
                    for along, over, offset in change[:2]
                )
                columns.append(((by_row * rows + by_column * across) / deviation).ravel())
            return np.stack(columns, axis=1)

        found = optimize.least_squares(
            difference, np.zeros(n_free), slopes, method="lm", xtol=1e-4, ftol=1e-5, max_nfev=30
        )
        return matrix_of(found.x)


def _similarity(grey, reference, matrix):
    """Correlation of grey values where both images have pixels."""
    covered = Placement(matrix, grey.shape, reference.shape).covered()
    covered = np.ones(reference.shape, bool) if covered is None else covered
    if covered.mean() < LEAST:
        return 0.0
    moved = _standardized(_warped(grey, matrix, reference.shape)[covered])
    return float(np.mean(moved * _standardized(reference[covered])))


def _shrunk(image, factor):
    smooth = ndimage.gaussian_filter(image, factor / 2)
    return ndimage.zoom(smooth, 1 / factor, order=1, mode="nearest", grid_mode=True)


def _standardized(image):
    """With mean 0 and deviation 1, or all 0."""
    image = np.asarray(image, np.float64)
    deviation = image.std()
    return (image - image.mean()) / (deviation if deviation > 0 else 1)


def _turned(angle, scale):
    """The matrix that turns and scales about the origin."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _between(size, new_size):
    """The matrix from one image's pixels to those of the same image in another size."""
    return scaled_by(*(new / old for old, new in zip(size, new_size)))


def _warped(image, matrix, size, mode="nearest"):
    return ndimage.affine_transform(
        image, matrix[:2, :2], matrix[:2, 2], output_shape=size, order=1, mode=mode
    )
