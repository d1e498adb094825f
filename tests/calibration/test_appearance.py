import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter

from skanomaly.calibration._appearance import AppearanceLog, appearances_of


def picture(light=1.0, contrast=1.0, blur=0.0):
    """A texture as floats in [0, 1], (64, 64)."""
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 1 + blur)
    texture *= 0.1 / texture.std()
    return np.clip(light * (0.4 + contrast * (texture - texture.mean())), 0, 1)


def measured(image):
    return appearances_of(image[None], None, None)[0]


def test_light_moves_brightness_alone():
    usual, darker = measured(picture()), measured(picture(light=0.9))
    assert usual[0] == pytest.approx(picture().mean(), abs=1e-3)
    assert_allclose(darker / usual, [0.9, 1, 1], atol=1e-3)


def test_contrast_and_blur_move_theirs():
    usual = measured(picture())
    flat, blurred = measured(picture(contrast=0.5)), measured(picture(blur=1.0))
    assert_allclose(flat[:2] / usual[:2], [1, 0.5], rtol=0.02)
    assert blurred[2] < 0.5 * usual[2]
    assert_allclose(blurred[:2] / usual[:2], 1, rtol=0.1)


def test_dtype_size_and_colours_matter_little():
    usual = measured(picture())
    bytes_ = np.round(255 * picture()).astype(np.uint8)
    assert_allclose(measured(bytes_)[:2], usual[:2], rtol=0.01)
    assert_allclose(measured(np.repeat(bytes_[:, :, None], 3, axis=2))[:2], usual[:2], rtol=0.01)
    twice = np.kron(picture(), np.ones((2, 2)))
    assert_allclose(measured(twice)[:2], usual[:2], rtol=0.05)


def test_black_is_dark_and_nothing_else():
    assert measured(np.zeros((8, 8))).tolist() == [0, 0, 0]


def log_of(reference, latest, window=50):
    log = AppearanceLog(reference, window)
    for row in latest:
        log.add(row)
    return log


def rows(n, factors=(1, 1, 1), seed=0):
    return (
        np.array([0.5, 0.2, 0.01]) * factors * np.random.default_rng(seed).normal(1, 0.05, (n, 3))
    )


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1, 1, 1), "Brightness, contrast and sharpness as in the reference."),
        (
            (0.8, 1, 1),
            "Images are 20% darker than the reference; contrast and sharpness as in the reference.",
        ),
        (
            (1.5, 0.5, 1),
            "Images are 50% brighter and 50% poorer in contrast than the reference; sharpness as "
            "in the reference.",
        ),
        (
            (1, 1, 2),
            "Images are 100% more sharp than the reference; brightness and contrast as in the "
            "reference.",
        ),
        (
            (2, 2, 0.5),
            "Images are 100% brighter, 100% richer in contrast and 50% less sharp than the "
            "reference.",
        ),
    ],
)
def test_what_has_moved_in_words(factors, said):
    log = log_of(rows(50), np.tile(factors * rows(50).mean(axis=0), (50, 1)))
    assert log.in_words() == said


def test_a_change_within_chance_is_none():
    found = [
        [
            is_told
            for _, is_told in log_of(rows(50, seed=s), rows(50, seed=1000 + s)).changes().values()
        ]
        for s in range(300)
    ]
    assert np.mean(found) < 0.01
    log = log_of(rows(50), rows(50, (0.95, 1, 1), seed=1))
    assert log.changes()["brightness"][1]


def test_the_first_images_are_the_reference_if_there_is_none():
    log = log_of(None, rows(20), window=20)
    assert log.changes() is None
    assert log.in_words() == ""
    for row in rows(20, (0.8, 1, 1), seed=1):
        log.add(row)
    assert log.changes() == log_of(rows(20), rows(20, (0.8, 1, 1), seed=1), window=20).changes()
    log.forget(log.window)
    assert log.changes() is None
    log.add(rows(1)[0])
    assert log.changes() is not None


def test_only_the_latest_count():
    log = log_of(rows(50), [*rows(500, (3, 3, 3)), *rows(30)], window=30)
    assert not any(is_told for _, is_told in log.changes().values())
