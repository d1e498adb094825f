"""The monitor: what it alarms at, what it says, and that it is kept and restarted as it was."""

import copy
import pickle

import numpy as np
import pytest
from conftest import DistanceToMean
from scipy.stats import binom
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch

from skanomaly import InvalidImageError
from skanomaly.calibration import DriftMonitor, quantile_of_new
from skanomaly.calibration._evidence import BetsOnFlags, BetsOnPValues, RestartedMartingale


def known(n=200, seed=0, rate=0.05):
    """What the monitor asks of a detector, with scores that are normally distributed."""
    scores = np.random.default_rng(seed).normal(size=n)
    return Bunch(validation_scores_=scores, offset_=quantile_of_new(scores, rate))


def after(n_before, scores, seed=1, **parameters):
    """A monitor after as many usual scores and then these."""
    monitor = DriftMonitor(known(), random_state=0, **parameters)
    for score in np.append(np.random.default_rng(seed).normal(size=n_before), scores):
        monitor.update(score)
    return monitor


N_CHANGED = 150
NORMAL = np.random.default_rng(5).normal(size=N_CHANGED)
CHANGES = {
    "lower": NORMAL - 2,
    "higher": NORMAL + 2,
    "alike": 0.2 * NORMAL,
    "apart": 3 * NORMAL,
    "the same": np.full(N_CHANGED, 0.7),
}


@pytest.mark.parametrize("defect_share", [0.0, 0.05])
@pytest.mark.parametrize("n_before", [60, 1000])
@pytest.mark.parametrize("change", CHANGES)
def test_it_alarms_at_every_change(change, n_before, defect_share):
    monitor = after(n_before, CHANGES[change], defect_share=defect_share)
    assert monitor.alarm_
    assert n_before < monitor.first_alarm_ < n_before + N_CHANGED


def test_a_change_that_comes_little_by_little():
    fading = np.random.default_rng(3).normal(size=1000) - np.linspace(0, 3, 1000)
    assert after(500, fading).first_alarm_ > 500


@pytest.mark.parametrize("defect_share", [0.0, 0.05])
def test_it_does_not_alarm_without_a_change(defect_share):
    monitor = after(3000, [], defect_share=defect_share)
    assert not monitor.alarm_
    assert monitor.first_alarm_ is None
    assert monitor.log_evidence_ < 2
    assert monitor.n_seen_ == 3000


@pytest.mark.parametrize("defect_share", [0.0, 0.05])
def test_false_alarms_are_as_seldom_as_stated(defect_share):
    """At a rate high enough to be met, from few scores, with another set in each run."""
    n_runs, n_alarms, alpha = 60, 0, 0.3
    for seed in range(n_runs):
        parameters = {"false_alarm_probability": alpha, "horizon": 50, "random_state": seed}
        monitor = DriftMonitor(known(30, seed), defect_share=defect_share, **parameters)
        for score in np.random.default_rng([1, seed]).normal(size=300):
            monitor.update(score)
        n_alarms += monitor.alarm_
    assert n_alarms <= binom.ppf(0.99, n_runs, alpha)


def with_defects(n, share, seed=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n) - 8 * (rng.random(n) < share)


def test_defects_are_no_alarm_if_they_are_said_to_come():
    scores = with_defects(2000, 0.05)
    assert after(1000, scores).alarm_
    assert not after(1000, scores, defect_share=0.05).alarm_
    assert after(1000, with_defects(600, 0.6), defect_share=0.05).alarm_


def test_all_flagged_is_an_alarm_though_none_is_ranked():
    monitor = after(300, np.full(60, -20.0), defect_share=0.05)
    assert monitor.alarm_
    assert monitor.n_flagged_ >= 60
    assert np.isnan(monitor.update(-20.0).p_value)


def test_what_passes_as_normal_is_ranked_among_such_alone():
    detector = known(99)
    monitor = DriftMonitor(detector, defect_share=0.1, random_state=0).fit()
    kept = np.sort(detector.validation_scores_[detector.validation_scores_ >= detector.offset_])
    assert monitor.update(kept[0]).p_value is np.nan  # neither flagged nor above all that decide
    p = monitor.update(np.mean(kept[1:3])).p_value
    assert 1 / len(kept) < p < 2 / len(kept)
    assert monitor.n_flagged_ == 0


