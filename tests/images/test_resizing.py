"""From stored pixels to what a network sees."""

import numpy as np
import pytest
import torch
from conftest import DistanceToMean
from hypothesis import given, settings
from hypothesis import strategies as st

from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset, ImageFiles, _dataset, _resizing, resized
from skanomaly.images._resizing import seen_pixels
from skanomaly.maps import resize_matrix

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40, deadline=None)
@given(
    size=sizes,
    new_size=sizes,
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
    band=st.sampled_from([1, 100, 2**20]),
    at_once=st.sampled_from([1, 300, 2**15]),
)
def test_bands_are_the_whole_image_resized(size, new_size, channels, dtype, band, at_once):
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    image = (rng.random((*size, channels)) * high).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resizing, "_BAND", band)
        patch.setattr(_resizing, "_ONE_THREAD", at_once)
        found = seen_pixels(image, new_size, 0, high)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    rows, columns = (resize_matrix(n, m) for n, m in zip(size, new_size))
    expected = rows @ torch.from_numpy(image / high).double().permute(2, 0, 1) @ columns.T
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=4e-6)  # single precision's


@settings(max_examples=40, deadline=None)
@given(size=sizes, new_size=sizes)
def test_resized_is_the_matrices(size, new_size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    rows, columns = (resize_matrix(n, m) for n, m in zip(size, new_size))
    torch.testing.assert_close(resized(x, new_size), rows @ x @ columns.T, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("size", "new_size"), [((5000, 4), (4, 64)), ((4, 5000), (64, 4))])
def test_the_axis_that_shrinks_goes_first(size, new_size, monkeypatch):
    """A long strip is never as long and as wide as what the network sees."""
    largest, interpolate = [0], torch.nn.functional.interpolate

    def watched(x, *args, **kwargs):
        y = interpolate(x, *args, **kwargs)
        largest[0] = max(largest[0], y.numel())
        return y

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    seen_pixels(np.zeros((*size, 1), np.uint8), new_size, 0, 255)
    resized(torch.zeros(1, 1, *size), new_size)
    assert largest[0] <= size[0] * size[1]


def test_a_batch_holds_images_of_several_sizes():
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((9, 8), (30, 5), (9, 8), (1, 40))]
    X[2] = X[2] / 255
    batches = list(ImageDataset(X, image_size=(6, 7)).batches(3))
    assert [tuple(batch.pixels.shape) for batch in batches] == [(3, 3, 6, 7), (1, 3, 6, 7)]
    assert [batch.sizes for batch in batches] == [[(9, 8), (30, 5), (9, 8)], [(1, 40)]]
    alone = [ImageDataset([x], image_size=(6, 7))[0] for x in X]
    torch.testing.assert_close(torch.cat([b.pixels for b in batches]), torch.stack(alone))


def test_stored_images_wait_where_nothing_is_resized(monkeypatch):
    """Single precision is for the batch, and what waits is bounded."""
    monkeypatch.setattr(_dataset, "_MAX_BYTES_AHEAD", 3 * 64 * 64)
    dataset, read = ImageDataset(np.zeros((50, 64, 64), np.uint8)), []
    seen = dataset._seen
    monkeypatch.setattr(dataset, "_seen", lambda i: read.append(i) or seen(i))
    assert seen(0)[0].dtype == np.uint8
    batches = dataset.batches(10)
    next(batches)
    batches.close()
    assert len(read) <= 10 + 5


# Parameters ---------------------------------------------------------------------------

BAD_SIZES = [(64,), (64, 64, 3), (), 0, -3, (64, 0), (64.0, 64.0), 64.5, "64", True, (None, 64)]
BAD_RANGES = [
    (1, 1),
    (2, 1),
    (0, np.nan),
    (np.nan, 1),
    (0, np.inf),
    (-np.inf, 0),
    (1,),
    (0, 1, 2),
    (),
    ("0", "1"),
    5,
    (0, None),
    (0, 1j),
]


@pytest.mark.parametrize("image_size", BAD_SIZES, ids=repr)
def test_image_sizes_that_cannot_be(image_size):
    with pytest.raises(ValueError, match="image_size must be an int, or height and width"):
        ImageDataset(ImageFiles(["not read.png"]), image_size=image_size)


@pytest.mark.parametrize("value_range", BAD_RANGES, ids=repr)
def test_value_ranges_that_cannot_be(value_range):
    with pytest.raises(ValueError, match="value_range must be two finite numbers"):
        ImageDataset(ImageFiles(["not read.png"]), value_range=value_range)


@pytest.mark.parametrize(
    "parameters", [{"image_size": (64,)}, {"image_size": (64, 64, 3)}, {"value_range": (1, 0)}]
)
def test_a_detector_refuses_them_before_anything_is_read(parameters):
    (name,) = parameters
    X = ImageFiles(["not read.png"] * 5)
    fitted = DistanceToMean().fit(np.zeros((5, 16, 16)))
    for use in (DistanceToMean(**parameters).fit, fitted.set_params(**parameters).transform):
        with pytest.raises(ValueError, match=f"{name}' parameter of DistanceToMean must be"):
            use(X)


@pytest.mark.parametrize("image_size", [6, (6, 6), [6, 6], np.int64(6), (np.int32(6), 6)])
def test_image_sizes_that_can_be(image_size):
    assert ImageDataset(np.zeros((1, 3, 4)), image_size=image_size)[0].shape == (1, 6, 6)


def test_value_ranges_that_can_be():
    for value_range in ((0, 4), [0, 4], np.array([0, 4]), (np.float32(0), 4.0)):
        assert ImageDataset(np.full((1, 1, 1), 2), value_range=value_range)[0].item() == 0.5


# The least size -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (7, 9)])
def test_a_small_image_that_is_enlarged_is_large_enough(shape):
    dataset = ImageDataset(np.full((1, *shape), 0.5), image_size=16, min_size=16)
    torch.testing.assert_close(dataset[0], torch.full((1, 16, 16), 0.5))


def test_a_large_image_that_is_shrunk_is_too_small():
    dataset = ImageDataset(np.zeros((1, 50, 50)), image_size=(16, 8))
    dataset.min_size = 9  # as a method sets it that has looked at its network
    with pytest.raises(InvalidImageError, match=r"image_size=\(16, 8\), less than the 9 pixels"):
        dataset[0]
