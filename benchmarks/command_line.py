"""What commands take from their start to their end: as a person at a terminal waits for them."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import Results, data_arguments

NOTES = """Each command is a process of its own, its start included. "wall" is what a person waits,
beside other work that ran on the machine; "processor" is what all its threads took together,
which an idle machine would need at most, and two cores less. *bottle* is MVTec AD's
official split, resized to 256x256: 209 images to fit on, 83 to score, each read from its file."""


def commands(data, folder):
    """Commands by what they are called, in an order in which they can run."""
    bottle, model = data / "bottle", folder / "model.skanomaly"
    scores = folder / "scores.csv"
    return {
        "--version": ["--version"],
        "demo": ["demo", "--out", folder / "demo.png"],
        "fit (bottle)": ["fit", bottle, "-o", model],
        "score (bottle)": ["score", model, bottle / "test", "--out", scores, "--exit-zero"],
        "score --resume, all kept": [
            *("score", model, bottle / "test", "--out", scores, "--exit-zero", "--resume"),
        ],
        "info": ["info", model],
    }


def measured(command):
    """Wall and processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "skanomaly", *command], check=True, stdout=subprocess.DEVNULL
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "processor": processor, "load": os.getloadavg()[0]}


def main():
    """Measure all commands, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    arguments = parser.parse_args()
    results = Results("command_line")
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(arguments.data.absolute(), Path(folder)).items():
            results[name] = measured(list(map(str, command)))
    lines = [
        [name, f"{row['wall']:.1f} s", f"{row['processor']:.1f} s", f"{row['load']:.1f}"]
        for name, row in results.rows.items()
    ]
    header = ["command", "wall", "processor", "load of the machine"]
    results.write_table("Commands", "python benchmarks/command_line.py", NOTES, header, lines)


if __name__ == "__main__":
    main()
