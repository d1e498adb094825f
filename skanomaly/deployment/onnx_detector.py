"""Exported detectors, served by ONNX Runtime alone."""

from __future__ import annotations

import json
import os

import numpy as np

from ..calibration import verdicts
from ..exceptions import InvalidImageError, ModelFileError
from ..images import ImageDataset, stack

METADATA_KEY = "skanomaly"


class OnnxDetector:
    """A detector that `export_onnx` has written, without PyTorch.

    Scores, verdicts and maps are those of the detector it was made of.

    Parameters
    ----------
    path : str, path-like or bytes
        The file, or its content.
    batch_size : int, default=4
        Images that are scored at once.
    n_threads : int or None, default=None
        Threads of ONNX Runtime; None leaves the choice to it.

    Attributes
    ----------
    offset_ : float
        Threshold on `score_samples`: what lies below is anomalous.
    map_threshold_ : float
        Map value that the threshold's share of normal images exceed somewhere.
    n_channels_in_ : int
        Channels of the images.
    metadata_ : dict
        What else the file says of itself.

    Raises
    ------
    ModelFileError
        If the file is no exported detector.
    FileNotFoundError
        If there is no file.
    """

    def __init__(self, path, *, batch_size=4, n_threads=None):
        import onnxruntime

        self.batch_size = batch_size
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if n_threads is not None:
            options.intra_op_num_threads = n_threads
        if not isinstance(path, bytes):
            path = os.fspath(path)
            if not os.path.isfile(path):
                raise FileNotFoundError(f"{path}: there is no such file")
        name = "the content" if isinstance(path, bytes) else path
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            entries = self._session.get_modelmeta().custom_metadata_map
            self.metadata_ = json.loads(entries[METADATA_KEY])
            self.offset_ = self.metadata_["offset"]
            self.map_threshold_ = self.metadata_["map_threshold"]
            self.n_channels_in_ = self.metadata_["n_channels"]
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise ModelFileError(
                f"{name} is no detector that export_onnx writes ({error})"
            ) from error

    def transform(self, X):
        """Anomaly map of each image; see `BaseImageDetector.transform`."""
        maps = [m for (maps,) in self._run(X, "maps") for m in maps]
        return stack(maps, len(maps))

    def score_samples(self, X):
        """Score of each image; see `BaseImageDetector.score_samples`."""
        return np.concatenate([scores for (scores,) in self._run(X, "scores")]).astype(float)

    def decision_function(self, X):
        """Score of each image, shifted so that the threshold is 0."""
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        """Verdict on each image: +1 for normal, -1 for anomalous."""
        return verdicts(self.score_samples(X), self.offset_)

    def detect(self, X):
        """Scores, verdicts and maps.

        Parameters
        ----------
        X : batch of images
            As the detector took them, of the dtype and range it was exported for.

        Returns
        -------
        Bunch
            ``scores`` (n,) float64, ``labels`` (n,) int64, ``maps`` (n, H, W)
            float32, or an object array (n,) of maps where sizes differ.

        Raises
        ------
        InvalidImageError
            If an image cannot be used; it names the image.
        """
        from sklearn.utils import Bunch  # whose import takes longer than scoring

        maps, scores = zip(*self._run(X, "maps", "scores"))
        maps, scores = [m for part in maps for m in part], np.concatenate(scores).astype(float)
        return Bunch(
            scores=scores, labels=verdicts(scores, self.offset_), maps=stack(maps, len(maps))
        )

    def stream(self, frames):
        """Score images one at a time; see `BaseImageDetector.stream`."""
        from sklearn.utils import Bunch

        for i, frame in enumerate(frames):
            try:
                (((anomaly_map,), (score,)),) = self._run([frame], "maps", "scores")
            except InvalidImageError as error:
                raise InvalidImageError(error.reason, index=i, path=error.path) from None
            label = int(verdicts(score, self.offset_))
            yield Bunch(index=i, score=float(score), label=label, map=anomaly_map)

    def _run(self, X, *outputs):
        """Yield the graph's outputs of these names, batch by batch."""
        size = self.metadata_["size"]
        images = ImageDataset(
            X,
            value_range=self.metadata_["value_range"],
            n_channels=self.n_channels_in_,
            min_size=self.metadata_["min_image_size"],
            required_size=None if size is None else tuple(size),
        )
        for batch in images.raw_batches(self.batch_size, np.dtype(self.metadata_["dtype"])):
            batch = batch.astype(self.metadata_["input_dtype"], copy=False)
            yield self._session.run(outputs, {"images": batch})
