"""A detector of several products may be a composite itself, whose images are parts of a batch."""

import numpy as np
import pytest
from conftest import DistanceToMean
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skanomaly import (
    InvalidImageError,
    LocalContrast,
    MultiProductDetector,
    TiledDetector,
    TransformedImageDetector,
    load,
    save,
)
from skanomaly.preprocessing import CorrectIllumination, Crop

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")

X = np.random.default_rng(0).integers(90, 140, (24, 48, 48, 3), np.uint8)
PRODUCTS = np.array(["nut", "bolt"] * 12)
TILED = TiledDetector(LocalContrast(image_size=None, random_state=0), tile_size=24)
COMPOSITES = {
    "steps": TransformedImageDetector(CorrectIllumination(), DistanceToMean()),
    "tiles": TILED,
    "tiles of a crop": TransformedImageDetector(Crop((0, 0, 40, 40)), TILED),
}


@pytest.fixture(params=COMPOSITES)
def composite(request):
    return clone(COMPOSITES[request.param])


def test_each_product_is_as_alone(composite, tmp_path):
    roi = np.zeros((48, 48), bool)
    roi[5:40, 5:30] = True
    each = [roi if i % 3 else None for i in range(len(X))]
    products = MultiProductDetector(composite).fit(X, product=PRODUCTS, roi=each)
    scores = products.score_samples(X, product=PRODUCTS, roi=each)
    for name in ("nut", "bolt"):
        own = np.flatnonzero(name == PRODUCTS)
        regions = [each[i] for i in own]
        alone = clone(composite).fit(X[own], roi=regions)
        assert_array_equal(alone.score_samples(X[own], roi=regions), scores[own])
        assert products.offsets_[name] == alone.offset_
    if "DistanceToMean" not in repr(composite):  # a test's own class, which no file may name
        save(products, tmp_path / "products.skanomaly")
        again = load(tmp_path / "products.skanomaly")
        assert_array_equal(again.score_samples(X, product=PRODUCTS, roi=each), scores)


def test_errors_name_the_image_among_all(composite):
    products = MultiProductDetector(composite).fit(X, product=PRODUCTS)
    bad = X / 255
    bad[7, 3, 5, 0] = np.nan
    for call in (products.predict, products.transform, clone(products).fit):
        with pytest.raises(InvalidImageError, match="image 7: holds nan at row 3, column 5"):
            call(bad, product=PRODUCTS)
    bad = X.copy()
    short = [None] * len(X)
    short[9] = np.ones((3, 3), bool)
    with pytest.raises(InvalidImageError, match="image 9: its region"):
        products.predict(bad, product=PRODUCTS, roi=short)
