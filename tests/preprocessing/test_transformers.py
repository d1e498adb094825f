import pickle
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from skanomaly import ImageFiles, InvalidImageError, MedianDifference
from skanomaly.exceptions import TransformWarning
from skanomaly.images import read_image
from skanomaly.preprocessing import (
    Align,
    BaseImageTransformer,
    CorrectIllumination,
    Crop,
    CropToObject,
    EqualizeHistogram,
    ImageTransformer,
    Placement,
    Resize,
    ToGrey,
    ToRGB,
    TransformedImages,
)

RNG = np.random.default_rng(0)
TRANSFORMERS = [
    Crop((2, 3, 30, 35)),
    CropToObject(),
    Resize((24, 20)),
    CorrectIllumination(),
    CorrectIllumination(method="background"),
    EqualizeHistogram(),
    EqualizeHistogram(method="global"),
    ToGrey(),
    ToRGB(),
    ImageTransformer(np.flipud),
    Align(motion="translation", working_size=32),
]


def parts(n=6, channels=3, kind=np.uint8, seed=0):
    """A rigid part, which lies elsewhere in each image, before a plain background."""
    rng = np.random.default_rng(seed)
    images = rng.normal(40, 2, (n, 40, 48, channels))
    for image in images:
        top, left = rng.integers(4, 10), rng.integers(4, 14)
        image[top : top + 24, left : left + 28] = 180
        image[top : top + 10, left : left + 8] = 110
    if np.dtype(kind).kind == "f":
        return (images / 255).astype(kind)
    return (images * (1 if kind == np.uint8 else 257)).astype(kind)


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_images_keep_their_dtype_and_are_made_lazily(transformer, channels, kind):
    X = parts(channels=channels, kind=kind)
    before = X.copy()
    made = clone(transformer).fit(X).transform(X)
    assert isinstance(made, TransformedImages)
    assert (len(made), made.shape) == (6, (6,))
    for image in made:
        assert image.dtype == kind
        assert image.ndim == 3
        assert np.isfinite(image).all()
    assert_array_equal(X, before)


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
def test_they_are_scikit_learns(transformer):
    """Cloned, pickled, indexed, asked from threads: always the same images."""
    X = parts()
    fitted = clone(transformer).fit(X)
    made = fitted.transform(X)
    again = pickle.loads(pickle.dumps(fitted)).transform(X)
    assert_array_equal(made[2], again[2])
    assert_array_equal(pickle.loads(pickle.dumps(made))[2], made[2])
    assert_array_equal(made[np.array([4, 2])][1], made[2])
    assert_array_equal(made[2:][0], made[-4])
    assert_array_equal(made[np.arange(6) == 2][0], made[2])
    with pytest.raises(IndexError):
        made[6]
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: made[i % 6]})) for i in range(12)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for i, image in found.items():
        assert_array_equal(image, made[i % 6])


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
def test_a_grey_image_without_an_axis_stays_so(transformer):
    X = parts(channels=1)[..., 0]
    made = clone(transformer).fit(X).transform(X)[0]
    assert made.ndim == (3 if isinstance(transformer, ToRGB) else 2) or made.shape[2] == 1


@pytest.mark.parametrize(
    "transformer", [t for t in TRANSFORMERS if t._learns], ids=lambda t: type(t).__name__
)
def test_what_learns_is_to_be_fitted(transformer):
    with pytest.raises(NotFittedError, match=type(transformer).__name__):
        clone(transformer).transform(parts())
    learnt = clone(transformer).fit(parts())
    before = pickle.dumps(learnt)
    bad = parts()[:2].tolist()
    bad[1] = "missing.png"
    with pytest.raises(InvalidImageError, match=r"image 1 \(missing.png\)"):
        learnt.fit([np.uint8(bad[0]), bad[1]])
    assert pickle.dumps(learnt) == before


