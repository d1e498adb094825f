import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skanomaly.plotting import AnomalyMapDisplay, finding_picture, finding_sheet
from skanomaly.plotting._palette import RED, colours, opacity, positions, rgb
from skanomaly.plotting._verdicts import times_threshold, verdict_text

MARGIN = 12


def drawn(image, anomaly_map, *, threshold=1.0, score=-3.0, offset=-1.0, **others):
    picture = finding_picture(
        image, anomaly_map, score=score, offset=offset, map_threshold=threshold, **others
    )
    return np.asarray(picture)


def panels(picture, height, width):
    """The bare image and the overlay, as they are drawn at the bottom left."""
    rows = slice(picture.shape[0] - MARGIN - height, picture.shape[0] - MARGIN)
    right = 2 * MARGIN + width
    return picture[rows, MARGIN : MARGIN + width], picture[rows, right : right + width]


def is_red(pixels):
    pixels = pixels.astype(int)
    return pixels[..., 0] - pixels[..., 1:].max(axis=-1) > 60


@pytest.fixture
def spot():
    """An image of 300 x 400 and a map of it that exceeds 1 in a rectangle."""
    anomaly_map = np.zeros((300, 400))
    anomaly_map[100:150, 200:280] = 1.8
    return np.full((300, 400, 3), 128, np.uint8), anomaly_map


def test_red_lies_where_the_map_exceeds_the_threshold(spot):
    image, anomaly_map = spot
    bare, overlay = panels(drawn(image, anomaly_map), 300, 400)
    np.testing.assert_array_equal(bare, image)
    expected = anomaly_map > 1
    rows, columns = np.nonzero(expected)
    inside = np.zeros_like(expected)
    inside[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3] = True
    outside = np.ones_like(expected)
    outside[rows.min() - 4 : rows.max() + 5, columns.min() - 4 : columns.max() + 5] = False
    assert is_red(overlay)[inside].all()
    np.testing.assert_array_equal(overlay[outside], image[outside])


def test_an_outline_that_is_seen_on_black_and_on_white(spot):
    _, anomaly_map = spot
    for value in (0, 255):
        image = np.full((300, 400), value, np.uint8)
        overlay = panels(drawn(image, anomaly_map), 300, 400)[1].astype(int)
        across = overlay[125, 190:210].max(axis=1)  # over the left border, at 200
        assert across.max() - across.min() > 200
        np.testing.assert_allclose(
            np.abs(np.argmax(np.abs(np.diff(across))) + 190 - 200), 0, atol=4
        )


def test_what_is_at_the_threshold_is_not_outlined(spot):
    image, anomaly_map = spot
    at = np.where(anomaly_map > 1, 1.0, 0.0)
    _, overlay = panels(drawn(image, at), 300, 400)
    assert not is_red(overlay).any()
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) == 2  # pale in it, the image elsewhere


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(1e-6, 1e6))
def test_units_of_scores_and_maps_do_not_matter(factor):
    rng = np.random.default_rng(0)
    image, anomaly_map = rng.random((30, 40)), rng.random((30, 40)) * 2
    there, score = anomaly_map != 1, -1.7
    expected = drawn(image, anomaly_map, score=score)
    scaled = drawn(
        image, factor * anomaly_map, score=factor * score, offset=-factor, threshold=factor
    )
    assert there.all()
    np.testing.assert_allclose(scaled.astype(int), expected.astype(int), atol=1)


