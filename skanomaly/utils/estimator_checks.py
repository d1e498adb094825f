"""The contract of detectors as checks that anybody can run on theirs.

The image-shaped counterpart of `sklearn.utils.estimator_checks`: a detector takes
images, which scikit-learn's own suite does not have.
"""

from __future__ import annotations

import copy
import pickle
import re
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from joblib import Parallel, delayed, hash
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, estimator_html_repr, get_tags

from ..images import ImageFiles

SCORING = ("transform", "score_samples", "decision_function", "predict", "detect")
# Scores may differ by so much where the same pixels are computed in other batches or roundings.
RTOL = 1e-3
# Times a gradient it is lost in a weight's rounding.
UNMOVING_RATE = 1e-30


def check_detector(detector, *, images=None, on_fail="raise", expected_failed_checks=None):
    """Check that a detector keeps the contract, on clones of it.

    Parameters
    ----------
    detector : estimator
        With parameters under which a fit on a few small images takes seconds.
    images : (array, array) or None, default=None
        Images to fit on, eight or more, and others to score, three or more, both
        uint8 of shape (n, H, W) or (n, H, W, C) and of one size. None draws 16
        and 6 crops of 64 x 64 of a photograph.
    on_fail : {"raise", "warn", None}, default="raise"
        What to do at the first check that fails.
    expected_failed_checks : dict of str to str or None, default=None
        Names of checks that need not pass, and why.

    Returns
    -------
    list of dict
        For each check its ``name``, ``status`` ("passed", "failed" or "xfail"),
        ``exception`` and ``expected``, the reason, each or None.

    Raises
    ------
    AssertionError or whatever a check raises
        If a check fails and `on_fail` is "raise".

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.utils.estimator_checks import check_detector
    >>> results = check_detector(PaDiM(image_size=64, n_features=10))
    >>> {result["status"] for result in results}
    {'passed'}
    """
    if on_fail not in ("raise", "warn", None):
        raise ValueError(f'on_fail={on_fail!r} is not known; use "raise", "warn" or None')
    reasons = expected_failed_checks or {}
    subject, results = Subject(detector, images), []
    for check in CHECKS:
        name, error = check.__name__, None
        try:
            check(subject)
        except Exception as exception:
            error = exception
            if name not in reasons and on_fail == "raise":
                raise
            if name not in reasons and on_fail == "warn":
                warnings.warn(f"{name} failed for {detector}: {error!r}", stacklevel=2)
        status = "passed" if error is None else "xfail" if name in reasons else "failed"
        results.append(
            {"name": name, "status": status, "exception": error, "expected": reasons.get(name)}
        )
    return results


def parametrize_with_checks(detectors, *, images=None, expected_failed_checks=None):
    """Decorator of a pytest function: one test for each detector and check.

    Parameters
    ----------
    detectors : list of estimators
    images : (array, array) or None, default=None
        As for `check_detector`.
    expected_failed_checks : callable or None, default=None
        Takes a detector and gives the names of checks that need not pass, and why.

    Returns
    -------
    decorator
        Of a function of ``detector`` and ``check``, which calls ``check(detector)``.

    Examples
    --------
    >>> from skanomaly import PaDiM
    >>> from skanomaly.utils.estimator_checks import parametrize_with_checks
    >>> @parametrize_with_checks([PaDiM(image_size=64, n_features=10)])
    ... def test_contract(detector, check):
    ...     check(detector)
    """
    import pytest

    parameters, subjects = [], WeakKeyDictionary()  # so that a detector's checks share a fit
    for detector in detectors:
        reasons = expected_failed_checks(detector) if expected_failed_checks else {}
        for check in CHECKS:
            name = check.__name__
            marks = [pytest.mark.xfail(reason=reasons[name])] if name in reasons else []
            run = _Run(check, images, subjects)
            name = f"{type(detector).__name__}-{name}"
            parameters.append(pytest.param(detector, run, marks=marks, id=name))
    return pytest.mark.parametrize(("detector", "check"), parameters)


