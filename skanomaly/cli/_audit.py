"""``skanomaly audit``: what does not belong among training images."""

from __future__ import annotations

import click

from .._atomic import replaced
from ._app import command, exit_zero, status
from ._fit import check_seed
from ._tables import csv_of


@command()
@click.argument("folder")
@click.option("--html", metavar="HTML", help="Write a page of thumbnails, the oddest first.")
@click.option("--csv", metavar="CSV", help="Write a line an image, the oddest first.")
@click.option("--seed", type=int, default=0, show_default=True)
@exit_zero
def audit(output, folder, html, csv, seed, exit_zero):
    """Look through FOLDER, images of good parts, for what does not belong there.

    Defects among them, near-duplicates, other sizes, light or sharpness, and files that cannot
    be read. Nothing is removed; look at what is flagged.
    """
    from ..images import ImageFiles
    from ..preprocessing import audit_images

    check_seed(seed)
    for path in (html, csv):
        output.claim(path)
    files = ImageFiles.from_folder(folder, recursive=True)
    with output.progress(f"looking through {len(files)} images"):
        found = audit_images(files, random_state=seed)
    if html:
        found.to_html(html)
    records = found.to_records()
    if csv:
        with replaced(csv) as file:
            file.write(csv_of(records))
    output.report(str(found))
    n_unreadable = int(found.flags["unreadable"].sum())
    output.document(
        {
            "n_images": len(files),
            "n_flagged": int(found.flagged.sum()),
            "flags": {name: int(marked.sum()) for name, marked in found.flags.items()},
            "images": records,
        }
    )
    return status(int(found.flagged.sum()), n_unreadable, exit_zero)