def test_anomalous_images_are_not_learnt_from():
    X = parts()
    spoilt = X.copy()
    spoilt[3] = 255
    y = np.where(np.arange(6) == 3, -1, 1)
    one = CorrectIllumination().fit(spoilt, y)
    other = CorrectIllumination().fit(X[[0, 1, 2, 4, 5]])
    assert_array_equal(one.flat_field_, other.flat_field_)
    with pytest.raises(InvalidImageError, match="all images are anomalous"):
        CorrectIllumination().fit(X, -np.ones(6, int))


def test_the_batch_that_was_transformed_stays_as_it_was():
    X = parts()
    transformer = CorrectIllumination().fit(X)
    made = transformer.transform(X)
    before = made[0]
    transformer.fit(parts(seed=3)[::-1] // 2)
    assert_array_equal(made[0], before)


def test_files_are_read_when_they_are_looked_at(tmp_path):
    for i, image in enumerate(parts(3)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"nothing")
    made = Crop((0, 0, 9, 9)).transform(ImageFiles.from_folder(tmp_path))
    assert_array_equal(made[2], read_image(tmp_path / "2.png")[:9, :9])
    assert made.path_at(2).endswith("2.png")
    with pytest.raises(InvalidImageError, match="1.png"):
        made[1]
    detector = MedianDifference(image_size=16, random_state=0)
    with pytest.raises(InvalidImageError, match=r"image 1 .*1.png"):
        detector.fit(made)


def test_a_pipeline_and_its_folds():
    X = parts(12)
    pipeline = make_pipeline(ToGrey(), Crop((0, 0, 30, 30)), MedianDifference(image_size=16))
    y = np.ones(12, int)
    y[-2:] = -1
    X[-2:, 10:20, 10:20] = 255
    assert np.isfinite(pipeline.fit(X, y).score_samples(X)).all()
    scores = cross_val_score(
        pipeline, X, y, cv=KFold(3, shuffle=True, random_state=0), scoring=_mean
    )
    assert np.isfinite(scores).all()


def _mean(estimator, X, y):
    return estimator.score_samples(X).mean()


def test_crop():
    X = parts()
    assert_array_equal(Crop((2, 3, 30, 35)).transform(X)[1], X[1, 2:30, 3:35])
    with pytest.raises(InvalidImageError, match="40 x 48 pixels, and the box .* reaches beyond"):
        Crop((2, 3, 41, 35)).transform(X)[0]
    with pytest.raises(ValueError, match="is empty; it is .top, left, bottom, right"):
        Crop((5, 3, 5, 35)).fit(X)
    with pytest.raises(ValueError, match="box"):
        Crop((0, 0, 5)).fit(X)


@pytest.mark.parametrize("scale", [1, 9])
def test_crop_to_object_finds_its_box(scale):
    """To a pixel of what it is looked for in, however large the image is."""
    image = np.full((60 * scale, 80 * scale, 3), (200, 180, 160), np.uint8)
    image[20 * scale : 45 * scale, 30 * scale : 70 * scale] = (90, 90, 200)
    image[2 * scale : 5 * scale, 2 * scale : 6 * scale] = 0  # a smaller thing
    _, placement = TransformedImages([image], CropToObject(margin=0)).placed(0)
    box = [*placement.matrix[:2, 2], *np.add(placement.matrix[:2, 2], placement.new_size)]
    tolerance = 1 + max(1, 80 * scale / 256)
    assert_allclose(box, np.multiply((20, 30, 45, 70), scale), atol=tolerance)


def test_crop_to_object_margin_and_square():
    image = np.full((100, 200), 20, np.uint8)
    image[40:60, 150:195] = 220
    (tight, _), (wide, placement) = (
        TransformedImages([image], CropToObject(margin=m)).placed(0) for m in (0, 0.2)
    )
    assert wide.shape[0] == pytest.approx(tight.shape[0] + 2 * 9, abs=2)
    assert placement.matrix[1, 2] + placement.new_size[1] <= 200
    square = CropToObject(square=True, margin=0.2).transform([image])[0]
    assert square.shape[0] == square.shape[1] == pytest.approx(63, abs=3)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((50, 50), 7, np.uint8), "of one colour"),
        (RNG.integers(0, 255, (50, 50), np.uint8), "no object before a plain background"),
        (np.tile(np.arange(50, dtype=np.uint8) * 5, (50, 1)), "no object"),
    ],
)
def test_crop_to_object_says_when_there_is_none(image, reason):
    with pytest.raises(InvalidImageError, match=reason):
        CropToObject().transform([image])[0]


