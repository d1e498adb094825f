"""The command line: one file a command, and what they share.

Whatever they do is also a function of the library; here are arguments, messages, exit status and
files.
"""

# Importing a command puts it on the list.
from . import (  # noqa: F401
    _audit,
    _calibrate,
    _compare,
    _demo,
    _detectors,
    _evaluate,
    _export,
    _fit,
    _info,
    _report,
    _score,
    _watch,
)
from ._app import main

__all__ = ["main"]
