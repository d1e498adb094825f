"""The contract of every detector: one base class, two hooks."""

from __future__ import annotations

import copyreg
import warnings
from numbers import Integral, Real
from operator import itemgetter
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, OutlierMixin, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from ._device import resolve_device
from ._holdout import (
    ENOUGH,
    folds_in_turn,
    hold_out,
    hold_out_in_turn,
    until_enough,
    warn_of_duplicates,
    warn_of_learnt,
)
from ._judging import JudgesByNormals
from ._modules import fitted_modules, on_cpu, place
from ._parameters import DeclaredParameters, parameter
from ._random import drawing_from
from ._sklearn import Interval, Numbers, StrOptions
from ._validation import image_labels
from ._version import __version__
from .calibration import conformal_p_values, verdicts
from .exceptions import InvalidImageError
from .images import ImageDataset, Regions, resized, stack
from .maps import SCORE_REDUCTIONS, assemble_maps_by_size, reduce_maps


class BaseImageDetector(
    JudgesByNormals, DeclaredParameters, OutlierMixin, TransformerMixin, BaseEstimator
):
    """Base of all detectors: everything a user sees, and two hooks for a method.

    A method is a subclass that implements

    ``_fit_images(images, validation)``
        Fit on a stream of normal images. Both are `ImageDataset`; ``validation``
        is kept out of training, for early stopping and for the threshold.
        PyTorch's random functions draw from a generator of this fit's. A method
        that has already computed what the maps of the validation images need may
        return those maps, as pairs
        (what ``_compute_maps`` returns, the images' own sizes), to spare the
        base class another pass.
    ``_compute_maps(pixels)``
        Turn a batch, a float32 tensor (n, C, h, w) in [0, 1] on the detector's
        device, into maps: a tensor (n, h_k, w_k) of any resolution, or several,
        which are resized and summed. Higher = more anomalous.

    Whatever torch module it fits is an attribute, or the module of a skorch net
    that is one: the base class moves them between devices. When it fits, a method
    that cannot take small images calls ``_need_size(n_pixels, images, validation)``, and
    one that takes images of one size only calls ``_need_one_size(images, validation)``.

    One whose fit is cheap says so by ``_holds_out_in_turn``: of a few images it then gives
    none away, see `validation_fraction`.

    What is its own it declares as annotated attributes, see `skanomaly._parameters`; its
    parameters under which a fit on a few images of 64 x 64 takes a second are
    ``_small_parameters``, for the checks that every detector passes.

    Parameters
    ----------
    image_size : int, (int, int) or None
        Height and width that the method sees, to which images are resized; None keeps
        each image's own.
    value_range : (float, float) or None
        Pixel values that mean black and white. None: by dtype for uint8 and
        uint16, (0, 1) for floats.
    smoothing : float or "auto"
        Standard deviation of the map's Gaussian, in pixels of what the method sees; "auto"
        is a 64th of its shorter side.
    score_reduction : {"max", "mean", "sum"} or float in (0, 1]
        From map to score. A number is the mean of that share of the map's pixels,
        at least one, that have the highest values. "sum" grows with the image's area.
    standardize : {"global", "position"} or None
        Units of the map: deviations from the mean of the maps of normal images that were
        kept out of training, over all positions or for each. "position" takes back what a
        map always has where it is, as at the image's border, beyond which a network sees
        nothing; as few images tell it, both are smoothed over neighbours and drawn to those
        over all. None leaves the map as it is.
    false_alarm_rate : float in (0, 0.5)
        Share of new normal images that may be called anomalous; sets `offset_`.
    validation_fraction : float in (0, 1)
        Share of the images that is kept out of training, for the threshold. Where that is
        fewer than 20 images, a method whose fit is cheap keeps out none: it scores such
        shares in turn, each after a fit on the others, until 20 images have been scored or
        all have, and then learns from all.
    cv : int or None
        Number of folds, from 2 on, that are held out in turn: the threshold is set from the
        scores of all images, each by a fit on the other folds, and a last fit learns from all,
        so that none is given away, for `cv` more fits. Images of a group are in one fold. None
        keeps out `validation_fraction` instead, once.
    batch_size : int
        Images that are scored at once; it changes time and memory, not results.
    device : str or torch.device
        "auto" is CUDA or MPS where there is one, else the CPU.
    n_jobs : int or None
        Threads that read images.
    random_state : int, RandomState or None
        Decides which images are kept out of training and all else that is drawn.

    Attributes
    ----------
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    validation_scores_ : ndarray, shape (n_validation,), float64
        Scores of normal images by what had not learnt from them, from which `offset_`
        comes; at most the latest 10,000.
    validation_maxima_ : ndarray, shape (n_validation,), float64
        Their maps' largest values.
    map_threshold_ : float
        Map value that `false_alarm_rate` of new normal images exceed somewhere;
        ``-offset_`` if the score is the map's maximum.
    is_provisional_ : bool
        Whether `validation_scores_` are of a single training image, moved by a pixel.
    map_mean_ : ndarray, shape () or (h, w), float64
        What `standardize` subtracts, if it does.
    map_deviation_ : ndarray, of that shape
        What it divides by.
    n_channels_in_ : int
        Channels of the images seen in `fit`.
    n_left_out_ : int
        Images that `y` called anomalous, which are neither learnt from nor do they set
        the threshold.
    fitted_parameters_ : dict
        Values, when the threshold was set, of the parameters that scores depend on.
    """

    image_size: int | tuple[int, int] | None = parameter(
        256, Interval(Integral, 1, None, closed="left"), Numbers(Integral, 1, length=2), None
    )
    value_range: tuple[float, float] | None = parameter(
        None, Numbers(Real, -np.inf, length=2, ascending=True), None
    )
    smoothing: float | str = parameter(
        4.0, Interval(Real, 0, None, closed="left"), StrOptions({"auto"}), affects="scores"
    )
    score_reduction: str | float = parameter(
        "max",
        StrOptions(set(SCORE_REDUCTIONS)),
        Interval(Real, 0, 1, closed="right"),
        affects="scores",
    )
    standardize: str | None = parameter(
        None, StrOptions({"global", "position"}), None, affects="scores"
    )
    false_alarm_rate: float = parameter(
        0.05, Interval(Real, 0, 0.5, closed="neither"), affects="threshold"
    )
    validation_fraction: float = parameter(
        0.2, Interval(Real, 0, 1, closed="neither"), affects="training"
    )
    cv: int | None = parameter(
        None, Interval(Integral, 2, None, closed="left"), None, affects="training"
    )
    batch_size: int = parameter(8, Interval(Integral, 1, None, closed="left"), affects="nothing")
    device: str | torch.device = parameter("auto", str, torch.device, affects="nothing")
    n_jobs: int | None = parameter(None, Integral, None, affects="nothing")
    random_state: int | np.random.RandomState | None = parameter(
        None, "random_state", affects="training"
    )

    _small_parameters: ClassVar[dict] = {"image_size": 64}
    _holds_out_in_turn: ClassVar[bool] = False
    # Searches hand their groups on, so that the images of one lot are held out together.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def fit(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit the detector on images of good parts.

        If it fails or is interrupted, the detector stays as it was.

        Parameters
        ----------
        X : array, or sequence of arrays, PIL images or paths, or ImageFiles
            Normal images: an array (n, H, W) or (n, H, W, C) of uint8, uint16 or float
            in [0, 1], or a sequence of such images, which may differ in size. Two or
            more, but for methods whose fit is cheap, or with `X_val`.
        y : None, array-like of int (n,), or masks (n, H, W), default=None
            Labels, +1 normal and -1 anomalous, or masks, True where a defect is.
            Anomalous images are left out.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image. The
            threshold is set from these pixels; a method may learn from the others.
        groups : array-like (n,) or None, default=None
            What each image belongs to, such as its part, lot or camera. Images of
            one group are all learnt from or all kept out.
        X_val : batch of images or None, default=None
            Normal images that the threshold is set from, instead of some of `X`. A
            region for all images holds for them too.

        Returns
        -------
        self

        Raises
        ------
        InvalidImageError
            If an image, or its region, cannot be used; it names the image.

        Warns
        -----
        ThresholdWarning
            If too few images set the threshold for the rate that was asked, or
            they hardly differ from those that are learnt from.
        """
        self._validate_params()
        fitted = self._without_fitted_state()
        fitted._fit(X, y, roi, groups, X_val)
        self._become(fitted)
        return self

    def calibrate(self, X=None, *, roi=None):
        """Set the threshold anew, for the present `false_alarm_rate`.

        With images it also sets the units of maps, if `standardize` asks for such; nothing
        else changes.

        Parameters
        ----------
        X : batch of images or None, default=None
            Normal images that were not learnt from, whose scores take the place of
            those kept from `fit`. None keeps these.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self

        Warns
        -----
        ThresholdWarning
            If too few images set the threshold for the rate that was asked.

        Examples
        --------
        >>> from skanomaly import PaDiM
        >>> from skanomaly.datasets import make_texture_defects
        >>> X = make_texture_defects("brick", n_normal=100, image_size=64).images
        >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(X)
        >>> strict = detector.offset_
        >>> bool(detector.set_params(false_alarm_rate=0.2).calibrate().offset_ > strict)
        True
        """
        self._validate_params()
        kept_scores_will_do = X is None
        calibrated = self._as_it_is("maps", *(["scores"] if kept_scores_will_do else []))
        if kept_scores_will_do:
            calibrated._set_thresholds()
        else:
            images = calibrated._open(X)
            regions = Regions(roi, len(images))
            calibrated.validation_scores_ = calibrated.validation_maxima_ = np.empty(0)
            calibrated._judge_by(calibrated._kept_maps(images), regions)
        self._become(calibrated)
        return self

    def transform(self, X, *, roi=None):
        """Anomaly map of each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W), float32
            Higher = more anomalous. If the images differ in size, an object
            array (n,) of 2-D maps. Outside a region it is the smallest value inside.
        """
        now = self._as_it_is()
        images = now._open(X)
        return stack((m for m, _ in now._maps(images, roi)), len(images))

    def score_samples(self, X, *, roi=None):
        """Score of each image: minus its map's reduction, raw.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal.
        """
        return self._as_it_is()._scores(X, roi)

    def decision_function(self, X, *, roi=None):
        """Score of each image, shifted so that the threshold is 0.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64
            ``score_samples(X) - offset_``; negative = anomalous.
        """
        now = self._as_it_is()
        return now._scores(X, roi) - now.offset_

    def predict(self, X, *, roi=None):
        """Verdict on each image.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        now = self._as_it_is()
        return verdicts(now._scores(X, roi), now.offset_)

    def p_values(self, X, *, roi=None):
        """Conformal p-value of each image: how rare its score is among normal images.

        If the image is as normal as those that set the threshold, its p-value is uniform
        on 1 / (n + 1), 2 / (n + 1), ..., 1, whatever the scores' distribution, n being the
        number of those: the share of p-values up to 0.05 is 5 %, or less. Only ranks count,
        so that values of different detectors may be compared.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`; pixels outside are not counted.

        Returns
        -------
        ndarray, shape (n,), float64, in (0, 1]
            Low = anomalous. Ties with the scores kept from `fit` or `calibrate` are broken
            at random, by `random_state` if it is an int.
        """
        now = self._as_it_is()
        random_state = np.random.RandomState(now._seed_of_ties())
        return conformal_p_values(now._scores(X, roi), now.validation_scores_, random_state)

    def detect(self, X, *, roi=None):
        """Scores, verdicts and maps from one pass over the images.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        Bunch
            ``scores`` as of `score_samples`, ``labels`` as of `predict`,
            ``maps`` as of `transform`.
        """
        now = self._as_it_is()
        images, scores = now._open(X), []

        def maps_beside_scores():
            for anomaly_map, score in now._maps(images, roi):
                scores.append(score)
                yield anomaly_map

        maps = stack(maps_beside_scores(), len(images))
        scores = np.array(scores)
        return Bunch(scores=scores, labels=verdicts(scores, now.offset_), maps=maps)

    def fit_predict(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit on images, and give the verdict on each of them, also on those left out.

        Parameters
        ----------
        X, y, roi, groups, X_val : as for `fit`

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        return self.fit(X, y, roi=roi, groups=groups, X_val=X_val).predict(X, roi=roi)

    def fit_transform(self, X, y=None, *, roi=None, groups=None, X_val=None):
        """Fit on images, and give the map of each of them, also of those left out.

        Parameters
        ----------
        X, y, roi, groups, X_val : as for `fit`

        Returns
        -------
        ndarray, shape (n, H, W), float32
        """
        return self.fit(X, y, roi=roi, groups=groups, X_val=X_val).transform(X, roi=roi)

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
        >>> detector = PaDiM(image_size=64, n_features=10, random_state=0).fit(frames[:10])
        >>> for found in detector.stream(iter(frames[10:])):
        ...     print(found.index, found.map.shape)
        0 (128, 128)
        1 (128, 128)
        """
        self._as_it_is()
        return (self._frame(i, frame, roi) for i, frame in enumerate(frames))

    def _frame(self, i, frame, roi):
        now = self._as_it_is()
        try:
            ((found, score),) = now._maps(now._open([frame]), roi)
        except InvalidImageError as error:
            raise type(error)(error.reason, index=i, path=error.path) from error.__cause__
        return Bunch(index=i, score=score, label=int(verdicts(score, now.offset_)), map=found)

    def _fit_images(self, images, validation):
        raise NotImplementedError("a detector implements _fit_images")

    def _compute_maps(self, pixels):
        raise NotImplementedError("a detector implements _compute_maps")

    def _prepare_export(self):
        """Bring a copy that is to be exported into a form that can be; nothing by default."""

    def _fit(self, X, y, roi, groups, X_val):
        images, regions, groups = self._normal_images(X, y, roi, groups)
        random_state = check_random_state(self.random_state)
        # Drawn first, so that it does not depend on the number of images.
        seed = int(random_state.randint(2**31 - 1))
        self.n_channels_in_ = images.n_channels
        if X_val is not None:
            validation = self._open(X_val, images.n_channels)
            warn_of_learnt(images, validation)
            of_validation = Regions(regions.roi if regions.shared else None, len(validation))
        elif self.cv is not None:
            self._require(len(images) > 1, len(images))
            folds = folds_in_turn(len(images), self.cv, groups, random_state)
            self._fit_in_turn(images, regions, folds, seed)
            return
        elif self._holds_out_in_turn and self.validation_fraction * len(images) < ENOUGH:
            folds = hold_out_in_turn(len(images), self.validation_fraction, groups, random_state)
            self._fit_in_turn(images, regions, until_enough(folds), seed)
            return
        else:
            self._require(len(images) > 1, len(images))
            held_out = hold_out(len(images), self.validation_fraction, groups, random_state)
            train = np.setdiff1d(np.arange(len(images)), held_out)
            validation, of_validation = images.subset(held_out), regions.subset(held_out)
            warn_of_duplicates(images, train, held_out)
            images = images.subset(train)
        with drawing_from(torch.Generator().manual_seed(seed)):
            batches = self._fit_images(images, validation)
            self._judge_by(self._kept_maps(validation, batches), of_validation)

    def _normal_images(self, X, y, roi, groups):
        """The images that are learnt from, with their regions and groups."""
        self._device  # noqa: B018  a wrong one is an error before images are read
        images = self._open(X)
        regions = Regions(roi, len(images))
        if groups is not None and len(groups) != len(images):
            raise ValueError(f"groups is of length {len(groups)}, X of length {len(images)}")
        self.n_left_out_ = 0
        if y is not None:
            normal = np.flatnonzero(image_labels(y, n=len(images)) == 1)
            self.n_left_out_ = len(images) - len(normal)
            self._require(len(normal), 0)
            images, regions = images.subset(normal), regions.subset(normal)
            groups = None if groups is None else [groups[i] for i in normal]
        return images, regions, groups

    def _require(self, enough, n_images):
        if not enough:
            left_out = f" ({self.n_left_out_} more are anomalous by y)" if self.n_left_out_ else ""
            raise InvalidImageError(
                f"{type(self).__name__} was given {n_images} normal image"
                f"{'' if n_images == 1 else 's'}{left_out} and needs at least 2: one to learn from "
                "and one, kept out of training, to set the threshold; or pass images for the "
                "threshold as X_val"
            )

    def _as_it_is(self, *checked):
        """This detector at this moment, whatever another thread's fit makes of it meanwhile."""
        now = self._copied()
        check_is_fitted(now, "offset_")
        for what in checked or ("maps", "scores"):
            now._check_parameters(what)
        return now

    def _check_parameters(self, what):
        for name, value in self._parameters_that_affect(what).items():
            before = self.fitted_parameters_.get(name, value)
            if not _equal(value, before):
                self._validate_params()  # a value that can never be used is the first thing to say
                way_out = (
                    "fit anew" if what == "maps" else "call calibrate with normal images, fit anew"
                )
                raise ValueError(
                    f"{name} of {type(self).__name__} is {value!r} and was {before!r} when the "
                    f"threshold was set; {way_out}, or set it back"
                )

    def _need_size(self, n_pixels, *parts):
        """Have smaller images refused when they are read, and a smaller `image_size` at once."""
        self.min_image_size_ = n_pixels
        for part in parts:
            part.min_size = max(part.min_size, n_pixels)  # of an ensemble's other members, too
        if self.image_size is not None and min(self._seen_size) < n_pixels:
            raise ValueError(
                f"image_size={self.image_size} of {type(self).__name__} is smaller than the "
                f"{n_pixels} pixels that it needs with its other parameters; choose a larger one"
            )

    def _need_one_size(self, *parts):
        """Have images refused, when they are read, that `image_size` does not bring to one size.

        That is the size of the first image of the first part.
        """
        size = tuple(parts[0][0].shape[1:])
        self.required_size_ = size if self.image_size is None else None
        for part in parts:
            part.required_size = self.required_size_

    def _seed_of_ties(self):
        """What breaks them in p-values; no object's state may move, as scoring changes nothing."""
        return int(self.random_state) if isinstance(self.random_state, Integral) else 0

    def _parameters_that_affect(self, *what):
        """Values of the parameters that are declared to affect one of these, by name."""
        return {
            name: value
            for name, value in self.get_params(deep=False).items()
            if self._affects.get(name) in what
        }

    def _copied(self):
        """Another one with the same objects as attributes."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def _without_fitted_state(self):
        """Another one with the same parameter objects and nothing that a fit has set."""
        blank = self._copied()
        blank.__dict__ = {name: value for name, value in vars(blank).items() if name[-1] != "_"}
        return blank

    def _become(self, other):
        """Take over another's state, at once for every other thread."""
        self.__dict__ = vars(other)

    def _open(self, X, n_channels=None):
        return ImageDataset(
            X,
            image_size=self._seen_size,
            value_range=self.value_range,
            n_channels=getattr(self, "n_channels_in_", n_channels),
            min_size=getattr(self, "min_image_size_", 1),
            required_size=getattr(self, "required_size_", None),
        )

    def _scores(self, X, roi):
        # A loop's variable would hold each map until the next is made.
        return np.array(list(map(itemgetter(1), self._maps(self._open(X), roi))))

    def _maps(self, images, roi=None):
        """Yield each image's finished map, (H, W), and its score, in order."""
        return self._assembled(self._map_batches(images), Regions(roi, len(images)))

    def _map_batches(self, images):
        return self._batches_through(self._own_maps, images)

    def _batches_through(self, process, images):
        """Yield what `process` makes of each batch of pixels, and the images' own sizes."""
        self._place(self._device)
        for pixels, sizes in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                yield process(pixels.to(self._device)), sizes

    def _own_maps(self, pixels):
        """A batch's maps, of the method's own resolution, in the units that are asked for."""
        return self._in_units(self._combined(self._compute_maps(pixels)))

    def _images_through(self, process, images):
        """Yield what `process` makes of each image, (H, W, C) or (H, W), of the image's own size.

        It takes and gives batches (n, C, h, w) in [0, 1].
        """
        for made, sizes in self._batches_through(process, images):
            made = made.clamp(0, 1)
            for image, size in zip(made, sizes):
                if image.shape[1:] != size:
                    image = resized(image[None], size)[0]
                yield image.permute(1, 2, 0).squeeze(2).cpu().numpy()

    def _assembled(self, batches, regions):
        start = 0
        for maps, sizes in batches:
            of_batch = [regions.of(start + i, size) for i, size in enumerate(sizes)]
            seen_size = self._seen_size or sizes[0]
            smoothing = self._smoothing_at(seen_size)
            finished = assemble_maps_by_size(maps, seen_size, sizes, smoothing, of_batch)
            for i, region in enumerate(of_batch):
                anomaly_map = next(finished)
                counted = anomaly_map if region is None else anomaly_map[torch.from_numpy(region)]
                score = -float(reduce_maps(counted.reshape(1, -1), self.score_reduction))
                finite = anomaly_map if np.isfinite(score) else anomaly_map * torch.nan
                self._require_finite([finite], regions.indices[start + i :])
                yield anomaly_map.numpy(), score
                del anomaly_map, counted
            start += len(sizes)

    def _smoothing_at(self, seen_size):
        return min(seen_size) / 64 if self.smoothing == "auto" else self.smoothing

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
        place(self._modules_fitted(), device)

    def _modules_fitted(self):
        """The torch modules among the attributes, skorch nets' included."""
        return fitted_modules(self)

    def __getstate__(self):
        state = {name: on_cpu(value) for name, value in super().__getstate__().items()}
        return {**state, "_skanomaly_version": __version__}

    def __reduce_ex__(self, protocol):
        return copyreg.__newobj__, (type(self),), self.__getstate__()

    def __reduce__(self):  # skops asks for this; pickle, copy and joblib for what is above
        raise TypeError(
            f"{type(self).__name__} cannot be written by skops, which knows no neural networks: "
            'use skanomaly.save, or with MLflow serialization_format="cloudpickle"'
        )

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


def _equal(value, other):
    if value is other:
        return True
    try:
        return bool(value == other)
    except ValueError:  # arrays
        return bool(np.array_equal(value, other))
