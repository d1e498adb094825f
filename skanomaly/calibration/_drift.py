"""Whether images go on to be as they were when the threshold was set."""

from __future__ import annotations

from collections import deque
from dataclasses import MISSING
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from .._parameters import DeclaredParameters, equal_values, parameter
from .._sklearn import Interval
from ..exceptions import InvalidImageError
from ._appearance import AppearanceLog, appearances_of
from ._evidence import BetsOnFlags, BetsOnPValues, RestartedMartingale
from ._online import OnlineRanks
from ._thresholds import share_below_rank

# Standard errors beyond which the latest p-values are said to have moved.
N_ERRORS = 3.0


class DriftMonitor(DeclaredParameters, BaseEstimator):
    r"""Watch the scores of a stream of images, and raise an alarm if they have changed.

    It alarms whichever way they change: lower, higher, more alike or further apart, at once
    or little by little. If nothing changes, the probability that it *ever* does is at most
    `false_alarm_probability`, however long it runs.

    Parameters
    ----------
    detector : detector, fitted
        Its `validation_scores_` are what new scores are compared with, and its `offset_` says
        which images are flagged. It is not changed, and not asked for scores.
    false_alarm_probability : float in (0, 1)
        Probability of an alarm, ever, if images go on to be of the same source as those that
        set the threshold.
    defect_share : float in [0, 0.5)
        Largest share of images with defects that is no reason for an alarm. 0: every image is
        watched, and defects that come more often than among the images before are a change as
        any other. Above 0: the scores of images that are judged normal are watched, beside the
        share that is flagged.
    horizon : int
        Images within which a change is to be noticed fastest; later ones take longer, as
        slowly as the logarithm of the images before.
    window : int
        Latest images that `summary` is about, and first ones that are the reference if `fit`
        is given none.
    random_state : int, RandomState or None
        Breaks ties, and places scores between their neighbours.

    Attributes
    ----------
    n_seen_ : int
        Images since `fit` or `reset`.
    n_flagged_ : int
        Those below the detector's threshold.
    log_evidence_ : float
        Natural logarithm of the evidence for a change, 0 in the beginning.
    log_threshold_ : float
        Value of `log_evidence_` at which there is an alarm.
    alarm_ : bool
        Whether there has been one since `fit` or `reset`.
    first_alarm_ : int or None
        The image, from 0 on, that it came with.

    See Also
    --------
    skanomaly.calibration.false_alarm_interval : The share flagged that chance explains.

    Notes
    -----
    Each score is ranked among the scores that set the threshold and *all* before it, which
    makes p-values that are independent and uniform as long as the order of scores tells
    nothing (the online p-values of [1]_). Bets against that multiply their stakes by densities
    of p-values that are low, high, alike or apart [2]_; a bet is opened with every image, so
    that what others have lost before a change matters to none after it. Their sum is a test
    martingale, and the promise is Ville's inequality: it needs no more than that scores are
    exchangeable. Ranks among a *fixed* set promise less: its chance is seen in all p-values,
    and every martingale on them alarms some day.

    With `defect_share` above 0 the sum is of two martingales, for alarms of half the
    probability. One is of images whose score lies above the lowest score that passes the
    threshold, ranked among such: what lies below changes nothing in their distribution if
    scores are independent. The other bets that more are flagged than what `defect_share` and
    an upper confidence limit (of the other half) of the false-alarm rate allow. Defects that
    pass as normal count as images.

    An alarm needs evidence of 1 / `false_alarm_probability`, times about `horizon`, times the
    number of bets: about 18 in natural logarithms; an image that is unlike all before adds up
    to 5. There can be no more of it than the scores before a change can tell: after a change
    within the first images only the scores that set the threshold are before it, and 20 or
    fewer may never tell a small change, as those that follow are taken for usual.

    Only what changes scores is noticed: a detector that finds images as normal in another light
    raises no alarm at it, and `summary` tells it all the same.

    `detector` scores images by what learnt from others than did the fits by which a fit of few
    images held out in turn (``cv``): these differ a little, which many scores tell. `calibrate`
    with new images before.

    One thread updates it; it is pickled with its detector, and goes on as if nothing had been.

    References
    ----------
    .. [1] V. Vovk, I. Nouretdinov, A. Gammerman, "Testing exchangeability on-line", ICML 2003.
    .. [2] V. Fedorova, A. Gammerman, I. Nouretdinov, V. Vovk, "Plug-in martingales for testing
       exchangeability on-line", ICML 2012, arXiv:1204.3251.
    .. [3] D. Volkhonskiy, E. Burnaev, I. Nouretdinov, A. Gammerman, V. Vovk, "Inductive
       conformal martingales for change-point detection", COPA 2017, arXiv:1706.03415.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import SubspaceAD
    >>> from skanomaly.calibration import DriftMonitor
    >>> from skanomaly.datasets import make_texture_defects
    >>> X = make_texture_defects("brick", n_normal=150, image_size=64, random_state=0).images
    >>> detector = SubspaceAD(image_size=64, random_state=0).fit(X[:40], X_val=X[40:90])
    >>> monitor = DriftMonitor(detector, random_state=0).fit(X[40:90])
    >>> images = np.concatenate([X[90:120], X[120:] // 2])  # the light fails with image 30
    >>> for score, image in zip(detector.score_samples(images), images):
    ...     found = monitor.update(score, image)
    >>> found.alarm
    True
    """

    detector: object = parameter(MISSING, object, kw_only=False)
    false_alarm_probability: float = parameter(0.01, Interval(Real, 0, 1, closed="neither"))
    defect_share: float = parameter(0.0, Interval(Real, 0, 0.5, closed="left"))
    horizon: int = parameter(10_000, Interval(Integral, 1, None, closed="left"))
    window: int = parameter(100, Interval(Integral, 2, None, closed="left"))
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")

    def fit(self, X=None, y=None):
        """Begin to watch.

        Parameters
        ----------
        X : batch of images or None, default=None
            Normal images, beside which `summary` says what new ones look like. None: the first
            `window` that `update` is given.
        y : object
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        InvalidImageError
            If an image cannot be used.
        """
        self._validate_params()
        _check_detector(self.detector)
        appearances = None if X is None else self._appearances(X)
        self._appearance = AppearanceLog(appearances, self.window)
        self._begin()
        return self

    def reset(self):
        """Begin anew, as after the cause of an alarm was mended.

        Scores seen since are forgotten, those of the detector as it is now are compared with,
        and the reference images stay. What is promised of alarms holds anew.

        Returns
        -------
        self
        """
        check_is_fitted(self, "n_seen_")
        self._validate_params()
        _check_detector(self.detector)
        self._appearance.forget(self.window)
        self._begin()
        return self

    def update(self, score, image=None):
        """Take an image into account; the first call is `fit`.

        If it fails, the monitor stays as it was.

        Parameters
        ----------
        score : float
            What the detector's `score_samples` gives for the image.
        image : image or None, default=None
            The image, if `summary` shall say what images look like.

        Returns
        -------
        Bunch
            ``index``, the number of the image from 0 on; ``p_value`` in (0, 1), low = more
            anomalous than those before, or NaN if it is not ranked, as with a `defect_share`
            those are not that are flagged; ``log_evidence``; and ``alarm``, whether there has
            been one.

        Raises
        ------
        ValueError
            If the score is no finite number.
        InvalidImageError
            If the image cannot be used; its ``index`` is the number of the image.
        """
        if not hasattr(self, "n_seen_"):
            self.fit()
        self._check_unchanged()
        score = _checked_score(score, self.n_seen_)
        appearance = None if image is None else self._appearance_of(image)
        flagged, p = score < self._offset, np.nan
        if score > self._floor:
            p = self._ranks.add(score, self._random)
            self._of_p_values.add(self._bets_on_p_values.log_factors(p))
            self._latest_p_values.append(p)
        if self._of_flags is not None:
            self._of_flags.add(self._bets_on_flags.log_factors(flagged))
        if appearance is not None:
            self._appearance.add(appearance)
        self._latest_flags.append(flagged)
        self.n_flagged_ += int(flagged)
        self.log_evidence_ = self._log_evidence()
        if not self.alarm_ and self.log_evidence_ >= self.log_threshold_:
            self.alarm_, self.first_alarm_ = True, self.n_seen_
        self.n_seen_ += 1
        return Bunch(
            index=self.n_seen_ - 1,
            p_value=p,
            log_evidence=self.log_evidence_,
            alarm=self.alarm_,
        )

    def summary(self):
        """What the latest `window` images are like, in words.

        It promises nothing, but tells whether the light has changed, or there are more defects:
        properties of images are said to have moved if their means differ from the reference by
        3 standard errors and by 1 %, p-values if theirs do from uniform ones by 3.

        Returns
        -------
        str
        """
        check_is_fitted(self, "n_seen_")
        sentences = [
            self._alarm_in_words(),
            self._flags_in_words(),
            self._p_values_in_words(),
            self._appearance.in_words(),
        ]
        return " ".join(sentence for sentence in sentences if sentence)

    def _check_unchanged(self):
        for name, before in self._parameters.items():
            if not equal_values(getattr(self, name), before):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r} and was {before!r} when the monitor began; "
                    "set it back, or call reset, which begins anew"
                )
        if float(self.detector.offset_) != self._offset:
            raise ValueError(
                "the detector was calibrated or fitted anew since the monitor began; call reset, "
                "which begins anew with its scores"
            )

    def _begin(self):
        parameters = self.get_params(deep=False)
        self._parameters = {
            k: v for k, v in parameters.items() if k not in ("detector", "random_state")
        }
        offset, scores = float(self.detector.offset_), np.asarray(self.detector.validation_scores_)
        self._offset, self._n_validation = offset, len(scores)
        self._n_below = int(np.sum(scores < offset))
        alpha = self.false_alarm_probability
        self._bets_on_p_values = BetsOnPValues()
        self._of_p_values = RestartedMartingale(len(self._bets_on_p_values), self.horizon)
        self._floor, self._of_flags = -np.inf, None
        if self.defect_share:
            self._floor = min(scores[scores >= offset], default=offset)
            allowed = self._most_flagged(1 - alpha / 2)
            self._bets_on_flags = BetsOnFlags(allowed)
            self._of_flags = RestartedMartingale(len(self._bets_on_flags), self.horizon)
            alpha /= 2
        self._ranks = OnlineRanks(scores[scores > self._floor])
        self._random = _own_random_state(self.random_state)
        self._latest_flags, self._latest_p_values = (deque(maxlen=self.window) for _ in range(2))
        self.n_seen_ = self.n_flagged_ = 0
        self.log_evidence_, self.log_threshold_ = 0.0, float(-np.log(alpha))
        self.alarm_, self.first_alarm_ = False, None

    def _log_evidence(self):
        if self._of_flags is None:
            return self._of_p_values.log_value
        both = np.logaddexp(self._of_p_values.log_value, self._of_flags.log_value)
        return float(both - np.log(2))

    def _most_flagged(self, confidence, n_new=None):
        """Largest share flagged, of n_new images or in the long run, that the detector explains."""
        k = min(self._n_below + 1, self._n_validation)
        rate = share_below_rank(k, self._n_validation, n_new, confidence)
        return 1 - (1 - rate) * (1 - self.defect_share)

    def _appearances(self, X):
        n_channels = getattr(self.detector, "n_channels_in_", None)
        return appearances_of(X, getattr(self.detector, "value_range", None), n_channels)

    def _appearance_of(self, image):
        try:
            return self._appearances([image])[0]
        except InvalidImageError as error:
            raise type(error)(
                error.reason, index=self.n_seen_, path=error.path
            ) from error.__cause__

    def _alarm_in_words(self):
        seen = f"{self.n_seen_} image{'' if self.n_seen_ == 1 else 's'} seen"
        if self.alarm_:
            return f"Alarm with image {self.first_alarm_} ({seen})."
        return (
            f"No alarm ({seen}; evidence {np.exp(self.log_evidence_):.2g}, "
            f"alarm at {np.exp(self.log_threshold_):.0f})."
        )

    def _flags_in_words(self):
        n = len(self._latest_flags)
        if not n:
            return ""
        most = self._most_flagged(0.975, n)
        return (
            f"Of the latest {n}, {np.mean(self._latest_flags):.1%} are flagged; "
            f"up to {most:.1%} are explained by the threshold"
            f"{f' and {self.defect_share:.1%} defects' if self.defect_share else ''}."
        )

    def _p_values_in_words(self):
        p = np.array(self._latest_p_values)
        if len(p) < 2:
            return ""
        n_errors = (p.mean() - 0.5) / np.sqrt(1 / 12 / len(p))
        if abs(n_errors) > N_ERRORS:
            return (
                f"Scores are {'lower' if n_errors < 0 else 'higher'} than before "
                f"({'more anomalous' if n_errors < 0 else 'more normal'})."
            )
        # The variance of (p - 1/2)^2 is 1/80 - 1/144 = 1/180.
        n_errors = (np.mean((p - 0.5) ** 2) - 1 / 12) / np.sqrt(1 / 180 / len(p))
        if abs(n_errors) > N_ERRORS:
            return f"Scores are {'more alike' if n_errors < 0 else 'further apart'} than before."
        return "Scores are as before."


def _own_random_state(random_state):
    """A state of one's own, so that none that is shared moves."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.RandomState(random_state.randint(2**31 - 1))
    return np.random.RandomState(random_state)


def _check_detector(detector):
    if not hasattr(detector, "validation_scores_") or not hasattr(detector, "offset_"):
        if hasattr(detector, "score_samples"):
            raise NotFittedError(
                f"detector is a {type(detector).__name__} without validation_scores_ and offset_; "
                "fit it first, or pass the fitted detector in it, such as pipeline[-1]"
            )
        raise ValueError(f"detector is {detector!r:.60}, expected a fitted detector")
    if getattr(detector, "is_provisional_", False):
        raise ValueError(
            "detector has its threshold from a single image that it has learnt from, with which "
            "no others can be compared; calibrate it with normal images first"
        )


def _checked_score(score, index):
    if np.ndim(score) != 0:
        raise ValueError(
            f"image {index}: score is of shape {np.shape(score)}, expected one number; call update "
            "once an image"
        )
    try:
        score = float(score)
    except (TypeError, ValueError):
        raise ValueError(f"image {index}: score is {score!r:.60}, expected a number") from None
    if not np.isfinite(score):
        raise ValueError(f"image {index}: score is {score}, expected a finite number")
    return score
