"""Large images in tiles: small defects found, memory and time by image size, what seams cost."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import joblib
import numpy as np
from _common import Results, as_arrays, data_arguments, fit, grouped, spread
from _large import DRAWN, OPACITY, LargeImages, photographs
from _seams import PLACES, scores_by_place
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from skanomaly import PatchCore, SubspaceAD, TiledDetector
from skanomaly.metrics import MapMetrics

CATEGORY = "leather_tile"
DETECTORS = {
    "PatchCore": lambda **p: PatchCore(coreset=2000, max_candidates=50_000, **p),
    "SubspaceAD": SubspaceAD,
}
WAYS = {
    "whole shrunk to 256": lambda make, **p: make(**p),
    "whole shrunk to 512": lambda make, **p: make(image_size=512, **p),
    "tiles of 512 seen at 256": lambda make, **p: TiledDetector(make(**p), tile_size=512),
    "tiles of 256 seen at 256": lambda make, **p: TiledDetector(make(**p), tile_size=256),
}
SIZES = {"2048x1536": (1536, 2048), "4096x3000": (3000, 4096)}
EXTENTS = ((6, 12), (12, 24), (24, 40))
MEGAPIXELS = (1, 4, 12, 25, 50, 100)
OVERLAPS = (0.0, 0.1, 0.25)
UNITS = (None, "position")

SCORE = """
import json, sys, threading, time
import joblib, numpy as np

def memory(name):
    # Not getrusage: its maximum includes the parent's memory at the time of the fork.
    return int(next(l.split()[1] for l in open("/proc/self/status") if name in l)) / 1024

anonymous, done = [], threading.Event()

def watch():
    while not done.wait(0.01):
        anonymous.append(memory("RssAnon"))