def test_the_share_flagged_that_is_allowed():
    """If the threshold flags more than that, its scores were unlikely ones."""
    n, alpha, share = 40, 0.2, 0.1
    too_much = []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        scores = rng.random(n)  # so that a score is the share below it
        offset = quantile_of_new(scores, 0.1)
        monitor = DriftMonitor(
            Bunch(validation_scores_=scores, offset_=offset),
            defect_share=share,
            false_alarm_probability=alpha,
        ).fit()
        most = monitor._most_flagged(1 - alpha / 2)
        too_much.append(1 - (1 - max(offset, 0)) * (1 - share) > most)
    assert np.mean(too_much) <= alpha / 2 + 0.02


def test_what_update_gives():
    monitor = DriftMonitor(known(), random_state=0)
    found = [monitor.update(score) for score in (0.0, -9.0, 9.0)]
    assert [f.index for f in found] == [0, 1, 2]
    assert found[1].p_value < 0.01 < 0.99 < found[2].p_value
    assert found[2].log_evidence == monitor.log_evidence_
    assert not found[2].alarm
    assert (monitor.n_seen_, monitor.n_flagged_) == (3, 1)
    assert monitor.log_threshold_ == pytest.approx(np.log(100))


def test_an_alarm_stays_until_reset():
    monitor = after(100, np.full(40, -5.0))
    first = monitor.first_alarm_
    for score in np.random.default_rng(0).normal(size=300):
        found = monitor.update(score)
    assert found.alarm
    assert monitor.first_alarm_ == first
    monitor.reset()
    assert (monitor.n_seen_, monitor.alarm_, monitor.log_evidence_) == (0, False, 0)
    again = [monitor.update(s).p_value for s in (0.3, -5.0)]
    fresh = DriftMonitor(known(), random_state=0)
    assert again == [fresh.update(s).p_value for s in (0.3, -5.0)]


def test_equal_seeds_give_equal_numbers_and_a_copy_goes_on_alike():
    runs = [after(50, NORMAL) for _ in range(2)]
    assert runs[0].log_evidence_ == runs[1].log_evidence_
    restarted, copied = pickle.loads(pickle.dumps(runs[0])), copy.deepcopy(runs[0])
    for score in NORMAL:
        found = [monitor.update(score) for monitor in (*runs, restarted, copied)]
        assert len({f.log_evidence for f in found}) == 1
    assert restarted.summary() == runs[0].summary()


def test_no_generator_of_others_moves():
    shared, before = np.random.RandomState(0), np.random.get_state()[1].copy()  # noqa: NPY002
    monitor = DriftMonitor(known(), random_state=shared).fit()
    state = shared.get_state()[1].copy()
    for score in NORMAL:
        monitor.update(score)
    DriftMonitor(known()).update(0.0)
    assert (shared.get_state()[1] == state).all()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (np.nan, "image 1: score is nan, expected a finite number"),
        (-np.inf, "image 1: score is -inf"),
        (np.zeros(3), r"image 1: score is of shape \(3,\).*once an image"),
        ("good", "image 1: score is 'good', expected a number"),
        (None, "image 1: score is None"),
    ],
)
def test_other_scores_are_refused_and_change_nothing(score, message):
    monitor = DriftMonitor(known(), random_state=0)
    monitor.update(0.1)
    before = pickle.dumps(monitor)
    with pytest.raises(ValueError, match=message):
        monitor.update(score)
    assert pickle.dumps(monitor) == before


# With a detector, and with images.


