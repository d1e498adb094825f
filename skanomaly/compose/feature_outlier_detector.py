"""Any outlier detector for tables, on pretrained features of images or on their pixels."""

from __future__ import annotations

from dataclasses import MISSING
from numbers import Integral

import numpy as np
import torch
from sklearn.base import MetaEstimatorMixin, clone

from .._parameters import parameter
from .._sklearn import HasMethods, Interval, StrOptions
from ..detectors import CachedFeatureDetector
from ..features import PatchBank, on_finest_grid
from ._outlier_scores import anomaly_of_rows, decide_random_states, fit_on_rows, require_scores
from ._rows import pixels_around, pooled


class FeatureOutlierDetector(MetaEstimatorMixin, CachedFeatureDetector):
    """Detect defects by any outlier detector of scikit-learn or PyOD, on pretrained features.

    The outlier detector is fitted on rows of a table, one for each position of the
    features' grid or one for each image, and scores such rows of new images. It is
    handed single-precision rows as they are: where features of different scale matter to
    it, let a `StandardScaler` go before it in a pipeline.

    Parameters
    ----------
    estimator : estimator
        Is cloned, not fitted itself: an outlier detector of scikit-learn
        (`IsolationForest`, `LocalOutlierFactor(novelty=True)`, `OneClassSVM`), anything
        else with `score_samples`, higher for what is more normal (`GaussianMixture`,
        `PCA`), one of PyOD, or a pipeline that ends in one of them. Each of its
        ``random_state`` that is None gets a seed drawn by this detector's.
    level : {"patch", "image"}
        What a row is. "patch": a position of the grid. "image": an image, by its
        features' mean over all positions; then a map has one value everywhere, which
        `smoothing` and all values of `score_reduction` but "sum" leave as it is.
    backbone : str or None
        timm network whose pretrained features are used. None takes the pixels
        themselves: of "patch", the grid is the image's; of "image", a row is a whole
        image, and all must share one size. Then `weights`, `layers`, `engine` and
        `memory` are not used, and a small `image_size` is advisable.
    layers : sequence of int
        Levels of the pyramid; of "patch", coarser ones are interpolated bilinearly on the
        finest's grid.
    neighborhood : int
        Side, in positions of the grid, of the square around a position that its row
        describes: features are averaged over it, pixels listed one after another. Of
        "image", not used.
    max_patches : int
        Rows that the estimator is fitted on at most, a uniform sample of all.
    image_size : int, (int, int) or None
        Height and width that the network sees; None keeps each image's own.
    standardize : {"global", "position"} or None
        Units of the map. "position" makes good that features differ more at an image's
        border, beyond which a network sees nothing.

    Attributes
    ----------
    estimator_ : estimator
        The fitted one.
    encoder_ : FeaturePyramid
        The pretrained network, if there is one.
    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored, if there is a network.
    required_size_ : (int, int) or None
        Where whole images are rows of pixels: height and width that images must have;
        None if `image_size` is set.

    Notes
    -----
    `fit` holds ``max_patches`` rows, at most twice over, and what the estimator makes of
    them. The rows of an image are scored apart from those of other images, as some
    estimators rank new rows among each other (PyOD's `ECOD`), and up to 16,384 at a time.

    How long that takes is the estimator's: a `OneClassSVM` or `LocalOutlierFactor`
    compares each row with thousands that it has kept.

    On whole images of pixels (``backbone=None``, ``level="image"``), with ``image_size=None``
    for small ones as they are, a `OneClassSVM` is the baseline of papers on one-class
    classification. Choose its ``nu`` by the share of training images that may be bad, its
    ``gamma`` by training images and others that are no test images, or leave it at "scale":
    chosen by the labels of test images it is no baseline.

    Such a detector can be neither saved by `skanomaly.save` nor exported to ONNX, as its
    estimator may be anything: keep it by `joblib.dump`, and load such files only from
    those you trust, as loading runs whatever code is in them.

    Examples
    --------
    >>> from sklearn.ensemble import IsolationForest
    >>> from skanomaly import FeatureOutlierDetector
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=12, random_state=0).images
    >>> forest = IsolationForest(n_estimators=20)
    >>> detector = FeatureOutlierDetector(forest, image_size=64, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 128, 128)
    """

    estimator: object = parameter(
        MISSING,
        HasMethods(["fit", "get_params", "set_params"]),
        kw_only=False,
        affects="training",
    )
    level: str = parameter("patch", StrOptions({"patch", "image"}))
    backbone: str | None = parameter("tf_efficientnet_lite0", str, None)
    layers = (2, 3)
    standardize = "position"
    neighborhood: int = parameter(3, Interval(Integral, 1, None, closed="left"))
    max_patches: int = parameter(
        10_000, Interval(Integral, 1, None, closed="left"), affects="training"
    )

    _small_parameters = {"max_patches": 300}
    _holds_out_in_turn = True
    _not_exportable = (
        "its estimator may be any, of which ONNX has no form; keep the detector by joblib.dump, "
        "for those only who trust you, as loading a pickle runs whatever code is in it"
    )
    _only_pickled = "its estimator may be any"

    def _fit_images(self, images, validation):
        estimator = clone(self.estimator)
        require_scores(estimator)
        if self.backbone is not None:
            self._open_encoder(images, validation)
        elif self.level == "image":
            self._need_one_size(images, validation)
        random_state = np.random.RandomState(int(torch.randint(2**31, ())))
        sample = PatchBank(self.max_patches, "random").fit(self._row_batches(images), random_state)
        decide_random_states(estimator, random_state)
        fit_on_rows(estimator, sample.patches.numpy())
        self.estimator_ = estimator

    def _row_batches(self, images):
        self._place(self._device)
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            with torch.inference_mode():
                rows = self._rows(pixels.to(self._device)).flatten(0, 2)
            yield rows

    def _compute_maps(self, pixels):
        rows = self._rows(pixels)
        maps = [self._map_of_rows(image.flatten(0, 1)) for image in rows]
        return torch.stack(maps).view(rows.shape[:3])

    def _map_of_rows(self, rows):
        if not torch.isfinite(rows).all():
            return rows.new_full(rows.shape[:1], torch.nan)  # of which the caller names the image
        found = anomaly_of_rows(self.estimator_, rows.cpu().numpy())
        return torch.from_numpy(found).float().to(rows.device)

    def _rows(self, pixels):
        """Rows of a batch, (n, h, w, d), on a grid of a single position if each is an image."""
        if self.level == "image":
            rows = pixels.flatten(1) if self.backbone is None else pooled(self.encoder_(pixels))
            return rows[:, None, None]
        if self.backbone is None:
            on_grid = pixels_around(pixels, self.neighborhood)
        else:
            on_grid = on_finest_grid(self.encoder_(pixels), self.neighborhood)
        return on_grid.permute(0, 2, 3, 1)

    def __reduce__(self):
        raise TypeError(
            f"{type(self).__name__} cannot be written by skops, which knows no neural networks: "
            'use joblib.dump, or with MLflow serialization_format="cloudpickle"'
        )