class Subject:
    """A detector under test, what it is fitted on, and the fits and results that checks share.

    Parameters
    ----------
    detector : estimator
    images : (array, array) or None
        To fit on, and to score.
    """

    def __init__(self, detector, images=None):
        self.detector = detector
        self.name = type(detector).__name__
        self.X, self.X_new = _textures() if images is None else images
        self._results = {}

    def new(self, **parameters):
        """An unfitted one whose random numbers are decided."""
        detector = clone(self.detector)
        if "random_state" in detector.get_params() and "random_state" not in parameters:
            parameters["random_state"] = 0
        return detector.set_params(**parameters)

    def new_fitted(self, X):
        """One fitted on images, whatever its `fit` returns."""
        detector = self.new()
        detector.fit(X)
        return detector

    @cached_property
    def first_fit(self):
        """A fit on a copy of `X`, and what it did besides."""
        detector, X = self.new(), self.X.copy()
        parameters = detector.get_params(deep=False)
        before = hash(parameters)
        returned = detector.fit(X)
        after = detector.get_params(deep=False)
        return Bunch(
            detector=detector,
            X=X,
            returned=returned,
            replaced=[name for name in after if after[name] is not parameters[name]],
            changed=hash(parameters) != before,
            attributes=set(vars(detector)),
        )

    @cached_property
    def second_fit(self):
        """Another by `fit_predict`, with the same seed, from other states of global generators."""
        import torch

        numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        try:
            np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
            detector = self.new()
            labels = detector.fit_predict(self.X)
            found = np.random.random_sample(), float(torch.rand(()))  # noqa: NPY002
            np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
            expected = np.random.random_sample(), float(torch.rand(()))  # noqa: NPY002
        finally:
            np.random.set_state(numpy_state), torch.set_rng_state(torch_state)  # noqa: NPY002
        return Bunch(detector=detector, labels=labels, moved_generators=found != expected)

    @property
    def fitted(self):
        """Fitted on `X`; not to be changed."""
        return self.first_fit.detector

    @property
    def half(self):
        """Images for fits that need not be as long as that on `X`."""
        return self.X[: len(self.X) // 2]

    @cached_property
    def fitted_on_half(self):
        """Not to be changed."""
        return self.new_fitted(self.half)

    def result(self, method):
        """What a method of `fitted` returned for `X_new`, the first time."""
        if method not in self._results:
            self._results[method] = getattr(self.fitted, method)(self.X_new)
        return self._results[method]

    @property
    def scores(self):
        """Of `X_new`."""
        return self.result("score_samples")

    def assert_scores(self, detector, X=None, rtol=RTOL):
        """It gives the scores of `fitted`, for images that are `X_new` in another form."""
        found = detector.score_samples(self.X_new if X is None else X)
        assert_allclose(found, self.scores, rtol=rtol, atol=rtol * np.ptp(self.scores))


class _Run:
    """A check of `parametrize_with_checks`, to be called with the detector."""

    def __init__(self, check, images, subjects):
        self.check, self.images, self.subjects = check, images, subjects

    def __call__(self, detector):
        if detector not in self.subjects:  # a clone, as a key is not to be kept by its value
            self.subjects[detector] = Subject(clone(detector), self.images)
        self.check(self.subjects[detector])


def _textures():
    from ..datasets import make_texture_defects

    crops = make_texture_defects("brick", n_normal=22, image_size=64, random_state=0).images
    return crops[:16], crops[16:]


def check_init_only_assigns(subject):
    """`__init__` stores each parameter under its name, the object itself, and nothing else."""
    parameters = subject.detector.get_params(deep=False)
    made = type(subject.detector)(**parameters)
    assert set(vars(made)) == set(parameters), (
        f"__init__ of {subject.name} sets {sorted(set(vars(made)) ^ set(parameters))} besides, or "
        "instead of, its parameters"
    )
    for name, value in parameters.items():
        assert getattr(made, name) is value, f"__init__ of {subject.name} changes {name}"


def check_parameters_round_trip(subject):
    """`get_params`, `set_params` and `clone` agree; an unknown name is refused."""
    detector = subject.new()
    parameters = detector.get_params(deep=False)
    assert detector.set_params(**parameters) is detector
    assert hash(detector.get_params(deep=False)) == hash(parameters)
    cloned = clone(detector)
    assert type(cloned) is type(detector)
    assert hash(cloned.get_params(deep=False)) == hash(parameters)
    with _raises(ValueError, "no_such_parameter"):
        detector.set_params(no_such_parameter=1)
    for name in parameters:
        marker = object()
        assert getattr(detector.set_params(**{name: marker}), name) is marker


def check_not_fitted(subject):
    """Scoring before a fit raises `NotFittedError`, which names the estimator."""
    for method in SCORING:
        with _raises(NotFittedError, subject.name):
            getattr(subject.new(), method)(subject.X_new)


def check_fit_changes_nothing_else(subject):
    """`fit` gives back the detector and changes neither parameters nor images."""
    fit = subject.first_fit
    assert fit.returned is fit.detector, f"fit of {subject.name} does not return the detector"
    assert_array_equal(fit.X, subject.X)
    assert not fit.replaced, f"fit of {subject.name} replaces {', '.join(fit.replaced)}"
    assert not fit.changed, f"fit of {subject.name} changes the value of a parameter"


def check_fitted_attributes(subject):
    """What a fit adds ends in an underscore, and nothing does so before."""
    unfitted, fitted = set(vars(subject.new())), subject.first_fit.attributes
    assert not [name for name in unfitted if name.endswith("_")]
    wrong = [name for name in fitted - unfitted if not name.endswith("_") or name.startswith("_")]
    assert not wrong, f"fit of {subject.name} sets {wrong}; such names end in an underscore"
    assert fitted - unfitted, f"fit of {subject.name} sets nothing"
    assert np.isfinite(subject.fitted.offset_)


def check_scoring_changes_nothing(subject):
    """Scoring adds no attribute and gives the same again."""
    for method in SCORING:
        first, second = subject.result(method), getattr(subject.fitted, method)(subject.X_new)
        assert hash(first) == hash(second), f"{method} gives something else the second time"
    assert set(vars(subject.fitted)) == subject.first_fit.attributes


def check_method_outputs(subject):
    """Shapes and dtypes of what is returned, and how the methods hang together."""
    detector, X = subject.fitted, subject.X_new
    maps, scores, decisions, labels, found = (subject.result(method) for method in SCORING)
    assert (maps.shape, maps.dtype) == (X.shape[:3], np.float32)
    assert (scores.shape, scores.dtype) == ((len(X),), np.float64)
    assert np.isfinite(maps).all()
    assert np.isfinite(scores).all()
    assert_array_equal(decisions, scores - detector.offset_)
    assert_array_equal(labels, np.where(scores < detector.offset_, -1, 1))
    for one, other in zip((found.maps, found.scores, found.labels), (maps, scores, labels)):
        assert_array_equal(one, other)


def check_stream(subject):
    """A stream gives each frame what a batch gives it, before it asks for the next."""
    detector, asked = subject.fitted, []
    for found in detector.stream(asked.append(i) or x for i, x in enumerate(subject.X_new)):
        assert asked == list(range(found.index + 1)), "more than one frame is asked for at a time"
        score = subject.scores[found.index]
        assert_allclose(found.score, score, rtol=RTOL, atol=RTOL * np.ptp(subject.scores))
        assert found.label == (-1 if found.score < detector.offset_ else 1)
        assert (found.map.shape, found.map.dtype) == (subject.X_new.shape[1:3], np.float32)
    assert len(asked) == len(subject.X_new)
    with _raises(NotFittedError, subject.name):
        subject.new().stream(subject.X_new)
    with _raises(ValueError, "image 1: "):
        list(detector.stream([subject.X_new[0], None]))


def check_fit_predict(subject):
    """`fit_predict` is `fit` and then `predict`."""
    assert_array_equal(subject.second_fit.labels, subject.fitted.predict(subject.X))


def check_equal_seeds_equal_bits(subject):
    """Two fits with one seed give the same, bit by bit."""
    again = subject.second_fit.detector
    assert again.offset_ == subject.fitted.offset_
    assert_array_equal(again.transform(subject.X_new), subject.result("transform"))


def check_training_matters(subject):
    """What is trained at a rate too small to move a weight gives other maps."""
    rates = [name for name in subject.detector.get_params() if re.search("(^|_)lr$", name)]
    if not rates:
        return
    unmoved = subject.new(**dict.fromkeys(rates, UNMOVING_RATE))
    unmoved.fit(subject.X)
    difference = np.abs(unmoved.transform(subject.X_new) - subject.result("transform")).max()
    assert difference > RTOL * np.ptp(subject.result("transform")), (
        f"maps of {subject.name} are the same whether or not its weights are trained"
    )


def check_refit_forgets(subject):
    """A second fit is as if there had been no first."""
    fresh, again = subject.fitted_on_half, copy.deepcopy(subject.fitted)
    again.fit(subject.half)
    assert set(vars(fresh)) == set(vars(again))
    assert fresh.offset_ == again.offset_
    assert_array_equal(fresh.transform(subject.X_new), again.transform(subject.X_new))


def check_failed_fit_changes_nothing(subject):
    """A fit that fails leaves a fitted detector as it was."""
    detector = copy.copy(subject.fitted)
    before = dict(vars(detector))
    broken = subject.X.astype(np.float32) / 255
    broken[-1, 0, 0] = np.nan
    with _raises(ValueError, f"image {len(broken) - 1}"):
        detector.fit(broken)
    assert vars(detector) == before


def check_global_generators(subject):
    """A fit neither follows nor moves NumPy's and PyTorch's global generators."""
    fit = subject.second_fit
    assert not fit.moved_generators, f"fit of {subject.name} moves a global generator"
    assert fit.detector.offset_ == subject.fitted.offset_


def check_subset_invariance(subject):
    """An image's score does not depend on what is scored with it."""
    for i in range(len(subject.X_new)):
        alone = subject.fitted.score_samples(subject.X_new[i : i + 1])
        assert_allclose(alone, subject.scores[[i]], rtol=RTOL, atol=RTOL * np.ptp(subject.scores))


def check_order_invariance(subject):
    """Nor on where among them it stands."""
    order = np.random.RandomState(0).permutation(len(subject.X_new))
    found = subject.fitted.score_samples(subject.X_new[order])
    expected = subject.scores[order]
    assert_allclose(found, expected, rtol=RTOL, atol=RTOL * np.ptp(expected))


def check_dtype_invariance(subject):
    """The same grey values as uint8, uint16 and floats give the same scores."""
    X = subject.X_new
    for same in (X * np.uint16(257), X.astype(np.float32) / 255, X / 255, X.astype(">u2") * 257):
        subject.assert_scores(subject.fitted, same)


def check_container_invariance(subject):
    """The same images as array, list of arrays, PIL images, paths or files give the same scores."""
    X = subject.X_new
    subject.assert_scores(subject.fitted, list(X))
    subject.assert_scores(subject.fitted, _objects(X))
    if X.ndim == 3:
        subject.assert_scores(subject.fitted, X[..., np.newaxis])
    if X.ndim == 4 and X.shape[3] not in (3, 4):
        return  # of these there are no images but arrays
    subject.assert_scores(subject.fitted, [Image.fromarray(x) for x in X])
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(len(X))]
        for x, path in zip(X, paths):
            Image.fromarray(x).save(path)
        subject.assert_scores(subject.fitted, paths)
        subject.assert_scores(subject.fitted, [str(path) for path in paths])
        subject.assert_scores(subject.fitted, ImageFiles(paths))


