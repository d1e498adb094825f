import numpy as np
import pytest

from skanomaly.plotting import plot_sheet


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


@pytest.mark.parametrize("shape", [(4, 16, 16, 3), (4, 16, 16), (4, 16, 16, 1)])
def test_sheet_takes_colour_and_grey(shape):
    rng = np.random.default_rng(0)
    figure = plot_sheet(rng.random(shape), rng.random((4, 16, 16)))
    assert figure.axes[0].images[0].get_clim() == (0, 1)
