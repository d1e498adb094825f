"""The program around the commands: arguments, errors, signals, exit status."""

from __future__ import annotations

import functools
import os
import signal
import sys
import warnings
from contextlib import contextmanager
from difflib import get_close_matches

import click
from click.shell_completion import shell_complete

from .._console import lasting_streams, stopping_on_signals
from .._version import __version__
from ..exceptions import TrainingError
from ._completion import COMPLETE_VARIABLE, PROGRAM, install_completion, show_completion
from ._output import Output, say, text_of

FLAGGED = 1
NOT_DONE = 2
INCOMPLETE = 3
BROKEN_PIPE = 128 + 13  # as of a program that SIGPIPE ends

# In --help: as they are met.
ORDER = (
    *("demo", "detectors", "fit", "score", "watch", "evaluate", "report", "calibrate", "export"),
    *("info", "audit", "recommend", "benchmark"),
)

EXIT_STATUS = """\b
Exit status:
  0    done, and nothing flagged
  1    done, and something flagged: by score, watch and audit (0 with
       --exit-zero), or by evaluate if --fail-under is not reached
  2    could not be done: wrong arguments, no model, no images, ...
  3    done, but for some images that could not be read or scored
  128 + n  ended by signal n: 130 by Ctrl-C, 143 by SIGTERM, 141 when
       nobody reads the output any more
"""


class _Group(click.Group):
    def resolve_command(self, ctx, args):
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"There is no command {name}.{hint}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx):
        return [name for name in ORDER if name in self.commands]


@click.group(
    cls=_Group,
    epilog=EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="skanomaly %(version)s")
@show_completion
@install_completion
def app():
    """Visual anomaly detection: fit on good parts, score new ones.

    Each command has its own --help; all have --json and --quiet.
    """


def command(*notes):
    """Make a function that takes an `Output` first a command of its name.

    It returns its exit status, or None for 0. Notes stand at the end of its help.
    """
    return functools.partial(_command, epilog="\n\n".join([*notes, EXIT_STATUS]))


def _command(function, epilog):

    @click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
    @functools.wraps(function)
    def run(as_json, quiet, **arguments):
        return function(Output(as_json, quiet), **arguments)

    return app.command(function.__name__, epilog=epilog)(run)


exit_zero = click.option(
    "--exit-zero", is_flag=True, help="Exit with 0, not 1, where something is flagged."
)
trust_pickle = click.option(
    "--trust-pickle",
    is_flag=True,
    help="Load a model that is a pickle, which may run any code of its author's.",
)


def status(n_flagged, n_failed, exit_zero=False):
    """The exit status of a command that judges images."""
    if n_failed:
        return INCOMPLETE
    return FLAGGED if n_flagged and not exit_zero else 0


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str or None, default=None
        Arguments; None takes the process's own.

    Returns
    -------
    int
        Exit status: 0 when all is well, 1 when something is flagged, 2 when it could not be
        done, 3 when some images could not be scored, 128 + n when signal n ended it.
    """
    with lasting_streams(), stopping_on_signals() as received, _plain_warnings():
        try:
            return _run(argv)
        except KeyboardInterrupt:
            number = received[0] if received else signal.SIGINT
            say(f"stopped by {signal.Signals(number).name}")
            return 128 + number
        except BrokenPipeError:
            return BROKEN_PIPE
        except (ValueError, ImportError, OSError, TrainingError) as error:
            say(f"error: {text_of(error)}")
        except MemoryError:
            say("error: there is not enough memory")
        return NOT_DONE


def _run(argv):
    if argv is None and (instruction := os.environ.get(COMPLETE_VARIABLE)):
        return shell_complete(app, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with app.make_context(PROGRAM, arguments) as context:
            return app.invoke(context) or 0
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.ClickException as error:
        error.show()
        return NOT_DONE


@contextmanager
def _plain_warnings():
    """Have warnings said in a line, without the place in the code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {text_of(message)}")
        yield