def check_memory_layouts(subject):
    """Read-only, memory-mapped, Fortran-ordered and strided arrays do, in fit and scoring."""
    X, X_new = subject.half, subject.X_new
    read_only = X_new.copy()
    read_only.flags.writeable = False
    strided = np.repeat(X_new, 2, axis=2)[:, :, ::2]
    backwards = X_new[:, ::-1].copy()[:, ::-1]
    for same in (read_only, np.asfortranarray(X_new), strided, backwards):
        subject.assert_scores(subject.fitted, same)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X"
        mapped = np.memmap(path, X.dtype, "w+", shape=X.shape, order="F")
        mapped[:] = X
        mapped.flush()
        mapped = np.memmap(path, X.dtype, "r", shape=X.shape, order="F")
        found = subject.new_fitted(mapped).score_samples(X_new)
        del mapped  # or the folder could not be removed on Windows
    expected = subject.fitted_on_half.score_samples(X_new)
    assert_allclose(found, expected, rtol=RTOL, atol=RTOL * np.ptp(expected))


def check_images_as_fitted(subject):
    """Other channels or values than a fit saw are refused, with the image and what was found."""
    X, detector = subject.X_new, subject.fitted
    channels = 1 if X.ndim == 3 else X.shape[3]
    assert detector.n_channels_in_ == channels
    more = np.repeat(X[..., :1] if X.ndim == 4 else X[..., None], channels + 1, axis=3)
    too_bright, invalid = (X.astype(np.float32) / 255 for _ in range(2))
    too_bright[1, 0, 0] = 2.5
    invalid[2, 0, 0] = np.nan
    for method in SCORING:
        score = getattr(detector, method)
        with _raises(ValueError, f"image 0: has {channels + 1} channels, expected {channels}"):
            score(more)
        with _raises(ValueError, "image 1: holds values from .* to 2.5"):
            score(too_bright)
        with _raises(ValueError, "image 2: holds nan"):
            score(invalid)


