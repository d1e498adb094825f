"""Peak memory of scoring by path: it must not grow with the number of files."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
from _common import Results, data_arguments

from skanomaly import HierarchicalFeatureAE
from skanomaly.datasets import load_mvtec_ad

SCORE = """
import json, sys, joblib
from skanomaly import ImageFiles
detector = joblib.load(sys.argv[1])
scores = detector.score_samples(ImageFiles.from_folder(sys.argv[2]))
# Not getrusage: its maximum includes the parent's memory at the time of the fork.
peak = next(line.split()[1] for line in open("/proc/self/status") if "VmHWM" in line)
print(json.dumps({"files": len(scores), "peak_rss_MiB": int(peak) / 1024}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--files", nargs="+", type=int, default=[200, 2000])
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    train = load_mvtec_ad(arguments.data, "bottle", split="train")
    results = Results("memory")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.joblib"
        joblib.dump(HierarchicalFeatureAE(max_epochs=1, random_state=0).fit(train.images), model)
        for n in arguments.files:
            links = Path(folder) / str(n)
            links.mkdir()
            for i in range(n):
                target = Path(train.images.paths[i % len(train.images)]).resolve()
                (links / f"{i:06d}.png").symlink_to(target)
            runs = [
                json.loads(subprocess.check_output([sys.executable, "-c", SCORE, model, links]))
                for _ in range(arguments.runs)
            ]
            peaks = sorted(run["peak_rss_MiB"] for run in runs)
            results[f"{n} files"] = {"median_MiB": peaks[len(peaks) // 2], "all_MiB": peaks}
    fewest = results.rows[f"{arguments.files[0]} files"]["median_MiB"]
    results.write_table(
        "Memory of scoring by path",
        "python benchmarks/memory.py",
        "Peak resident memory of a fresh process that loads the default detector and scores "
        "256x256 PNG files with `score_samples(ImageFiles(...))`, median of the runs.",
        ["files", "peak", "relative"],
        [
            [key, f"{row['median_MiB']:.0f} MiB", f"{row['median_MiB'] / fewest:.3f}"]
            for key, row in results.rows.items()
        ],
    )


if __name__ == "__main__":
    main()