@pytest.mark.parametrize("shape", [(3000, 4000), (5000, 37), (1, 1), (7, 300)])
def test_no_spot_is_lost_in_any_size(shape):
    anomaly_map = np.zeros(shape, np.float32)
    anomaly_map[shape[0] // 2, shape[1] // 3] = 5.0
    picture = drawn(np.full(shape, 255, np.uint8), anomaly_map)
    height, width = (round(side * np.clip(max(shape), 256, 1024) / max(shape)) for side in shape)
    _, overlay = panels(picture, max(1, height), max(1, width))
    assert (overlay.min(axis=-1) < 60).any()  # the outline's dark side
    assert max(height, width) in (256, 300, 1024)


def test_verdicts_have_words_numbers_and_colours(spot):
    image, anomaly_map = spot

    def header(**scores):
        return drawn(image, anomaly_map, **scores)[: MARGIN + 20, :300]

    assert is_red(header(score=-2.0)).any()
    assert not is_red(header(score=-0.5)).any()
    assert (header(score=-2.0) != header(score=-2.1)).any()
    assert (header(score=-2.0) != header(score=-2.0, title="part_17.png")).any()
    assert verdict_text(-2.0, -0.8) == "anomalous, 2.50 x threshold"
    assert verdict_text(-0.4, -0.8) == "normal, 0.50 x threshold"
    assert verdict_text(-0.8, -0.8) == "normal, 1.00 x threshold"
    assert verdict_text(-0.8016, -0.8) == "anomalous, 1.0020 x threshold"
    assert verdict_text(-0.7999, -0.8) == "normal, 0.9999 x threshold"


def test_without_a_positive_threshold_there_are_no_multiples(spot):
    assert verdict_text(1.5, 2.0) == "anomalous, score 1.5, threshold 2"
    assert np.isnan(times_threshold([1.0, 2.0], 0.0)).all()
    image, anomaly_map = spot
    overlay = panels(
        drawn(image, anomaly_map - 4, threshold=-3.0, score=1.5, offset=2.0), 300, 400
    )[1]
    assert is_red(overlay[110:140, 210:270]).all()
    assert not is_red(overlay[:90]).any()


def test_a_known_defect_is_outlined_in_blue(spot):
    image, anomaly_map = spot
    mask = np.zeros((300, 400), bool)
    mask[20:60, 20:60] = True

    def n_blue(picture):
        pixels = picture.astype(int)
        return ((pixels[..., 2] > 200) & (pixels[..., 0] < 60)).sum()

    assert n_blue(drawn(image, anomaly_map)) == 0
    assert n_blue(drawn(image, anomaly_map, mask=mask)) >= 4 * 40


@pytest.mark.parametrize(
    "image",
    [
        np.full((300, 400), 0.5),
        np.full((300, 400, 1), 32768, np.uint16),
        np.full((300, 400, 5), 128, np.uint8),
        np.full((300, 400, 2), 0.5, np.float32),
        Image.new("L", (400, 300), 128),
    ],
)
def test_kinds_of_images(image, spot):
    bare, _ = panels(drawn(image, spot[1]), 300, 400)
    np.testing.assert_allclose(bare.astype(int), 128, atol=1)


def test_files_and_value_ranges(spot, tmp_path):
    Image.fromarray(spot[0]).save(tmp_path / "a.png")
    from_file = drawn(tmp_path / "a.png", spot[1])
    np.testing.assert_array_equal(from_file, drawn(spot[0], spot[1]))
    twelve_bits = np.full((300, 400), 2048, np.uint16)
    bare, _ = panels(drawn(twelve_bits, spot[1], value_range=(0, 4095)), 300, 400)
    np.testing.assert_allclose(bare.astype(int), 128, atol=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anomaly_map": np.zeros((3, 4))}, r"shape \(3, 4\) and the image \(300, 400, 3\)"),
        ({"anomaly_map": np.full((300, 400), np.nan)}, "NaN"),
        ({"score": np.nan}, "score is nan"),
        ({"offset": np.inf}, "offset is inf"),
        ({"map_threshold": np.nan}, "map_threshold is nan"),
        ({"mask": np.zeros((3, 4), bool)}, "mask"),
        ({"image": "nowhere.png"}, "nowhere.png"),
    ],
)
def test_what_cannot_be_drawn(changes, message, spot):
    settings = {"score": -3.0, "offset": -1.0, "map_threshold": 1.0}
    settings |= {"image": spot[0], "anomaly_map": spot[1]} | changes
    with pytest.raises(ValueError, match=message):
        finding_picture(**settings)


def test_colours_are_those_of_the_display():
    pytest.importorskip("matplotlib").use("Agg")
    rng = np.random.default_rng(0)
    anomaly_map = np.append(rng.uniform(0, 2, 598), [0, 2]).reshape(20, 30)
    display = AnomalyMapDisplay.from_predictions(
        np.zeros((1, 20, 30)), [anomaly_map], threshold=1.0, vmin=0.0, vmax=2.0
    )
    shown = display.axes_[0, 1].images[0]
    position = positions(anomaly_map, 1.0, 0.0, 2.0)
    expected = shown.to_rgba(shown.get_array())[..., :3]
    np.testing.assert_allclose(colours(position), expected, atol=0.01)
    laid_over = display.axes_[0, 2].images[1].get_alpha()
    np.testing.assert_allclose(opacity(position), laid_over, atol=0.01)
    assert rgb(RED) == pytest.approx((192 / 255, 57 / 255, 43 / 255))


def test_matplotlib_is_not_needed(spot, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert drawn(*spot).shape[2] == 3


def test_sheet_of_pictures():
    pictures = [Image.new("RGB", size, color) for size, color in SIZES]
    sheet = np.asarray(finding_sheet(pictures))
    assert sheet.shape == (30 + 25, 2 * 40, 3)
    for corner, (size, color) in zip(((0, 0), (0, 40), (30, 0)), SIZES):
        part = sheet[corner[0] : corner[0] + size[1], corner[1] : corner[1] + size[0]]
        assert (part == np.array(Image.new("RGB", (1, 1), color))[0, 0]).all()
    assert (sheet[30:, 40:] == 255).all()
    assert finding_sheet(pictures, n_columns=9).size == (3 * 40, 30)
    for arguments in (([],), (pictures, 0)):
        with pytest.raises(ValueError, match="expected at least one"):
            finding_sheet(*arguments)


SIZES = (((40, 20), "red"), ((30, 30), "green"), ((20, 25), "blue"))
