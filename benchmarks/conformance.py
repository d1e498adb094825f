"""The table of detectors and checks in the docs: which detector keeps what of the contract."""

import argparse
import sys
import time
import warnings
from pathlib import Path

from _common import machine_facts
from sklearn.utils.estimator_checks import check_estimator

from skanomaly import FlattenedImages
from skanomaly.utils import all_detectors, small_detector
from skanomaly.utils.estimator_checks import check_detector

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "compose")]
from test_flattened_images import EXPECTED_FAILED_CHECKS  # noqa: E402

HEAD = """# Which detector keeps what

`python benchmarks/conformance.py`

{facts}.

Every detector, small enough to be fitted in a second or two, under `check_detector` of
`skanomaly.utils.estimator_checks`, and, on rows of tables by `FlattenedImages`, under the
`check_estimator` of scikit-learn. A tick is a check that passes.

"""
REASONS = """
## Exceptions

Of scikit-learn's suite these need not pass:

{reasons}

Skipped by scikit-learn itself: {skipped}.
"""
MARKS = {"passed": "✓", "xfail": "exception", "skipped": "skipped", "failed": "**failed**"}


def own(detector):
    return {r["name"]: r["status"] for r in check_detector(detector, on_fail=None)}


def scikit_learns(detector):
    results = check_estimator(
        FlattenedImages(detector),
        on_fail=None,
        on_skip=None,
        expected_failed_checks=EXPECTED_FAILED_CHECKS,
    )
    return {r["check_name"]: r["status"] for r in results}


def table(columns):
    lines = [["check", *(f"`{name}`" for name in columns)], ["---"] * (1 + len(columns))]
    for check in next(iter(columns.values())):
        lines.append([check.removeprefix("check_"), *(MARKS[c[check]] for c in columns.values())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    warnings.simplefilter("ignore")
    ours, theirs = {}, {}
    for name, cls in all_detectors():
        start, detector = time.perf_counter(), small_detector(cls)
        ours[name], theirs[name] = own(detector), scikit_learns(detector)
        print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
    facts = ", ".join(f"{k} {v}" for k, v in machine_facts().items() if v)
    skipped = sorted({c for rows in theirs.values() for c, s in rows.items() if s == "skipped"})
    reasons = "\n".join(f"- `{c}`: {reason}." for c, reason in EXPECTED_FAILED_CHECKS.items())
    text = (
        HEAD.format(facts=facts)
        + f"## The contract of detectors\n\n{table(ours)}\n## scikit-learn's suite\n\n"
        + table(theirs)
        + REASONS.format(reasons=reasons, skipped=", ".join(f"`{c}`" for c in skipped) or "none")
    )
    (ROOT / "docs" / "conformance.md").write_text(text)


if __name__ == "__main__":
    main()
