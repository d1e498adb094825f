"""``skanomaly report``: a page on images and what a model makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ._app import INCOMPLETE, command, trust_pickle
from ._models import load_detector
from ._output import CommandError, say


@command()
@click.argument("model")
@click.argument("folder")
@click.option("-o", "--out", required=True, metavar="HTML", help="Such as report.html.")
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    help="FOLDER is laid out in splits: take this one, with what is known of its defects.",
)
@click.option("--title", help="Of the page.")
@trust_pickle
def report(output, model, folder, out, split, title, trust_pickle):
    """Write a page to look through the images of FOLDER, and to decide on them.

    It is one file that needs no other. Without --split nothing is known of the images, and
    sub-folders are groups.
    """
    from ..reports import inspection_report

    if out == "-":
        raise CommandError("--out: name a file, such as report.html")
    detector = load_detector(model, trust_pickle)
    known = _labelled(folder, split) if split else _unknown(folder)
    images, errors = known.pop("images").readable(n_jobs=os.cpu_count())
    for error in errors:
        say(f"{Path(error.path).relative_to(folder)}: {error.reason}")
    if not len(images):
        raise CommandError(f"{folder}: none of the {len(errors)} images can be read")
    bad = {error.index for error in errors}
    known = {
        name: None if values is None else [v for i, v in enumerate(values) if i not in bad]
        for name, values in known.items()
    }
    with output.progress(f"scoring {len(images)} images"):
        inspection_report(detector, images, out, title=title, **known)
    output.report(f"{len(images)} images, {len(errors)} left out: {out}")
    output.document({"model": model, "out": out, "n_images": len(images), "n_failed": len(errors)})
    return INCOMPLETE if errors else 0


def _labelled(folder, split):
    from ..datasets import load_image_folder

    found = load_image_folder(folder, split=split)
    return {
        "images": found.images,
        "y": found.target,
        "masks": found.masks,
        "defect_types": found.defect_types,
        "names": found.filenames,
    }


def _unknown(folder):
    from ..images import ImageFiles

    files = ImageFiles.from_folder(folder, recursive=True)
    names = [Path(path).relative_to(folder) for path in files.paths]
    groups = [name.parent.as_posix() for name in names]
    return {
        "images": files,
        "names": [name.as_posix() for name in names],
        "groups": groups if len(set(groups)) > 1 else None,
    }
