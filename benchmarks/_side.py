"""What a process of the side-by-side benchmark measures, whichever library it is of.

It needs NumPy alone, as it runs in the peer's environment, too. A side is an object with
``load()``, ``fit()``, ``save(folder)``, which gives the file, and ``score(indices, batch_size)``,
which gives scores and maps of test images, higher = more anomalous.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N_WARM, N_SINGLE = 3, 20
PARTS = "train", "held_out", "test"


def main(sides):
    """Do the job of the command by what `sides` gives for its kind, and print what came out.

    Calling `sides` imports the library.
    """
    job = json.loads(sys.argv[1])
    kinds = []
    row = {"import_s": seconds(lambda: kinds.append(sides()))}
    print(json.dumps(row | kinds[0][job["kind"]](job)))


def measured(side, job):
    """Time, memory and file of a detector; `again` asks for a second fit in the process."""
    side.load()
    row = {"fit_s": seconds(side.fit), "fit_MiB": peak_MiB()}
    if job["again"]:
        row["again_s"] = seconds(side.fit)
    with tempfile.TemporaryDirectory() as folder:
        row["file_MiB"] = side.save(Path(folder)).stat().st_size / 2**20
    batch_size, n = job["batch_size"], job["n_test"]
    side.score(range(min(batch_size, n)), batch_size)
    found = []
    row["batch_s"] = seconds(lambda: found.extend(side.score(range(n), batch_size)), n)
    side.score(range(min(N_WARM, n)), 1)
    row["single_s"] = seconds(lambda: side.score(range(min(N_SINGLE, n)), 1), min(N_SINGLE, n))
    if job["found"]:
        np.savez(job["found"], scores=found[0], maps=found[1])
    return row | {"peak_MiB": peak_MiB()}


def seconds(call, n=1):
    """What a call takes for each of n things: of the clock, and of cores."""
    start = time.perf_counter(), time.process_time()
    call()
    return (time.perf_counter() - start[0]) / n, (time.process_time() - start[1]) / n


def median_s(call, rounds=7):
    """Medians of what a call takes, after one that warms up."""
    return np.median([seconds(call) for _ in range(rounds + 1)][1:], axis=0).tolist()


def peak_MiB():
    """Most memory that this process has held so far; getrusage would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
