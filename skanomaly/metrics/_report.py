"""What an evaluation found, as a table, HTML, CSV, dict or data frame."""

from __future__ import annotations

import csv
import html
import io
from typing import NamedTuple

import numpy as np

from .._atomic import replaced
from .._markdown import escaped, table

# The others of a group are in the records; a wider table would not fit a terminal.
_SHOWN_BY_GROUP = ("image_roc_auc", "pixel_roc_auc", "aupro", "aupimo", "detection_rate", "found")


class Estimate(NamedTuple):
    """A score and its confidence interval."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """Scores of one group of images or regions."""

    group: str  #: "all", "product", "defect type", "defect size" or "defect contrast"
    name: str
    extent: str  #: of the sizes or contrasts in the group
    n_normal: int  #: images
    n_anomalous: int  #: images
    n_regions: int | None  #: None without masks
    scores: dict  #: name -> Estimate


class EvaluationReport:
    """What `evaluate` found; prints as a table, and shows as one in a notebook.

    Attributes
    ----------
    rows : list of Row
        ``rows[0]`` is of all images. Each has ``group``, ``name``, ``extent``,
        ``n_normal``, ``n_anomalous``, ``n_regions`` and ``scores``, a dict from a
        metric's name to its ``value``, ``low`` and ``high``.
    detector_name : str
    confidence_level : float
    """

    def __init__(self, rows, detector_name, confidence_level):
        self.rows = rows
        self.detector_name = detector_name
        self.confidence_level = confidence_level

    def __getitem__(self, metric):
        """The value of a metric over all images."""
        return self.rows[0].scores[metric].value

    def __contains__(self, metric):
        return metric in self.rows[0].scores

    def __iter__(self):
        """Names of the metrics, as of a dict."""
        return iter(self.rows[0].scores)

    def to_records(self):
        """One dict for each group and metric, with flat values.

        Returns
        -------
        list of dict
            Keys ``group``, ``name``, ``extent``, ``n_normal``, ``n_anomalous``,
            ``n_regions``, ``metric``, ``value``, ``low``, ``high``.
        """
        return [
            {
                **{field: getattr(row, field) for field in Row._fields[:-1]},
                "metric": metric,
                **estimate._asdict(),
            }
            for row in self.rows
            for metric, estimate in row.scores.items()
        ]

    def to_dict(self):
        """All of it as plain dicts and lists, which `json` takes.

        Returns
        -------
        dict
            NaN becomes None, as JSON has no NaN.
        """
        return {
            "detector": self.detector_name,
            "confidence_level": self.confidence_level,
            "rows": [
                {
                    **row._asdict(),
                    "scores": {
                        metric: {key: _or_none(value) for key, value in estimate._asdict().items()}
                        for metric, estimate in row.scores.items()
                    },
                }
                for row in self.rows
            ],
        }

    def to_csv(self, path=None):
        """The records as comma-separated values.

        Parameters
        ----------
        path : str, path-like or None, default=None
            Where to write them; None only returns them.

        Returns
        -------
        str
        """
        records = self.to_records()
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        if path is not None:
            with replaced(path) as file:
                file.write(buffer.getvalue().encode())
        return buffer.getvalue()

    def to_frame(self):
        """The records as a data frame.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas: pip install pandas; to_csv and to_records do not"
            ) from error
        return pd.DataFrame(self.to_records())

    def to_markdown(self):
        """The tables that it prints as, in Markdown.

        Returns
        -------
        str
        """
        return "\n\n".join(
            f"{escaped(caption)}\n\n{table(header, lines)}"
            for caption, (header, *lines) in self._tables()
        )

    def __str__(self):
        return "\n\n".join(
            "\n".join([caption, *_aligned(cells)]) for caption, cells in self._tables()
        )

    __repr__ = __str__

    def _repr_html_(self):
        return "".join(_html_table(caption, *cells) for caption, cells in self._tables())

    def _tables(self):
        """(caption, lines of cells), of all images first, then of each kind of group."""
        overall = self.rows[0]
        percent = f"{100 * self.confidence_level:g} % interval"
        n_regions = "" if overall.n_regions is None else f", {overall.n_regions} defect regions"
        caption = (
            f"{self.detector_name}: {overall.n_normal} normal and {overall.n_anomalous} "
            f"anomalous images{n_regions}"
        )
        n_products = sum(row.group == "product" for row in self.rows)
        if n_products:
            caption += f"; metrics are means over {n_products} product{'s'[: n_products > 1]}"
        lines = [[metric, _cell(e.value), _interval(e)] for metric, e in overall.scores.items()]
        yield caption, [["", "value", percent], *lines]
        for group in dict.fromkeys(row.group for row in self.rows[1:]):
            rows = [row for row in self.rows if row.group == group]
            of_regions = group in ("defect size", "defect contrast")
            metrics = [metric for metric in _SHOWN_BY_GROUP if metric in rows[0].scores]
            lines = [
                [
                    f"{row.name}, {row.extent}" if row.extent else row.name,
                    str(row.n_regions if of_regions else row.n_anomalous),
                    *(_cell(row.scores[metric].value) for metric in metrics),
                ]
                for row in rows
            ]
            yield f"by {group}", [["", "regions" if of_regions else "images", *metrics], *lines]


def _html_table(caption, header, *lines):
    def row(cells, tag):
        first, *others = map(html.escape, cells)
        numbers = "".join(f'<{tag} style="text-align: right">{cell}</{tag}>' for cell in others)
        return f'<tr><{tag} style="text-align: left">{first}</{tag}>{numbers}</tr>'

    return (
        f'<table><caption style="white-space: nowrap">{html.escape(caption)}</caption>'
        f"<thead>{row(header, 'th')}</thead>"
        f"<tbody>{''.join(row(line, 'td') for line in lines)}</tbody></table>"
    )


def _or_none(value):
    return None if np.isnan(value) else value


def _interval(estimate):
    if np.isnan(estimate.value):
        return ""
    if np.isnan(estimate.low):
        return "no errors to draw from"
    return f"{_cell(estimate.low)} to {_cell(estimate.high)}"


def _cell(value):
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _aligned(cells):
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in cells
    ]