def check_no_batch(subject):
    """No image, one image or no images at all are refused, in fit and scoring."""
    X = subject.X_new
    one = X[0] if X.ndim == 3 else X[0, ..., 0]
    for wrong in (X[:0], one, "image.png", 3, None, [], [None]):
        for method in ("fit", *SCORING):
            detector = copy.copy(subject.fitted)
            with _raises(ValueError, ""):
                getattr(detector, method)(wrong)


def check_too_few_images(subject):
    """One image is too few, and the error names the estimator, or sets no threshold, and says so.

    The image that was learnt from is normal in any case.
    """
    detector = subject.new()
    if not detector._holds_out_in_turn:
        with _raises(ValueError, subject.name):
            detector.fit(subject.X[:1])
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(subject.X[:1])
    assert any("one normal image tells nothing" in str(w.message) for w in caught), "no warning"
    assert detector.predict(subject.X[:1])[0] == 1, "the image that was learnt from is anomalous"
    assert np.isfinite(detector.score_samples(subject.X)).all(), "scores are not finite"


def check_invalid_parameters(subject):
    """A parameter of a wrong kind is refused when fitting, by estimator and name."""
    for name in subject.detector.get_params(deep=False):
        with _raises((ValueError, TypeError), f"'{name}' parameter of {subject.name}"):
            subject.new(**{name: object()}).fit(subject.X)


