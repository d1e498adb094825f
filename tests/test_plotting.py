import copy
import sys

import numpy as np
import pytest
from conftest import small_detector
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError, UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import find_regions
from skanomaly.images import ImageFiles
from skanomaly.metrics import aupro_score, pro_curve
from skanomaly.plotting import (
    AnomalyMapDisplay,
    PROCurveDisplay,
    ScoreHistogramDisplay,
    plot_sheet,
)

pytest.importorskip("matplotlib").use("Agg")

GREEN, RED = "#2e8b57", "#c0392b"


@pytest.fixture(autouse=True)
def pyplot():
    """matplotlib.pyplot, its figures closed afterwards."""
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture(scope="module")
def upside_down(fitted):
    """A pipeline that turns images over before a fitted detector sees them."""
    pipeline = make_pipeline(FunctionTransformer(turned_over), "passthrough", fitted)
    return pipeline


def turned_over(X):
    return X[:, ::-1].copy()


def searched(estimator):
    """A search as it is after fitting, without the fitting."""
    search = GridSearchCV(estimator, {})
    search.best_estimator_ = estimator
    return search


def colours(image):
    """What each pixel of a drawn map is shown as, before it is laid over anything."""
    return image.to_rgba(image.get_array())[..., :3]


def are_quiet(rgb):
    rgb = np.asarray(rgb, dtype=float)
    return (rgb.min(axis=-1) >= 0.7) & (np.ptp(rgb, axis=-1) <= 0.1)


def are_red(rgb):
    rgb = np.asarray(rgb, dtype=float)
    return rgb[..., 0] - rgb[..., 1:3].max(axis=-1) >= 0.25


def outlines(ax):
    """The line pieces that outline a mask, in pixels."""
    return [path.vertices for drawn in ax.collections for path in drawn.get_paths()]


def boxes(ax):
    """(top, left, bottom, right) of the boxes drawn, in the pixels that they enclose."""
    corners = [box.get_bbox() for box in ax.patches]
    return [(b.y0 + 0.5, b.x0 + 0.5, b.y1 + 0.5, b.x1 + 0.5) for b in corners]


def rendered(ax):
    """The pixels of an axes as they are on paper, (h, w, 3) in [0, 1], without its frame."""
    ax.figure.canvas.draw()
    whole = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3] / 255
    box = ax.get_window_extent()
    top, bottom = len(whole) - box.y1, len(whole) - box.y0
    return whole[int(top) + 3 : int(bottom) - 3, int(box.x0) + 3 : int(box.x1) - 3]


