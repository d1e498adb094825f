"""Tables in the documentation: of detectors and checks, from what they say of themselves.

``python -m skanomaly.utils.tables`` rewrites those in ``docs/detectors.md`` and
``docs/conformance.md``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from ._discovery import all_detectors
from .estimator_checks import CHECKS

_COMMAND = "python -m skanomaly.utils.tables"
_START, _END = f"<!-- {_COMMAND} -->\n", "<!-- end -->\n"
_PAGE = f"""# Detectors

What each class says of itself, written by `{_COMMAND}`. Each has a guide, to which its name leads;
[which one to choose](choosing.md) is another question.

{{what}}
- features: it needs those of a pretrained network (`backbone`, `weights`, `layers`)
- training: it trains a network (`max_epochs`, `lr`, `callbacks`, `checkpoint`)
- drawn defects: it learns from defects drawn onto images of good parts (`defects`)
- grows: it has `partial_fit`
- ONNX: `export_onnx` takes it

{{properties}}
Parameters that are a detector's own, beside those that all or several have:

{{parameters}}"""
_YES = "✓"


def conformance(text):
    """What ``docs/conformance.md`` is to hold, with its table of the checks of detectors.

    Parameters
    ----------
    text : str
        The page, in which two comments enclose the table.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there are no such comments.
    """
    lines = [
        [f"`{check.__name__.removeprefix('check_')}`", " ".join(check.__doc__.split())]
        for check in CHECKS
    ]
    return _put(_table(["check", "what it asks"], lines), text, "docs/conformance.md")


def page():
    """What ``docs/detectors.md`` is to hold.

    Returns
    -------
    str
    """
    what, properties, parameters = [], [], []
    for name, cls in all_detectors():
        known = cls._get_param_names()
        has = (
            "backbone" in known,
            "max_epochs" in known,
            "defects" in known,
            hasattr(cls, "partial_fit"),
            not hasattr(cls, "_not_exportable"),
        )
        what.append([_guide(name, cls), what_it_detects(cls), _source(cls)])
        properties.append([_guide(name, cls), *(_YES if it_has else "" for it_has in has)])
        parameters.append(
            [_guide(name, cls), ", ".join(f"`{own}`" for own in _own_parameters(cls))]
        )
    head = ["detector", "features", "training", "drawn defects", "grows", "ONNX"]
    return _PAGE.format(
        what=_table(["detector", "detects defects", "source"], what),
        properties=_table(head, properties),
        parameters=_table(["detector", "its own parameters"], parameters),
    )


def _put(table, text, place):
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        raise ValueError(f"there is no {_START.strip()} followed by {_END.strip()} in {place}")
    return before + start + table + end + after


def _guide(name, cls):
    """The class, with a link to the page that tells of it, which its file names."""
    return f"[`{name}`](methods/{cls.__module__.rpartition('.')[2]}.md)"


def what_it_detects(cls):
    """How a detector finds defects, in a few words: the first line of its docstring.

    Parameters
    ----------
    cls : class

    Returns
    -------
    str
    """
    return cls.__doc__.splitlines()[0].removeprefix("Detect defects ").removesuffix(".")


class Reference(NamedTuple):
    """Where a method comes from."""

    authors: str  #: "One", "One and Two" or "One et al."
    label: str  #: such as "arXiv 2011.08785"; "" where only authors are known
    url: str


def reference_of(cls):
    """The first reference in a detector's docstring.

    Parameters
    ----------
    cls : class

    Returns
    -------
    Reference or None
    """
    found = re.search(
        r'^\.\. \[1\] (.+?), "(.+?)(\n\n|\n\.\. \[|\Z)', cls.__doc__, re.MULTILINE | re.DOTALL
    )
    if found is None:
        return None
    surnames = [author.split()[-1] for author in found[1].split(",")]
    authors = " and ".join(surnames) if len(surnames) < 3 else f"{surnames[0]} et al."
    if arxiv := re.search(r"arXiv:(\d+\.\d+)", found[2]):
        return Reference(authors, f"arXiv {arxiv[1]}", f"https://arxiv.org/abs/{arxiv[1]}")
    if doi := re.search(r"doi:(\S+?)[.,]?(\s|\Z)", found[2]):
        return Reference(authors, f"doi {doi[1]}", f"https://doi.org/{doi[1]}")
    return Reference(authors, "", "")


def _source(cls):
    """The first reference, as Markdown."""
    found = reference_of(cls)
    if found is None:
        return ""
    return f"{found.authors}, [{found.label}]({found.url})" if found.url else found.authors


def _own_parameters(cls):
    inherited = {
        name
        for base in cls.__mro__[1:]
        for name in getattr(base, "_documented", {}).get("Parameters", {})
    }
    return [name for name in cls._get_param_names() if name not in inherited]


def _table(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main(root="."):
    """Rewrite the tables below a folder, a checkout of the project."""
    docs = Path(root) / "docs"
    checks = docs / "conformance.md"
    checks.write_text(conformance(checks.read_text(encoding="utf-8")), encoding="utf-8")
    (docs / "detectors.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