def test_resize_is_what_image_size_does(textures):
    X = textures[1].images
    made = Resize((40, 30)).transform(X)[0]
    expected = np.asarray(Image.fromarray(X[0]).resize((30, 40), Image.Resampling.BILINEAR), float)
    assert np.abs(made.reshape(expected.shape) - expected).max() <= 1


def test_flat_field_takes_out_the_light():
    light = 0.4 + 0.6 * np.linspace(0, 1, 64)[:, None] * np.linspace(1, 0.5, 80)
    X = RNG.normal(120, 2, (30, 64, 80, 1)) * light[..., None]
    X = X.round().astype(np.uint8)
    transformer = CorrectIllumination().fit(X)
    smooth = ndimage.gaussian_filter(X.mean(axis=0)[..., 0], 0.05 * 64)
    assert_allclose(transformer.flat_field_[..., 0], smooth / smooth.mean(), rtol=1e-5)
    made = transformer.transform(X)[0].astype(float)
    assert X[0].std() > 15
    assert made.std() < 5
    assert made.mean() == pytest.approx(X[0].mean(), rel=0.05)


def test_flat_field_reaches_no_further_than_white():
    X = np.full((4, 32, 32, 1), 100, np.uint8)
    X[:, :, :16] = 200
    transformer = CorrectIllumination().fit(X)
    bright = np.full((1, 32, 32, 1), 250, np.uint8)
    assert transformer.transform(bright)[0].max() == 255
    limited = CorrectIllumination(value_range=(0, 4095)).fit(X.astype(np.uint16) * 16)
    assert limited.transform(bright.astype(np.uint16) * 16)[0].max() == 4095
    with pytest.raises(InvalidImageError, match="expected .* as the flat field"):
        transformer.transform(bright[:, :30])[0]
    with pytest.raises(InvalidImageError, match="image 1: has shape"):
        CorrectIllumination().fit([X[0], X[0][:20]])


def test_background_is_each_images_own():
    shade = np.linspace(0.5, 1, 64)
    X = np.stack([120 * shade, 240 * shade[::-1]])[:, None, :, None] * np.ones((1, 64, 1, 1))
    made = CorrectIllumination(method="background", sigma=0.02).transform(X.astype(np.uint8))
    inner = [image[8:-8, 8:-8].astype(float) for image in made]
    assert max(image.std() / image.mean() for image in inner) < 0.03
    black = np.zeros((1, 16, 16, 1), np.uint8)
    assert_array_equal(CorrectIllumination(method="background").transform(black)[0], black[0])


@pytest.mark.parametrize("method", ["adaptive", "global"])
def test_equalized_histograms_are_spread(method):
    X = (100 + 20 * RNG.random((1, 64, 64, 3))).astype(np.uint8)
    made = EqualizeHistogram(method=method).transform(X)[0]
    assert np.ptp(made[..., 0].astype(int)) > 2 * np.ptp(X[0, ..., 0].astype(int))
    flat = np.full((1, 64, 64, 1), 77, np.uint8)
    assert_array_equal(EqualizeHistogram(method=method).transform(flat)[0], flat[0])


def test_equalizing_keeps_colours():
    X = (RNG.random((1, 64, 64, 1)) * 60 + 60) * np.array([1, 0.5, 0.25])
    made = EqualizeHistogram().transform(X.astype(np.uint8))[0].astype(float)
    bright = made[..., 0] > 60
    assert_allclose(made[..., 1][bright] / made[..., 0][bright], 0.5, atol=0.05)


def test_channels():
    X = parts(2)
    weights = np.array([0.299, 0.587, 0.114])
    assert_allclose(ToGrey().transform(X)[0][..., 0], X[0] @ weights, atol=0.51)
    assert_array_equal(ToRGB().transform(X[..., :1])[0], np.repeat(X[0, ..., :1], 3, axis=2))
    with pytest.raises(InvalidImageError, match="has 5 channels"):
        ToGrey().transform(np.zeros((1, 8, 8, 5), np.uint8))[0]