class TestAnomalyMapDisplay:
    @pytest.mark.parametrize(
        ("low", "high", "threshold"),
        [
            (0.0, 1.0, 0.3),
            (-8.0, -2.0, -3.0),
            (-1.0, 1.0, 0.0),
            (1e6, 1e6 + 9, 1e6 + 4),
            (1e-9, 1e-7, 2e-8),
            (2.0, 3.0, 7.0),  # nothing exceeds it
            (2.0, 3.0, 1.0),  # everything does
            (0.0, 1000.0, 0.001),
        ],
    )
    def test_red_is_what_exceeds_the_threshold_and_nothing_else(self, low, high, threshold):
        maps = np.random.default_rng(0).uniform(low, high, (3, 20, 30)).astype(np.float32)
        images = np.zeros((3, 20, 30), np.uint8)
        display = AnomalyMapDisplay.from_predictions(images, maps, threshold=threshold)
        for anomaly_map, (_, drawn, overlay) in zip(maps, display.axes_):
            for rgb in (colours(drawn.images[-1]), colours(overlay.images[-1])):
                np.testing.assert_array_equal(are_red(rgb), anomaly_map > threshold)
                np.testing.assert_array_equal(are_quiet(rgb), anomaly_map <= threshold)

    @pytest.mark.parametrize("threshold", [0.1, -0.1, 1 / 3, 12345.678])
    def test_the_threshold_itself_is_quiet_and_the_next_number_red(self, threshold):
        at = np.float32(threshold)
        if float(at) > threshold:
            at = np.nextafter(at, np.float32(-np.inf))
        maps = np.full((2, 4, 4), at, np.float32)
        maps[1] = np.nextafter(at, np.float32(np.inf))
        display = AnomalyMapDisplay.from_predictions(
            np.zeros((2, 4, 4)), maps, threshold=threshold, kinds=["map"]
        )
        assert are_quiet(colours(display.axes_[0, 0].images[0])).all()
        assert are_red(colours(display.axes_[1, 0].images[0])).all()

    @pytest.mark.parametrize("others", [0.0, 1e-30, 1e-6, 1.0, 1e6])
    def test_a_map_at_a_threshold_of_zero_is_quiet(self, others):
        maps = np.zeros((2, 4, 4), np.float32)
        maps[1] = others
        display = AnomalyMapDisplay.from_predictions(np.zeros((2, 4, 4)), maps, threshold=0.0)
        assert are_quiet(colours(display.axes_[0, 1].images[0])).all()
        assert are_red(colours(display.axes_[1, 1].images[0])).all() == (others > 0)
        assert not are_red(rendered(display.axes_[0, 1])).any()

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
    def test_maps_of_any_real_dtype(self, dtype):
        maps = np.array([[[0, 1], [1, 0]]]).astype(dtype)
        display = AnomalyMapDisplay.from_predictions(np.zeros((1, 2, 2)), maps, threshold=0.5)
        red = are_red(colours(display.axes_[0, 1].images[0]))
        np.testing.assert_array_equal(red, maps[0].astype(bool))
        assert are_red(rendered(display.axes_[0, 1])).mean() == pytest.approx(0.5, abs=0.05)

    def test_no_red_on_paper_below_the_threshold(self):
        rng = np.random.default_rng(0)
        images, maps = rng.random((2, 40, 40)), rng.random((2, 40, 40)) * 0.999
        maps[1, 10:20, 10:30] = 3
        display = AnomalyMapDisplay.from_predictions(images, maps, threshold=1.0)
        good, bad = display.axes_
        assert are_quiet(rendered(good[1])).all()
        assert not are_red(rendered(good[2])).any()
        share = 200 / 1600
        assert are_red(rendered(bad[1])).mean() == pytest.approx(share, rel=0.1)
        assert are_red(rendered(bad[2])).mean() == pytest.approx(share, rel=0.1)

    def test_a_good_part_does_not_glow(self, fitted, textures):
        images, masks = textures[1].images[:7].copy(), textures[1].masks[:7].copy()
        images[6, 16:48, 16:48], masks[6, 16:48, 16:48] = 255, True
        maxima = fitted.transform(images).max(axis=(1, 2))
        fitted = copy.copy(fitted)  # with a threshold that the good ones, and no other, stay below
        fitted.map_threshold_ = (maxima[:6].max() + maxima[6]) / 2
        exceeds = maxima > fitted.map_threshold_
        assert list(exceeds) == 6 * [False] + [True]
        for shown in (np.flatnonzero(~exceeds), np.arange(7)):  # alone, and beside defects
            display = AnomalyMapDisplay.from_estimator(fitted, images[shown], masks[shown])
            for i, row in zip(shown, display.axes_):
                for ax in row[1:]:
                    assert are_red(colours(ax.images[-1])).any() == exceeds[i]

    def test_one_scale_with_the_threshold_in_the_middle(self):
        maps = [np.array([[-1.0, 0.0]]), np.array([[1.0, 7.0]])]
        images = [np.zeros((1, 2))] * 2
        display = AnomalyMapDisplay.from_predictions(images, maps, threshold=2.0)
        drawn = [ax.images[-1] for ax in display.axes_[:, 1:].flat]
        assert len({id(image.norm) for image in drawn}) == 1
        assert drawn[0].get_clim() == (-1, 7)
        np.testing.assert_allclose(drawn[0].norm([-1, 2, 7]), [0, 0.5, 1], atol=1e-6)

    def test_the_scale_reaches_as_far_above_the_threshold_as_below(self):
        image, anomaly_map = np.zeros((1, 1, 2)), np.array([[[-1.0, 0.5]]])
        display = AnomalyMapDisplay.from_predictions(image, anomaly_map, threshold=2.0)
        assert display.axes_[0, 1].images[0].get_clim() == (-1, 5)
        display.plot(vmin=-4)
        assert display.axes_[0, 1].images[0].get_clim() == (-4, 8)
        display.plot(vmin=1, vmax=2.5)
        assert display.axes_[0, 1].images[0].get_clim() == (1, 2.5)
        for limits in ({"vmin": 2}, {"vmax": 2}, {"vmin": 3, "vmax": 4}):
            with pytest.raises(ValueError, match=r"threshold is 2, expected between vmin"):
                display.plot(**limits)

    def test_colour_bar_shows_the_threshold(self):
        image, anomaly_map = np.zeros((1, 1, 2)), np.array([[[0.0, 9.0]]])
        bar = AnomalyMapDisplay.from_predictions(image, anomaly_map, threshold=2.0).colorbar_
        labels = dict(zip(bar.get_ticks(), [t.get_text() for t in bar.ax.get_yticklabels()]))
        assert list(labels) == [0, 2, 9]
        assert "threshold" in labels[2]
        assert "2" in labels[2]
        (line,) = [line for line in bar.ax.lines if list(line.get_ydata()) == [2, 2]]
        assert line.get_visible()

    def test_plain_scale_without_a_threshold(self):
        maps = np.array([[[-3.0, 4.0]]])
        display = AnomalyMapDisplay.from_predictions(np.zeros((1, 1, 2)), maps, threshold=None)
        image, overlay = (ax.images[-1] for ax in display.axes_[0, 1:])
        np.testing.assert_allclose(image.norm(maps[0]), [[0, 1]])
        assert overlay.get_alpha()[0, 0] == 0
        assert overlay.get_alpha()[0, 1] > 0.5
        labels = [t.get_text() for t in display.colorbar_.ax.get_yticklabels()]
        assert "threshold" not in " ".join(labels)
        display.plot(vmin=-10, vmax=10)
        assert display.axes_[0, 1].images[0].get_clim() == (-10, 10)

    def test_overlay_shows_the_image_where_the_map_is_low(self):
        maps = np.linspace(0, 10, 101).reshape(1, 1, -1)
        images = np.random.default_rng(0).random((1, 1, 101))
        display = AnomalyMapDisplay.from_predictions(images, maps, threshold=4.0)
        below, above = display.axes_[0, 2].images
        np.testing.assert_array_equal(below.get_array(), images[0].astype(np.float32))
        alpha = above.get_alpha()[0]
        assert (np.diff(alpha) >= 0).all()
        assert (alpha[maps[0, 0] < 2] == 0).all()
        assert (alpha[maps[0, 0] <= 4] <= 0.2).all()
        assert (alpha[maps[0, 0] > 4] >= 0.5).all()
        assert alpha.max() < 1

    def test_defects_are_outlined_and_nothing_else(self):
        masks = np.zeros((3, 20, 30), bool)
        masks[1, 5:9, 10:16] = True
        masks[2, 15:, :4] = True  # in a corner
        maps, images = np.zeros((3, 20, 30)), np.zeros((3, 20, 30, 3), np.uint8)
        display = AnomalyMapDisplay.from_predictions(images, maps, masks=masks, threshold=1.0)
        for ax in display.axes_[0]:
            assert outlines(ax) == []
        for ax in display.axes_[1]:
            (line,) = outlines(ax)
            np.testing.assert_allclose(line.min(axis=0), [9.5, 4.5])
            np.testing.assert_allclose(line.max(axis=0), [15.5, 8.5])
        for ax in display.axes_[2]:
            (line,) = outlines(ax)
            np.testing.assert_allclose(line.min(axis=0), [-0.5, 14.5])
            np.testing.assert_allclose(line.max(axis=0), [3.5, 19.5])
        for ax in display.axes_.flat:  # an outline changes nothing of what is shown
            assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 29.5), (19.5, -0.5))
        assert "outline" in display.colorbar_.ax.get_ylabel()
        without = AnomalyMapDisplay.from_predictions(images, maps, threshold=1.0)
        assert not any(outlines(ax) for ax in without.axes_.flat)
        assert without.colorbar_.ax.get_ylabel() == ""

    def test_regions_are_boxed_where_they_are(self):
        maps, images = np.zeros((3, 20, 30)), np.zeros((3, 20, 30), np.uint8)
        maps[1, 5:9, 10:16], maps[1, 0, 29], maps[2, 3, 4] = 2.0, 5.0, 1.0  # the last is no more
        shown = AnomalyMapDisplay.from_predictions(images, maps, threshold=1.0, regions=True)
        for ax in shown.axes_[1]:
            assert boxes(ax) == [(0, 29, 1, 30), (5, 10, 9, 16)]
            assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 29.5), (19.5, -0.5))
        assert not any(boxes(ax) for ax in shown.axes_[[0, 2]].flat)
        assert "box" in shown.colorbar_.ax.get_ylabel()
        larger = find_regions(maps, 1.0, min_area=2)
        shown = AnomalyMapDisplay.from_predictions(images, maps, threshold=None, regions=larger)
        assert boxes(shown.axes_[1, 0]) == [(5, 10, 9, 16)]
        shown = AnomalyMapDisplay.from_predictions(images, maps, threshold=1.0)
        assert not any(boxes(ax) for ax in shown.axes_.flat)
        assert shown.regions is None

    def test_an_estimators_regions_are_those_above_its_threshold(self, fitted, textures):
        X, strict = textures[1].images, copy.deepcopy(fitted)
        strict.set_params(false_alarm_rate=0.49).calibrate()
        display = AnomalyMapDisplay.from_estimator(strict, X, regions=True)
        expected = find_regions(strict.transform(X), strict.map_threshold_)
        drawn = [len(boxes(row[1])) for row in display.axes_]
        assert drawn == np.bincount(expected.image, minlength=len(X)).tolist()
        assert sum(drawn) > 0

    @pytest.mark.parametrize(
        ("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (float, 1)]
    )
    @pytest.mark.parametrize("n_channels", [None, 1, 2, 3, 4, 7])
    def test_images_of_any_kind(self, dtype, white, n_channels):
        shape = (2, 6, 8) if n_channels is None else (2, 6, 8, n_channels)
        images = (np.random.default_rng(0).random(shape) * white).astype(dtype)
        display = AnomalyMapDisplay.from_predictions(
            images, np.zeros((2, 6, 8)), threshold=1.0, kinds=["image"]
        )
        for image, (ax,) in zip(images / white, display.axes_):
            if n_channels not in (None, 3):
                image = image.mean(axis=2)
            shown = ax.images[0]
            np.testing.assert_allclose(shown.get_array(), image, atol=1e-6)
            if n_channels != 3:
                assert shown.get_clim() == (0, 1)
                np.testing.assert_allclose(shown.to_rgba(0.5)[:3], [0.5] * 3, atol=0.01)

    def test_value_range_says_what_is_white(self, fitted):
        images = np.full((1, 4, 4), 4095, np.uint16)
        display = AnomalyMapDisplay.from_predictions(
            images, np.zeros((1, 4, 4)), threshold=1.0, value_range=(0, 4095)
        )
        assert (display.images[0] == 1).all()

    def test_what_exceeds_the_threshold_is_outlined_in_overlays_and_said(self):
        maps = np.zeros((2, 12, 12))
        maps[0, 3:6, 0:4] = 2.0
        display = AnomalyMapDisplay.from_predictions(np.zeros((2, 12, 12)), maps, threshold=1.0)
        for kind, n_lines in (("image", 0), ("map", 0), ("overlay", 1)):
            column = ["image", "map", "overlay"].index(kind)
            assert len(outlines(display.axes_[0, column])) == n_lines
            assert not outlines(display.axes_[1, column])
        (line,) = outlines(display.axes_[0, 2])
        np.testing.assert_allclose(line.min(axis=0), [-0.5, 2.5])
        np.testing.assert_allclose(line.max(axis=0), [3.5, 5.5])
        assert "white outline: above the threshold" in display.colorbar_.ax.get_ylabel()
        plain = AnomalyMapDisplay.from_predictions(np.zeros((2, 12, 12)), maps, threshold=None)
        assert not any(outlines(ax) for ax in plain.axes_.flat)

    def test_images_may_differ_in_size_channels_and_form(self, tmp_path):
        rng = np.random.default_rng(0)
        arrays = [
            rng.integers(256, size=size, dtype=np.uint8) for size in ((9, 5, 3), (4, 8), (6, 6, 3))
        ]
        Image.fromarray(arrays[0]).save(tmp_path / "a.png")
        images = [str(tmp_path / "a.png"), arrays[1], Image.fromarray(arrays[2])]
        maps = [rng.random(array.shape[:2]) for array in arrays]
        display = AnomalyMapDisplay.from_predictions(images, maps, threshold=0.5)
        for array, anomaly_map, (image, drawn, _) in zip(arrays, maps, display.axes_):
            np.testing.assert_allclose(image.images[0].get_array(), array / 255, atol=1e-6)
            np.testing.assert_array_equal(drawn.images[0].get_array(), anomaly_map)

    def test_from_estimator(self, fitted, textures, tmp_path):
        test = textures[1]
        chosen = [0, 3, 6, 9]
        for i in chosen:
            Image.fromarray(test.images[i]).save(tmp_path / f"{i}.png")
        files = ImageFiles.from_folder(tmp_path)
        display = AnomalyMapDisplay.from_estimator(fitted, files, test.masks[chosen])
        found = fitted.detect(test.images[chosen])
        assert display.threshold == fitted.map_threshold_
        for row, i in enumerate(chosen):
            image, drawn, overlay = display.axes_[row]
            np.testing.assert_allclose(image.images[0].get_array(), test.images[i] / 255, atol=1e-6)
            np.testing.assert_array_equal(drawn.images[0].get_array(), found.maps[row])
            np.testing.assert_array_equal(overlay.images[1].get_array(), found.maps[row])
            title = image._left_title
            assert f"{found.scores[row] / fitted.offset_:.2f} x threshold" in title.get_text()
            word, colour = ("normal", GREEN) if found.labels[row] == 1 else ("anomalous", RED)
            assert title.get_text().startswith(word)
            assert title.get_color() == colour
            assert bool(outlines(image)) == test.masks[i].any()

    def test_value_range_of_the_detector_is_that_of_the_picture(self, textures):
        images = textures[0].images[:6].astype(float)
        detector = small_detector(value_range=(0, 255), max_epochs=1).fit(images)
        display = AnomalyMapDisplay.from_estimator(detector, images[:1])
        np.testing.assert_allclose(display.images[0], images[0] / 255, atol=1e-6)

    @pytest.mark.parametrize("wrap", [lambda e: e, searched, lambda e: make_pipeline(e)])
    def test_shows_what_the_detector_in_a_pipeline_sees(self, wrap, upside_down, textures):
        images, masks = textures[1].images[5:8], textures[1].masks[5:8]
        display = AnomalyMapDisplay.from_estimator(wrap(upside_down), images, turned_over(masks))
        seen = turned_over(images)
        detector = upside_down[-1]
        np.testing.assert_array_equal(display.maps, detector.transform(seen))
        np.testing.assert_allclose(display.images, seen / 255, atol=1e-6)
        assert display.threshold == detector.map_threshold_

    def test_drawn_again_without_computing(self, fitted, textures, pyplot, monkeypatch):
        display = AnomalyMapDisplay.from_estimator(fitted, textures[1].images[:2])
        monkeypatch.setattr(type(fitted), "_compute_maps", None)
        first = display.figure_
        assert display.plot() is display
        assert display.figure_ is not first
        figure, axes = pyplot.subplots(2, 3)
        display.plot(axes)
        assert display.figure_ is figure
        np.testing.assert_array_equal(display.axes_, axes)
        assert all(ax.images for ax in axes.flat)
        figure.canvas.draw()

    def test_kinds_are_the_columns(self, pyplot):
        display = AnomalyMapDisplay.from_predictions(
            np.zeros((2, 4, 4)), np.ones((2, 4, 4)), threshold=2.0, kinds=("overlay", "image")
        )
        assert [len(ax.images) for ax in display.axes_.flat] == [2, 1, 2, 1]
        assert display.plot(kinds=["map"]).axes_.shape == (2, 1)
        assert display.plot(kinds=["image"]).colorbar_ is None
        flat = pyplot.subplots(1, 2)[1]
        np.testing.assert_array_equal(display.plot(flat, kinds=["map"]).axes_[:, 0], flat)

    def test_one_axes_for_one_picture(self, pyplot):
        ax = pyplot.subplots()[1]
        display = AnomalyMapDisplay.from_predictions(
            np.zeros((1, 4, 4)), np.ones((1, 4, 4)), threshold=2.0, kinds=["map"], ax=ax
        )
        assert display.axes_.tolist() == [[ax]]

    @pytest.mark.parametrize("shape", [(2, 2), (3, 2), (1, 6), (3, 3)])
    def test_wrong_axes(self, shape, pyplot):
        axes = pyplot.subplots(*shape, squeeze=False)[1]
        with pytest.raises(ValueError, match=r"ax is an array of axes .* expected \(2, 3\)"):
            AnomalyMapDisplay.from_predictions(
                np.zeros((2, 4, 4)), np.ones((2, 4, 4)), threshold=2.0, ax=axes
            )

    def test_titles(self):
        display = AnomalyMapDisplay.from_predictions(
            np.zeros((2, 4, 4)),
            np.ones((2, 4, 4)),
            threshold=2.0,
            titles=["first", "second"],
            flagged=[True, False],
        )
        titles = [row[0]._left_title for row in display.axes_]
        assert [title.get_text() for title in titles] == ["first", "second"]
        assert [title.get_color() for title in titles] == [RED, GREEN]

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"images": np.zeros((2, 4, 4))}, "there are 2 images and 3 maps"),
            ({"maps": np.zeros((4, 4, 4))}, "there are 3 images and 4 maps"),
            ({"masks": np.zeros((1, 4, 4), bool)}, "there are 3 images and 1 masks"),
            ({"titles": ["a"]}, "there are 3 images and 1 titles"),
            ({"flagged": [True]}, "there are 3 images and 1 flagged"),
            ({"maps": [np.zeros((4, 4)), np.zeros((4, 5)), np.zeros((4, 4))]}, "map 1 has shape"),
            ({"maps": np.zeros((3, 4, 4, 1))}, "map 0 has shape"),
            ({"masks": [np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((2, 2))]}, "mask 2 has shape"),
            ({"masks": np.arange(48).reshape(3, 4, 4)}, "mask 0 holds other values"),
            (
                {"maps": np.where(np.arange(48) == 20, np.nan, 0).reshape(3, 4, 4)},
                "map 1 holds NaN",
            ),
            ({"images": [np.zeros((4, 4))] * 2 + [np.full((4, 4), 9.0)]}, "image 2: .*value_range"),
            ({"images": np.zeros((3, 4, 4), int)}, "image 0: .*value_range"),
            ({"images": []}, "holds no images"),
            ({"threshold": np.nan}, "threshold is nan"),
            ({"kinds": ["image", "heat"]}, "kinds holds 'heat'"),
            ({"regions": True, "threshold": None}, "regions=True .* pass a threshold"),
            ({"regions": {"image": []}}, "regions have no top"),
            ({"regions": find_regions(np.ones((4, 4, 4)), 0)}, "region 3 is of image 3"),
        ],
    )
    def test_errors_name_the_argument(self, changed, message):
        arguments = {
            "images": np.zeros((3, 4, 4)),
            "maps": np.zeros((3, 4, 4)),
            "threshold": 1.0,
            **changed,
        }
        with pytest.raises(ValueError, match=message):
            AnomalyMapDisplay.from_predictions(**arguments)

    def test_the_threshold_has_to_be_stated(self):
        with pytest.raises(TypeError, match="threshold"):
            AnomalyMapDisplay.from_predictions(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))

    def test_estimators_that_do_not_fit(self, textures):
        images = textures[1].images[:2]
        with pytest.raises(NotFittedError):
            AnomalyMapDisplay.from_estimator(small_detector(), images)
        with pytest.raises(NotFittedError):
            AnomalyMapDisplay.from_estimator(GridSearchCV(small_detector(), {}), images)
        forest = IsolationForest(n_estimators=2).fit(np.zeros((4, 2)))
        with pytest.raises(ValueError, match="IsolationForest, expected a detector"):
            AnomalyMapDisplay.from_estimator(forest, images)


