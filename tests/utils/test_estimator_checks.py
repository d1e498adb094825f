import time
import warnings

import numpy as np
import pytest
import torch
from conftest import DETECTORS, DistanceToMean, small
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skanomaly._parameters import parameter
from skanomaly.utils import estimator_checks
from skanomaly.utils.estimator_checks import Subject, check_detector, parametrize_with_checks


@parametrize_with_checks([small(name) for name in DETECTORS])
def test_every_detector(detector, check):
    check(detector)


RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 16, 16), np.uint8), RNG.integers(0, 256, (4, 16, 16), np.uint8)
COLOUR = tuple(RNG.integers(0, 256, (n, 16, 18, 3), np.uint8) for n in (9, 4))
FIVE_CHANNELS = tuple(RNG.integers(0, 256, (n, 16, 16, 5), np.uint8) for n in (9, 4))


@pytest.mark.parametrize("images", [None, GREY, COLOUR, FIVE_CHANNELS])
def test_a_sound_detector_passes_every_check(images):
    results = check_detector(DistanceToMean(), images=images)
    assert [result["name"] for result in results] == [c.__name__ for c in estimator_checks.CHECKS]
    assert {result["status"] for result in results} == {"passed"}


class ConvertsInInit(DistanceToMean):
    def __init__(self, *, smoothing=1.0, random_state=0):
        super().__init__(smoothing=smoothing, random_state=random_state)
        self.smoothing = np.float64(smoothing)


class MoreInInit(DistanceToMean):
    def __init__(self, *, smoothing=1.0, random_state=0):
        super().__init__(smoothing=smoothing, random_state=random_state)


class ForgetsToReturn(DistanceToMean):
    def fit(self, X, y=None):
        super().fit(X)


class ChangesImages(DistanceToMean):
    def fit(self, X, y=None):
        super().fit(X)
        if isinstance(X, np.ndarray) and X.flags.writeable:
            X += 1
        return self


class ChangesParameters(DistanceToMean):
    def fit(self, X, y=None):
        super().fit(X)
        self.batch_size = 8
        return self


class NamesWithoutUnderscore(DistanceToMean):
    def fit(self, X, y=None):
        super().fit(X)
        self.history = []
        return self


class ScoresUnfitted(DistanceToMean):
    def score_samples(self, X, *, roi=None):
        if not hasattr(self, "offset_"):
            return np.zeros(len(X))
        return super().score_samples(X, roi=roi)


class UnnamedNotFitted(DistanceToMean):
    def predict(self, X, *, roi=None):
        if not hasattr(self, "offset_"):
            raise NotFittedError("call fit first")
        return super().predict(X, roi=roi)


class Remembers(DistanceToMean):
    def fit(self, X, y=None):
        before = getattr(self, "mean_", None)
        super().fit(X)
        if before is not None:
            self.mean_.data.add_(before)
        return self


class CountsCalls(DistanceToMean):
    def score_samples(self, X, *, roi=None):
        self.n_calls_ = getattr(self, "n_calls_", 0) + 1
        return super().score_samples(X, roi=roi)


class DependsOnBatch(DistanceToMean):
    def _compute_maps(self, pixels):
        return super()._compute_maps(pixels - pixels.mean())


class DependsOnOrder(DistanceToMean):
    def _compute_maps(self, pixels):
        weights = torch.linspace(1, 2, len(pixels))
        return super()._compute_maps(pixels) * weights[:, None, None]


class FollowsGlobalGenerator(DistanceToMean):
    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        self.mean_.data.add_(np.random.random_sample() / 10)  # noqa: NPY002


class MovesGlobalGenerator(DistanceToMean):
    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        np.random.random_sample()  # noqa: NPY002


class NotSeeded(DistanceToMean):
    def _fit_images(self, images, validation):
        super()._fit_images(images, validation)
        self.mean_.data.add_(np.random.default_rng().random())


class Unscaled(DistanceToMean):
    def _open(self, X):
        twelve_bits = getattr(X, "dtype", None) == np.uint16
        return super()._open(np.minimum(X / 4095, 1) if twelve_bits else X)


class ArraysOnly(DistanceToMean):
    def score_samples(self, X, *, roi=None):
        if not isinstance(X, np.ndarray):
            raise TypeError("an array is needed")
        return super().score_samples(X, roi=roi)


class WritesIntoImages(DistanceToMean):
    def score_samples(self, X, *, roi=None):
        if isinstance(X, np.ndarray) and X.ndim > 2 and len(X) and X.dtype == np.uint8:
            X[0, 0, 0] = X[0, 0, 0]
        return super().score_samples(X, roi=roi)


class AnyChannels(DistanceToMean):
    def _open(self, X):
        if isinstance(X, np.ndarray) and X.ndim == 4:
            X = X[..., : getattr(self, "n_channels_in_", X.shape[3])]
        return super()._open(X)


class LosesState(DistanceToMean):
    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "mean_"}


class SharesScratch(DistanceToMean):
    scratch = []

    def _compute_maps(self, pixels):
        self.scratch[:] = [pixels]
        time.sleep(0.02)  # in which another thread brings its own
        return super()._compute_maps(self.scratch[0])


class HalfFits(DistanceToMean):
    def fit(self, X, y=None):
        self.mean_ = None
        return super().fit(X)


