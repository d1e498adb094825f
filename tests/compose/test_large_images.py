"""Small defects in large images that are made of real textures."""

import numpy as np
import pytest
from PIL import Image

from skanomaly import PatchCore, TiledDetector, find_regions
from skanomaly.images import LazyImages

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning"),
]

CROP = 160
SPOTS = [(6, 400, 700), (10, 1030, 2222), (40, 2900, 4000)]  # side, row, column


class Blended(LazyImages):
    """Random crops of photographs side by side, one fading into the next; nothing is repeated."""

    def __init__(self, photographs, size, seeds, spots=()):
        self.photographs, self.size, self.seeds, self.spots = photographs, size, seeds, spots

    def __len__(self):
        return len(self.seeds)

    def _subset(self, indices):
        return Blended(self.photographs, self.size, [self.seeds[i] for i in indices], self.spots)

    def _image(self, i):
        rng = np.random.default_rng(self.seeds[i])
        height, width = self.size
        step = CROP // 2
        total = np.zeros((height + CROP, width + CROP))
        ramp = np.minimum(np.arange(CROP) + 0.5, CROP - np.arange(CROP) - 0.5)
        window = np.outer(ramp, ramp)
        weights = np.zeros_like(total)
        for top in range(0, height + step, step):
            for left in range(0, width + step, step):
                source = self.photographs[rng.integers(len(self.photographs))]
                y, x = (rng.integers(n - CROP + 1) for n in source.shape)
                part = np.s_[top : top + CROP, left : left + CROP]
                shape = total[part].shape
                crop = source[y : y + CROP, x : x + CROP] * window
                total[part] += crop[: shape[0], : shape[1]]
                weights[part] += window[: shape[0], : shape[1]]
        image = (total / weights)[:height, :width]
        for side, row, column in self.spots:
            image[row : row + side, column : column + side] = 255
        return image.round().astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def photographs(shared):
    folder = shared / "data" / "textures" / "leather_tile" / "train" / "good"
    files = sorted(folder.glob("*"))[:40]
    images = [np.asarray(Image.open(file).convert("L"), float) for file in files]
    # Light that differs from photograph to photograph would make patches of the blend.
    return [image - image.mean() + 110 for image in images if min(image.shape) >= CROP]


def test_spots_of_a_few_pixels_in_12_megapixels(photographs):
    train = Blended(photographs, (1024, 1536), range(5))
    memory = PatchCore(coreset=1000, max_candidates=20_000, random_state=0)
    detector = TiledDetector(memory, tile_size=256).fit(train)
    (found,) = detector.stream(iter(Blended(photographs, (3000, 4096), [99], SPOTS)))
    assert found.map.shape == (3000, 4096)
    assert found.label == -1
    regions = find_regions(found.map[None], np.sort(found.map.ravel())[-40_000])
    for side, row, column in SPOTS:
        covers = (
            (regions.top <= row + side)
            & (regions.bottom >= row)
            & (regions.left <= column + side)
            & (regions.right >= column)
        )
        assert covers.any(), f"the spot of {side} pixels is not in any region"
    shrunk = memory.fit(train)
    at_smallest = shrunk.transform(Blended(photographs, (3000, 4096), [99], SPOTS[:1]))[0]
    assert at_smallest[400, 700] < np.quantile(at_smallest, 0.99)
