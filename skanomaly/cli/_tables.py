"""Tables of other results than scores, as CSV."""

from __future__ import annotations

import csv
import io

from .._rows import cell


def csv_of(records):
    """Dicts with equal keys as CSV, in bytes; text that is no formula to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(records[0])
    writer.writerows([cell(value) for value in record.values()] for record in records)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
