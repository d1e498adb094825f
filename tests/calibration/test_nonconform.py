"""A detector inside nonconform, if it is installed (Python 3.12 or later)."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skanomaly import FlattenedImages, SubspaceAD
from skanomaly.calibration import conformal_p_values, select
from skanomaly.datasets import make_texture_defects

nonconform = pytest.importorskip("nonconform")


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("brick", n_normal=50, image_size=48, random_state=0).images


def conformal(detector, strategy):
    return nonconform.ConformalDetector(
        detector=detector, strategy=strategy, score_polarity="higher_is_normal", seed=1
    )


def test_images_as_such_are_refused(images):
    detector = conformal(SubspaceAD(image_size=48), nonconform.Split(n_calib=0.4))
    with pytest.raises(ValueError, match="two-dimensional"):
        detector.fit(images)


@pytest.mark.parametrize("as_rows", [True, False])
@pytest.mark.parametrize(
    "strategy", [nonconform.Split(n_calib=0.4), nonconform.CrossValidation(k=3)]
)
def test_rows_of_pixels_and_numbers_of_images_will_do(images, as_rows, strategy):
    detector = SubspaceAD(image_size=48, random_state=0)
    if as_rows:
        X = images.reshape(len(images), -1)
        wrapped = FlattenedImages(detector, image_shape=(48, 48), value_range=(0, 255))
    else:
        X = np.arange(len(images))[:, None]
        wrapped = make_pipeline(FunctionTransformer(lambda rows: images[rows[:, 0]]), detector)
    found = conformal(wrapped, strategy).fit(X[:40])
    p_values = found.compute_p_values(X[40:])
    result = found.last_result
    expected = conformal_p_values(
        -result.test_scores, -result.calib_scores, np.random.RandomState(0)
    )
    assert_allclose(p_values, expected)
    assert_array_equal(
        found.select(X[40:], alpha=0.3), select(p_values, 0.3, n_reference=len(result.calib_scores))
    )
