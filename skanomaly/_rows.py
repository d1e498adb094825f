"""Rows of scores: what is said of an image, as a dict and as a line of CSV."""

from __future__ import annotations

import csv
import io
import os
import re
from datetime import UTC, datetime

import numpy as np

from .calibration import conformal_p_values
from .exceptions import InvalidImageError
from .images import is_url, state_of_url

#: Names of all columns, in order, and what their values are where they are not None.
COLUMN_TYPES = {
    "file": str,
    "verdict": str,
    "score": float,
    "threshold": float,
    "times_threshold": float,
    "p_value": float,
    "n_regions": int,
    "left": int,
    "top": int,
    "width": int,
    "height": int,
    "area": int,
    "error": str,
    "bytes": int,
    "modified": str,
    "model": str,
}
COLUMNS = tuple(COLUMN_TYPES)

# What a spreadsheet would take for a formula is quoted (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NO_QUOTE = re.compile(r"^'([=+\-@\t\r\n])")


def row_of(name, stamp, found, error, detector, model):
    """What is said of an image: a dict of all columns, None where there is nothing to say.

    Parameters
    ----------
    name : str
    stamp : (int, str or None) or None
        Of the file, see `stamp_of`.
    found : (float, int, ndarray) or None
        Score and label, as of detectors, and map.
    error : str or None
    detector : detector
    model : str
        Digest of its file.
    """
    row = dict.fromkeys(COLUMNS) | {"file": name, "error": error, "model": model[:12]}
    if stamp is not None:
        row |= {"bytes": stamp[0], "modified": stamp[1]}
    if found is None:
        return row
    score, label, anomaly_map = found
    threshold = -float(detector.offset_)
    p = conformal_p_values(np.array([score]), detector.validation_scores_, np.random.RandomState(0))
    row |= {
        "verdict": "NG" if label == -1 else "OK",
        "score": -float(score),
        "threshold": threshold,
        "times_threshold": -float(score) / threshold if threshold > 0 else None,
        "p_value": float(p[0]),
    }
    return row | _regions(anomaly_map, detector.map_threshold_)


def _regions(anomaly_map, threshold):
    """Number of regions above the threshold, and the place of the largest."""
    if not anomaly_map.max() > threshold:
        return {"n_regions": 0}
    from .regions import find_regions  # whose import takes longer than the start of all else

    found = find_regions([anomaly_map], threshold)
    i = int(np.argmax(found.area))
    top, left, bottom, right = (int(found[s][i]) for s in ("top", "left", "bottom", "right"))
    return {
        "n_regions": len(found.area),
        **{"left": left, "top": top, "width": right - left, "height": bottom - top},
        "area": int(found.area[i]),
    }


def stamp_of(path):
    """Bytes of a file and when it was modified; None if it cannot be told.

    At an address the second is what else tells the file's state there, or None.
    """
    try:
        if is_url(path):
            size, state = state_of_url(path)
            return size, None if state is None else str(state)
        return stamp_from(os.stat(path))
    except (OSError, InvalidImageError):
        return None


def stamp_from(status):
    """The same of a file whose status, as of `os.stat`, is known."""
    return status.st_size, _as_time(status.st_mtime_ns)


def _as_time(nanoseconds):
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def key_of(row):
    """What tells a file, in one of its states, from another."""
    return row["file"], row["bytes"], row["modified"]


def cell(value):
    """A value as text, empty for None, that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return str(value)


def counts_of(rows):
    """How many were scored, flagged, and failed in some way."""
    return {
        "n_scored": sum(row["verdict"] is not None for row in rows),
        "n_flagged": sum(row["verdict"] == "NG" for row in rows),
        "n_failed": sum(row["error"] is not None for row in rows),
    }


def in_words(counts, out):
    """The same for people."""
    return ", ".join(f"{n} {name[2:]}" for name, n in counts.items()) + f": {out}"


def as_csv(rows):
    """Rows, or the header, as bytes; names have the bytes that they have on disk."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


HEADER = as_csv([COLUMNS])


def cells(row):
    """The values of a row in the order of the columns."""
    return [row[name] for name in COLUMNS]


def read_rows(path):
    """Rows of a file that was written here, of text; what a crash has cut off at its end is not.

    Returns
    -------
    rows : list of dict
    size : int
        Bytes up to the end of the last whole row.

    Raises
    ------
    ValueError
        If the file is another one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return [], 0
    content = content[: _end_of_rows(content)]
    if not content:
        return [], 0
    text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
    header, *rows = csv.reader(text)
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise ValueError(
            f"{path} is no table of scores of this version (its first line would be "
            f"{','.join(COLUMNS)}); name another file, or move it away"
        )
    return [_typed(dict(zip(COLUMNS, row)), path) for row in rows], len(content)


def _typed(row, path):
    """A row as `row_of` gives it, from cells."""
    try:
        for name, kind in COLUMN_TYPES.items():
            if kind is not str:
                row[name] = None if row[name] == "" else kind(row[name])
    except ValueError:
        raise ValueError(
            f"{path}: in the row of {row['file']} {name} is {row[name]!r:.40}, expected a number; "
            "name another file, or move it away"
        ) from None
    for name in ("verdict", "error", "modified"):
        row[name] = row[name] or None
    return row | {"file": _NO_QUOTE.sub(r"\1", row["file"])}


def _end_of_rows(content):
    """Where the last row ends whose line does; a line's end within quotes ends none."""
    end = position = n_quotes = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        n_quotes += line.count(b'"')
        if line.endswith(b"\n") and n_quotes % 2 == 0:
            end = position
    return end
