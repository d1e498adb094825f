"""``skanomaly export``: a model as an ONNX file, compared with the model."""

from __future__ import annotations

import os

import click

from ._app import command, trust_pickle
from ._models import load_detector
from ._output import CommandError


@command()
@click.argument("model")
@click.argument("folder")
@click.option("-o", "--out", required=True, metavar="ONNX", help="Such as model.onnx.")
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="So many of FOLDER, in the order of names, are scored by both.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    default=1e-4,
    show_default=True,
    help="Largest difference of scores and maps, relative to their scale.",
)
@trust_pickle
def export(output, model, folder, out, n_images, tolerance, trust_pickle):
    """Write MODEL as an ONNX file, which needs neither PyTorch nor skanomaly.

    FOLDER holds images as they will be scored, of one size. The file and the model both score
    them, and nothing is written if they differ.
    """
    from ..deployment.onnx_export import export_onnx
    from ..images import ImageFiles

    if out == "-":
        raise CommandError("--out: name a file, such as model.onnx")
    detector = load_detector(model, trust_pickle)
    images = ImageFiles.from_folder(folder, recursive=True)[:n_images]
    with output.progress("exporting"):
        report = export_onnx(detector, out, images, tolerance=tolerance)
    output.report(
        f"{out}: {os.path.getsize(out) / 2**20:.1f} MiB. On {report.n_images} images scores differ "
        f"by up to {report.score_difference:.1e} and maps by {report.map_difference:.1e} of their "
        f"scale (allowed: {tolerance:g}); {report.n_other_labels} verdicts differ."
    )
    output.document(
        {"model": model, "out": out, "bytes": os.path.getsize(out), "tolerance": tolerance}
        | report._asdict()
    )
