"""``skanomaly demo``: all of it on drawn defects, without data of one's own."""

from __future__ import annotations

import time

import click

from .._atomic import replaced
from ._app import command
from ._fit import check_seed
from ._models import promise_in_words, threshold_facts

N_TRAIN, N_VALIDATION, N_GOOD = 60, 40, 40


@command()
@click.option(
    "--texture",
    type=click.Choice(["brick", "grass", "gravel"]),
    default="brick",
    show_default=True,
    help="A photograph that comes with scikit-image.",
)
@click.option(
    "--out",
    metavar="PNG",
    default="skanomaly-demo.png",
    show_default=True,
    help="The sheet of pictures.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def demo(output, texture, out, seed):
    """Fit and evaluate on generated defects; no data needed."""
    check_seed(seed)
    began = time.perf_counter()
    output.claim(out)
    with replaced(out) as file:
        facts, *drawn = _run(output, texture, seed)
        _save_sheet(file, *drawn)
    output.report(f"Sheet: {out} (white outline: what was found; blue: what was drawn)")
    facts |= {"out": out, "seconds": time.perf_counter() - began}
    output.report(f"{facts['seconds']:.0f} s in all.")
    output.document(facts)


def _run(output, texture, seed):
    from ..compose.ensemble_detector import make_ensemble
    from ..datasets import make_texture_defects

    output.report(
        f"Real texture: {texture} (a photograph). Fitting make_ensemble() on {N_TRAIN} crops "
        f"without defects, its threshold on {N_VALIDATION} others ..."
    )
    train = make_texture_defects(texture, split="train", n_normal=N_TRAIN, random_state=seed)
    # The other part of the photograph, where new crops are from, is not quite like the first:
    # a threshold holds for images of the source that set it.
    good = make_texture_defects(
        texture,
        split="test",
        n_normal=N_VALIDATION,
        n_defective=0,
        random_state=(seed + 1) % 2**32,
    )
    test = make_texture_defects(texture, split="test", n_normal=N_GOOD, random_state=seed)
    began = time.perf_counter()
    with output.progress("fitting"):
        detector = make_ensemble(random_state=seed).fit(train.images, X_val=good.images)
    fit_seconds = time.perf_counter() - began
    output.report(
        f"Fitted in {fit_seconds:.0f} s. Scoring {len(test.images)} crops, most with a generated "
        "defect ..."
    )
    began = time.perf_counter()
    with output.progress("scoring"):
        found = detector.detect(test.images)
    milliseconds = 1000 * (time.perf_counter() - began) / len(test.images)
    facts = _facts(output, detector, test, found)
    facts |= {"fit_seconds": fit_seconds, "image_milliseconds": milliseconds}
    output.report(f"{milliseconds:.0f} ms an image.")
    return facts, test, found, detector


def _facts(output, detector, test, found):
    from sklearn.metrics import roc_auc_score

    from ..calibration import false_alarm_interval
    from ..metrics import aupro_score, pixel_roc_auc_score

    good = test.defect_types == "good"
    rows = []
    for name in [*dict.fromkeys(test.defect_types[~good]), "all"]:
        chosen = good | (test.defect_types == name) if name != "all" else good | ~good
        masks, maps = test.masks[chosen], found.maps[chosen]
        image_auroc = roc_auc_score(test.target[chosen], found.scores[chosen])
        aurocs = image_auroc, pixel_roc_auc_score(masks, maps), aupro_score(masks, maps)
        rows.append((str(name), int((chosen & ~good).sum()), *map(float, aurocs)))
    header = ["defect", "images", "image AUROC", "pixel AUROC", "AUPRO"]
    cells = [[name, n, *(f"{value:.3f}" for value in values)] for name, n, *values in rows]
    output.report("")
    output.table(header, cells, align=header[1:])
    flagged = found.labels == -1
    n_found, n_false = int(flagged[~good].sum()), int(flagged[good].sum())
    threshold = threshold_facts(detector)
    n = threshold["n_validation"]
    low, high = false_alarm_interval(n, detector.false_alarm_rate, n_new=N_GOOD)
    output.report(
        f"\nAt the detector's own threshold: {n_found} of {(~good).sum()} defects found, {n_false} "
        f"of {N_GOOD} good crops flagged.\nThe threshold was {promise_in_words(threshold)}: of "
        f"{N_GOOD} new good crops {low * N_GOOD:.0f} to {high * N_GOOD:.0f}. More good images "
        "promise more."
    )
    return {
        "rows": [dict(zip(header, row)) for row in rows],
        "n_defects": int((~good).sum()),
        "n_defects_found": n_found,
        "n_good": N_GOOD,
        "n_false_alarms": n_false,
        "n_false_alarms_promised": [round(low * N_GOOD), round(high * N_GOOD)],
        **threshold,
    }


def _save_sheet(file, test, found, detector):
    """Two images of each kind, in rows."""
    import numpy as np

    from ..plotting import finding_picture, finding_sheet

    names = dict.fromkeys(test.defect_types)
    pictures = [
        finding_picture(
            test.images[i],
            found.maps[i],
            score=found.scores[i],
            offset=detector.offset_,
            map_threshold=detector.map_threshold_,
            mask=test.masks[i],
            title=name,
        )
        for name in names
        for i in np.flatnonzero(test.defect_types == name)[:2]
    ]
    finding_sheet(pictures).save(file, "PNG")
