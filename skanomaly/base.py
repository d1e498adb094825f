"""The contract of every detector: one base class, two hooks."""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch

from ._device import resolve_device
from ._fitting import HoldsOut
from ._image_detector import ImageDetector
from ._judging import JudgesByNormals
from ._modules import fitted_modules, place
from ._parameters import parameter
from ._sklearn import Interval, Numbers, StrOptions
from .images import ImageDataset, Regions, resized, stack
from .maps import SCORE_REDUCTIONS, assemble_maps_by_size, reduce_maps


class BaseImageDetector(HoldsOut, JudgesByNormals, ImageDetector):
    """Base of all detectors: everything a user sees, and two hooks for a method.

    A method is a subclass that implements

    ``_fit_images(images, validation)``
        Fit on a stream of normal images. Both are `ImageDataset`; ``validation``
        is kept out of training, for early stopping and for the threshold.
        PyTorch's random functions draw from a generator of this fit's. A method
        that has already computed what the maps of the validation images need may
        return those maps, as pairs
        (what ``_compute_maps`` returns, the images' own sizes), to spare the
        base class another pass. One whose ``_learns_from_defects`` is true takes a third
        argument, ``defects=None``: the images that `y` calls anomalous, a `MarkedImages`,
        where there are any.
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
    n_defects_ : int
        Those that are learnt from as such, by a method that can.
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
    # Whether what is learnt of a place holds for that place of an image alone.
    _models_positions: ClassVar[bool] = False

    def _fit_images(self, images, validation):
        raise NotImplementedError("a detector implements _fit_images")

    def _compute_maps(self, pixels):
        raise NotImplementedError("a detector implements _compute_maps")

    def _prepare_export(self):
        """Bring a copy that is to be exported into a form that can be; nothing by default."""

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

    def _open(self, X, n_channels=None):
        return ImageDataset(
            X,
            image_size=self._seen_size,
            value_range=self.value_range,
            n_channels=getattr(self, "n_channels_in_", n_channels),
            min_size=getattr(self, "min_image_size_", 1),
            required_size=getattr(self, "required_size_", None),
        )

    def _maps(self, images, roi=None):
        """Yield each image's finished map, (H, W), and its score, in order."""
        return self._assembled(self._map_batches(images), Regions.given(roi, images.X))

    def _map_batches(self, images):
        return self._batches_through(self._own_maps, images)

    def _batches_through(self, process, images):
        """Yield what `process` makes of each batch of pixels, and the images' own sizes."""
        self._place(self._device)
        for pixels, sizes in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():  # not while others run, who may end in another order
                found = process(pixels.to(self._device))
            yield found, sizes
            del pixels, found

    def _own_maps(self, pixels):
        """A batch's maps, of the method's own resolution, in the units that are asked for."""
        return self._in_units(self._combined(self._compute_maps(pixels)))

    def _made_of(self, X, process):
        """What `process` makes of a batch of images, each of its own size, see `stack`."""
        now = self._as_it_is("maps")
        images = now._open(X)
        return stack(now._images_through(process, images), len(images))

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