def masks_and_maps(n=4, size=30, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), bool)
    for mask in masks[1:]:
        row, column = rng.integers(size - 6, size=2)
        mask[row : row + 6, column : column + 4] = True
    return masks, (rng.normal(size=masks.shape) + masks).astype(np.float32)


class TestPROCurveDisplay:
    @pytest.mark.parametrize("max_fpr", [0.01, 0.05, 0.3, 0.777, 1.0])
    @pytest.mark.parametrize("seed", range(3))
    def test_area_is_the_metric(self, max_fpr, seed):
        masks, maps = masks_and_maps(seed=seed)
        if seed == 2:
            maps = maps.round()  # ties
        display = PROCurveDisplay.from_predictions(masks, maps, max_fpr=max_fpr, name="a")
        expected = aupro_score(masks, maps, max_fpr=max_fpr)
        assert display.aupro == pytest.approx(expected, abs=1e-12)
        (text,) = display.ax_.get_legend().get_texts()
        assert text.get_text() == f"a (AUPRO = {expected:.2f} up to FPR {max_fpr:g})"

    def test_what_is_drawn(self):
        masks, maps = masks_and_maps()
        display = PROCurveDisplay.from_predictions(masks, maps)
        fpr, pro, _ = pro_curve(masks, maps)
        np.testing.assert_array_equal(display.fpr, fpr)
        np.testing.assert_array_equal(display.pro, pro)
        x, y = display.line_.get_data()
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert display.ax_.get_xlim()[1] >= 1
        (at,) = [line for line in display.ax_.lines if list(line.get_xdata()) == [0.3, 0.3]]
        assert at.get_visible()
        # The shaded part is the area that the legend states.
        corners = display.area_.get_paths()[0].vertices
        assert corners[:, 0].max() == 0.3
        x, y = corners.T
        shaded = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        assert shaded / 0.3 == pytest.approx(display.aupro, abs=0.005)

    def test_few_points_are_drawn_of_many_and_the_line_is_the_same(self):
        rng = np.random.default_rng(0)
        masks = np.zeros((1, 1500, 1500), bool)
        masks[0, :900, :900] = True
        maps = (rng.normal(size=masks.shape) + 3 * masks).astype(np.float32)
        display = PROCurveDisplay.from_predictions(masks, maps)
        assert len(display.fpr) > 300_000
        x, y = display.line_.get_data()
        assert len(x) < 5000
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()
        # At every point's place along the curve, the line drawn is where the point is.
        across = np.interp(display.fpr + display.pro, x + y, x - y)
        assert np.abs(across - (display.fpr - display.pro)).max() < 0.002
        assert display.aupro == pytest.approx(aupro_score(masks, maps), abs=1e-12)

    def test_undefined(self):
        with pytest.warns(UndefinedMetricWarning, match="defective"):
            display = PROCurveDisplay.from_predictions(
                np.zeros((2, 4, 4), bool), np.ones((2, 4, 4)), name="a"
            )
        assert np.isnan(display.aupro)
        assert display.line_.get_label() == "a (AUPRO = nan up to FPR 0.3)"
        display.figure_.canvas.draw()

    def test_from_estimator(self, fitted, upside_down, textures, pyplot):
        test = textures[1]
        ax = pyplot.subplots()[1]
        display = PROCurveDisplay.from_estimator(
            fitted, test.images, test.masks, max_fpr=0.1, ax=ax, color="purple"
        )
        expected = aupro_score(test.masks, fitted.transform(test.images), max_fpr=0.1)
        assert display.aupro == pytest.approx(expected, abs=1e-12)
        assert display.line_.get_label().startswith("HierarchicalFeatureAE (AUPRO")
        assert display.line_.get_color() == "purple"
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        again = PROCurveDisplay.from_estimator(
            searched(upside_down), turned_over(test.images), test.masks, max_fpr=0.1, ax=ax
        )
        assert again.aupro == pytest.approx(expected, abs=1e-12)
        assert again.line_.get_label().startswith("HierarchicalFeatureAE (AUPRO")
        assert len(ax.get_legend().get_texts()) == 2

    def test_drawn_again(self, pyplot):
        display = PROCurveDisplay.from_predictions(*masks_and_maps())
        assert display.line_.get_label().startswith("AUPRO = ")
        first, ax = display.ax_, pyplot.subplots()[1]
        assert display.plot(ax, name="b", linestyle="--") is display
        assert display.ax_ is ax is not first
        assert display.line_.get_label().startswith("b (AUPRO")
        assert display.line_.get_linestyle() == "--"
        assert display.plot(label="mine").line_.get_label() == "mine"

    def test_without_area_or_name_there_is_no_legend(self):
        line = np.array([0.0, 1.0])
        assert PROCurveDisplay(fpr=line, pro=line).plot().ax_.get_legend() is None

    @pytest.mark.parametrize("max_fpr", [0, 1.5, -1])
    def test_max_fpr_out_of_range(self, max_fpr, fitted):
        with pytest.raises(ValueError, match="max_fpr"):
            PROCurveDisplay.from_predictions(*masks_and_maps(), max_fpr=max_fpr)
        with pytest.raises(ValueError, match="max_fpr"):  # before anything is scored
            PROCurveDisplay.from_estimator(fitted, None, None, max_fpr=max_fpr)

    def test_bad_masks(self):
        masks, maps = masks_and_maps()
        with pytest.raises(ValueError, match="3 masks and 4 maps"):
            PROCurveDisplay.from_predictions(masks[:3], maps)