def test_a_function_of_ones_own():
    X = parts(2)
    assert_array_equal(ImageTransformer(np.invert).transform(X)[0], 255 - X[0])
    with pytest.raises(InvalidImageError, match="became 20 x 48 pixels by half"):
        ImageTransformer(half).transform(X)[0]
    made, placement = TransformedImages(X, ImageTransformer(half, keeps_pixels=False)).placed(0)
    assert made.shape == (20, 48, 3)
    assert not placement.is_known()
    with pytest.raises(InvalidImageError, match=r"shape \(\) by total"):
        ImageTransformer(total).transform(X)[0]


def half(image):
    return image[::2]


def total(image):
    return image.sum()


class Shifted(BaseImageTransformer):
    """One of a user's own: a pixel to the left."""

    def _apply(self, image):
        placement = Placement.cut(image.shape[:2], (0, 1, *image.shape[:2]))
        return placement.sampled(image), placement


def test_one_of_a_users_own():
    X = parts(2)
    made, placement = TransformedImages(Crop((5, 5, 30, 30)).transform(X), Shifted()).placed(0)
    assert_array_equal(made, X[0, 5:30, 6:30])
    assert_array_equal(placement.matrix[:2, 2], (5, 6))


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)
def test_what_is_no_image_is_not_made_one(transformer):
    """NaN is refused where it is, and so are values whose white is not known, where it counts."""
    X = parts(kind=np.float64)
    fitted = clone(transformer).fit(X)
    bad = X.copy()
    bad[4, 5, 7, 1] = np.nan
    with pytest.raises(InvalidImageError, match="image 4: holds nan at row 5, column 7"):
        fitted.transform(bad)[4]
    if transformer._learns:
        with pytest.raises(InvalidImageError, match="image 4: holds nan at row 5, column 7"):
            clone(transformer).fit(bad)
    if hasattr(transformer, "value_range"):
        with pytest.raises(InvalidImageError, match="image 0: holds values from .* to 1"):
            fitted.transform(X * 200)[0]
        wide = clone(transformer).set_params(value_range=(0, 255)).fit(X * 200)
        made = wide.transform(X * 200)[0]
        assert 1 < made.max() <= 255


def test_a_function_cannot_change_the_users_images():
    X = parts(3)
    before = X.copy()
    made = ImageTransformer(darkened).transform(X)
    assert_array_equal(made[0], made[0])
    assert_array_equal(X, before)


def darkened(image):
    image //= 2
    return image


def test_a_function_that_fails_names_the_image(tmp_path):
    Image.fromarray(parts(1)[0]).save(tmp_path / "0.png")
    made = ImageTransformer(failing).transform(ImageFiles.from_folder(tmp_path))
    message = r"image 0 \(.*0.png\): cannot be transformed by failing: ZeroDivisionError"
    with pytest.raises(InvalidImageError, match=message):
        made[0]


def failing(image):
    return image / 0 if image.sum() < 0 else 1 // 0


def test_there_is_no_light_in_the_dark():
    with pytest.raises(InvalidImageError, match="image 0: is black"):
        CorrectIllumination().fit(np.zeros((3, 16, 16), np.uint8))


def test_what_was_learnt_belongs_to_its_parameters():
    transformer = CorrectIllumination().fit(parts())
    transformer.set_params(sigma=0.2)
    with pytest.raises(ValueError, match="sigma of CorrectIllumination is 0.2 and was 0.05 in fit"):
        transformer.transform(parts())
    transformer.set_params(sigma=0.05).transform(parts())


def test_an_empty_background_may_stay_as_it_is():
    empty = np.full((2, 40, 48, 3), 40, np.uint8)
    made = CropToObject(on_failure="warn").transform(empty)
    with pytest.warns(TransformWarning, match="of one colour.*stays as it is"):
        assert_array_equal(made[1], empty[1])
