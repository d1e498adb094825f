"""Two checkouts side by side: what fits, scores, files and first uses of detectors cost in each.

Each detector in fresh processes, of one checkout and the other in turn; both see the same data.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import Results, data_arguments

N_IMAGES, N_VALIDATION, N_TEST = 24, 6, 16
CHECKOUTS = "before", "after"
DETECTORS = ["PaDiM", "HierarchicalFeatureAE"]
PREAMBLE = """
import json, pathlib, sys, time, warnings
begin = time.perf_counter(), time.process_time()
warnings.simplefilter("ignore")
import numpy as np

def resident_MiB():
    status = open("/proc/self/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

def since(start):
    return [time.perf_counter() - start[0], time.process_time() - start[1]]

def timed(call):
    start = time.perf_counter(), time.process_time()
    call()
    return np.array(since(start))

def ms(times, n_images):
    return (1000 * np.median(times, axis=0) / n_images).tolist()

arguments = json.loads(sys.argv[1])
"""
FIT = (
    PREAMBLE
    + """
import skanomaly
from skanomaly.datasets import load_mvtec_ad

train, test = (
    load_mvtec_ad(pathlib.Path(arguments["data"]), "bottle", split=s) for s in ("train", "test")
)
n, m = arguments["numbers"][:2]
X, X_val = train.images[:n], train.images[n : n + m]
files = test.images[: arguments["numbers"][2]]
X_test = np.stack([files[i] for i in range(len(files))])
detector = getattr(skanomaly, arguments["detector"])(random_state=0)
if "max_epochs" in detector.get_params():
    detector.set_params(max_epochs=1)
found = {}
found["first_fit_s"] = timed(lambda: detector.fit(X, X_val=X_val)).tolist()
found["second_fit_s"] = timed(lambda: detector.fit(X, X_val=X_val)).tolist()
detector.score_samples(X_test[:1])
single = [timed(lambda x=x: detector.score_samples(x[None])) for x in X_test]
batches = [timed(lambda: detector.score_samples(X_test)) for _ in range(3)]
from_files = [timed(lambda: detector.score_samples(files)) for _ in range(3)]
found["one_ms"] = ms(single, 1)
found["batch_ms"] = ms(batches, len(X_test))
found["files_ms"] = ms(from_files, len(X_test))
found["scores"] = detector.score_samples(X_test).tolist()
skanomaly.save(detector, arguments["file"])
found["file_MiB"] = pathlib.Path(arguments["file"]).stat().st_size / 2**20
skanomaly.export_onnx(detector, arguments["file"] + ".onnx", X_test[:2])
np.save(arguments["file"] + ".npy", X_test[:1])
print(json.dumps(found))
"""
)
FIRST_SCORE = (
    PREAMBLE
    + """
import skanomaly

X = np.load(arguments["file"] + ".npy")
detector = skanomaly.load(arguments["file"])
detector.score_samples(X)
print(json.dumps({"first_score_s": since(begin), "resident_MiB": resident_MiB()}))
"""
)
FIRST_ONNX = (
    PREAMBLE
    + """
from skanomaly import OnnxDetector

X = np.load(arguments["file"] + ".npy")
imported = time.perf_counter(), time.process_time()
detector = OnnxDetector(arguments["file"] + ".onnx")
detector.score_samples(X)
print(json.dumps({"onnx_first_s": since(begin), "onnx_after_imports_s": since(imported)}))
"""
)
IMPORT = (
    PREAMBLE
    + """
import skanomaly.base
print(json.dumps({"import_s": since(begin), "import_MiB": resident_MiB()}))
"""
)
FIGURES = {
    "first_fit_s": "first fit, s",
    "second_fit_s": "second fit, s",
    "one_ms": "one image, ms",
    "batch_ms": f"an image of {N_TEST}, ms",
    "files_ms": f"an image of {N_TEST} PNG files, ms",
    "file_MiB": "file, MiB",
    "import_s": "import skanomaly.base, s",
    "import_MiB": "resident then, MiB",
    "first_score_s": "process to first score, s",
    "resident_MiB": "resident then, MiB ",
    "onnx_first_s": "process to first score of ONNX, s",
    "onnx_after_imports_s": "the same after imports, s",
}
NOTES = f"""MVTec AD's *bottle*, 256x256: {N_IMAGES} PNG files to learn from, {N_VALIDATION} for the
threshold, {N_TEST} to score; one epoch of what is trained. Medians over rounds of fresh
processes, before and after in turn; of times first what passed, then what the process took of
cores, to which other work on the machine adds little. "process to first score" begins with the
imports (not with
the interpreter) and ends with the score of one image. "apart" is the largest difference of scores
over their range."""


def measure(arguments, checkout, folder, detector):
    """Figures of one round."""
    given = {
        "data": str(arguments.data),
        "detector": detector,
        "numbers": [N_IMAGES, N_VALIDATION, N_TEST],
        "file": str(Path(folder) / "model"),
    }
    found = {}
    for script in (FIT, FIRST_SCORE, FIRST_ONNX, IMPORT):
        printed = subprocess.check_output(
            [sys.executable, "-c", script, json.dumps(given)],
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        )
        found |= json.loads(printed.splitlines()[-1])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("before", type=Path, help="folder of the other checkout")
    parser.add_argument(
        "--detectors", nargs="+", default=["PaDiM", "HierarchicalFeatureAE", "SubspaceAD"]
    )
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    checkouts = dict(zip(CHECKOUTS, (arguments.before, Path(__file__).parents[1])))
    results = Results("before_after")
    for detector in arguments.detectors:
        rows = dict(results.rows.get(detector, {}))
        for i in range(arguments.rounds):
            if str(i) in rows:
                continue
            rows[str(i)] = {}
            for name, checkout in checkouts.items():
                with tempfile.TemporaryDirectory() as folder:
                    rows[str(i)][name] = measure(arguments, checkout, folder, detector)
            results[detector] = rows
    lines = [
        [detector, what, *cells(rows, figure)]
        for detector, rows in sorted(results.rows.items())
        for figure, what in FIGURES.items()
    ]
    lines += [
        [detector, "scores apart", "", f"{apart(rows):.1e}", ""]
        for detector, rows in sorted(results.rows.items())
    ]
    results.write_table(
        "Before and after",
        "python benchmarks/before_after.py ../before",
        NOTES,
        ["detector", "what", *CHECKOUTS, "ratio"],
        lines,
    )


def cells(rows, figure):
    """Before, after, and their ratio; of times both kinds."""
    before, after = (
        np.median([np.atleast_1d(row[name][figure]) for row in rows.values()], axis=0)
        for name in CHECKOUTS
    )
    return [
        " / ".join(f"{value:{digits}}" for value in values)
        for values, digits in ((before, ".3g"), (after, ".3g"), (after / before, ".2f"))
    ]


def apart(rows):
    """Largest difference of scores between the checkouts, over the range of scores."""
    before, after = (np.array(rows["0"][name]["scores"]) for name in CHECKOUTS)
    return np.abs(before - after).max() / np.ptp(before)


if __name__ == "__main__":
    main()
