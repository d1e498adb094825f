"""Completion of commands and options by the shell."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from .._atomic import replaced

PROGRAM = "skanomaly"
COMPLETE_VARIABLE = "_SKANOMALY_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def _option(name, help_text, callback):
    return click.option(
        name,
        type=click.Choice(["auto", *SHELLS]),
        is_flag=False,
        flag_value="auto",
        is_eager=True,
        expose_value=False,
        metavar="[SHELL]",
        help=help_text,
        callback=callback,
    )


def _shell_of(value):
    if value != "auto":
        return value
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise click.UsageError(
            f"The shell is {name or 'not known'}; name one of {', '.join(SHELLS)}."
        )
    return name


def _script(shell):
    return get_completion_class(shell)(None, {}, PROGRAM, COMPLETE_VARIABLE).source()


def _place(shell):
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / PROGRAM,
        "zsh": Path.home() / ".zfunc" / f"_{PROGRAM}",
        "fish": config / "fish" / "completions" / f"{PROGRAM}.fish",
    }[shell]


_HINTS = {
    "bash": "New shells use it, if the package bash-completion is there.",
    "zsh": "New shells use it, if ~/.zshrc has: fpath+=~/.zfunc; autoload -Uz compinit; compinit",
    "fish": "New shells use it.",
}


def _show(context, option, value):
    if value is not None and not context.resilient_parsing:
        click.echo(_script(_shell_of(value)))
        context.exit()


def _install(context, option, value):
    if value is None or context.resilient_parsing:
        return
    shell = _shell_of(value)
    place = _place(shell)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replaced(place) as file:
        file.write(_script(shell).encode())
    click.echo(f"Completion for {shell}: {place}\n{_HINTS[shell]}")
    context.exit()


show_completion = _option("--show-completion", "Print the shell's completion, and exit.", _show)
install_completion = _option("--install-completion", "Install it, and exit.", _install)