def images_of(n, seed=0, light=0.6):
    """Noise of a little other light each."""
    rng = np.random.default_rng(seed)
    lights = light * rng.normal(1, 0.02, (n, 1, 1))
    return np.clip(255 * lights * rng.uniform(0.5, 1, (n, 16, 16)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def detector():
    return DistanceToMean().fit(images_of(40), X_val=images_of(60, seed=1))


def watched(detector, images, reference=None, **parameters):
    monitor = DriftMonitor(detector, random_state=0, **parameters).fit(reference)
    for score, image in zip(detector.score_samples(images), images):
        monitor.update(score, image)
    return monitor


def test_a_fading_lamp_is_told_from_defects(detector):
    usual, new = images_of(80, seed=2), images_of(40, seed=3)
    monitor = watched(detector, np.concatenate([usual, images_of(40, 3, light=0.54)]), usual)
    assert "darker than the reference; contrast and sharpness as in the reference" in (
        monitor.summary()
    )
    monitor = watched(detector, images_of(60, 3, light=0.54), usual, window=60)
    assert "Images are 10% darker than the reference; contrast" in monitor.summary()
    defects = new.copy()
    defects[:, 4:8, 4:8] = 255 - defects[:, 4:8, 4:8]
    monitor = watched(detector, np.concatenate([usual, defects]), usual, window=40)
    assert monitor.alarm_
    assert "Alarm with image " in monitor.summary()
    assert "Of the latest 40, 80.0% are flagged; up to 25.0% are explained" in monitor.summary()
    assert "Scores are lower than before (more anomalous)" in monitor.summary()


def test_nothing_has_moved(detector):
    monitor = watched(detector, images_of(80, seed=2), images_of(60, seed=1))
    assert "No alarm (80 images seen; evidence " in monitor.summary()
    assert "Scores are as before." in monitor.summary()
    assert "Brightness, contrast and sharpness as in the reference." in monitor.summary()


def test_other_detectors_and_their_wrappings_will_do(detector):
    for wrapped in (FrozenEstimator(detector), pickle.loads(pickle.dumps(detector))):
        monitor = DriftMonitor(wrapped, random_state=0)
        assert 0 < monitor.update(0.0).p_value < 1
    assert isinstance(clone(DriftMonitor(FrozenEstimator(detector))).fit(), DriftMonitor)


def test_a_bad_image_is_named_and_changes_nothing(detector):
    monitor = DriftMonitor(detector, random_state=0).fit(images_of(5))
    monitor.update(-0.1)
    before = pickle.dumps(monitor)
    with pytest.raises(InvalidImageError, match="image 1: has 3 channels, expected 1") as error:
        monitor.update(-0.1, np.zeros((16, 16, 3), np.uint8))
    assert error.value.index == 1
    assert pickle.dumps(monitor) == before


def test_a_fit_that_fails_leaves_the_old_state(detector):
    monitor = DriftMonitor(detector, random_state=0).fit(images_of(5))
    monitor.update(-0.1)
    before = pickle.dumps(monitor)
    with pytest.raises(InvalidImageError, match="image 2"):
        monitor.fit([*images_of(2), "no_such_file.png"])
    assert pickle.dumps(monitor) == before


def test_what_cannot_be_watched():
    with pytest.raises(NotFittedError, match=r"without validation_scores_.*pipeline\[-1\]"):
        DriftMonitor(DistanceToMean()).fit()
    with pytest.raises(ValueError, match="expected a fitted detector"):
        DriftMonitor("PaDiM").fit()
    provisional = Bunch(**known(5), is_provisional_=True)
    with pytest.raises(ValueError, match="single image.*calibrate"):
        DriftMonitor(provisional).fit()
    with pytest.raises(NotFittedError):
        DriftMonitor(known()).reset()
    with pytest.raises(NotFittedError):
        DriftMonitor(known()).summary()
    for parameters in ({"false_alarm_probability": 0}, {"defect_share": 0.7}, {"horizon": 0}):
        with pytest.raises(ValueError, match="must be"):
            DriftMonitor(known(), **parameters).fit()


def test_with_defects_the_evidence_is_the_mean_of_two():
    """Of ranks of what passes as normal, and of how many do not, by the definitions."""
    monitor, scores = DriftMonitor(known(), defect_share=0.04, random_state=0), NORMAL - 1
    ranked, flags = BetsOnPValues(), BetsOnFlags(monitor.fit()._most_flagged(0.995))
    of_ranks, of_flags = (RestartedMartingale(len(bets), 10_000) for bets in (ranked, flags))
    for score in scores:
        found = monitor.update(score)
        if not np.isnan(found.p_value):
            of_ranks.add(ranked.log_factors(found.p_value))
        of_flags.add(flags.log_factors(score < known().offset_))
        mean = (np.exp(of_ranks.log_value) + np.exp(of_flags.log_value)) / 2
        assert found.log_evidence == pytest.approx(np.log(mean))
    assert monitor.log_threshold_ == pytest.approx(np.log(2 / 0.01))
    assert 0 < monitor.n_flagged_ < len(scores)


def test_what_it_promises_is_what_it_began_with():
    """A change in the middle would count for nothing, or compare scores of two detectors."""
    monitor = DriftMonitor(known(), random_state=0)
    monitor.update(0.0)
    monitor.set_params(false_alarm_probability=0.5)
    with pytest.raises(ValueError, match="false_alarm_probability is 0.5 and was 0.01 .* reset"):
        monitor.update(0.0)
    assert monitor.n_seen_ == 1
    monitor.reset().update(0.0)
    assert monitor.log_threshold_ == pytest.approx(np.log(2))
    monitor.detector.offset_ -= 1
    with pytest.raises(ValueError, match="calibrated or fitted anew .* reset"):
        monitor.update(0.0)
    assert monitor.reset().update(0.0).index == 0
