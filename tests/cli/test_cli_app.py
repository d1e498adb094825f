"""The program around the commands: help, usage, signals, pipes, completion, JSON."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import click
import pytest
from PIL import Image

from skanomaly._console import stopping_on_signals
from skanomaly.cli import main
from skanomaly.cli._app import app
from skanomaly.exceptions import ThresholdWarning

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
COMMANDS = (
    *("demo", "detectors", "fit", "score", "watch", "evaluate", "report", "calibrate", "export"),
    *("info", "audit", "recommend", "benchmark"),
)


def test_all_commands_are_there():
    assert tuple(app.list_commands(None)) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_program_needs_to_know(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for text in ("Exit status", "--json", "--quiet", "141 when"):
        assert text in shown


def test_every_option_says_what_it_is_for():
    for command in app.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name not in ("seed",):
                assert parameter.help, f"{command.name} {parameter.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage: skanomaly"),
        (["fitt"], "no command fitt. Did you mean fit?"),
        (["--no-such"], "No such option"),
        (["fit", "folder"], "Missing option"),
        (["fit", "folder", "-o", "m", "--seed", "x"], "not a valid int"),
        (["score", "m", "f", "--map-format", "gif"], "not one of"),
    ],
)
def test_usage(arguments, message, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message.lower() in (shown.err + shown.out).lower()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"skanomaly \d+\.\d+\S*\n", capsys.readouterr().out)


def test_the_command_is_installed():
    run = subprocess.run([sys.executable, "-m", "skanomaly", "--version"], capture_output=True)
    assert run.stdout.startswith(b"skanomaly ")


def test_the_start_is_light():
    heavy = ("torch", "sklearn", "watchfiles", "anyio", "skimage", "onnxruntime", "matplotlib")
    code = f"import sys, skanomaly.cli; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_and_installed(shell, tmp_path, monkeypatch, capsys):
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.setattr(  # else it runs bash to see its version
        "click.shell_completion.BashComplete._check_version", lambda *_: None, raising=False
    )
    assert main(["--show-completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_SKANOMALY_COMPLETE={shell}_complete" in script
    assert main(["--install-completion"]) == 0
    (installed,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert installed.read_text().strip() == script.strip()
    assert str(installed) in capsys.readouterr().out


def test_an_unknown_shell_is_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(["--show-completion"]) == 2
    assert "name one of bash, zsh, fish" in capsys.readouterr().err


def test_completion_of_commands_and_detectors():
    def completed(words, position):
        environment = {
            **os.environ,
            "_SKANOMALY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        command = [sys.executable, "-m", "skanomaly"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        return [line.partition(",")[2] for line in run.stdout.split()]

    assert completed("skanomaly ev", 1) == ["evaluate"]
    assert completed("skanomaly fit --detector Patch", 3) == [
        *("PatchAE", "PatchCore", "PatchLatentSVM", "PatchReconstruction", "PatchRestoration"),
        "PatchSVDD",
    ]


def test_warnings_are_said_in_a_line(model, monkeypatch, capsys):
    def load(path):
        warnings.warn("too few\nimages", ThresholdWarning, stacklevel=2)
        raise ValueError("no more")

    monkeypatch.setattr("skanomaly.deployment.files.load", load)
    monkeypatch.setattr(warnings, "filters", [("always", None, Warning, None, 0)])
    assert main(["info", str(model)]) == 2
    assert capsys.readouterr().err == (
        "skanomaly: warning: too few images\nskanomaly: error: no more\n"
    )


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device", "x")])
def test_errors_of_the_machine_are_no_tracebacks(error, model, monkeypatch, capsys):
    def load(path):
        raise error

    monkeypatch.setattr("skanomaly.deployment.files.load", load)
    assert main(["info", str(model)]) == 2
    assert re.search("error: (there is not enough memory|x: No space)", capsys.readouterr().err)


def test_quiet_says_nothing_and_json_nothing_else(model, new_parts, tmp_path, capsys):
    command = ["score", str(model), str(new_parts), "--out", str(tmp_path / "s"), "--exit-zero"]
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*command, "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n_scored"] == 12
    assert shown.err == ""


def test_json_and_data_do_not_share_standard_output(model, new_parts, capsys):
    assert main(["score", str(model), str(new_parts), "--out", "-", "--json"]) == 2
    assert "--json and - would both write" in capsys.readouterr().err


# As a process: pipes and signals. An exported model is scored, which starts fastest.


@pytest.fixture
def scoring(models, new_parts):
    """The command that scores a few images."""
    return [sys.executable, "-m", "skanomaly", "score", str(models["onnx"]), str(new_parts)]


@needs_posix
@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_scores_on_standard_output(out, scoring):
    run = subprocess.run([*scoring, "--out", out], capture_output=True, text=True)
    assert run.returncode in (0, 1)
    assert len(run.stdout.splitlines()) == 13
    assert "12 scored" in run.stderr


@needs_posix
def test_readers_that_leave(scoring, tmp_path):
    """Of the scores: the rest is not wanted. Of the messages: the scores still are."""
    command = [*scoring, "--exit-zero", "--out", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, shown = process.communicate()
    assert process.returncode == 141
    assert b"Traceback" not in shown
    assert b"BrokenPipe" not in shown
    out = tmp_path / "scores.csv"
    read, written = os.pipe()
    os.close(read)
    command = [*scoring, "--exit-zero", "--out", out]
    run = subprocess.run(command, stdout=written, stderr=written)
    os.close(written)
    assert run.returncode == 0
    assert len(out.read_text().splitlines()) == 13


@needs_posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_what_was_there_and_what_can_be_gone_on_with(
    number, status, models, textures, tmp_path
):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored here, and so by every process that is started")
    folder, out = tmp_path / "new", tmp_path / "out" / "scores.csv"
    folder.mkdir()
    out.parent.mkdir()
    out.write_text("old")
    Image.fromarray(textures[1].images[0]).save(folder / "0.png")
    for i in range(1, 5000):
        os.link(folder / "0.png", folder / f"{i}.png")
    command = [sys.executable, "-m", "skanomaly", "score", models["onnx"], folder, "--out", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    partial = out.with_name("scores.csv.partial")
    while not partial.exists():  # it has begun to write
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(number)
    _, shown = process.communicate()
    # CPython ends by SIGINT if the interrupt passed through an exec of text, as of a class
    # that is being imported then, though it was caught afterwards.
    assert process.returncode in (status, -signal.SIGINT)
    assert b"Traceback" not in shown
    assert f"stopped by {number.name}".encode() in shown
    assert out.read_text() == "old"
    assert sorted(os.listdir(out.parent)) == ["scores.csv", "scores.csv.partial"]


def test_a_signal_that_falls_into_a_destructor():
    """There an exception comes to nothing, and the work would go on."""

    class Dropped:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work():
        Dropped()
        time.sleep(10)

    with pytest.raises(KeyboardInterrupt), stopping_on_signals() as received:
        work()
    assert received == [signal.SIGTERM]


def test_signals_have_their_handlers_again():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["score", "none", "none"]) == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
