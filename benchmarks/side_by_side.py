"""Detectors that anomalib has, too: time, memory, size and accuracy of both, side by side.

anomalib is installed into a virtual environment of its own. Every fit runs in a fresh process;
both libraries take turns, round by round.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from _common import Results, data_arguments, figures_of, fit, load_split
from _environments import installed, new_environment
from _side import PARTS
from _side_by_side_tables import tables
from PIL import Image
from sklearn.utils import Bunch

from skanomaly import PaDiM

SIZE = 256
HELD_OUT = 5  # of so many training images one is held out
CORESET = 0.01
SHARES, N_STEPS = (0.01, 0.1), 100
N_IMPORTS = 3
TRAIN_BATCH_SIZE, BATCH_SIZE = 16, 32
LEARNT = {"PaDiM": {}, "PatchCore": {"coreset": CORESET}}
TRAINED = {
    "FastFlow": {"n_steps": 8, "hidden_ratio": 1.0},
    "STFPM": {},
    "ReverseDistillation": {},
}
DETECTORS = LEARNT | TRAINED
WAYS = {
    "skanomaly arrays": "arrays",
    "anomalib model": "bare model",
    "skanomaly files": "files",
    "anomalib engine": "engine",
}
NOTES = f"""Both libraries get the same images of {SIZE}x{SIZE} pixels (MVTec AD's; *grid* is made
smaller and RGB beforehand), the same weights in the same three stages of ResNet-18 (the last two
for PatchCore), and the same number of epochs. Every {HELD_OUT}th training image
is held out: this package sets its thresholds from these, anomalib's engine validates on them, and
so does the loop around its bare model, after each epoch. Its model learns from uint8 arrays in
memory, as does "skanomaly arrays"; "skanomaly files" and anomalib's engine read PNG files. A fit
goes from nothing to a fitted detector, weights, conversion of the network and first use included,
in a fresh process whose imports are done; "again" is a second one in the same process. Training
takes batches of {TRAIN_BATCH_SIZE}. "batches" is an image's time in scoring all test images,
{BATCH_SIZE} at a time, to scores and maps, "one by one" that of single images, in a call each but
for the engine, which gets all in one call. "fit memory" is the peak of the process, which has no
others, after the first fit, above that of the imports; "peak" that of all. Medians over rounds,
both libraries in turn, and the range where it was more than a tenth. Times are what a process took
of a core, on one thread, to which other work on the machine adds less than to the clock's; those by
the clock were taken on a machine that others used, too. What was asked for is judged by the former.

anomalib's visualiser, evaluator and normalisation are off, and its files are read by the process
itself, without workers. PaDiM's features, drawn at random, are the same in both. FastFlow has the
same steps and channels in both, PatchCore's memories hold {CORESET:.0%} of the patches. The rest is
each library's own: losses, schedules, smoothing, units of maps, precision (this package trains
STFPM and ReverseDistillation in bfloat16 where the CPU has instructions for it). Accuracy is by the
same functions from the maps of both, after the first round; few epochs tell what training costs,
not what it is worth. The choice of PatchCore's memory is timed alone, from the same features:
anomalib's by {N_STEPS} of its steps, which are all alike, times their number. SuperSimpleNet, which
both have, is not compared yet."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    default = Path(tempfile.gettempdir()) / "skanomaly_side_by_side"
    parser.add_argument("--folder", type=Path, default=default, help="for images and models")
    parser.add_argument("--environment", type=Path, help="anomalib's; in that folder by default")
    parser.add_argument("--categories", nargs="+", default=["bottle", "grid"])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="fit twice in each process")
    parser.add_argument("--only", choices=["libraries", "detectors", "selection", "table"])
    arguments = parser.parse_args()
    results = Results("side_by_side")
    if arguments.only == "table":
        write(results)
        return
    folder = arguments.environment or arguments.folder / "environment"
    python = new_environment(folder, "anomalib")
    for category in arguments.categories:
        root = arguments.folder / category
        prepare(arguments.data, category, root)
        if arguments.only in (None, "libraries"):
            measure_libraries(results, python, root, arguments)
        if arguments.only in (None, "detectors"):
            measure_detectors(results, python, root, arguments)
        if arguments.only in (None, "selection"):
            measure_selection(results, python, root, arguments)
    write(results)


def prepare(data, category, root):
    """Images of both libraries, as arrays and as files, and the masks of those for the test."""
    if (root / "truth.npz").exists():
        return
    train, test = load_split(data, category)
    images = [resized(train.images[i]) for i in range(len(train.images))]
    parts = {
        "train": [image for i, image in enumerate(images) if i % HELD_OUT],
        "held_out": images[::HELD_OUT],
        "test": [resized(test.images[i]) for i in range(len(test.images))],
    }
    for part in PARTS:
        (root / part).mkdir(parents=True, exist_ok=True)
        np.save(root / f"{part}.npy", np.stack(parts[part]))
        for i, image in enumerate(parts[part]):
            Image.fromarray(image).save(root / part / f"{i:04d}.png")
    masks = [
        Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.NEAREST) for mask in test.masks
    ]
    np.savez(root / "truth.npz", masks=np.stack(masks), target=test.target)


