"""Fits of very many images: time and memory of every detector, and what either grows with."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import psutil
from _common import Results
from _many_files import SIZE, make_files

from skanomaly.utils import all_detectors, small_detector

DETECTORS = dict(all_detectors())
NUMBERS = (1_000, 10_000)
FAR = 10_000_000
# Of fits of sets of files: small networks, as what is asked is what a fit holds of the images.
GIVEN = {"max_epochs": 1, "pretrain_epochs": 1, "train_batch_size": 32, "image_size": SIZE}
# Of single detectors, by what is varied: parameters, and (images, pixels, channels) of arrays.
CURVES = {
    "images": [
        (name, {"image_size": SIZE}, (n, SIZE, 3))
        for name in ("SubspaceAD", "PaDiM", "PatchCore", "SPADE", "FastFlow", "ConvAE")
        for n in (100, 300, 1000, 3000)
    ],
    "pixels": [
        (name, {"image_size": side}, (100, side, 3))
        for name in ("SubspaceAD", "PaDiM", "PatchCore", "SPADE", "FastFlow", "ConvAE")
        for side in (64, 128, 256, 512)
    ],
    "channels": [
        (name, {"image_size": 128}, (100, 128, channels))
        for name in ("SubspaceAD", "PaDiM", "PatchCore", "ConvAE")
        for channels in (1, 3, 6, 12)
    ],
    "memory": [
        ("PatchCore", {"coreset": n, "image_size": 256}, (100, 256, 3))
        for n in (1000, 3000, 10_000, 30_000)
    ],
}
AGAINST = {
    "images": f"number of images, {SIZE}x{SIZE}",
    "pixels": "side of the images in pixels, 100 images",
    "channels": "channels, 100 images of 128x128",
    "memory": "patches that PatchCore keeps, 100 images of 256x256",
}
COSTS = ["time", "memory", "own"]
HEADER = [
    "detector",
    *(f"{cost}, {n:,}" for n in NUMBERS for cost in COSTS),
    "time an image",
    "own memory an image",
    f"time, {FAR:,}",
    f"memory, {FAR:,}",
]
RUN = """
import json, sys, time, warnings
import numpy as np
import onnx, onnxruntime, skorch, timm, torch  # so that no fit pays for them
import skanomaly
from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import ThresholdWarning

name, parameters, source = json.loads(sys.argv[1])
warnings.simplefilter("ignore", ThresholdWarning)
if isinstance(source, str):
    X = skanomaly.ImageFiles.from_folder(source)
else:
    n, side, channels = source
    wall = make_texture_defects("brick", n_normal=1, image_size=side, random_state=0).images[0]
    wall = np.repeat(wall[..., None], channels, 2) if wall.ndim == 2 else wall
    wall = wall[..., np.arange(channels) % wall.shape[2]]
    rng = np.random.default_rng(0)
    X = np.empty((n, side, side, channels), np.uint8)
    for image, (top, left) in zip(X, rng.integers(0, side, (n, 2))):
        image[:] = np.roll(wall, (top, left), (0, 1)) * rng.uniform(0.7, 1)
detector = getattr(skanomaly, name)(**{"random_state": 0} | parameters)
print("ready", flush=True)
sys.stdin.readline()
start, cpu = time.perf_counter(), time.process_time()
detector.fit(X)
row = {"fit_s": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}
print(json.dumps(row), flush=True)
some = X[:50]
detector.score_samples(some)
start = time.perf_counter()
detector.score_samples(some)
print(json.dumps({"score_ms": 1000 * (time.perf_counter() - start) / len(some)}), flush=True)
"""
EVERY_S = 0.05
FIXED = {"LocalContrast", "MedianDifference", "PaDiM", "PatchCore", "SPADE", "SubspaceAD"}
NAME_BYTES = 121
NOTES = f"""Each fit is of a fresh process. "time" is what it took of all cores together, on one
thread, to which other work on the machine adds little. "memory" is the highest resident memory of
the process and its children during the fit, looked at every {1000 * EVERY_S:.0f} ms, above that
with libraries and arrays loaded; it counts pages of files, which the system may drop at any time,
and "own" does not.

Sets of {" and ".join(f"{n:,}" for n in NUMBERS)} grey PNG files of {SIZE}x{SIZE} pixels, crops of a
photograph, are given by path. As what is asked is what a fit holds of the images, detectors are
`small_detector`s: small networks, one epoch in batches of {GIVEN["train_batch_size"]}, on
{SIZE}x{SIZE} pixels. The other tables are of defaults, but for the image size and one epoch.

