"""Exported detectors, served by ONNX Runtime alone."""

from __future__ import annotations

import os
import weakref
from numbers import Integral

import numpy as np

from .._process import ONE_AT_A_TIME
from ..calibration import conformal_p_values, verdicts
from ..exceptions import InvalidImageError, ModelFileError
from ..images import ImageDataset, ImageFiles, Regions, stack
from ._bunch import bunch
from ._onnx_file import check_content, read_file

# Detectors that have a session, and sessions of the process that a child was forked from:
# their threads are gone in the child, where deleting them crashes.
_serving = weakref.WeakSet()
_of_parent = []


def _forget_sessions():
    _of_parent.extend(vars(detector).pop("_live", None) for detector in list(_serving))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


class OnnxDetector:
    """A detector that `export_onnx` has written, without PyTorch.

    Scores, verdicts and maps are those of the detector it was made of. It can be
    pickled, copied and sent to other processes: it keeps the file's content, which
    takes the file's size in memory beside what ONNX Runtime takes, so that a file
    that is replaced changes no detector that was made of it.

    It is an outlier detector of scikit-learn's that is fitted already: it may be the
    last step of a pipeline, `clone` gives it back as it is, and `fit` raises.

    Parameters
    ----------
    path : str, path-like or bytes
        The file, or its content.
    batch_size : int, default=4
        Images that are scored at once.
    n_threads : int or None, default=None
        Threads of ONNX Runtime; None leaves the choice to it.
    providers : sequence of str or (str, dict), or None, default=None
        What runs the file, in order of preference, as ONNX Runtime takes it; None is
        ``["CPUExecutionProvider"]``. All must be available.

    Attributes
    ----------
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    map_threshold_ : float
        Map value that the threshold's share of normal images exceed somewhere.
    validation_scores_ : ndarray, shape (n_validation,), float64
        Scores of normal images that set the threshold, ascending.
    n_channels_in_ : int
        Channels of the images.
    value_range : (float, float)
        Pixel values that mean black and white.
    metadata_ : dict
        What else the file says of itself.

    Raises
    ------
    ModelFileError
        If the file is no exported detector.
    FileNotFoundError
        If there is no file.
    ValueError
        If a provider is not available.

    Notes
    -----
    A file is checked before ONNX Runtime sees it: its metadata are complete, it takes
    and gives what an exported detector does, it needs no other file, holds no loop and
    computes nothing from constants alone; where the package onnx is installed, as it
    always is beside skanomaly, no tensor whose shape can be known is above 1 GiB. That
    refuses files which are damaged or something else, and those that take memory while
    they are opened. It does not prove who wrote a file, nor that one made to do harm
    will not take time and memory while it scores: take files from people you trust, or
    limit the process.

    The distribution ``skanomaly-runtime`` holds this class alone, as
    ``skanomaly_runtime.OnnxDetector``, for machines without PyTorch and scikit-learn.

    The attributes `batch_size`, `n_threads` and `providers` may be set at any time.
    """

    def __init__(self, path, *, batch_size=4, n_threads=None, providers=None):
        self.batch_size = batch_size
        self.n_threads = n_threads
        self.providers = providers
        self._name = f"{len(path)} bytes" if isinstance(path, bytes) else os.fspath(path)
        self._content = path if isinstance(path, bytes) else read_file(path)
        self.metadata_ = check_content(self._content, self._name)
        self.offset_ = float(self.metadata_["offset"])
        self.map_threshold_ = float(self.metadata_["map_threshold"])
        self.n_channels_in_ = self.metadata_["n_channels"]
        self.value_range = tuple(self.metadata_["value_range"])
        self._session()

    @property
    def validation_scores_(self):
        """Scores of the normal images that set the threshold, (n_validation,), float64."""
        return np.array(self.metadata_["validation_scores"], dtype=float)

    def fit(self, X, y=None, **parameters):
        """Raise TypeError: an exported detector is fitted, and cannot be fitted anew."""
        raise TypeError(
            "OnnxDetector is fitted and cannot be fitted anew: fit the detector and export it, or "
            "wrap this one in sklearn.frozen.FrozenEstimator, whose fit does nothing"
        )

    def transform(self, X, *, roi=None):
        """Anomaly map of each image; see `BaseImageDetector.transform`."""
        maps = [anomaly_map for anomaly_map, _ in self._found(X, roi)]
        return stack(maps, len(maps))

    def score_samples(self, X, *, roi=None):
        """Score of each image; see `BaseImageDetector.score_samples`."""
        return np.array([score for _, score in self._found(X, roi)])

    def decision_function(self, X, *, roi=None):
        """Score of each image, shifted so that the threshold is 0."""
        return self.score_samples(X, roi=roi) - self.offset_

    def predict(self, X, *, roi=None):
        """Verdict on each image: +1 for normal, -1 for anomalous."""
        return verdicts(self.score_samples(X, roi=roi), self.offset_)

    def p_values(self, X, *, roi=None):
        """Conformal p-value of each image; see `BaseImageDetector.p_values`."""
        random_state = np.random.RandomState(self.metadata_["seed"])
        return conformal_p_values(
            self.score_samples(X, roi=roi), self.validation_scores_, random_state
        )

    def detect(self, X, *, roi=None):
        """Scores, verdicts and maps.

        Parameters
        ----------
        X : batch of images
            As the detector took them, of the dtype and range it was exported for.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: the pixels that count, (H, W) for all images or one
            such array for each, which may be None. None is the whole image.

        Returns
        -------
        Bunch
            ``scores`` (n,) float64, ``labels`` (n,) int64, ``maps`` (n, H, W)
            float32, or an object array (n,) of maps where sizes differ.

        Raises
        ------
        InvalidImageError
            If an image or its region cannot be used, or its map or score is not
            finite; it names the image.
        """
        maps, scores = zip(*self._found(X, roi))
        scores = np.array(scores)
        labels = verdicts(scores, self.offset_)
        return bunch(scores=scores, labels=labels, maps=stack(maps, len(maps)))

    def stream(self, frames, *, roi=None):
        """Score images one at a time; see `BaseImageDetector.stream`."""
        for i, frame in enumerate(frames):
            try:
                ((anomaly_map, score),) = self._found([frame], roi)
            except InvalidImageError as error:
                raise InvalidImageError(error.reason, index=i, path=error.path) from None
            label = int(verdicts(score, self.offset_))
            yield bunch(index=i, score=score, label=label, map=anomaly_map)

    def _found(self, X, roi):
        """Yield map and score of each image."""
        if not isinstance(self.batch_size, Integral) or self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r}, expected a positive integer")
        session, size = self._session(), self.metadata_["size"]
        images = ImageDataset(
            X,
            value_range=self.value_range,
            n_channels=self.n_channels_in_,
            min_size=self.metadata_["min_image_size"],
            required_size=None if size is None else tuple(size),
        )
        regions, start = Regions.given(roi, images.X), 0
        for batch in images.raw_batches(self.batch_size, np.dtype(self.metadata_["dtype"])):
            inputs = {"images": batch.astype(self.metadata_["input_dtype"], copy=False)}
            of_batch = [regions.of(start + i, batch.shape[1:3]) for i in range(len(batch))]
            if any(region is not None for region in of_batch):
                self._require_regions(session)
                whole = np.ones(batch.shape[1:3], bool)
                inputs["regions"] = np.stack([whole if r is None else r for r in of_batch])
            for i, (anomaly_map, score) in enumerate(zip(*session.run(["maps", "scores"], inputs))):
                _check_finite(anomaly_map, score, images.X, start + i)
                yield anomaly_map, float(score)
            start += len(batch)

    def _require_regions(self, session):
        if "regions" not in {found.name for found in session.get_overridable_initializers()}:
            raise ValueError(
                f"{self._name} takes no roi, as it was exported with regions=False; leave roi out, "
                "or export the detector with regions=True"
            )

    def _session(self):
        """ONNX Runtime's session of the present settings, opened when it is first needed."""
        settings = self.n_threads, repr(self.providers)
        live = vars(self).get("_live")
        if live is not None and live[0] == settings:
            return live[1]
        with ONE_AT_A_TIME:
            live = vars(self).get("_live")
            if live is None or live[0] != settings:
                live = self._live = settings, self._open()
                _serving.add(self)
            return live[1]

    def _open(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.n_threads is not None:
            options.intra_op_num_threads = self.n_threads
        providers = ["CPUExecutionProvider"] if self.providers is None else list(self.providers)
        names = [p if isinstance(p, str) else p[0] for p in providers]
        available = onnxruntime.get_available_providers()
        missing = [name for name in names if name not in available]
        if not missing:
            session = _opened(self._content, options, providers, self._name)
            missing = [name for name in names if name not in session.get_providers()]
        if missing or not names:
            raise ValueError(
                f"providers={self.providers!r} cannot be used here: ONNX Runtime has "
                f"{', '.join(available)}, and not {', '.join(missing) or 'none'}"
            )
        return session

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_live"}

    def __repr__(self):
        settings = {"batch_size": 4, "n_threads": None, "providers": None}
        shown = [
            f", {name}={getattr(self, name)!r}"
            for name, default in settings.items()
            if getattr(self, name) != default
        ]
        return f"OnnxDetector({self._name!r}{''.join(shown)})"

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_clone__(self):
        return self

    def __sklearn_tags__(self):
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, three_d_array=True, string=True),
        )


def _opened(content, options, providers, name):
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ModelFileError(f"{name} cannot be run by ONNX Runtime ({error})") from error


def _check_finite(anomaly_map, score, X, index):
    if np.isfinite(score) and np.isfinite(anomaly_map).all():
        return
    item = X.paths[index] if isinstance(X, ImageFiles) else X[index]
    raise InvalidImageError(
        "its map or score is NaN or infinite, which is no verdict; the file's numbers overflow on "
        "it, or are damaged: compare with the detector that was exported",
        index=index,
        path=os.fspath(item) if isinstance(item, (str, os.PathLike)) else None,
    )
