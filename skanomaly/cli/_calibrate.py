"""``skanomaly calibrate``: the threshold anew, from good images or a person's decisions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from ._app import command, trust_pickle
from ._estimators import assign
from ._models import (
    kind_of_model,
    load_detector,
    opened,
    promise_in_words,
    threshold_facts,
    write_model,
)
from ._output import CommandError


@command()
@click.argument("model")
@click.argument("folder", required=False)
@click.option("-o", "--out", required=True, metavar="MODEL2", help="- is stdout.")
@click.option(
    "--decisions",
    metavar="CSV",
    help="Of a report: images that a person called good set the threshold.",
)
@click.option(
    "--false-alarm-rate", type=float, help="Another share of good parts that may be flagged."
)
@trust_pickle
def calibrate(output, model, folder, out, decisions, false_alarm_rate, trust_pickle):
    """Set MODEL's threshold anew, and write MODEL2; nothing else changes.

    All images of FOLDER are taken for good ones that MODEL has not learnt from; with --decisions
    FOLDER is where the images lie (or the current folder), and those that were called good set
    the threshold. With --false-alarm-rate alone the scores kept from the fit do.
    """
    output.claim(out)
    if folder is None and decisions is None and false_alarm_rate is None:
        raise CommandError(
            "there is nothing to set the threshold from; name a FOLDER of good images, --decisions "
            "or --false-alarm-rate"
        )
    kind = kind_of_model(model)
    if kind == "onnx":
        raise CommandError(
            f"{model} is an exported detector, whose threshold is in its file; calibrate the model "
            "that it was made of, and export that again"
        )
    detector = load_detector(model, trust_pickle)
    if false_alarm_rate is not None:
        assign(detector, "--false-alarm-rate", false_alarm_rate=false_alarm_rate)
    before = -float(detector.offset_)
    good, defective = _images(folder, decisions)
    with opened(out) as file:
        with output.progress("scoring"):
            detector.calibrate(good)
            n_found = None if not defective else int((detector.predict(defective) == -1).sum())
        write_model(detector, file, as_pickle=kind == "pickle")
    facts = threshold_facts(detector)
    source = "the scores kept from the fit" if good is None else f"{len(good)} good images"
    output.report(
        f"Threshold {facts['threshold']:.4g} (before: {before:.4g}) from {source}, "
        f"{promise_in_words(facts)}: {out}",
        out,
    )
    if good is not None:
        output.report("It holds if the model has not learnt from these images.", out)
    if n_found is not None:
        output.report(
            f"{n_found} of {len(defective)} images called defects are flagged by it.", out
        )
    output.document(
        {
            "model": model,
            "out": out,
            "threshold_before": before,
            "n_good": None if good is None else len(good),
            "n_defects": len(defective),
            "n_defects_flagged": n_found,
            **facts,
        }
    )


def _images(folder, decisions):
    """Good images, or None, and defective ones."""
    from ..images import ImageFiles

    if decisions is None:
        return (None if folder is None else _all_good(folder)), []
    from ..reports import load_decisions

    found = load_decisions(decisions)
    below = Path(folder or ".")
    paths = {"good": [], "defect": [], "unsure": []}
    for name, decision in zip(found.names, found.decisions):
        paths[str(decision)].append(below / str(name))
    missing = [path for path in (*paths["good"], *paths["defect"]) if not path.is_file()]
    if missing:
        raise CommandError(
            f"{decisions} names {missing[0]}, which is not there; name the folder that the images "
            "lie in"
        )
    if not paths["good"]:
        counts = Counter(map(str, found.decisions))
        raise CommandError(
            f"{decisions} calls no image good ({dict(counts)}), and only such set a threshold"
        )
    return ImageFiles(paths["good"]), ImageFiles(paths["defect"])


def _all_good(folder):
    """The images of a folder, if all are good ones as far as its layout tells."""
    from ..datasets import load_image_folder
    from ..exceptions import InvalidImageError
    from ..images import ImageFiles

    ImageFiles.from_folder(folder, recursive=True)  # its error is about the folder itself
    try:
        found = load_image_folder(folder, split=None, mask_folder=None)
    except InvalidImageError as error:
        raise CommandError(
            f"{folder}: whether all of its images are good ones cannot be told ({error.reason}); "
            "name a folder that holds good images alone, none that were learnt from"
        ) from None
    if (found.target == -1).any():
        kinds = ", ".join(sorted({*map(str, found.defect_types)} - {"good"}))
        raise CommandError(
            f"{folder} holds {int((found.target == -1).sum())} images of defects ({kinds}); name "
            "the folder of good ones"
        )
    return found.images
