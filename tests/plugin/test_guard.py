"""What the code of plug-ins does to the process: it is put back and said, and cannot end the program."""

import json
import locale
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sagd_cli.errors import PluginError
from sagd_cli.plugin import guard
from sagd_cli.plugin.guard import guarded, guarded_call
from sagd_cli.plugin.records import DatasetPlugin, FilterPlugin, LazyImageSet, Options

CHANGES = {
    "torch's default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "torch's default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "torch's grad mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "torch's choice of deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "torch's precision of products": (
        lambda: torch.set_float32_matmul_precision("medium"),
        torch.get_float32_matmul_precision,
    ),
    "NumPy's handling of errors": (lambda: np.seterr(all="raise"), np.geterr),
    "the working folder": (lambda: os.chdir("/"), os.getcwd),
    "the locale": (
        lambda: locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8"),
        lambda: locale.setlocale(locale.LC_ALL),
    ),
    "the handlers of signals": (
        lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "the standard streams": (lambda: setattr(sys, "stdout", None), lambda: sys.stdout),
    "the filters of warnings": (lambda: warnings.simplefilter("ignore"), lambda: list(warnings.filters)),
}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(guard, "_said", set())


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_plugin_changes_is_put_back_and_said(what, capfd):
    change, read = CHANGES[what]
    before = read()
    with guarded("the plug-in probe"):
        change()
    assert read() == before
    warning = f"warning: the plug-in probe changed {what} for the whole program; that was undone"
    assert capfd.readouterr().err.split() == warning.split()


def test_several_changes_are_one_warning_and_are_said_once(capfd):
    for _ in range(2):
        with guarded("the plug-in probe"):
            CHANGES["the working folder"][0]()
            CHANGES["NumPy's handling of errors"][0]()
    assert capfd.readouterr().err.count("warning:") == 1


def test_what_is_changed_before_an_error_is_put_back(capfd):
    before = torch.get_default_dtype()
    with pytest.raises(ZeroDivisionError), guarded("the plug-in probe"):
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError
    assert torch.get_default_dtype() == before


def test_what_libraries_do_when_imported_is_left_alone(capfd):
    """Such as a filter for their own warnings, and a folder in the search path of modules."""
    with warnings.catch_warnings(), guarded("the plug-in probe"):
        warnings.filterwarnings("ignore", "one message", DeprecationWarning)
        os.environ["SAGD_TEST_PROBE"] = "1"
    assert os.environ.pop("SAGD_TEST_PROBE") == "1"
    assert capfd.readouterr().err == ""


def test_torch_that_a_plugin_imports_is_held_to_its_own_defaults(monkeypatch, capfd):
    loaded = sys.modules["torch"]
    monkeypatch.delitem(sys.modules, "torch")
    with guarded("the plug-in probe"):
        sys.modules["torch"] = loaded
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float32
    assert "changed torch's default dtype for" in " ".join(capfd.readouterr().err.split())


class Stop(BaseException):
    """An exception that `except Exception` does not catch."""


@pytest.mark.parametrize("error", [Stop("enough"), SystemExit(0), GeneratorExit()])
def test_a_function_cannot_end_the_program(error):
    def build():
        raise error

    with pytest.raises(PluginError, match=f"^the filter 'x' failed: {type(error).__name__}"):
        guarded_call("the filter 'x'", build)()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no"), StopIteration()])
def test_errors_and_interrupts_pass(error):
    def build():
        raise error

    with pytest.raises(type(error)):
        guarded_call("the filter 'x'", build)()


def test_functions_of_records_are_guarded(capfd):
    def build(grid, options):
        torch.set_default_dtype(torch.float64)
        return grid

    record = FilterPlugin("x", "a fake", Options, build, basis=build)
    for part in ("build", "basis"):
        assert record.load(part)(part, None) == part
        assert torch.get_default_dtype() == torch.float32
    assert "the filter 'x' changed torch's default dtype" in " ".join(capfd.readouterr().err.split())


class Lazy:
    """Images that misbehave when they are read."""

    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 3

    def __iter__(self):
        for _ in range(3):
            self.act()
            yield np.zeros((1, 4, 4), np.uint8)


@pytest.mark.parametrize("part", ["build", "stream"])
def test_reading_the_images_of_a_plugin_is_guarded(part, capfd):
    def record(act):
        return DatasetPlugin(
            "mine", "of a test", Options, lambda o, s: LazyImageSet(Lazy(act)), stream=lambda o, s: Lazy(act)
        )

    def images(act):
        found = record(act).load(part)(Options(), "train")
        return found if part == "stream" else found.images

    folder = Path.cwd()
    assert len([*images(lambda: os.chdir("/"))]) == len(images(lambda: None)) == 3
    assert Path.cwd() == folder and "changed the working folder" in capfd.readouterr().err
    with pytest.raises(PluginError, match="the dataset 'mine' failed: SystemExit: 0"):
        [*images(lambda: sys.exit(0))]


def test_a_message_that_cannot_be_made_is_no_traceback(sagd, tmp_path):
    (tmp_path / "p.py").write_text(BAD_MESSAGE)
    for arguments, told in ((["filter", "show", "mine"], "Mute"), (["spectrum", "gone"], "exit code 0")):
        result = sagd("--plugin", tmp_path / "p.py", *arguments, "--json")
        assert (
            result.code in (1, 2)
            and result.out == ""
            and told in json.loads(result.err.splitlines()[-1])["error"]["message"]
        )


BAD_MESSAGE = """
import sys
from sagd_cli.plugin import DatasetPlugin, FilterPlugin, Options, hookimpl

class Mute(Exception):
    def __str__(self):
        raise ValueError

def build(grid, options):
    raise Mute

class Leaving(Options):
    def model_dump(self, **settings):
        sys.exit(0)

@hookimpl
def sagd_filters():
    yield FilterPlugin("mine", "a test's", Options, build)

@hookimpl
def sagd_datasets():
    yield DatasetPlugin("gone", "a test's", Leaving, lambda options, split: None)
"""
