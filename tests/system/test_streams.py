"""What cannot be told is dropped and the work goes on; a result that cannot be written is an error of one sentence."""

import io
import os
import subprocess
import sys

import pytest
import torch

from sagd_cli.__main__ import main
from sagd_cli.errors import SagdError
from sagd_cli.system import console
from sagd_cli.system.console import Output
from sagd_cli.system.streams import mend_streams
from sagd_cli.training.train import run_training

LOST = ["full", "abandoned", "ended", "missing"]


@pytest.fixture
def lost():
    """Make a stream that cannot be written: on a full disk, a pipe whose reader has gone, one that somebody closed.

    None for "missing", as Python has for a descriptor that was closed when it started.
    """
    made = []

    def make(kind):
        if kind == "missing":
            return None
        if kind == "abandoned":
            reader, writer = os.pipe()
            os.close(reader)
            stream = os.fdopen(writer, "w")
        else:
            stream = open("/dev/full" if kind == "full" else os.devnull, "w")  # noqa: SIM115, PTH123
        if kind == "ended":
            stream.close()
        made.append(stream)
        return stream

    yield make
    for stream in made:
        if not stream.closed:
            discard(stream)
            stream.close()


def discard(stream):
    """Let what is buffered be written nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("as_json", [False, True])
def test_messages_that_cannot_be_written_are_dropped(monkeypatch, lost, kind, as_json):
    monkeypatch.setattr(sys, "stderr", lost(kind))
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    mend_streams()
    output = Output(json=as_json, verbose=True)
    for _ in range(100):  # more than a buffer holds
        output.note(100 * "note ")
    output.detail("detail")
    output.warn("warning")
    output.error(SagdError("error"))
    with output.progress("work", 3) as bar:
        for _ in range(3):
            bar.advance()
            bar.show(loss=1.0)
    with console._Bar(output.console, "work", 3, 0, 1) as bar:
        bar.advance()
    print("traceback", file=sys.stderr, flush=True)


def test_a_training_goes_on_without_its_terminal(monkeypatch, lost, tiny_config, tmp_path):
    monkeypatch.setattr(sys, "stderr", lost("full"))
    monkeypatch.setattr(console, "PLAIN_INTERVAL_SECONDS", 0.0)
    mend_streams()
    assert run_training(tiny_config, tmp_path / "run", torch.device("cpu"), Output())["step"] == 8


def stopped(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    return stop.value.code


@pytest.mark.parametrize(
    "command", [["filter", "list"], ["filter", "list", "--json"], ["--version"], ["train", "-h"]]
)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [("full", "no space left on device"), ("missing", "it is closed"), ("abandoned", None)],
)
def test_a_result_that_cannot_be_written_is_an_error(monkeypatch, lost, kind, reason, command):
    """A reader who has gone, as `head` does, is told nothing."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdout", lost(kind))
    monkeypatch.setattr(sys, "stderr", said)
    assert stopped(*command) == 1
    if reason is None:
        assert said.getvalue() == ""
    else:
        assert said.getvalue().count("the result cannot be written to standard output: " + reason) == 1
    sys.stdout.flush()  # as the interpreter does at its end


def test_nothing_can_be_written_at_all(monkeypatch, lost):
    monkeypatch.setattr(sys, "stdout", lost("full"))
    monkeypatch.setattr(sys, "stderr", lost("full"))
    assert stopped("filter", "list") == 1
    monkeypatch.setattr(sys, "stderr", None)
    assert stopped("filter", "lits") == 2


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        ["filter", "show", "-"],
        ["config", "show", "--config", "-"],
        ["train", "--filter", "-"],
        ["sweep", "--config", "-"],
    ],
    ids=" ".join,
)
def test_standard_input_that_is_closed_is_empty(sagd, monkeypatch, there, command):
    monkeypatch.setattr(sys, "stdin", io.StringIO() if there else None)
    result = sagd(*command)
    assert result.code == 2 and result.err.startswith("error: standard input is empty"), result


def test_closed_descriptors_are_not_given_to_files():
    """Or the messages that C libraries write to descriptor 2 would get into them. Processes that are started too."""
    code = (
        "import os, subprocess, sys; from sagd_cli.system.streams import mend_streams; mend_streams();"
        "links = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)];"
        "assert links == ['/dev/null'] * 3, links;"
        "sys.exit(subprocess.call([sys.executable, '-S', '-c', 'import os; [os.fstat(n) for n in range(3)]']))"
    )
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False)
    assert done.returncode == 0


def test_pipes_are_utf_8_whatever_the_locale_is_and_names_keep_their_bytes(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    text = "type: white  # Räume λ\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "ascii", "surrogateescape"))
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        mend_streams()
        assert sys.stdin.read() == text
        print("λ", os.fsdecode(b"run\xff"), "\ud800", flush=True)
    assert (tmp_path / "out").read_bytes() == "λ run".encode() + b"\xff ?\n"


def test_an_encoding_that_was_chosen_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        mend_streams()
        print("λ", flush=True)
    assert (tmp_path / "out").read_bytes() == b"?\n"