def heights(bars):
    return np.array([bar.get_height() for bar in bars])


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def edges(bars):
    return np.array([bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()])


some_scores = st.lists(st.floats(-1000, 1000).map(lambda s: round(s, 3)), min_size=1, max_size=40)


class TestScoreHistogramDisplay:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), scores=some_scores, n_bins=st.integers(1, 40))
    def test_every_image_is_in_a_bar_on_its_side_of_the_threshold(self, data, scores, n_bins):
        import matplotlib.pyplot as plt

        scores = np.array(scores)
        y = data.draw(
            st.lists(st.sampled_from([1, -1]), min_size=len(scores), max_size=len(scores))
        )
        threshold = data.draw(st.one_of(st.sampled_from(scores), st.floats(-1000, 1000)))
        display = ScoreHistogramDisplay.from_predictions(
            y, scores, threshold=threshold, bins=n_bins
        )
        plt.close("all")
        kinds = [kind for kind in (1, -1) if kind in y]
        assert len(display.bars_) == len(kinds)
        for kind, bars in zip(kinds, display.bars_):
            own = scores[np.array(y) == kind]
            assert heights(bars).sum() == len(own)
            assert len(bars) <= n_bins + 2
            np.testing.assert_allclose(edges(bars), edges(display.bars_[0]))
            centres = (edges(bars)[:-1] + edges(bars)[1:]) / 2
            assert heights(bars)[centres < threshold].sum() == (own < threshold).sum()

    def test_bars_are_of_one_width_and_counted_right(self):
        scores = [-1.0, -0.9, -0.5, 0.0, 0.05, 1.0]
        display = ScoreHistogramDisplay.from_predictions(
            [-1, -1, 1, -1, 1, 1], scores, threshold=-0.3, bins=4
        )
        normal, anomalous = display.bars_
        np.testing.assert_allclose(edges(normal), [-1.3, -0.8, -0.3, 0.2, 0.7, 1.2])
        np.testing.assert_array_equal(heights(normal), [0, 1, 1, 0, 1])
        np.testing.assert_array_equal(heights(anomalous), [2, 0, 1, 0, 0])

    def test_legend(self):
        scores = np.r_[np.arange(20), -10:10]
        display = ScoreHistogramDisplay.from_predictions(
            np.repeat([1, -1], 20), scores, threshold=0.5
        )
        assert legend(display) == [
            "normal (20, 5.0% flagged)",
            "anomalous (20, 55.0% flagged)",
            "threshold 0.5",
        ]
        (line,) = display.ax_.lines
        assert list(line.get_xdata()) == [0.5, 0.5]
        assert "higher = more normal" in display.ax_.get_xlabel()

    def test_a_score_at_the_threshold_is_not_flagged(self):
        display = ScoreHistogramDisplay.from_predictions(None, [1.0, 2.0, 2.0], threshold=2.0)
        assert legend(display)[0] == "all images (3, 33.3% flagged)"

    def test_without_labels_and_threshold(self):
        display = ScoreHistogramDisplay.from_predictions(None, [1.0, 2.0, 4.0])
        (bars,) = display.bars_
        assert legend(display) == ["all images (3)"]
        assert heights(bars).sum() == 3
        assert len(display.ax_.lines) == 0

    def test_equal_scores(self):
        display = ScoreHistogramDisplay.from_predictions([1, -1], [3.0, 3.0], threshold=3.0)
        assert [heights(bars).sum() for bars in display.bars_] == [1, 1]

    @pytest.mark.parametrize("wrap", [lambda e: e, lambda e: searched(make_pipeline(e))])
    def test_from_estimator(self, wrap, fitted, textures):
        test = textures[1]
        display = ScoreHistogramDisplay.from_estimator(wrap(fitted), test.images, test.masks)
        np.testing.assert_array_equal(display.scores, fitted.score_samples(test.images))
        np.testing.assert_array_equal(display.labels, test.target)
        assert display.threshold == fitted.offset_
        flagged = fitted.predict(test.images) == -1
        for kind, text in zip((1, -1), legend(display)):
            assert f"(6, {flagged[test.target == kind].mean():.1%} flagged)" in text
        (alone,) = ScoreHistogramDisplay.from_estimator(fitted, test.images).bars_
        assert heights(alone).sum() == 12

    def test_drawn_again(self, pyplot):
        display = ScoreHistogramDisplay.from_predictions([1, -1], [1.0, 0.0], threshold=0.5)
        first, ax = display.ax_, pyplot.subplots()[1]
        assert display.plot(ax, bins=3, alpha=0.1) is display
        assert display.ax_ is ax is not first
        assert display.bars_[0][0].get_alpha() == 0.1
        assert display.figure_ is ax.figure

    @pytest.mark.parametrize(
        ("y", "scores", "message"),
        [
            ([1, -1], [1.0, 2.0, 3.0], "2 y and 3 scores"),
            ([1, 0], [1.0, 2.0], r"y\[1\] is 0"),
            ([1, -1], [1.0, np.nan], r"scores\[1\] is nan"),
            (None, [[1.0], [2.0]], r"shape \(2, 1\)"),
            (None, [], r"shape \(0,\)"),
        ],
    )
    def test_errors(self, y, scores, message):
        with pytest.raises(ValueError, match=message):
            ScoreHistogramDisplay.from_predictions(y, scores)

    def test_threshold_has_to_be_finite(self):
        with pytest.raises(ValueError, match="threshold is inf"):
            ScoreHistogramDisplay.from_predictions(None, [1.0], threshold=np.inf)


