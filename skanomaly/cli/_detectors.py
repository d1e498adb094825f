"""``skanomaly detectors``: which there are, where they come from, and their parameters."""

from __future__ import annotations

import inspect

import click

from ._app import command
from ._estimators import TO_START_WITH, class_named


@command()
@click.argument("name", required=False)
def detectors(output, name):
    """List the detectors, or print what one is and its parameters."""
    if name is not None:
        cls = class_named(name)
        doc = inspect.cleandoc(cls.__doc__)
        output.report(doc)
        output.document({"name": name, "parameters": _defaults(cls), "doc": doc})
        return
    from ..utils import all_detectors
    from ..utils.tables import reference_of, what_it_detects

    found = []
    for key, cls in all_detectors():
        reference = reference_of(cls)
        found.append(
            {
                "name": key,
                "detects": what_it_detects(cls),
                "authors": reference and reference.authors,
                "reference": reference and reference.url,
            }
        )
    output.table(
        ["name", "detects defects", "source", ""],
        [[r["name"], r["detects"], r["authors"] or "", r["reference"] or ""] for r in found],
    )
    output.report(
        f"\n{TO_START_WITH}, which fit takes if none is named, is several of them as one. "
        "skanomaly detectors NAME prints parameters."
    )
    output.document({"default": TO_START_WITH, "detectors": found})


def _defaults(cls):
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: None if p.default is p.empty else p.default for p in parameters}
