"""``skanomaly fit``: a detector from a folder of good parts."""

from __future__ import annotations

import os
import sys
import time
from contextlib import redirect_stdout

import click

from ._app import command
from ._estimators import (
    TO_START_WITH,
    assign,
    detector_named,
    detector_of_file,
    fill,
    names_of_detectors,
    with_settings,
)
from ._folders import all_good_option, good_images
from ._models import opened, promise_in_words, threshold_facts, write_model
from ._output import CommandError

WHY = (
    "no --detector given: make_ensemble(), a memory and a subspace of pretrained features with the "
    "contrast of pixels, which has the best means over six kinds of parts "
    "(benchmarks/results/accuracy.md) and is fitted in seconds"
)

OF_SETTINGS = """\b
Examples:
  skanomaly fit good/ -o model.skanomaly
  skanomaly fit good/ -o model.skanomaly --detector PatchCore --set coreset=0.05
  skanomaly fit good/ -o model.skanomaly --set memory__coreset=2000
  skanomaly fit good/ -o model.skanomaly --config pipeline.yaml

skanomaly detectors NAME prints a detector's parameters. Equal commands on
equal images give equal models, on one machine.
"""


def _complete_detectors(context, option, incomplete):
    return [name for name in names_of_detectors() if name.startswith(incomplete)]


@command(OF_SETTINGS)
@click.argument("folder")
@click.option(
    "-o", "--out", required=True, metavar="MODEL", help="Such as model.skanomaly; - is stdout."
)
@click.option(
    "--detector",
    metavar="NAME",
    shell_complete=_complete_detectors,
    help="Of skanomaly detectors; make_ensemble if it is left out.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter, its value as YAML; of parts as part__name.",
)
@click.option("--config", metavar="YAML", help="A file that describes a detector, or a pipeline.")
@click.option(
    "--false-alarm-rate",
    type=float,
    help="Share of new good parts that may be flagged, such as 0.05.",
)
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides all that is drawn.")
@all_good_option
@click.option(
    "--pickle", is_flag=True, help="Write a pickle, for joblib.load, instead of skanomaly.load."
)
def fit(
    output,
    folder,
    out,
    detector,
    settings,
    config,
    false_alarm_rate,
    device,
    seed,
    pickle,
    all_good,
):
    """Fit a detector on FOLDER: images of good parts, or a folder with train/good in it."""
    output.claim(out)
    if detector and config:
        raise CommandError("--detector and --config both say what is fitted; give one of them")
    chosen = detector_of_file(config) if config else detector_named(detector or TO_START_WITH)
    with_settings(chosen, settings)
    if false_alarm_rate is not None:
        assign(chosen, "--false-alarm-rate", false_alarm_rate=false_alarm_rate)
    if device is not None:
        _check_device(device)
        assign(chosen, "--device", device=device)
    check_seed(seed)
    fill(chosen, random_state=seed, n_jobs=os.cpu_count())
    images = good_images(folder, all_good)
    if not (detector or config):
        output.report(WHY, out)
    began = time.perf_counter()
    with opened(out) as file:  # first, so that a wrong path costs no training
        with (
            output.progress(f"fitting {type(chosen).__name__} on {len(images)} images"),
            redirect_stdout(sys.stderr),  # what a training prints
        ):
            chosen.fit(images)
        write_model(chosen, file, pickle)
    seconds = time.perf_counter() - began
    facts = threshold_facts(chosen)
    output.report(
        f"Fitted {type(chosen).__name__} on {len(images)} images in {seconds:.0f} s; threshold "
        f"{facts['threshold']:.4g}, {promise_in_words(facts)}: {out} "
        f"({'a pickle' if pickle else 'for skanomaly score and skanomaly.load'})",
        out,
    )
    output.document(
        {
            "out": out,
            "detector": type(chosen).__name__,
            "why": None if detector or config else WHY,
            "n_images": len(images),
            "seconds": seconds,
            **facts,
        }
    )


def check_seed(seed):
    """Refuse what seeds no generator."""
    if not 0 <= seed < 2**32:
        raise CommandError(f"--seed {seed}: expected 0 to {2**32 - 1}")


def _check_device(name):
    from torch import zeros

    from .._device import resolve_device

    try:
        zeros(1, device=resolve_device(name)).item()
    except Exception as error:  # of many kinds, by what the device lacks
        raise CommandError(f"--device {name} cannot be used here ({error}); try auto") from None
