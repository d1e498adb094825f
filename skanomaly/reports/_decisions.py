"""What people decided on a report's page, read from the files that it saves."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
from sklearn.utils import Bunch

DECISIONS = ("good", "defect", "unsure")
FORMAT, VERSION = "skanomaly decisions", 1


def load_decisions(path):
    """Read the decisions that a page of `inspection_report` has saved, as CSV or JSON.

    Parameters
    ----------
    path : str or path-like
        The kind of file is told by its content, not by its name. A CSV file that a
        spreadsheet has saved again, with semicolons or a byte-order mark, is read too.

    Returns
    -------
    Bunch
        names : ndarray of str objects, shape (n,)
            Of the images, as in the report: the paths of images that are files.
        decisions : ndarray of str objects, shape (n,)
            "good", "defect" or "unsure". Images without a decision are not in it.

    Raises
    ------
    ValueError
        If the file is damaged or something else, holds another word than these three, or
        an image twice; it names the file and the line or entry.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skanomaly.reports import load_decisions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "decisions.csv"
    ...     _ = path.write_text("name,decision\\na.png,good\\nb.png,defect\\n")
    ...     found = load_decisions(path)
    >>> found.names[found.decisions == "good"]
    array(['a.png'], dtype=object)
    """
    with open(path, "rb") as file:
        content = file.read()
    where = os.fsdecode(path)
    # Names of files need not be UTF-8; what is not comes back as os.fsdecode gives it.
    text = content.decode("utf-8-sig", "surrogateescape")
    entries = _of_json if text.lstrip().startswith(("{", "[")) else _of_csv
    names, decisions, places = [], [], {}
    for place, name, decision in entries(text, where):
        if decision not in DECISIONS:
            raise ValueError(
                f"{where}, {place}: the decision is {decision!r}, expected one of "
                f"{', '.join(DECISIONS)}; correct it or remove the entry"
            )
        if name in places:
            raise ValueError(
                f"{where}, {place}: {name!r} has a decision already, in {places[name]}; "
                "remove one of them"
            )
        places[name] = place
        names.append(name)
        decisions.append(decision)
    return Bunch(names=np.array(names, object), decisions=np.array(decisions, object))


def _of_csv(text, where):
    """(place, name, decision) of each line."""
    header = text.split("\n", 1)[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        found = lines.fieldnames or []
        if not {"name", "decision"} <= set(found):
            raise ValueError(
                f"{where} has the columns {', '.join(map(repr, found)) or 'none'}, expected name "
                "and decision; pass a file that the page of an inspection report has saved"
            )
        for line in lines:
            if line["name"] is None or line["decision"] is None or None in line:
                raise ValueError(
                    f"{where}, line {lines.line_num}: has another number of cells than the first "
                    "line; save it again from the page"
                )
            yield f"line {lines.line_num}", line["name"], line["decision"]
    except csv.Error as error:
        raise ValueError(
            f"{where}, line {lines.line_num}: is damaged or cut short ({error}); save it again "
            "from the page"
        ) from error


def _of_json(text, where):
    """(place, name, decision) of each entry."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{where} is damaged or cut short ({error}); save it again from the page"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(
            f"{where} holds no decisions; pass a file that the page of an inspection report has "
            "saved"
        )
    if document.get("version") != VERSION:
        raise ValueError(
            f"{where} is of version {document.get('version')!r}, this one reads {VERSION}; update "
            "skanomaly"
        )
    entries = document.get("decisions")
    if not isinstance(entries, list):
        raise ValueError(f"{where} has no list of decisions; save it again from the page")
    for i, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{where}, entry {i}: has no name; save it again from the page")
        yield f"entry {i}", name, entry.get("decision")
