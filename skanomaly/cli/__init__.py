"""The command line: one file a command, and what they share.

Whatever they do is also a function of the library; here are arguments, messages, exit status and
files.
"""

# Importing a command puts it on the list; the order is that of --help.
# isort: off
from . import _demo, _detectors, _fit, _score, _watch  # noqa: F401
from . import _evaluate, _report, _calibrate, _export, _info  # noqa: F401
from . import _audit, _compare  # noqa: F401

# isort: on
from ._app import main

__all__ = ["main"]
