"""Tables and text in Markdown."""

from __future__ import annotations

import re


def table(header, lines):
    """A table of cells, which may hold anything.

    Parameters
    ----------
    header : sequence of str
    lines : sequence of sequences
        The first column is aligned to the left, others to the right.

    Returns
    -------
    str
    """
    rule = [":---"] + ["---:"] * (len(header) - 1)
    cells = [
        list(map(escaped, header)),
        rule,
        *([escaped(cell) for cell in line] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escaped(text):
    """Text as it is, in one line: nothing of it is taken for Markdown or HTML."""
    text = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", text)


def code(text):
    """Text in one line, set as code, within a table too."""
    text = " ".join(str(text).split()).encode("utf-8", "backslashreplace").decode("utf-8")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")