class CollectsFrames(DistanceToMean):
    def stream(self, frames):
        return super().stream(list(frames))


class FitPredictsOtherwise(DistanceToMean):
    def fit_predict(self, X, y=None):
        return -super().fit_predict(X)


class FlippedLabels(DistanceToMean):
    def predict(self, X):
        return -super().predict(X)


class DoublePrecisionMaps(DistanceToMean):
    def transform(self, X):
        return super().transform(X).astype(np.float64)


class NoOutlierDetector(DistanceToMean):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = None
        return tags


class AcceptsAnyParameter(DistanceToMean):
    def _validate_params(self):
        pass


class OneSize(DistanceToMean):
    def transform(self, X):
        return super().transform(X if isinstance(X, np.ndarray) else np.stack([x[:16] for x in X]))


class FitsOneImage(DistanceToMean):
    def fit(self, X, y=None):
        return super().fit(X if len(X) != 1 else np.concatenate([X, X]))


class EmptyIsFine(DistanceToMean):
    def predict(self, X):
        return np.ones(0, int) if X is not None and np.size(X) == 0 else super().predict(X)


class FrozenParameters(DistanceToMean):
    def set_params(self, **parameters):
        BaseEstimator.set_params(self, **parameters)


class NeverSteps(DistanceToMean):
    lr: float = parameter(1e-3, float)


BROKEN = [
    (ConvertsInInit, "check_init_only_assigns"),
    (MoreInInit, "check_init_only_assigns"),
    (FrozenParameters, "check_parameters_round_trip"),
    (ForgetsToReturn, "check_fit_changes_nothing_else"),
    (ChangesImages, "check_fit_changes_nothing_else"),
    (ChangesParameters, "check_fit_changes_nothing_else"),
    (NamesWithoutUnderscore, "check_fitted_attributes"),
    (ScoresUnfitted, "check_not_fitted"),
    (UnnamedNotFitted, "check_not_fitted"),
    (Remembers, "check_refit_forgets"),
    (CountsCalls, "check_scoring_changes_nothing"),
    (DependsOnBatch, "check_subset_invariance"),
    (DependsOnOrder, "check_order_invariance"),
    (FollowsGlobalGenerator, "check_global_generators"),
    (MovesGlobalGenerator, "check_global_generators"),
    (NotSeeded, "check_equal_seeds_equal_bits"),
    (NeverSteps, "check_training_matters"),
    (Unscaled, "check_dtype_invariance"),
    (ArraysOnly, "check_container_invariance"),
    (WritesIntoImages, "check_memory_layouts"),
    (AnyChannels, "check_images_as_fitted"),
    (LosesState, "check_pickle"),
    (SharesScratch, "check_threads"),
    (HalfFits, "check_failed_fit_changes_nothing"),
    (CollectsFrames, "check_stream"),
    (FitPredictsOtherwise, "check_fit_predict"),
    (FlippedLabels, "check_method_outputs"),
    (DoublePrecisionMaps, "check_method_outputs"),
    (NoOutlierDetector, "check_tags_and_repr"),
    (AcceptsAnyParameter, "check_invalid_parameters"),
    (OneSize, "check_mixed_sizes"),
    (FitsOneImage, "check_too_few_images"),
    (EmptyIsFine, "check_no_batch"),
    (LosesState, "check_processes"),
]


# What of these is not found by a check, but raised by the detector itself.
OWN_ERRORS = {
    (FrozenParameters, "check_parameters_round_trip"): AttributeError,
    (ArraysOnly, "check_container_invariance"): TypeError,
    (WritesIntoImages, "check_memory_layouts"): ValueError,
    (LosesState, "check_processes"): AttributeError,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("broken", "check"), BROKEN)
def test_a_broken_detector_fails(broken, check):
    with pytest.raises(OWN_ERRORS.get((broken, check), AssertionError)):
        getattr(estimator_checks, check)(Subject(broken(), GREY))


@pytest.mark.parametrize("on_fail", ["warn", None])
def test_all_checks_are_tried_after_one_has_failed(on_fail):
    reasons = {"check_equal_seeds_equal_bits": "it is a test"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = check_detector(
            NotSeeded(), images=GREY, on_fail=on_fail, expected_failed_checks=reasons
        )
    status = {result["name"]: result["status"] for result in results}
    assert list(status) == [check.__name__ for check in estimator_checks.CHECKS]
    assert status.pop("check_equal_seeds_equal_bits") == "xfail"
    failed = {name for name in status if status[name] == "failed"}
    assert "check_global_generators" in failed
    warned = [str(w.message) for w in caught if "failed for NotSeeded" in str(w.message)]
    assert {text.split()[0] for text in warned} == (failed if on_fail else set())
    for result in results:
        assert (result["exception"] is None) == (result["status"] == "passed")
        assert result["expected"] == reasons.get(result["name"])


def test_the_first_check_that_fails_raises():
    with pytest.raises(AssertionError, match="MoreInInit sets"):
        check_detector(MoreInInit(), images=GREY)
    with pytest.raises(ValueError, match="on_fail='no' is not known"):
        check_detector(DistanceToMean(), on_fail="no")


def test_every_check_is_failed_by_something_broken():
    assert {check.__name__ for check in estimator_checks.CHECKS} == {check for _, check in BROKEN}
