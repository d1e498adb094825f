"""Every detector on a card: fitted and scored there, against the CPU, in ten minutes at most.

``--device cpu`` rehearses the same without a card, where nothing can be asked of synchronisation.
"""

import argparse
import copy
import pickle
import time
import warnings

import numpy as np
import torch
from _common import Results
from sklearn.metrics import roc_auc_score

from skanomaly.datasets import make_texture_defects
from skanomaly.exceptions import ThresholdWarning
from skanomaly.utils import all_detectors, small_detector

DETECTORS = dict(all_detectors())
SIDE, N_TRAIN, BATCHES = 128, 40, (1, 32)
# Largest difference of scores and maps, relative to the CPU's largest; of image AUROC, of a fit
# there from one here, whose random numbers are others.
CLOSE, AS_GOOD = 1e-3, 0.15
NOTES = f"""Textures of {SIDE}x{SIDE} pixels with drawn defects, {N_TRAIN} to learn from; small
detectors. "scores" and "maps": largest difference between what one fitted detector gives on the
device and on the CPU, relative to the largest; at most {CLOSE:g}. "AUROC": of a fit on the device,
beside one on the CPU; they may differ by {AS_GOOD:g}. "pickled": scores on the CPU of the detector
that was fitted on the device, once through a pickle, which holds no tensor of the device. "seeds":
whether PyTorch's generators, the card's too, are as they were. "waits": how often a step of
training waited for the card (`torch.cuda.set_sync_debug_mode`). "bfloat16": the AUROC and time of
a fit in mixed precision, where there is such a parameter. The last columns are images a second."""
HEADER = [
    *("detector", "fit", "fit, CPU", "scores", "maps", "AUROC", "AUROC, CPU", "pickled", "seeds"),
    *("waits", "bfloat16"),
    *(f"batches of {n}" for n in BATCHES),
    "within tolerance",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--limit", type=float, default=540, help="seconds after which none begins")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ThresholdWarning)
    start, results = time.perf_counter(), Results(f"gpu_{torch.device(arguments.device).type}")
    train, test = (
        make_texture_defects("gravel", split=split, n_normal=n, image_size=SIDE, random_state=0)
        for split, n in (("train", N_TRAIN), ("test", 16))
    )
    for name in arguments.detectors:
        if name in results:
            continue
        if time.perf_counter() - start > arguments.limit:
            print(f"{name} and what follows is left out: the time is over")
            break
        results[name] = measured(DETECTORS[name], train.images, test, arguments.device)
        print(name, results.rows[name], flush=True)
    write(results, arguments.device)
    far = [name for name, row in results.rows.items() if not row["is_close"]]
    if far:
        raise SystemExit(f"outside the tolerances: {', '.join(far)}")


def measured(cls, X, test, device):
    on_cpu = small_detector(cls, image_size=SIDE, device="cpu")
    row = {"cpu_fit_s": seconds(lambda: on_cpu.fit(X))}
    expected = on_cpu.detect(test.images)
    row["cpu_auroc"] = auroc(test, expected.scores)
    moved = copy.deepcopy(on_cpu).set_params(device=device).detect(test.images)
    row["scores"], row["maps"] = (
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in ((moved.scores, expected.scores), (moved.maps, expected.maps))
    )
    before = random_states()
    there = small_detector(cls, image_size=SIDE, device=device)
    row["fit_s"] = seconds(lambda: there.fit(X), device)
    scores = there.score_samples(test.images)
    row["seeds"] = all(torch.equal(a, b) for a, b in zip(before, random_states(), strict=True))
    row["auroc"] = auroc(test, scores)
    back = pickle.loads(pickle.dumps(there)).set_params(device="cpu").score_samples(test.images)
    row["pickled"] = float(np.abs(back - scores).max() / np.abs(scores).max())
    row["waits"] = waits_a_step(cls, X, device) if torch.device(device).type == "cuda" else None
    if "mixed_precision" in there.get_params():
        mixed = small_detector(cls, image_size=SIDE, device=device, mixed_precision=True)
        row["mixed_s"] = seconds(lambda: mixed.fit(X), device)
        row["mixed_auroc"] = auroc(test, mixed.score_samples(test.images))
    many = np.resize(test.images, (max(BATCHES), *test.images.shape[1:]))
    for n in BATCHES:
        there.set_params(batch_size=n).score_samples(many[:n])
        took = [seconds(lambda n=n: there.score_samples(many[:n]), device) for _ in range(5)]
        row[f"at {n}"] = n / float(np.median(took))
    row["is_close"] = bool(
        max(row["scores"], row["maps"], row["pickled"]) <= CLOSE
        and row["auroc"] >= row["cpu_auroc"] - AS_GOOD
        and row.get("mixed_auroc", 1) >= row["cpu_auroc"] - AS_GOOD
        and row["seeds"]
    )
    return row


def seconds(call, device="cpu"):
    """What a call takes, with all that it has left to the device."""
    start = time.perf_counter()
    call()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def auroc(test, scores):
    return roc_auc_score(test.target, scores)


def random_states():
    cards = range(torch.cuda.device_count())
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(i) for i in cards)]


def waits_a_step(cls, X, device):
    """How often two more epochs wait for the card, by their steps."""
    if "max_epochs" not in cls().get_params():
        return None
    counts = []
    for max_epochs in (2, 4):
        detector = small_detector(cls, image_size=SIDE, device=device).set_params(
            max_epochs=max_epochs
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                detector.fit(X)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        n_waits = sum("synchroniz" in str(warning.message) for warning in caught)
        history = detector.net_.history
        counts.append((n_waits, sum(len(epoch["batches"]) for epoch in history)))
    (few, n_few), (many, n_many) = counts
    return (many - few) / (n_many - n_few)


def write(results, device):
    lines = [
        [
            name,
            f"{row['fit_s']:.1f} s",
            f"{row['cpu_fit_s']:.1f} s",
            f"{row['scores']:.0e}",
            f"{row['maps']:.0e}",
            f"{row['auroc']:.3f}",
            f"{row['cpu_auroc']:.3f}",
            f"{row['pickled']:.0e}",
            "restored" if row["seeds"] else "moved",
            "" if row["waits"] is None else f"{row['waits']:.2f}",
            f"{row['mixed_auroc']:.3f}, {row['mixed_s']:.1f} s" if "mixed_s" in row else "",
            *(f"{row[f'at {n}']:.0f}" for n in BATCHES),
            "yes" if row["is_close"] else "no",
        ]
        for name, row in results.rows.items()
    ]
    command = f"python benchmarks/gpu.py --device {device}"
    results.write_table("Detectors on a card", command, NOTES, HEADER, lines)


if __name__ == "__main__":
    main()
