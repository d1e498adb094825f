"""Image files scored by a cluster, into files of rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from .._rows import COLUMN_TYPES, counts_of, row_of, stamp_of
from .._scoring import batch_size_of, judge
from .._unwrap import steps_of
from ._inputs import as_files, check_positive, loaded
from ._run import Run
from ._workers import Workers


def score_files(detector, files, client, out, *, format="csv", chunk_size=1000, retries=3):
    """Score image files on a Dask cluster, and keep the scores in files of rows.

    Each worker gets the detector once, however many chunks it scores, and a worker that comes
    later or is started anew does, too. A chunk whose worker is lost is scored by another. Few
    chunks are under way at a time, so the client's memory does not grow with their number. A
    run that was ended, whatever ended it, goes on where it was when it is called again: chunks
    whose rows are there are not scored anew, unless a file in them could not be read. Whether
    files have changed meanwhile is not looked at.

    Parameters
    ----------
    detector : detector, or path
        Fitted; or a file of `skanomaly.save` or `export_onnx`, which the client reads.
    files : ImageFiles, or sequence of paths or addresses
        What workers can read: a folder that all of them see, or an object store.
    client : distributed.Client
    out : path
        A folder of the client's, made if it is not there: ``part-0000.csv`` and so on, and
        ``run.json``, which says of which run they are.
    format : {"csv", "parquet"}, default="csv"
        Of the parts. Parquet needs pyarrow.
    chunk_size : int, default=1000
        Images of a part, which is what one task scores.
    retries : int, default=3
        How often a chunk is tried again when its task fails.

    Returns
    -------
    Bunch
        ``n_scored``, ``n_flagged``, ``n_failed`` and ``parts``, the paths in order.

    Raises
    ------
    ValueError
        If `out` holds scores of another run: another detector, other files, another format or
        size of chunks; it says which.

    See Also
    --------
    read_scores : What was written, as arrays.

    Notes
    -----
    The rows have the columns of ``skanomaly score``. A file that cannot be read has a row that
    says so, and ends nothing.

    Examples
    --------
    >>> from distributed import Client
    >>> from skanomaly.distributed import score_files
    >>> client = Client("scheduler:8786")  # doctest: +SKIP
    >>> files = ImageFiles.from_folder("s3://bucket/parts", recursive=True)  # doctest: +SKIP
    >>> score_files("model.skanomaly", files, client, "scores/").n_flagged  # doctest: +SKIP
    31
    """
    detector, files = loaded(detector), as_files(files)
    check_positive(chunk_size=chunk_size)
    model = _fingerprint(detector)
    run = Run(Path(out), format, len(files), int(chunk_size))
    run.claim({"model": model, "files": _digest(files)})
    counts = {i: run.counts_of(i) for i in range(len(run.blocks))}
    left = [i for i, of_part in counts.items() if of_part is None]
    tasks = ((i, (files[np.asarray(run.blocks[i])], model)) for i in left)
    with Workers(client, detector, retries) as workers:
        for i, rows in workers.results(_score, tasks):
            run.write(i, rows)
            counts[i] = counts_of(rows)
    names = ("n_scored", "n_flagged", "n_failed")
    totals = {name: sum(of_part[name] for of_part in counts.values()) for name in names}
    return Bunch(**totals, parts=[run.path_of(i) for i in range(len(run.blocks))])


def read_scores(folder):
    """What `score_files` has written, all parts as one.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Bunch of ndarray, each (n,)
        By column, in the order of the files. Numbers are float64, NaN where there is none;
        text is of dtype object, None where there is none.

    Raises
    ------
    ValueError
        If there is no such run in the folder, or it has not come to its end.
    """
    run = Run.in_folder(Path(folder))
    rows = [row for i in range(len(run.blocks)) for row in run.rows_of(i)]
    columns = {name: [row[name] for row in rows] for name in COLUMN_TYPES}
    return Bunch(
        **{
            name: np.array(values, dtype=object)
            if COLUMN_TYPES[name] is str
            else np.array([np.nan if v is None else v for v in values], dtype=np.float64)
            for name, values in columns.items()
        }
    )


def _score(detector, files, model):
    """Rows of files, as of `row_of`."""
    rows, size = [], batch_size_of(detector)
    for start in range(0, len(files), size):
        batch = files[start : start + size]
        stamps = [stamp_of(path) for path in batch.paths]
        for path, stamp, (found, error) in zip(batch.paths, stamps, judge(detector, batch)):
            rows.append(row_of(path, stamp, found, error, detector, model))
    return rows


def _fingerprint(detector):
    """What tells a fit from others: its threshold, and the scores that set it."""
    last = steps_of(detector)[1]
    digest = hashlib.sha256(np.float64(last.offset_).tobytes())
    digest.update(np.ascontiguousarray(last.validation_scores_, np.float64).tobytes())
    return digest.hexdigest()


def _digest(files):
    digest = hashlib.sha256(repr(files.convert).encode())
    for path in files.paths:
        digest.update(path.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()
