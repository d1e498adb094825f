"""Large files scored by path: memory above that of one small image, and the network's waiting."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
from _common import Results
from PIL import Image
from skimage import data, transform

from skanomaly import PaDiM
from skanomaly.datasets import make_texture_defects

SCORE = """
import json, sys, time
import joblib, numpy as np
from skanomaly import ImageFiles
from skanomaly.images import ImageDataset

def memory(name):
    # Not getrusage: its maximum includes the parent's memory at the time of the fork.
    return int(next(l.split()[1] for l in open("/proc/self/status") if name in l)) / 1024

waited, batches = 0.0, ImageDataset.batches

def timed(*args, **kwargs):
    global waited
    stream = batches(*args, **kwargs)
    while True:
        start = time.perf_counter()
        batch = next(stream, None)
        waited += time.perf_counter() - start
        if batch is None:
            return
        yield batch

ImageDataset.batches = timed
detector = joblib.load(sys.argv[1]).set_params(n_jobs=json.loads(sys.argv[3]))
detector.score_samples(np.zeros((1, 64, 64, 3), np.uint8))
small = memory("VmHWM")
files, waited, start = ImageFiles.from_folder(sys.argv[2]), 0.0, time.perf_counter()
detector.score_samples(files)
seconds, peak = time.perf_counter() - start, memory("VmHWM")
scoring_waited, start = waited, time.perf_counter()
for _ in batches(detector._open(files), detector.batch_size, detector.n_jobs):
    pass
print(json.dumps({
    "small_MiB": small, "above_MiB": peak - small, "seconds": seconds,
    "waiting_share": scoring_waited / seconds, "reading_alone_seconds": time.perf_counter() - start,
}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    results = Results("large_images")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.joblib"
        good = make_texture_defects("brick", n_normal=20, random_state=0).images
        good = np.repeat(good[..., np.newaxis], 3, axis=3) if good.ndim == 3 else good
        joblib.dump(PaDiM(n_features=50, random_state=0).fit(good), model)
        for name, write in (("photographs", photographs), ("long strips", strips)):
            images = Path(folder) / name
            images.mkdir()
            write(images, arguments.images)
            for n_jobs in (None, 2):
                measure(results, f"{name}, n_jobs={n_jobs}", model, images, n_jobs, arguments.runs)
    results.write_table(
        "Scoring large images by path",
        "python benchmarks/large_images.py",
        f"PaDiM at image_size=256 scores {arguments.images} JPEG files of 4000 x 3000 pixels, or "
        "PNG files of 16 x 1,000,000 (4 of them), with `score_samples(ImageFiles(...))` in a fresh "
        "process, in batches of 16. Memory is the peak above that of the same process after one "
        "image of 64 x 64. "
        "The share is of the time in which the network has no batch to work on. Reading alone is "
        "decoding and resizing without a network; median of the runs.",
        ["files", "after one small image", "peak above it", "time", "reading alone", "waiting"],
        [
            [
                key,
                f"{row['small_MiB']:.0f} MiB",
                f"{row['above_MiB']:.0f} MiB",
                f"{row['seconds']:.1f} s",
                f"{row['reading_alone_seconds']:.1f} s",
                f"{row['waiting_share']:.0%}",
            ]
            for key, row in results.rows.items()
        ],
    )


def measure(results, key, model, images, n_jobs, n_runs):
    command = [sys.executable, "-c", SCORE, model, images, json.dumps(n_jobs)]
    runs = [json.loads(subprocess.check_output(command)) for _ in range(n_runs)]
    results[key] = {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


def photographs(folder, n):
    """Colour textures blended in shares of their own, as a 12-megapixel camera would store them."""
    rng = np.random.default_rng(0)
    textures = np.stack([data.brick(), data.grass(), data.gravel()], axis=-1) / 255
    textures = transform.resize(np.tile(textures, (3, 4, 1)), (3000, 4000, 3)).astype(np.float32)
    for i in range(n):
        blend = rng.dirichlet(np.ones(3), size=3).astype(np.float32)
        image = np.roll(textures, rng.integers(0, 500, 2), axis=(0, 1)) @ blend.T
        Image.fromarray((255 * image).astype(np.uint8)).save(folder / f"{i:03}.jpg", quality=92)


def strips(folder, n):
    """What takes few bytes on disk and many pixels in one direction."""
    image = Image.fromarray(np.zeros((16, 1_000_000, 3), np.uint8))
    for i in range(min(n, 4)):
        image.save(folder / f"{i:03}.png")


if __name__ == "__main__":
    main()
