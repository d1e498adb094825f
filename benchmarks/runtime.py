"""The light distribution beside the package: sizes installed, import, a process that scores."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import Results
from _environments import installed, new_environment

import skanomaly
from skanomaly.datasets import make_texture_defects

RUNTIME = Path(__file__).parents[1] / "runtime"
N_RUNS = 7

NOTES = """Each distribution with all that it requires, without extras. "installed": bytes of the
files that `pip` has recorded for them. "import": importing `OnnxDetector` in a fresh process, the
interpreter's own start included ("bare" is that alone). "process": a fresh process that opens an
exported `PaDiM` (bricks, 128x128, a file of {model:.0f} MiB) and scores one image; its peak memory.
Times: wall / CPU, medians of {n}, both distributions in turn, on a machine that others used too.
The runtime is installed in a new virtual environment. Scores are equal to the bit."""
IMPORT = "from {} import OnnxDetector"
SCORE = """
import sys, numpy as np
from {} import OnnxDetector
print(float(OnnxDetector(sys.argv[1]).score_samples(np.load(sys.argv[2]))[0]).hex())
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def run(python, code, *arguments):
    """((wall seconds, CPU seconds), what it printed) of a process."""
    command = [python, "-c", code, *map(str, arguments)]
    start, used = time.perf_counter(), cpu_of_children()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (time.perf_counter() - start, cpu_of_children() - used), done.stdout.split("\n")


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(distributions, model, image):
    """Sizes, import, and a process, of each distribution; what takes time in turn."""
    rows, times = {}, {}
    for distribution, (python, _) in distributions.items():
        sizes, versions = installed(python, distribution)
        rows[distribution] = {"MiB": sizes, "versions": versions}
        times[distribution] = {"bare_s": [], "import_s": [], "process_s": [], "process_MiB": []}
    for _ in range(N_RUNS):
        for distribution, (python, module) in distributions.items():
            found = times[distribution]
            found["bare_s"].append(run(python, "pass")[0])
            found["import_s"].append(run(python, IMPORT.format(module))[0])
            seconds, printed = run(python, SCORE.format(module), model, image)
            found["process_s"].append(seconds)
            found["process_MiB"].append(float(printed[1]))
            rows[distribution]["score"] = printed[0]
    for distribution, found in times.items():
        rows[distribution] |= {k: np.median(v, axis=0).tolist() for k, v in found.items()}
    return rows


def installed_runtime(folder):
    """The interpreter of a new environment that holds the light distribution alone."""
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, RUNTIME]
    subprocess.run(list(map(str, wheel)), check=True)
    (built,) = folder.glob("*.whl")
    return new_environment(folder / "venv", built)


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    X = make_texture_defects("brick", n_normal=40, random_state=0).images
    results = Results("runtime")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, image = folder / "model.onnx", folder / "image.npy"
        skanomaly.export_onnx(skanomaly.PaDiM(random_state=0).fit(X), model, X[:4])
        np.save(image, X[:1])
        distributions = {
            "skanomaly-runtime": (str(installed_runtime(folder)), "skanomaly_runtime"),
            "skanomaly": (sys.executable, "skanomaly"),
        }
        for distribution, row in measured(distributions, model, image).items():
            results[distribution] = row | {"model_MiB": model.stat().st_size / 2**20}
    write_tables(results.rows, results)


def write_tables(rows, results):
    totals, parts = [], []
    assert len({row["score"] for row in rows.values()}) == 1, "scores differ"
    for name, row in rows.items():
        sizes = row["MiB"]
        totals.append(
            [
                f"`{name}`",
                len(sizes),
                f"{sum(sizes.values()):,.0f} MiB",
                *(
                    "{:.2f} / {:.2f} s".format(*row[f"{k}_s"])
                    for k in ("bare", "import", "process")
                ),
                f"{row['process_MiB']:.0f} MiB",
            ]
        )
        largest = sorted(sizes, key=sizes.get, reverse=True)[:12]
        parts += [[f"`{name}`", f"{p} {row['versions'][p]}", f"{sizes[p]:.1f}"] for p in largest]
    header = ["distribution", "packages", "installed", "bare", "import", "process", "peak memory"]
    results.write_tables(
        "The light runtime",
        "python benchmarks/runtime.py",
        NOTES.format(model=rows["skanomaly"]["model_MiB"], n=N_RUNS),
        {
            "Both": (header, totals),
            "Largest packages": (["of", "package", "MiB"], parts),
        },
    )


if __name__ == "__main__":
    main()
