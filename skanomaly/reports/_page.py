"""The page of a report: one file, of a template, a style, scripts and the report's data."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files

import numpy as np

from ..plotting import palette, times_threshold

SCRIPTS = (
    "data.js",
    "colours.js",
    "outlines.js",
    "drawing.js",
    "decisions.js",
    "overview.js",
    "filters.js",
    "gallery.js",
    "viewer.js",
    "details.js",
    "main.js",
)
REGIONS_SHOWN = 50  # of an image, the highest
STEPS_OF_COLOUR = 256  # on each side of the threshold
SIDES = ("top", "left", "bottom", "right")


def page_parts(report):
    """The page of an InspectionReport as bytes, part by part.

    Parameters
    ----------
    report : InspectionReport

    Yields
    ------
    bytes
    """
    style, script = _resource("page.css"), "".join(map(_resource, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    encoded, places = [], []
    for picture in report.pictures:
        texts = [b64encode(picture[kind] or b"") for kind in ("thumbnail", "map", "mask")]
        encoded.append(b"".join(texts))
        places.append(list(map(len, texts)))
    filled = {
        "policy": escape(policy),
        "title": escape(printable(report.title)),
        "style": style,
        "script": script,
        "report": _json(_content(report, places)),
    }
    before, after = _resource("page.html").split("{{pictures}}")
    yield _filled(before, filled)
    yield from encoded
    yield _filled(after, filled)


def printable(text):
    """Text without what no page may hold, as bytes of a file's name that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _filled(template, values):
    for name, value in values.items():
        template = template.replace("{{" + name + "}}", value)
    return template.encode()


@cache
def _resource(name):
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _source(text):
    """What a policy calls an inline script or style by."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _json(value):
    """JSON that may stand in a script element: no name of a file can end it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content(report, places):
    evaluation = report.evaluation
    multiples = not np.isnan(times_threshold(0.0, report.offset))
    return {
        "id": report.id,
        "title": report.title,
        "detector": report.detector_name,
        "made": datetime.now().astimezone().isoformat(timespec="minutes"),
        "offset": report.offset,
        "mapThreshold": report.map_threshold,
        "inMultiples": multiples and report.map_threshold > 0,
        "nValidation": report.n_validation,
        "evaluation": None if evaluation is None else evaluation.to_dict(),
        "settings": report.settings,
        "versions": report.versions,
        "modelSha256": report.model_sha256,
        "whyNoModelSha256": report.why_no_model_sha256,
        "dataSha256": report.data_sha256,
        "colours": _colours(),
        "images": _images(report, places),
    }


def _colours():
    """The colours of maps, red, green, blue and opacity a step, and those of marks."""
    steps = np.linspace(0, 0.5, STEPS_OF_COLOUR)
    position = np.concatenate([np.minimum(steps, np.nextafter(0.5, 0)), 0.5 + steps])
    table = np.column_stack([palette.colours(position), palette.opacity(position)])
    return {
        "table": np.round(255 * table).astype(int).ravel().tolist(),
        "red": palette.RED,
        "green": palette.GREEN,
        "blue": palette.BLUE,
        "orange": palette.ORANGE,
    }


def _images(report, places):
    regions = [[] for _ in report.pictures]
    columns = [report.regions[name] for name in ("image", *SIDES, "area", "max")]
    for i, *region in zip(*(column.tolist() for column in columns)):
        regions[i].append(region)
    images, start = [], 0
    for i, (picture, lengths) in enumerate(zip(report.pictures, places)):
        image = {
            "name": report.names[i],
            "score": report.scores[i],
            "p": report.p_values[i],
            "size": list(picture.size),
            "low": picture.low,
            "high": picture.high,
            "picture": [start, *lengths],
            "nRegions": len(regions[i]),
            "regions": regions[i][:REGIONS_SHOWN],
        }
        known = {"truth": report.truth, "type": report.defect_types, "group": report.groups}
        image |= {key: _plain(values[i]) for key, values in known.items() if values is not None}
        images.append(image)
        start += sum(lengths)
    return images


def _plain(value):
    return value if isinstance(value, str) else int(value)
