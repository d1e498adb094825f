import numpy as np
import pytest
from scipy import ndimage

from skanomaly import InvalidImageError
from skanomaly.exceptions import TransformWarning
from skanomaly.preprocessing import Align, TransformedImages

SIDE = 96


def part(seed):
    image = np.full((SIDE, SIDE), 60.0)
    image[26:70, 30:72] = 150
    image[26:34, 30:72] = 210
    image[40:52, 38:50] = 20
    image[56:64, 56:68] = 240
    image += np.random.default_rng(seed).normal(0, 2, image.shape)
    return ndimage.gaussian_filter(image, 0.8).clip(0, 255)


def motion(rows, columns, degrees=0.0, scale=1.0):
    """The matrix from an image's pixels to where the part's are after it was moved."""
    angle = np.radians(degrees)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    about = np.eye(3)
    about[:2, 2] = (SIDE - 1) / 2
    turn, shift = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.eye(3)
    shift[:2, 2] = rows, columns
    return shift @ about @ turn @ np.linalg.inv(about)


def moved(image, matrix):
    back = np.linalg.inv(matrix)
    found = ndimage.affine_transform(image, back[:2, :2], back[:2, 2], order=1, mode="nearest")
    return found.round().astype(np.uint8)


@pytest.fixture(scope="module")
def good():
    return [part(i).astype(np.uint8) for i in range(4)]


def error(align, image, matrix):
    """How far corners of the part are from where they are thought to be, in pixels."""
    _, placement = TransformedImages([image], align).placed(0)
    corners = np.array([(26, 30, 1), (26, 71, 1), (69, 30, 1), (69, 71, 1)]).T
    return np.linalg.norm(((placement.matrix - matrix) @ corners)[:2], axis=0).max()


@pytest.mark.parametrize("method", ["correlation", "features"])
@pytest.mark.parametrize(
    ("kind", "motions"),
    [
        ("translation", [(0, 0), (7.3, -11.6), (-14, 13)]),
        ("rigid", [(3.4, -5.2, 33), (-6, 4, -120), (2, 2, 180)]),
        ("similarity", [(3.4, -5.2, 33, 1.12), (-6, 4, -80, 0.9), (0, 5, 10, 1.2)]),
    ],
)
def test_the_part_is_found(good, kind, motions, method):
    align = Align(motion=kind, method=method).fit(good)
    for i, numbers in enumerate(motions):
        matrix = motion(*numbers)
        assert error(align, moved(part(10 + i), matrix), matrix) < 0.3


def test_what_is_transformed_lies_as_the_reference(good):
    align = Align().fit(good)
    image = moved(part(9), motion(5, -8, 25))
    made = align.transform([image])[0]
    assert made.shape == (SIDE, SIDE)
    inner = np.s_[20:76, 24:78]
    assert np.abs(made[inner].astype(float) - part(9)[inner]).mean() < 4
    assert np.abs(image[inner].astype(float) - part(9)[inner]).mean() > 20


def test_images_of_another_size(good):
    align = Align(motion="translation").fit(good)
    wide = np.pad(part(5).astype(np.uint8), ((10, 4), (30, 0)), mode="edge")
    made = align.transform([wide])[0]
    assert made.shape == (SIDE, SIDE)
    assert np.abs(made.astype(float) - part(5)).mean() < 4


def test_large_images_are_looked_at_small(good):
    large = [np.kron(image, np.ones((5, 5), np.uint8)) for image in good]
    align = Align(working_size=96).fit(large)
    assert align.reference_.shape == (96, 96)
    assert align.reference_size_ == (480, 480)
    matrix = motion(4, 6, 15)
    image = np.kron(moved(part(7), matrix), np.ones((5, 5), np.uint8))
    _, placement = TransformedImages([image], align).placed(0)
    grow = np.diag([5.0, 5, 1])
    grow[:2, 2] = 2
    expected = grow @ matrix @ np.linalg.inv(grow)
    corners = np.array([(130, 150, 1), (345, 355, 1)]).T
    assert np.abs((placement.matrix - expected) @ corners).max() < 2


def test_brightness_does_not_matter(good):
    align = Align().fit(good)
    matrix = motion(5, -8, 25)
    assert error(align, (moved(part(9), matrix) * 0.6 + 30).astype(np.uint8), matrix) < 0.3


def test_what_does_not_fit_is_said(good):
    align = Align().fit(good)
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)
    for image in (noise, np.full((SIDE, SIDE), 9, np.uint8)):
        with pytest.raises(InvalidImageError, match="cannot be aligned: its correlation"):
            align.transform([image])[0]
    kept = Align(on_failure="warn").fit(good)
    with pytest.warns(TransformWarning, match="stays as it is"):
        made = kept.transform([noise])[0]
    assert np.abs(made.astype(int) - noise).max() <= 1


def test_a_defect_is_no_failure(good):
    align = Align().fit(good)
    matrix = motion(5, -8, 25)
    broken = part(9)
    broken[50:70, 30:50] = 60
    assert error(align, moved(broken, matrix), matrix) < 1


def test_a_fit_on_what_is_unlike_the_others_says_so(good):
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE), np.uint8)
    with pytest.raises(InvalidImageError, match="image 2: cannot be aligned with the others"):
        Align().fit([*good[:2], noise])
    with pytest.raises(InvalidImageError, match="image 0: is of one grey value"):
        Align().fit([np.zeros((SIDE, SIDE), np.uint8), *good])


def test_rotation_is_limited(good):
    align = Align(max_rotation=20).fit(good)
    matrix = motion(0, 0, 15)
    assert error(align, moved(part(9), matrix), matrix) < 0.3
    with pytest.raises(InvalidImageError, match="cannot be aligned"):
        align.transform([moved(part(9), motion(0, 0, 120))])[0]


def test_features_of_what_has_no_corners():
    plain = [np.full((SIDE, SIDE), 60, np.uint8) for _ in range(3)]
    for image in plain:
        image[30:60, 30:60] = 61
    with pytest.raises(InvalidImageError, match="cannot be aligned with the others"):
        Align(method="features").fit(plain)