**Extrapolated** to n = {FAR:,}: a + (n - {NUMBERS[1]:,}) b, with a the figure at {NUMBERS[1]:,}
images and b, which the table gives, the difference between both figures by the
{NUMBERS[1] - NUMBERS[0]:,} images between (0 if it is negative). That is what would be held if all
were in memory. Images that are trained on lie there up to 4 GiB ({2**32 // (4 * SIZE**2):,} grey
ones of {SIZE}x{SIZE} in single precision), features alike; more of them are in a temporary file
that takes as much of the disk as the rest of the extrapolated figure. Maps of held-out images, too,
are kept until they take 64 MiB: part of b between these numbers, and of nothing beyond them.
Detectors that hold neither images nor features ({", ".join(sorted(FIXED))}) have therefore
b = {NAME_BYTES} bytes of memory an image there: its name (89), where that lies (8), and its number
in three lists (24)."""


def watched(name, parameters, source):
    """Figures of a process that fits a detector, and the memory that the fit takes."""
    job = json.dumps([name, parameters, source])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["env"] = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        subprocess.Popen([sys.executable, "-c", RUN, job], **pipes) as process,
        ThreadPoolExecutor(1) as reader,
    ):
        process.stdout.readline()
        before, peak = memory_MiB(process.pid), np.zeros(2)
        process.stdin.write("\n")
        process.stdin.flush()
        line = reader.submit(process.stdout.readline)
        while not line.done():
            peak = np.maximum(peak, memory_MiB(process.pid))
            wait([line], EVERY_S)
        found = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{name} has not come to its end, see above")
    row = json.loads(line.result()) | json.loads(found)
    return row | dict(zip(("memory_MiB", "own_MiB"), np.maximum(peak - before, 0).tolist()))


def memory_MiB(pid):
    """Resident memory of a process and its children, with and without pages of files."""
    total = np.zeros(2)
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            found = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        total += (found.rss, found.rss - found.shared)
    return total / 2**20


def parameters_of(name):
    """What makes a short fit of small images."""
    found = small_detector(DETECTORS[name], **GIVEN).get_params()
    return {k: v for k, v in found.items() if v != DETECTORS[name]().get_params()[k]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", nargs="+", type=int, default=NUMBERS)
    parser.add_argument("--detectors", nargs="*", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--curves", nargs="*", choices=CURVES, default=list(CURVES))
    arguments = parser.parse_args()
    results = Results("large_sets")
    with tempfile.TemporaryDirectory() as folder:
        for n in arguments.numbers:
            make_files(Path(folder) / str(n), n)
        for name in arguments.detectors:
            for n in arguments.numbers:
                measure(results, f"set, {name}, {n}", name, parameters_of(name), f"{folder}/{n}")
    for curve in arguments.curves:
        for name, parameters, shape in CURVES[curve]:
            key = f"{curve}, {name}, {at(curve, parameters, shape)}"
            one_epoch = {"max_epochs": 1} if "max_epochs" in DETECTORS[name]().get_params() else {}
            measure(results, key, name, one_epoch | parameters, shape)
    write(results)


def measure(results, key, *job):
    if key in results:
        return
    results[key] = watched(*job)
    print(key, results.rows[key], flush=True)


def at(curve, parameters, shape):
    """What a curve is drawn against."""
    if curve == "memory":
        return parameters["coreset"]
    return dict(zip(("images", "pixels", "channels"), shape))[curve]


def write(results):
    """A table of all detectors, and one of each curve."""
    found = {}
    for key, row in results.rows.items():
        group, name, number = key.split(", ")
        found.setdefault(group, {}).setdefault(name, {})[int(number)] = row
    lines = [
        set_line(name, rows)
        for name, rows in sorted(found.get("set", {}).items())
        if rows.keys() >= set(NUMBERS)
    ]
    tables = {"Sets of files": (HEADER, lines)}
    for curve in CURVES:
        lines = [
            [name, f"{number:,}", *cells(row), f"{row['score_ms']:.1f} ms"]
            for name, rows in found.get(curve, {}).items()
            for number, row in sorted(rows.items())
        ]
        tables[f"By {AGAINST[curve]}"] = (["detector", curve, *COSTS, "an image scored"], lines)
    results.write_tables("Fits of large sets", "python benchmarks/large_sets.py", NOTES, tables)


def set_line(name, rows):
    """Both numbers of images, and what follows from them."""
    few, many = (rows[n] for n in NUMBERS)
    between = NUMBERS[1] - NUMBERS[0]
    slope = {k: max(0.0, (many[k] - few[k]) / between) for k in ("cpu_s", "own_MiB")}
    if name in FIXED:
        slope["own_MiB"] = NAME_BYTES / 2**20
    far = {k: many[k] + (FAR - NUMBERS[1]) * b for k, b in slope.items()}
    return [
        name,
        *cells(few),
        *cells(many),
        f"{1000 * slope['cpu_s']:.2f} ms",
        f"{1024 * slope['own_MiB']:.2f} KiB",
        f"{far['cpu_s'] / 3600:.1f} h",
        f"{far['own_MiB'] / 1024:.1f} GiB",
    ]


def cells(row):
    return [
        f"{row['cpu_s']:.1f} s",
        f"{row['memory_MiB']:.0f} MiB",
        f"{row['own_MiB']:.0f} MiB",
    ]


if __name__ == "__main__":
    main()
