"""Many small files that differ, made in a moment."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from skanomaly.datasets import make_texture_defects

SIZE = 64


def make_files(folder, n):
    """PNG files of crops, `SIZE` pixels a side, of a photograph."""
    wall = make_texture_defects("brick", n_normal=1, image_size=200, random_state=0).images[0]
    rng = np.random.default_rng(0)
    folder.mkdir()

    def write(i, top, left, gain):
        crop = wall[top : top + SIZE, left : left + SIZE] * gain
        Image.fromarray(crop.astype(np.uint8)).save(folder / f"{i:07d}.png", compress_level=1)

    places = rng.integers(0, 200 - SIZE, (n, 2))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(n), *places.T, rng.uniform(0.7, 1, n)))