@pytest.mark.parametrize(
    "call",
    [
        lambda: AnomalyMapDisplay.from_estimator(None, None),
        lambda: AnomalyMapDisplay.from_predictions(None, None, threshold=None),
        lambda: AnomalyMapDisplay(images=[], maps=[]).plot(),
        lambda: PROCurveDisplay.from_estimator(None, None, None),
        lambda: PROCurveDisplay.from_predictions(None, None),
        lambda: PROCurveDisplay(fpr=[], pro=[]).plot(),
        lambda: ScoreHistogramDisplay.from_estimator(None, None),
        lambda: ScoreHistogramDisplay.from_predictions(None, None),
        lambda: ScoreHistogramDisplay(scores=[]).plot(),
        lambda: plot_sheet([], []),
    ],
)
def test_without_matplotlib(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"requires matplotlib; .*pip install skanomaly\[plot\]"):
        call()


def test_sheet_shows_every_image_above_its_map(textures):
    test = textures[1]
    maps = test.masks[:5].astype(float)
    figure = plot_sheet(
        test.images[:5],
        maps,
        masks=test.masks[:5],
        titles=list("abcde"),
        flagged=[False, True, False, True, False],
        limit=2.0,
        n_columns=3,
    )
    axes = figure.axes[:12]
    shown = [ax.images[0].get_array() if ax.images else None for ax in axes]
    order = [(0, 0), (1, 1), (2, 2), (6, 3), (7, 4)]
    for position, i in order:
        np.testing.assert_array_equal(shown[position], test.images[i])
        np.testing.assert_array_equal(shown[position + 3], maps[i])
        assert axes[position].get_title() == "abcde"[i]
    assert axes[3].images[0].get_clim() == (0, 2.0)
    assert axes[0].images[0].get_clim() == (0, 255)
    assert shown[8] is None
    assert axes[0].title.get_color() != axes[1].title.get_color()


def test_sheet_boxes_regions_on_image_and_map():
    maps = np.zeros((3, 8, 8))
    maps[1, 2:4, 5:7] = 1.0
    figure = plot_sheet(np.zeros((3, 8, 8)), maps, regions=find_regions(maps, 0.5), n_columns=3)
    assert [boxes(ax) for ax in figure.axes[:6]] == 2 * [[], [(2, 5, 4, 7)], []]
    with pytest.raises(ValueError, match="region 0 is of image 1, and there are 1"):
        plot_sheet(np.zeros((1, 8, 8)), maps[:1], regions=find_regions(maps, 0.5))


@pytest.mark.parametrize("shape", [(4, 16, 16, 3), (4, 16, 16), (4, 16, 16, 1)])
def test_sheet_takes_colour_and_grey(shape):
    rng = np.random.default_rng(0)
    figure = plot_sheet(rng.random(shape), rng.random((4, 16, 16)))
    assert figure.axes[0].images[0].get_clim() == (0, 1)
