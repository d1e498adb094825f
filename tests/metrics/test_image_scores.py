from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from skanomaly.metrics import (
    detection_rate_at_false_alarm_rate,
    false_alarm_rate_at_detection_rate,
    image_f1_max_score,
)

METRICS = [
    image_f1_max_score,
    false_alarm_rate_at_detection_rate,
    detection_rate_at_false_alarm_rate,
]
every_metric = pytest.mark.parametrize("metric", METRICS)
rates = st.one_of(st.sampled_from([0.05, 0.07, 0.3, 0.5, 0.95, 1.0]), st.floats(0.001, 1))

LABELS = np.array([1, 1, 1, 1, -1, -1, -1])
SCORES = np.array([-0.1, -0.2, -0.3, -0.6, -0.5, -0.7, -0.9])


scores_of_images = st.one_of(st.integers(-3, 3), st.floats(-1e9, 1e9))


@st.composite
def labels_and_scores(draw):
    images = draw(
        st.lists(
            st.tuples(st.sampled_from([1, -1]), scores_of_images),
            min_size=2,
            max_size=25,
        )
    )
    labels, scores = map(list, zip(*images))
    assume(len(set(labels)) == 2)
    return labels, scores


def rates_by_threshold(labels, scores):
    """(false-alarm rate, detection rate) of flagging what scores at most t, or nothing."""
    n_normal, n_anomalous = labels.count(1), labels.count(-1)
    for t in [-np.inf, *scores]:
        flagged = [label for label, score in zip(labels, scores) if score <= t]
        yield Fraction(flagged.count(1), n_normal), Fraction(flagged.count(-1), n_anomalous)


@given(labels_and_scores())
def test_f1_max_is_its_slow_version(data):
    labels, scores = data
    n_anomalous = labels.count(-1)
    best = 0
    for false_alarms, detected in rates_by_threshold(labels, scores):
        tp, fp = detected * n_anomalous, false_alarms * labels.count(1)
        best = max(best, 2 * tp / (tp + fp + n_anomalous))
    assert image_f1_max_score(*data) == pytest.approx(float(best), abs=1e-12)


@given(labels_and_scores(), rates)
def test_false_alarm_rate_is_its_slow_version(data, rate):
    possible = [f for f, detected in rates_by_threshold(*data) if float(detected) >= rate]
    found = false_alarm_rate_at_detection_rate(*data, detection_rate=rate)
    assert found == pytest.approx(float(min(possible)), abs=1e-12)


@given(labels_and_scores(), st.one_of(st.just(0.0), rates))
def test_detection_rate_is_its_slow_version(data, rate):
    possible = [detected for f, detected in rates_by_threshold(*data) if float(f) <= rate]
    found = detection_rate_at_false_alarm_rate(*data, false_alarm_rate=rate)
    assert found == pytest.approx(float(max(possible)), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "parameters", "value"),
    [
        (image_f1_max_score, {}, 6 / 7),
        (false_alarm_rate_at_detection_rate, {}, 1 / 4),
        (false_alarm_rate_at_detection_rate, {"detection_rate": 0.6}, 0),
        (detection_rate_at_false_alarm_rate, {}, 2 / 3),
        (detection_rate_at_false_alarm_rate, {"false_alarm_rate": 0.25}, 1),
    ],
)
def test_known_values(metric, parameters, value):
    assert metric(LABELS, SCORES, **parameters) == pytest.approx(value, abs=1e-12)


@every_metric
def test_masks_are_taken_for_labels(metric):
    masks = [np.full((2, 3), label == -1) for label in LABELS]
    assert metric(masks, SCORES) == metric(LABELS, SCORES)
    assert type(metric(masks, SCORES)) is float


@every_metric
@pytest.mark.parametrize(("label", "missing"), [(1, "anomalous"), (-1, "normal")])
def test_undefined_without_both_kinds(metric, label, missing):
    message = f"{metric.__name__} is not defined without {missing} images"
    with pytest.warns(UndefinedMetricWarning, match=message) as caught:
        assert np.isnan(metric([label, label], [0.0, 1.0]))
    assert caught[0].filename == __file__


@every_metric
@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([1, 0], [0.0, 1.0], r"y_true\[1\] is 0, expected a label \(\+1 normal, -1 anomalous\)"),
        (None, [0.0, 1.0], "y_true is None, expected a label"),
        ([1, -1], [0.0], r"y_score has shape \(1,\), expected \(2,\)"),
        ([1, -1], [[0.0, 1.0]], r"y_score has shape \(1, 2\), expected \(2,\)"),
        ([1, -1], [0.0, np.nan], r"y_score\[1\] is nan, expected a finite number"),
        ([1, -1], [-np.inf, 0.0], r"y_score\[0\] is -inf"),
    ],
)
def test_bad_arguments(metric, y_true, y_score, message):
    with pytest.raises(ValueError, match=message):
        metric(y_true, y_score)


def test_rates_out_of_range():
    with pytest.raises(ValueError, match=r"detection_rate must lie in \(0, 1\], got 0"):
        false_alarm_rate_at_detection_rate(LABELS, SCORES, detection_rate=0)
    with pytest.raises(ValueError, match=r"false_alarm_rate must lie in \[0, 1\], got 1.5"):
        detection_rate_at_false_alarm_rate(LABELS, SCORES, false_alarm_rate=1.5)
