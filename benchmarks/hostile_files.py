"""Model files: saves that are killed, and files made to do harm under a right checksum."""

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from _common import Results

import skanomaly
from skanomaly.exceptions import ModelFileError

START = len(b"skanomaly model\n") + hashlib.sha256().digest_size
VALUES = [None, True, 0, -1, 10**9, 2**70, 0.5, -1e300, "", "x", [], {}]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--files", type=int, default=3_000, help="of each kind")
    arguments = parser.parse_args()
    results = Results("hostile_files")
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30,) * 2)
    X = np.random.default_rng(0).integers(0, 256, (10, 64, 64), np.uint8)
    detector = skanomaly.PatchReconstruction(image_size=64, max_epochs=1, random_state=0).fit(X)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        results["saves killed"] = killed_saves(detector, path, arguments.kills)
        skanomaly.save(detector, path)
        body = path.read_bytes()[START:]
        rng = random.Random(0)
        for kind, made in {"bytes changed": changed_bytes, "values forged": forged}.items():
            outcomes, slowest = Counter(), 0.0
            for _ in range(arguments.files):
                mutated = made(body, rng)
                path.write_bytes(start_of(mutated) + mutated)
                found, seconds = outcome(path, X[:2])
                outcomes[found] += 1
                slowest = max(slowest, seconds)
            results[kind] = {**outcomes, "slowest load in s": slowest}
    results.write_table(
        "Model files that are killed or forged",
        "python benchmarks/hostile_files.py",
        "Saves: a process that saves over and over is killed (SIGKILL) at a random moment; the "
        "file must be one of the two that it saves, whole. Files: a detector's file with up to 8 "
        "bytes of its description, or up to 3 values in it, exchanged at random, under a right "
        "checksum. It must be refused with `ModelFileError` or load, and then give finite scores "
        "or an exception.",
        ["what", "outcome"],
        [
            [kind, ", ".join(f"{k}: {v:.4g}" for k, v in row.items())]
            for kind, row in results.rows.items()
        ],
    )


def killed_saves(detector, path, n):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["skanomaly.deployment.files", "skanomaly.training"])
    rng, outcomes = random.Random(0), Counter()
    for _ in range(n):
        path.unlink(missing_ok=True)
        process = context.Process(target=save_for_ever, args=(detector, path))
        process.start()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        outcomes["whole" if skanomaly.load(path).random_state in (1, 2) else "other"] += 1
    return outcomes


def save_for_ever(detector, path):
    while True:
        for seed in (1, 2):
            skanomaly.save(detector.set_params(random_state=seed), path)


def start_of(body):
    return b"skanomaly model\n" + hashlib.sha256(body).digest()


def changed_bytes(body, rng):
    body = bytearray(body)
    size = int.from_bytes(body[:8], "little")
    for _ in range(rng.randint(1, 8)):
        body[rng.randrange(size + 500)] ^= rng.randint(1, 255)
    return bytes(body)


def forged(body, rng):
    size = 8 + int.from_bytes(body[:8], "little")
    document = json.loads(body[8:size])
    places = list(places_of(document["estimator"]))
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places)
        kind = rng.choice(["value", "move", "remove"])
        if kind == "remove" and isinstance(container, dict):
            container.pop(key, None)
        elif kind == "move":
            other, other_key = rng.choice(places)
            value = other.get(other_key) if isinstance(other, dict) else other[other_key]
            container[key] = json.loads(json.dumps(value))
        else:
            container[key] = rng.choice(VALUES)
    head = json.dumps(document).encode()
    return len(head).to_bytes(8, "little") + head + body[size:]


def places_of(node):
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from places_of(value)


def outcome(path, X):
    """What became of a file, and the seconds that loading it took."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            detector = skanomaly.load(path)
        except ModelFileError:
            return "refused", time.perf_counter() - start
        seconds = time.perf_counter() - start
        try:  # at a size that this machine can score
            scores = detector.set_params(image_size=64, batch_size=2, n_jobs=None).score_samples(X)
        except Exception:
            return "loaded, raises when scoring", seconds
    finite = np.isfinite(scores).all()
    return "loaded, scores" if finite else "loaded, scores NaN", seconds


if __name__ == "__main__":
    main()
