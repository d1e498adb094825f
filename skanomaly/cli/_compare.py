"""``skanomaly recommend`` and ``benchmark``: which detector, by drawn defects or by known ones."""

from __future__ import annotations

import os
import platform
import time
import warnings

import click

from ._app import command
from ._estimators import TO_START_WITH, detector_named, fill
from ._fit import check_seed
from ._folders import all_good_option, good_images
from ._models import opened, promise_in_words, threshold_facts, write_model
from ._output import CommandError, text_of
from ._tables import csv_of

COMPARED = (TO_START_WITH, "PatchCore", "SubspaceAD", "PaDiM", "LocalContrast")


@command()
@click.argument("folder")
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="For all of it, by estimates; what does not fit is left out, and said to be.",
)
@click.option(
    "--detectors", metavar="A,B,...", help="What is compared; a choice of all if not said."
)
@click.option(
    "-o", "--out", metavar="MODEL", help="Write the chosen detector, fitted on all images."
)
@all_good_option
@click.option("--seed", type=int, default=0, show_default=True)
def recommend(output, folder, budget, detectors, out, all_good, seed):
    """Choose a detector for FOLDER, images of good parts, by defects that are drawn onto them.

    Drawn defects are not real ones: where there are real ones, benchmark says more.
    """
    from contextlib import nullcontext

    from ..model_selection import recommend as search_for

    check_seed(seed)
    output.claim(out)
    chosen = None if detectors is None else [(n, detector_named(n)) for n in _names(detectors)]
    images = good_images(folder, all_good)
    with nullcontext() if out is None else opened(out) as file:
        with output.progress(f"comparing detectors on {len(images)} images"):
            search = search_for(
                images, chosen, budget=budget, refit=out is not None, random_state=seed
            )
        if out is not None:
            write_model(search.best_estimator_, file)
    best = f"Best: {search.best_name_}"
    if out is not None:
        facts = threshold_facts(search.best_estimator_)
        best += f", fitted on all images, {promise_in_words(facts)}: {out}"
    output.report(f"{search.table_}\n\n{best}", out)
    results = {k: v for k, v in search.cv_results_.items() if k != "params"}
    output.document(
        {
            "best": search.best_name_,
            "out": out,
            "seconds": search.search_time_,
            "detectors": [dict(zip(results, row)) for row in zip(*results.values())],
        }
    )


@command()
@click.argument("folder")
@click.option(
    "--detectors",
    metavar="A,B,...",
    default=",".join(COMPARED),
    show_default=True,
    help="What is compared, at its defaults.",
)
@click.option("--csv", metavar="CSV", help="Also write the table.")
@click.option("--seed", type=int, default=0, show_default=True)
def benchmark(output, folder, detectors, csv, seed):
    """Compare detectors on FOLDER, which has train/good, test/good and test/<defect>.

    Accuracy, time of a fit and time an image, each measured once: where intervals overlap, no
    order is known. Times are of this machine and of what else it does.
    """
    from ..datasets import load_image_folder

    check_seed(seed)
    output.claim(csv)
    names = _names(detectors)
    compared = [detector_named(name) for name in names]
    train = load_image_folder(folder, split="train").images
    test = load_image_folder(folder, split="test")
    records = []
    for name, detector in zip(names, compared):
        fill(detector, random_state=seed, n_jobs=os.cpu_count())
        with output.progress(f"{name}: fitting on {len(train)}, scoring {len(test.images)}"):
            records.append({"detector": name} | _measured(detector, train, test, seed))
    if csv:
        with opened(csv) as file:
            file.write(csv_of(records))
    _print(output, records, train, test, seed)
    output.document(
        {
            "folder": folder,
            "n_train": len(train),
            "n_test_good": int((test.target == 1).sum()),
            "n_test_defects": int((test.target == -1).sum()),
            "machine": _machine(),
            "seed": seed,
            "detectors": records,
        }
    )


def _measured(detector, train, test, seed):
    """What one detector shows, or its error, which is no reason to leave the others."""
    from ..exceptions import ThresholdWarning, TrainingError
    from ..metrics import evaluate

    record = dict.fromkeys(
        (
            *("image_roc_auc", "image_roc_auc_low", "image_roc_auc_high", "aupro"),
            *("false_alarm_rate", "detection_rate", "fit_seconds", "image_milliseconds", "error"),
        )
    )
    try:
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ThresholdWarning)  # the table has what was flagged
            detector.fit(train)
        record["fit_seconds"] = time.perf_counter() - began
        detector.score_samples(test.images[:1])  # warms up
        began = time.perf_counter()
        detector.score_samples(test.images)
        record["image_milliseconds"] = 1000 * (time.perf_counter() - began) / len(test.images)
        found = evaluate(detector, test.images, test.masks, y=test.target, random_state=seed)
    except (ValueError, TrainingError) as error:
        return record | {"error": text_of(error)}
    scores = found.rows[0].scores
    auroc, aupro = scores["image_roc_auc"], scores.get("aupro")
    record |= {
        "image_roc_auc": auroc.value,
        "image_roc_auc_low": auroc.low,
        "image_roc_auc_high": auroc.high,
        "aupro": aupro and aupro.value,
        "false_alarm_rate": found["false_alarm_rate"],
        "detection_rate": found["detection_rate"],
    }
    return record


def _print(output, records, train, test, seed):
    header = ["detector", "image AUROC", "95 % interval", "AUPRO", "good flagged"]
    header += ["defects flagged", "fit", "an image"]
    order = sorted(records, key=lambda r: -(r["image_roc_auc"] or 0))
    output.table(header, [_cells(record) for record in order], align=header[1:])
    good, defects = int((test.target == 1).sum()), int((test.target == -1).sum())
    facts = ", ".join(f"{name} {value}" for name, value in _machine().items())
    output.report(
        f"\nFitted on {len(train)} good images, measured on {good} good ones and {defects} with "
        f"defects, once, seed {seed}. {facts}."
    )
    for record in records:
        if record["error"]:
            output.report(f"{record['detector']}: {record['error']}")


def _cells(record):
    def cell(value, form):
        return "" if value is None else format(value, form)

    low, high = record["image_roc_auc_low"], record["image_roc_auc_high"]
    interval = "" if low is None else "no errors" if low != low else f"{low:.3f} to {high:.3f}"
    return [
        record["detector"],
        cell(record["image_roc_auc"], ".3f"),
        interval,
        cell(record["aupro"], ".3f"),
        cell(record["false_alarm_rate"], ".1%"),
        cell(record["detection_rate"], ".1%"),
        cell(record["fit_seconds"], ".1f") + " s",
        cell(record["image_milliseconds"], ".0f") + " ms",
    ]


def _machine():
    from importlib.metadata import version

    import torch

    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "skanomaly": version("skanomaly"),
        "torch": version("torch"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _names(text):
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise CommandError("--detectors: there is no name; skanomaly detectors lists them")
    return names