def check_mixed_sizes(subject):
    """Each map is of its own image's size."""
    X = subject.X_new
    larger = np.concatenate([X[0], X[0]], axis=0)
    if getattr(subject.fitted, "required_size_", None) is not None:
        with _raises(ValueError, "image 2"):
            subject.fitted.transform([*X[:2], larger])
        return
    maps = subject.fitted.transform([*X[:2], larger])
    assert [m.shape for m in maps] == [X.shape[1:3], X.shape[1:3], larger.shape[:2]]


def check_pickle(subject):
    """A detector is the same after pickling, before and after a fit."""
    unfitted = pickle.loads(pickle.dumps(subject.new()))
    assert set(vars(unfitted)) == set(vars(subject.new()))
    fitted = pickle.loads(pickle.dumps(subject.fitted))
    assert set(vars(fitted)) == set(vars(subject.fitted))
    assert_array_equal(fitted.transform(subject.X_new), subject.result("transform"))
    assert_array_equal(subject.fitted.score_samples(subject.X_new), subject.scores)


def check_threads(subject):
    """Scoring from several threads at once gives what one gives."""
    parts = 4 * [subject.X_new[i : i + 1] for i in range(len(subject.X_new))]
    with ThreadPoolExecutor(4) as pool:
        found = np.concatenate(list(pool.map(subject.fitted.score_samples, parts)))
    expected = np.tile(subject.scores, 4)
    assert_allclose(found, expected, rtol=RTOL, atol=RTOL * np.ptp(expected))


def check_processes(subject):
    """Scoring in other processes, through joblib, gives what this one gives."""
    halves = np.array_split(subject.X_new, 2)
    found = Parallel(n_jobs=2)(delayed(subject.fitted.score_samples)(part) for part in halves)
    found = np.concatenate(found)
    assert_allclose(found, subject.scores, rtol=RTOL, atol=RTOL * np.ptp(subject.scores))


def check_tags_and_repr(subject):
    """It is an outlier detector of images, and can be shown before and after a fit."""
    tags = get_tags(subject.detector)
    assert is_outlier_detector(subject.detector)
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert not tags.target_tags.required
    for detector in (subject.new(), subject.fitted):
        assert repr(detector).startswith(f"{subject.name}(")
        assert subject.name in estimator_html_repr(detector)


def _objects(X):
    objects = np.empty(len(X), dtype=object)
    objects[:] = list(X)
    return objects


class _raises:
    """Context in which an error of a kind is expected, whose text holds a pattern."""

    def __init__(self, kind, pattern):
        self.kind, self.pattern = kind, pattern

    def __enter__(self):
        pass

    def __exit__(self, kind, error, _):
        if error is None:
            raise AssertionError(
                f"no {self.kind} was raised, one that says {self.pattern!r} was due"
            )
        if not isinstance(error, self.kind):
            return False
        assert re.search(self.pattern, str(error)), (
            f"the error says {str(error)!r}, which does not name {self.pattern!r}"
        )
        return True


CHECKS = [check for name, check in list(globals().items()) if name.startswith("check_")]
CHECKS.remove(check_detector)