def resized(image):
    """An image as RGB, of the size that both networks see."""
    chosen = Image.fromarray(np.squeeze(image)).convert("RGB")
    return np.asarray(chosen.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def run(python, script, job):
    """What a process measures."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    command = [python, Path(__file__).parent / script, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{script} failed at {job}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def both(python):
    """Interpreter and script of each library's side."""
    return {"skanomaly": (sys.executable, "_own_side.py"), "anomalib": (python, "_peer.py")}


def measure_libraries(results, python, root, arguments):
    """Imports, installed sizes, that both see the same features, and the floor."""
    sides, weights = both(python), str(arguments.resnet18_weights)
    if "features" not in results:
        results["features"] = {"difference": difference_of_features(sides, root, weights)}
    if "imports" not in results:
        found = {name: [] for name in sides}
        for _ in range(N_IMPORTS):
            for name, side in sides.items():
                found[name].append(run(*side, {"kind": "imports"}))
        results["imports"] = {
            name: {key: [row[key] for row in rows] for key in ("import_s", "import_MiB")}
            for name, rows in found.items()
        }
    if "installed" not in results:
        results["installed"] = {
            name: dict(zip(("MiB", "versions"), installed(side[0], name)))
            for name, side in sides.items()
        }
    if "floor" not in results:
        job = {"kind": "floor", "weights": weights, "batch_size": BATCH_SIZE}
        results["floor"] = run(*sides["skanomaly"], job)


def difference_of_features(sides, root, weights):
    """The largest difference of an image's features, relative to their level's largest."""
    levels = {}
    for name, side in sides.items():
        file = root / f"features_{name}.npz"
        job = {"kind": "features", "images": str(root), "weights": weights, "found": str(file)}
        run(*side, job)
        with np.load(file) as found:
            levels[name] = [found[key] for key in found.files]
    pairs = zip(*levels.values(), strict=True)
    difference = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    if difference > 1e-4:
        raise RuntimeError(f"the encoders' features differ by {difference:.1e}: nothing compares")
    return difference


def measure_detectors(results, python, root, arguments):
    """A row for each detector, way and round, the ways in turn."""
    sides = both(python)
    with np.load(root / "truth.npz") as kept:
        truth = Bunch(target=kept["target"], masks=kept["masks"])
    for name, number, way in product(arguments.detectors, range(arguments.rounds), arguments.ways):
        key = f"{root.name}, {name}, {way}, round {number}"
        if key in results:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
            found = None if number else Path(scratch) / "found.npz"
            files = {"scratch": scratch, "found": found and str(found)}
            job = job_of(name, way, root, arguments) | files | {"n_test": len(truth.target)}
            row = {"epochs": job["max_epochs"]} | run(*sides[way.split()[0]], job)
            if found:
                row |= accuracy_of(found, truth)
        results[key] = row
        print(key, row, flush=True)


def job_of(name, way, root, arguments):
    """What a process is to measure of a detector."""
    return {
        "kind": "detector",
        "detector": name,
        "way": WAYS[way],
        "images": str(root),
        "weights": str(arguments.resnet18_weights),
        "parameters": parameters_of(name, arguments),
        "max_epochs": arguments.max_epochs if name in TRAINED else 1,
        "coreset": CORESET,
        "channels": channels_of(root, arguments.resnet18_weights) if name == "PaDiM" else None,
        "train_batch_size": TRAIN_BATCH_SIZE,
        "batch_size": BATCH_SIZE,
        "again": arguments.again,
    }


def parameters_of(name, arguments):
    """Parameters of a detector of this package."""
    shared = {"backbone": "resnet18", "weights": str(arguments.resnet18_weights)}
    trained = {"max_epochs": arguments.max_epochs, "train_batch_size": TRAIN_BATCH_SIZE}
    return shared | (trained if name in TRAINED else {}) | DETECTORS[name]


@cache
def channels_of(root, weights):
    """Features that PaDiM draws, of all levels joined."""
    X = np.load(root / "train.npy", mmap_mode="r")[:4]
    detector = PaDiM(backbone="resnet18", weights=weights, random_state=0)
    fit(detector, X[:2], X_val=X[2:])
    starts = np.cumsum([0, *detector.encoder_.channels[:-1]])
    return np.concatenate([c + s for c, s in zip(detector.channels_, starts)]).tolist()


def accuracy_of(found, truth):
    """Metrics of the maps and scores that a process has left."""
    with np.load(found) as kept:
        return figures_of(truth, Bunch(scores=-kept["scores"], maps=kept["maps"]))


def measure_selection(results, python, root, arguments):
    """PatchCore's choice of its memory alone, by the same features."""
    key = f"selection, {root.name}"
    if key in results:
        return
    features = root / "rows.npy"
    save_rows(root, features, arguments.resnet18_weights)
    job = {"kind": "selection", "features": str(features), "shares": SHARES, "steps": N_STEPS}
    row = {name: run(*side, job) for name, side in both(python).items()}
    results[key] = row | {"n": len(np.load(features, mmap_mode="r"))}
    features.unlink()


def save_rows(root, file, weights):
    """What PatchCore chooses among: features of all training images' patches."""
    import torch

    from skanomaly.features import FeaturePyramid, as_rows, on_finest_grid

    encoder, found = FeaturePyramid("resnet18", (2, 3), weights), []
    for image in np.load(root / "train.npy", mmap_mode="r"):
        pixels = torch.tensor(image).permute(2, 0, 1)[None] / 255
        found.append(as_rows(on_finest_grid(encoder(pixels), 3)).numpy())
    np.save(file, np.concatenate(found))


def write(results):
    results.write_tables(
        "Side by side with anomalib",
        "python benchmarks/side_by_side.py --again",
        NOTES,
        tables(results.rows),
    )


if __name__ == "__main__":
    main()
