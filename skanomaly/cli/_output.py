"""What commands say: to people, as JSON to programs, and nothing where nobody wants to hear it."""

from __future__ import annotations

import json
import math
import os
import sys
from contextlib import contextmanager, suppress


class CommandError(ValueError):
    """What was asked for cannot be done; the message says what to do."""


def say(text):
    """Tell people that something is not as it should be."""
    print(f"skanomaly: {text}", file=sys.stderr)


def is_standard_output(path):
    """Whether a name is that of standard output, where messages are not wanted then."""
    if path in (None, "-"):
        return path == "-"
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(1))
    return False


def text_of(error):
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


class Output:
    """Where a command's results go.

    Parameters
    ----------
    as_json : bool
        One document is all that goes to standard output.
    quiet : bool
        No results in words and no progress; warnings and errors are still said.
    """

    def __init__(self, as_json=False, quiet=False):
        self.as_json, self.quiet = as_json, quiet

    def claim(self, path):
        """Say that data goes to a file, which must be possible, and not where JSON goes.

        Commands say it first, so that a wrong name costs no time.
        """
        if self.as_json and is_standard_output(path):
            raise CommandError(
                f"--json and {path} would both write to standard output; name a file, or leave out "
                "--json"
            )
        if path in (None, "-"):
            return
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise CommandError(f"{path} cannot be written: there is no such folder; make it first")
        if os.path.isdir(path):
            raise CommandError(f"{path} is a folder; name a file in it")

    def report(self, text, out=None):
        """Tell people what was done; elsewhere than to `out`, which may be standard output."""
        if not (self.quiet or self.as_json):
            print(text, file=sys.stderr if is_standard_output(out) else sys.stdout)

    def table(self, header, rows, align=()):
        """A table for people; `align` names columns of numbers."""
        if self.quiet or self.as_json:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
        for name in header:
            table.add_column(name, justify="right" if name in align else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        width = None if sys.stdout.isatty() else 10_000
        console = Console(file=sys.stdout, width=width, highlight=False)
        with console.capture() as captured:
            console.print(table)
        print("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def document(self, content):
        """The one JSON document, if it is asked for; what is not finite becomes null."""
        if self.as_json:
            print(json.dumps(_finite(content), allow_nan=False, indent=1))

    @contextmanager
    def progress(self, what, total=None):
        """Show progress on a terminal; yields a function that takes the number of steps done."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda n: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
        if total is not None:
            columns += [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(
            *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
        ) as bars:
            task = bars.add_task(what, total=total)
            yield lambda n: bars.update(task, advance=n)


def _finite(content):
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if content is None or isinstance(content, (bool, str)):
        return content
    if hasattr(content, "tolist"):  # of NumPy
        return _finite(content.tolist())
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    return content if isinstance(content, int) else str(content)
