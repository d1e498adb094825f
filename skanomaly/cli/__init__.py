"""The command line: one file a command, and what they share.

Whatever they do is also a function of the library; here are arguments, messages, exit status and
files.
"""

# Importing a command puts it on the list; the order is that of --help.
from . import _demo, _detectors, _fit, _score  # noqa: F401
from ._app import main

__all__ = ["main"]
