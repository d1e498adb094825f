"""The contract of every detector: one base class, two hooks."""

from __future__ import annotations

import copy
import warnings
from itertools import groupby
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from . import __version__
from .exceptions import InvalidImageError
from .images import ImageDataset
from .maps import SCORE_REDUCTIONS, assemble_maps, reduce_map
from .regions import Regions
from .thresholds import quantile_of_new


class BaseImageDetector(OutlierMixin, TransformerMixin, BaseEstimator):
    """Base of all detectors: everything a user sees, and two hooks for a method.

    A method is a subclass that implements

    ``_fit_images(images, validation)``
        Fit on a stream of normal images. Both are `ImageDataset`; ``validation``
        is kept out of training, for early stopping and for the threshold.
        PyTorch's generator is seeded. A method that has already computed what
        the maps of the validation images need may return those maps, as pairs
        (what ``_compute_maps`` returns, the images' own sizes), to spare the
        base class another pass.
    ``_compute_maps(pixels)``
        Turn a batch, a float32 tensor (n, C, h, w) in [0, 1] on the detector's
        device, into maps: a tensor (n, h_k, w_k) of any resolution, or several,
        which are resized and summed. Higher = more anomalous.

    Whatever torch module it fits is an attribute, or the module of a skorch net
    that is one: the base class moves them between devices. When it fits, a method
    that cannot take small images sets ``min_image_size_``, in pixels, and one that
    takes images of one size only sets ``required_size_``, (height, width).

    The base class expects these parameters, which a subclass takes in its own
    ``__init__``: ``image_size``, ``value_range``, ``smoothing``,
    ``score_reduction``, ``contamination``, ``validation_fraction``,
    ``batch_size``, ``device``, ``n_jobs``, ``random_state``.
    """

    _parameter_constraints: dict = {
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "value_range": [tuple, list, None],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "score_reduction": [StrOptions(set(SCORE_REDUCTIONS))],
        "contamination": [Interval(Real, 0, 0.5, closed="neither")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def fit(self, X, y=None, *, roi=None):
        """Fit the detector on images of good parts.

        If it fails or is interrupted, the detector stays as it was.

        Parameters
        ----------
        X : array, or sequence of arrays, PIL images or paths, or ImageFiles
            Normal images, two or more: an array (n, H, W) or (n, H, W, C) of
            uint8, uint16 or float in [0, 1], or a sequence of such images, which
            may differ in size.
        y : None
            Ignored, as in scikit-learn's outlier detectors.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image. The
            threshold is set from these pixels; a method may learn from the others.

        Returns
        -------
        self

        Raises
        ------
        InvalidImageError
            If an image, or its region, cannot be used; it names the image.
        """
        self._validate_params()
        fitted = self._without_fitted_state()
        fitted._fit(X, roi)
        vars(self).clear()
        vars(self).update(vars(fitted))
        return self

    def transform(self, X, *, roi=None):
        """Anomaly map of each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image.

        Returns
        -------
        ndarray, shape (n, H, W), float32
            Higher = more anomalous. If the images differ in size, an object
            array (n,) of 2-D maps. Outside a region it is the smallest value inside.
        """
        images = self._open_to_score(X)
        return stack((m for m, _ in self._maps(images, roi)), len(images))

    def score_samples(self, X, *, roi=None):
        """Score of each image: minus its map's reduction, raw.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `transform`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal.
        """
        return np.array([score for _, score in self._maps(self._open_to_score(X), roi)])

    def decision_function(self, X, *, roi=None):
        """Score of each image, shifted so that the threshold is 0.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `transform`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            ``score_samples(X) - offset_``; negative = anomalous.
        """
        return self.score_samples(X, roi=roi) - self.offset_

    def predict(self, X, *, roi=None):
        """Verdict on each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `transform`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return _labels(self.decision_function(X, roi=roi))

    def fit_predict(self, X, y=None, *, roi=None):
        """Fit on images, and give the verdict on each of them.

        Parameters
        ----------
        X : batch of images
        y : None
        roi : array of bool, sequence of such, or None, default=None
            As for `fit` and `predict`.

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return self.fit(X, roi=roi).predict(X, roi=roi)

    def fit_transform(self, X, y=None, *, roi=None):
        """Fit on images, and give the map of each of them.

        Parameters
        ----------
        X : batch of images
        y : None
        roi : array of bool, sequence of such, or None, default=None
            As for `fit` and `transform`.

        Returns
        -------
        ndarray, shape (n, H, W), float32
        """
        return self.fit(X, roi=roi).transform(X, roi=roi)

    def detect(self, X, *, roi=None):
        """Scores, verdicts and maps from one pass over the images.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image.

        Returns
        -------
        Bunch
            ``scores`` as of `score_samples`, ``labels`` as of `predict`,
            ``maps`` as of `transform`.
        """
        images, scores = self._open_to_score(X), []

        def maps_beside_scores():
            for anomaly_map, score in self._maps(images, roi):
                scores.append(score)
                yield anomaly_map

        maps = stack(maps_beside_scores(), len(images))
        scores = np.array(scores)
        return Bunch(scores=scores, labels=_labels(scores - self.offset_), maps=maps)

    def stream(self, frames, *, roi=None):
        """Score images one at a time, as a camera or a queue hands them over.

        Each is scored before the next is asked for, and none is kept.

        Parameters
        ----------
        frames : iterable of images
            Arrays (H, W) or (H, W, C), PIL images or paths; without end, if need be.
        roi : array of bool, shape (H, W), or None, default=None
            Region of interest of all frames.

        Yields
        ------
        Bunch
            ``index``, the number of the frame from 0 on, and its ``score`` (float),
            ``label`` (+1 or -1) and ``map`` (float32, (H, W)).

        Raises
        ------
        InvalidImageError
            If a frame cannot be used; its ``index`` is the frame's. Another stream
            may go on with what is left of an iterator.

        Examples
        --------
        >>> from skanomaly import PaDiM
        >>> from skanomaly.datasets import make_texture_defects
        >>> frames = make_texture_defects("brick", n_normal=12, random_state=0).images
        >>> detector = PaDiM(image_size=64, dim=10, random_state=0).fit(frames[:10])
        >>> for found in detector.stream(iter(frames[10:])):
        ...     print(found.index, found.map.shape)
        0 (128, 128)
        1 (128, 128)
        """
        check_is_fitted(self)
        return (self._frame(i, frame, roi) for i, frame in enumerate(frames))

    def _frame(self, i, frame, roi):
        try:
            ((found, score),) = self._maps(self._open([frame]), roi)
        except InvalidImageError as error:
            raise InvalidImageError(error.reason, index=i, path=error.path) from error.__cause__
        return Bunch(index=i, score=score, label=-1 if score < self.offset_ else 1, map=found)

    def _fit_images(self, images, validation):
        raise NotImplementedError("a detector implements _fit_images")

    def _compute_maps(self, pixels):
        raise NotImplementedError("a detector implements _compute_maps")

    def _prepare_export(self):
        """Bring a copy that is to be exported into a form that can be; nothing by default."""

    def _without_fitted_state(self):
        """A copy with the same parameter objects and nothing that a fit has set."""
        blank = copy.copy(self)
        for name in [name for name in vars(blank) if name.endswith("_")]:
            delattr(blank, name)
        return blank

    def _fit(self, X, roi=None):
        images = self._open(X)
        regions = Regions(roi, len(images))
        random_state = check_random_state(self.random_state)
        train, held_out = self._hold_out(len(images), random_state)
        self.n_channels_in_ = images.n_channels
        validation = images.subset(held_out)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(random_state.randint(np.iinfo(np.int32).max))
            batches = self._fit_images(images.subset(train), validation)
            if batches is None:
                batches = self._map_batches(validation)
            self._add_validation(batches, regions.subset(held_out))

    def _add_validation(self, batches, regions):
        """Set the thresholds from the maps of images kept out of training, beside earlier ones."""
        found = ((score, m.max()) for m, score in self._assembled(batches, regions))
        scores, maxima = np.array(list(found), dtype=float).T
        none = np.empty(0)
        self.validation_scores_ = np.append(getattr(self, "validation_scores_", none), scores)
        self.validation_maxima_ = np.append(getattr(self, "validation_maxima_", none), maxima)
        self.offset_ = quantile_of_new(self.validation_scores_, self.contamination)
        self.map_threshold_ = -quantile_of_new(-self.validation_maxima_, self.contamination)

    def _hold_out(self, n_images, random_state):
        if n_images < 2:
            raise InvalidImageError(
                f"{type(self).__name__} was given {n_images} image and needs at least 2: one to "
                "learn from and one, kept out of training, to set the threshold"
            )
        order = random_state.permutation(n_images)
        n_held_out = min(max(1, round(self.validation_fraction * n_images)), n_images - 1)
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def _open(self, X):
        return ImageDataset(
            X,
            image_size=self._seen_size,
            value_range=self.value_range,
            n_channels=getattr(self, "n_channels_in_", None),
            min_size=getattr(self, "min_image_size_", 1),
            required_size=getattr(self, "required_size_", None),
        )

    def _open_to_score(self, X):
        check_is_fitted(self)
        return self._open(X)

    def _maps(self, images, roi=None):
        """Yield each image's finished map, (H, W), and its score, in order."""
        return self._assembled(self._map_batches(images), Regions(roi, len(images)))

    def _map_batches(self, images):
        self._place(self._device)
        for pixels, sizes in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                maps = self._compute_maps(pixels.to(self._device))
            yield maps, sizes

    def _images_through(self, process, images):
        """Yield what `process` makes of each image, (H, W, C) or (H, W), of the image's own size.

        It takes and gives batches (n, C, h, w) in [0, 1].
        """
        self._place(self._device)
        for pixels, sizes in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                made = process(pixels.to(self._device)).clamp(0, 1)
            for image, size in zip(made, sizes):
                if image.shape[1:] != size:
                    image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
                yield image.permute(1, 2, 0).squeeze(2).cpu().numpy()

    def _assembled(self, batches, regions):
        start = 0
        for maps, sizes in batches:
            of_batch = [regions.of(start + i, size) for i, size in enumerate(sizes)]
            seen_size = self._seen_size or sizes[0]
            finished = _by_own_size(maps, seen_size, sizes, self.smoothing, of_batch)
            for anomaly_map, region in zip(finished, of_batch):
                yield anomaly_map, -reduce_map(anomaly_map, self.score_reduction, region)
            start += len(sizes)

    @property
    def _seen_size(self):
        """Height and width that the method sees, or None for each image's own."""
        if self.image_size is None or not isinstance(self.image_size, Integral):
            return self.image_size if self.image_size is None else tuple(self.image_size)
        return (self.image_size, self.image_size)

    @property
    def _device(self):
        return resolve_device(self.device)

    def _place(self, device):
        """Move every fitted module to a device, ready to score."""
        for module in self._modules_fitted():
            module.to(device).eval()

    def _modules_fitted(self):
        """The torch modules among the attributes, skorch nets' included."""
        values = (getattr(value, "module_", value) for value in vars(self).values())
        return [value for value in values if isinstance(value, torch.nn.Module)]

    def __getstate__(self):
        self._place("cpu")  # so that the pickle loads where there is no other device
        return {**super().__getstate__(), "_skanomaly_version": __version__}

    def __setstate__(self, state):
        written = state.pop("_skanomaly_version", "before 0.1")
        if written != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=__version__,
                    original_sklearn_version=written,
                ),
                stacklevel=2,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def resolve_device(device):
    """The torch device that a ``device`` parameter means.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the first of CUDA, Apple's MPS and the CPU that is present.

    Returns
    -------
    torch.device
    """
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _by_own_size(maps, seen_size, sizes, smoothing, regions):
    """Finished maps of one batch; images of several sizes may share a batch."""
    if not isinstance(maps, (tuple, list)):
        maps = (maps,)
    start = 0
    for own_size, group in groupby(sizes):
        stop = start + len(list(group))
        part = [phi[start:stop] for phi in maps]
        within = _stacked_regions(regions[start:stop], own_size)
        yield from assemble_maps(part, seen_size, own_size, smoothing, within).cpu().numpy()
        start = stop


def _stacked_regions(regions, size):
    if all(region is None for region in regions):
        return None
    whole = np.ones(size, bool)
    return torch.from_numpy(np.stack([whole if r is None else r for r in regions]))


def _labels(decisions):
    return np.where(decisions < 0, -1, 1)


def stack(maps, n):
    """`n` maps or images as one array, or as an object array where their sizes differ."""
    maps = iter(maps)
    first = next(maps)
    stacked = np.empty((n, *first.shape), np.float32)
    stacked[0] = first
    for i, anomaly_map in enumerate(maps, start=1):
        if stacked.dtype != object and anomaly_map.shape != first.shape:
            stacked = _as_objects(stacked, i)
        stacked[i] = anomaly_map
    return stacked


def _as_objects(stacked, n_filled):
    objects = np.empty(len(stacked), dtype=object)
    for i in range(n_filled):
        objects[i] = stacked[i].copy()
    return objects