detector, X = joblib.load(sys.argv[1]), np.load(sys.argv[2], mmap_mode="r")
detector.score_samples(np.zeros((1, 64, 64, 3), np.uint8))
before, before_anonymous = memory("VmHWM"), memory("RssAnon")
threading.Thread(target=watch, daemon=True).start()
start = time.perf_counter()
getattr(detector, sys.argv[3])(X)
seconds = time.perf_counter() - start
done.set()
print(json.dumps({
    "seconds": seconds, "peak": memory("VmHWM") - before,
    "anonymous": max(anonymous) - before_anonymous,
}))
"""

ACCURACY_NOTES = f"""Images blended of random crops of *{CATEGORY}* (training images of other
photographs than test images), with one drawn defect each ({", ".join(DRAWN)}; opacity
{OPACITY[0]} to {OPACITY[1]}), whose box has a longer side of so many pixels. The same images for
all. Mean ± standard deviation over seeds, of images and detectors. Image AUROC is against the good
images, pixel metrics are of the defective ones. "an image" is the median time of `detect`, without
that of making the image; other work may have run beside."""

MEMORY_NOTES = """One image, a memory-mapped array of uint8 (H, W, 3), by a `PatchCore` in tiles of
512, overlap .25, each in a fresh process. "peak" is what the process held at most, above what it
held after an image of 64 x 64; it counts the file's pages that were read, which the system takes
back when it needs them. "without the file" is memory that is not of the file; what a map takes is
4 bytes a pixel. Other work may have run beside."""

SEAMS_NOTES = """A drawn defect (opacity .8 to 1, 12 to 24 pixels) and what surrounds it are moved,
together, to random places relative to the tiles: where one tile alone sees it, 64 pixels or more
from that tile's border; across a border of a tile; where tiles overlap, across no border. "score"
is that of the window of 96 pixels around it (`roi`), divided by the median of the scores of the
same defect within tiles: by the distances of `PatchCore` themselves (`standardize=None`), and in
its default units, which are differences from a mean, so that their ratios are larger. Quantiles
are over defects and places. What scores differ by within a tile is what the network's strides do.
Tiles of 512, seen at 256; 8 images of 1536 x 1024 to learn from, and 2 for units."""

EQUAL_NOTES = """Whether one tile as large as the image gives what the detector gives by itself:
maps, scores and thresholds, compared bit for bit."""


def surfaces(arguments):
    folder = arguments.textures / CATEGORY
    return [photographs(folder / split / "good") for split in ("train", "test")]


def accuracy(arguments):
    """Image AUROC and AUPRO by size of defect, in tiles and shrunk."""
    results = Results("tiles_accuracy")
    sources = surfaces(arguments)
    for size, seed in product(arguments.sizes, arguments.seeds):
        keys = {
            f"{size}, {name}; {way}, seed {seed}": (name, way)
            for name in arguments.detectors
            for way in arguments.ways
        }
        missing = {key: setting for key, setting in keys.items() if key not in results}
        if missing:
            rows = compared(missing.values(), sources, SIZES[size], seed, arguments)
            for key, row in zip(missing, rows):
                results[key] = row
    lines = []
    for (size, setting), rows in grouped(results.rows, 2):
        for extent in (f"{low}-{high}" for low, high in EXTENTS):
            cells = [
                spread([row[extent][metric] for row in rows])
                for metric in ("image AUROC", "pixel AUROC", "AUPRO")
            ]
            seconds = np.median([row["score_s"] for row in rows])
            lines.append(
                [size, *setting.split("; "), extent, len(rows), *cells, f"{seconds:.2f} s"]
            )
    lines.sort(key=lambda line: (line[0], line[1], line[3] != "6-12", line[3] != "12-24"))
    results.write_table(
        "Small defects in large images",
        "python benchmarks/tiles.py --only accuracy",
        f"{arguments.train} images to learn from, 4 for thresholds, {arguments.test} good and as "
        f"many defective ones of each size to test with. {ACCURACY_NOTES}",
        [
            "image",
            "detector",
            "seen",
            "defect",
            "seeds",
            "image AUROC",
            "pixel AUROC",
            "AUPRO",
            "an image",
        ],
        lines,
    )


def compared(settings, sources, size, seed, arguments):
    """A row for each (detector, way), all on the same images, each of which is made once."""
    of_train, of_test = sources
    first = 100_000 * seed
    train = as_arrays(LargeImages(of_train, size, first + np.arange(arguments.train + 4)))
    detectors = [WAYS[way](DETECTORS[name], random_state=seed) for name, way in settings]
    rows = [
        {"fit_s": fit(detector, train[:-4], X_val=train[-4:])}
        for detector in tqdm(detectors, desc="fits")
    ]
    good = LargeImages(of_test, size, first + 1000 + np.arange(arguments.test))
    normal, seconds = scores_and_metrics(detectors, good)
    for row, times in zip(rows, seconds):
        row["score_s"] = float(np.median(times))
    for k, (low, high) in enumerate(EXTENTS, start=2):
        seeds = first + 1000 * k + np.arange(arguments.test)
        images = LargeImages(of_test, size, seeds, (low, high))
        found, _ = scores_and_metrics(detectors, images)
        target = np.repeat([1, -1], arguments.test)
        for row, (of_good, _), (scores, metrics) in zip(rows, normal, found):
            row[f"{low}-{high}"] = {
                "image AUROC": roc_auc_score(target, [*of_good, *scores]),
                "pixel AUROC": metrics.pixel_roc_auc_score(),
                "AUPRO": metrics.aupro_score(),
            }
    return rows


def scores_and_metrics(detectors, images):
    """Scores, and pixel metrics of images with defects, for each detector; seconds an image."""
    found, seconds = [([], MapMetrics()) for _ in detectors], [[] for _ in detectors]
    for i in tqdm(range(len(images)), desc=f"{images.extent}"):
        image, mask = images[i][None], images.mask(i)[None]
        for detector, (scores, metrics), times in zip(detectors, found, seconds):
            start = time.perf_counter()
            of_image = detector.detect(image)
            times.append(time.perf_counter() - start)
            scores.append(float(of_image.scores[0]))
            if images.extent is not None:
                metrics.update(mask, of_image.maps)
    return found, seconds


def memory(arguments):
    """Peak memory and time by image size, each in a fresh process."""
    results = Results("tiles_memory")
    jobs = [
        (n, method)
        for n in arguments.megapixels
        for method in ("score_samples", "transform")
        if f"{n}, {method}" not in results
    ]
    with tempfile.TemporaryDirectory() as folder:
        model, image = Path(folder) / "model.joblib", Path(folder) / "image.npy"
        if jobs:
            X = LargeImages(surfaces(arguments)[0], (1024, 1024), range(6))
            detector = TiledDetector(DETECTORS["PatchCore"](random_state=0))
            fit(detector, X[:4], X_val=X[4:])
            joblib.dump(detector, model)
        for n, method in tqdm(jobs):
            side = round(1000 * np.sqrt(n))
            write_large(image, X[0], side)
            command = [sys.executable, "-c", SCORE, model, image, method]
            row = json.loads(subprocess.check_output(command))
            results[f"{n}, {method}"] = {"side": side, **row}
    results.write_table(
        "Memory and time of tiles",
        "python benchmarks/tiles.py --only memory",
        MEMORY_NOTES,
        ["megapixels", "method", "image", "map", "peak", "without the file", "time", "a megapixel"],
        [
            [
                n,
                f"`{method}`",
                f"{3 * row['side'] ** 2 / 2**20:.0f} MiB",
                f"{4 * row['side'] ** 2 / 2**20:.0f} MiB",
                f"{row['peak']:.0f} MiB",
                f"{row['anonymous']:.0f} MiB",
                f"{row['seconds']:.1f} s",
                f"{1000 * row['seconds'] / int(n):.0f} ms",
            ]
            for method in ("score_samples", "transform")
            for n, row in (
                (key.split(", ")[0], row)
                for key, row in results.rows.items()
                if key.endswith(f", {method}")
            )
        ],
    )


def write_large(path, texture, side):
    """A file of one image, which repeats a texture, written row by row."""
    image = np.lib.format.open_memmap(path, "w+", np.uint8, (1, side, side, 3))
    height, width = texture.shape[:2]
    row = np.tile(texture, (1, -(-side // width), 1))[:, :side]
    for top in range(0, side, height):
        image[0, top : top + height] = row[: side - top]
    image.flush()


def equality(arguments):
    """One tile as large as the image against the detector by itself."""
    results = Results("tiles_equality")
    of_train, of_test = surfaces(arguments)
    for name in DETECTORS:
        for image_size in (256, 512):
            key = f"{name}, {image_size}"
            if key in results:
                continue
            size = (768, 1024)
            train, test = (
                LargeImages(source, size, range(n)) for source, n in ((of_train, 6), (of_test, 4))
            )
            alone = DETECTORS[name](image_size=image_size, random_state=0)
            tiled = TiledDetector(
                DETECTORS[name](image_size=image_size, random_state=0), tile_size=size
            )
            found = []
            for detector in (alone, tiled):
                fit(detector, train)
                found.append((detector.offset_, detector.detect(test)))
            (offset, one), (other_offset, other) = found
            results[key] = {
                "threshold": offset == other_offset,
                "scores": bool(np.array_equal(one.scores, other.scores)),
                "maps": bool(np.array_equal(one.maps, other.maps)),
            }
    results.write_table(
        "One tile as large as the image",
        "python benchmarks/tiles.py --only equality",
        EQUAL_NOTES,
        ["detector", "`image_size`", "threshold", "scores", "maps"],
        [
            [*key.split(", "), *("equal" if equal else "DIFFERENT" for equal in row.values())]
            for key, row in results.rows.items()
        ],
    )


def seams(arguments):
    """Scores of a defect on a border of tiles and where they overlap, against those within one."""
    results = Results("tiles_seams")
    of_train, of_test = surfaces(arguments)
    for overlap in OVERLAPS:
        missing = [
            k
            for k in range(arguments.defects)
            if f"{overlap}, {UNITS[-1]}, defect {k}" not in results
        ]
        if not missing:
            continue
        train = as_arrays(LargeImages(of_train, (1024, 1536), range(10)))
        detectors = {}
        for units in UNITS:
            patches = DETECTORS["PatchCore"](standardize=units, random_state=0)
            detectors[units] = TiledDetector(patches, overlap=overlap)
            fit(detectors[units], train[:8], X_val=train[8:])
        for k in tqdm(missing, desc=f"overlap {overlap}"):
            found = scores_by_place(detectors, overlap, of_test, k, arguments.places)
            for units, row in found.items():
                results[f"{overlap}, {units}, defect {k}"] = row
    lines = []
    for (overlap, units), rows in grouped(results.rows, 2):
        medians = [np.median(row["within a tile"]) for row in rows]
        for place in PLACES:
            ratios = np.concatenate([np.divide(row[place], m) for row, m in zip(rows, medians)])
            if not len(ratios):
                continue
            quantiles = np.quantile(ratios, [0, 0.05, 0.5, 0.95])
            lines.append(
                [
                    units,
                    overlap,
                    place,
                    len(ratios),
                    " / ".join(f"{q:.2f}" for q in quantiles),
                    f"{np.mean(np.abs(ratios - 1) <= 0.05):.0%}",
                ]
            )
    lines.sort(key=lambda line: (line[0] != "None", line[1]))
    results.write_table(
        "A defect on a seam",
        "python benchmarks/tiles.py --only seams",
        SEAMS_NOTES,
        [
            "`standardize`",
            "overlap",
            "place",
            "scores",
            "least / 5 % / median / 95 %",
            "within 5 %",
        ],
        lines,
    )


PARTS = {"equality": equality, "memory": memory, "seams": seams, "accuracy": accuracy}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["2048x1536"])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--train", type=int, default=16)
    parser.add_argument("--test", type=int, default=12)
    parser.add_argument("--megapixels", nargs="+", type=int, default=list(MEGAPIXELS))
    parser.add_argument("--defects", type=int, default=8)
    parser.add_argument("--places", type=int, default=8)
    arguments = parser.parse_args()
    for part in arguments.only:
        PARTS[part](arguments)


if __name__ == "__main__":
    main()
