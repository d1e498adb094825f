"""``skanomaly score``: verdicts on the images of a folder, as a table."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import click

from .._rows import (
    HEADER,
    as_csv,
    cells,
    counts_of,
    in_words,
    key_of,
    read_rows,
    row_of,
    stamp_of,
)
from .._scoring import batch_size_of, judge
from ._app import command, exit_zero, status, trust_pickle
from ._folders import check_not_below
from ._growing_table import GrowingTable
from ._models import digest_of, load_detector, opened
from ._output import is_standard_output, say
from ._pictures import SUFFIXES, MapFiles

OF_ROWS = """\b
Columns of the CSV file, a line an image:
  file             name below FOLDER
  verdict          OK, or NG: the score is above the threshold
  score, threshold higher = more anomalous
  times_threshold  the one divided by the other
  p_value          low = rare among good images
  n_regions        where the map is above its own threshold, and of the
  left, top,       largest of them the box, from the upper left corner,
  width, height,   and the number of pixels
  area
  error            why the image could not be scored, or its map written
  bytes, modified  of the file when it was scored
  model            beginning of the SHA-256 of the model's file

Names have the bytes that they have on disk. One that begins with = + - @,
a tab or a line's end, which a spreadsheet would run as a formula, has an
apostrophe before it.
"""

maps_options = (
    click.option("--maps", metavar="DIR", help="Also write each image's anomaly map there."),
    click.option(
        "--map-format",
        type=click.Choice(list(SUFFIXES)),
        default="picture",
        show_default=True,
        help="To look at; or values: 16-bit PNG, 0 to 4 map thresholds; or float32 as of NumPy.",
    ),
)


def with_maps_options(function):
    """Add --maps and --map-format."""
    for option in reversed(maps_options):
        function = option(function)
    return function


@command(OF_ROWS)
@click.argument("model")
@click.argument("folder")
@click.option(
    "--out", default="scores.csv", metavar="CSV", show_default=True, help="- is standard output."
)
@with_maps_options
@click.option(
    "--resume",
    is_flag=True,
    help="Keep the rows, of this model and unchanged files, that an earlier run has written, "
    "whether it came to an end or not.",
)
@exit_zero
@trust_pickle
def score(output, model, folder, out, maps, map_format, resume, exit_zero, trust_pickle):
    """Score the images of FOLDER and its sub-folders.

    MODEL is a file of skanomaly fit, skanomaly.save or export_onnx. The CSV file is written
    whole or not at all; a run that was interrupted leaves what it has done in CSV.partial, with
    which --resume goes on.
    """
    from ..images import ImageFiles

    output.claim(out)
    paths = list(ImageFiles.from_folder(folder, recursive=True).paths)
    if maps:
        check_not_below(folder, maps, "--maps")
    detector = load_detector(model, trust_pickle)
    digest = digest_of(model)
    map_files = MapFiles(maps, map_format, detector) if maps else None
    rows = []
    with ExitStack() as stack:
        file = stack.enter_context(opened(out))
        journal = _journal(out, resume)
        kept = _kept(out, journal, digest, map_files) if resume else {}
        bar = stack.enter_context(output.progress("scoring", len(paths)))
        if journal is not None:
            stack.callback(journal.close)
        file.write(HEADER)
        size = batch_size_of(detector)
        for start in range(0, len(paths), size):
            batch = paths[start : start + size]
            new = _rows_of(batch, folder, detector, digest, kept, map_files, journal)
            rows += new
            file.write(as_csv(map(cells, new)))
            file.flush()  # for who reads from a pipe
            bar(len(batch))
    if journal is not None:
        journal.path.unlink(missing_ok=True)
    return _conclude(output, out, rows, exit_zero, detector, model, digest)


def _journal(out, resume):
    """What a run that is interrupted leaves, beside a file to write."""
    if is_standard_output(out) or (os.path.exists(out) and not os.path.isfile(out)):
        return None
    path = Path(f"{os.path.realpath(out)}.partial")
    if not resume:
        path.unlink(missing_ok=True)
    return GrowingTable(path)


def _kept(out, journal, digest, map_files):
    """Rows of earlier runs that hold still, by what tells files from others."""
    if journal is None:
        return {}
    kept = {}
    for row in (*read_rows(out)[0], *journal.rows):
        if row["model"] == digest[:12] and not row["error"]:
            kept[key_of(row)] = row
    return kept


def _rows_of(paths, folder, detector, digest, kept, map_files, journal):
    """Rows of a batch of files, in order: kept ones, and new ones."""
    rows, left = [], []
    for i, path in enumerate(paths):
        # What is told of a file comes before it is read, lest a change meanwhile be missed.
        name, stamp = str(Path(path).relative_to(folder)), stamp_of(path)
        known = kept.get(key_of(row_of(name, stamp, None, None, detector, digest)))
        if known is not None and map_files is not None and not map_files.path_of(name).is_file():
            known = None
        rows.append(known)
        if known is None:
            left.append((i, path, name, stamp))
    new = judge(detector, [path for _, path, _, _ in left])
    for (i, path, name, stamp), (found, error) in zip(left, new):
        if found is not None and map_files is not None:
            error = map_files.save(name, path, found[2], found[0])
        rows[i] = row_of(name, stamp, found, error, detector, digest)
        if error is not None:
            say(f"{name}: {error}")
    if journal is not None and left:
        journal.append([rows[i] for i, *_ in left])
    return rows


def _conclude(output, out, rows, exit_zero, detector, model, digest):
    """Say what was found; the exit status."""
    counts = counts_of(rows)
    output.report(in_words(counts, out), out)
    output.document(
        {"model": model, "sha256": digest, "threshold": -float(detector.offset_), **counts}
        | {"out": out, "images": rows}
    )
    return status(counts["n_flagged"], counts["n_failed"], exit_zero)
