"""Work that is asked to stop, by whichever signal, saves; the end of the terminal asks, unless that is ignored."""

import os
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from support.interruption import hashes, stop_at

from sagd_cli.errors import Interrupted
from sagd_cli.sweep import processes
from sagd_cli.system.console import Output
from sagd_cli.system.signals import stop_at_once, stop_on_signal
from sagd_cli.training.train import run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)


@contextmanager
def handled(signum, handler):
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


def send(signum):
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_and_handlers_come_back(signum):
    with handled(signum, signal.SIG_DFL):
        with stop_on_signal() as stop:
            assert not stop.requested()
            send(signum)
            assert stop.requested() and stop.signum == signum
        assert signal.getsignal(signum) is signal.SIG_DFL


def test_a_second_signal_ends_the_process_unless_it_is_the_terminal_once_more():
    seen = []
    with handled(signal.SIGTERM, lambda *_: seen.append("ended")), handled(signal.SIGHUP, signal.SIG_DFL):
        with stop_on_signal() as stop:
            for signum in (signal.SIGHUP, signal.SIGHUP, signal.SIGHUP):
                send(signum)
            assert stop.signum == signal.SIGHUP and seen == []
            send(signal.SIGTERM)
            assert seen == ["ended"]
        with stop_on_signal() as stop:
            for signum in (signal.SIGTERM, signal.SIGHUP):
                send(signum)
            assert stop.signum == signal.SIGTERM and seen == ["ended"]


def test_under_nohup_the_work_goes_on():
    with handled(signal.SIGHUP, signal.SIG_IGN), stop_on_signal() as stop:
        send(signal.SIGHUP)
        assert not stop.requested() and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        assert stop.signum == signal.SIGTERM


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["folder", ""])
def test_work_that_a_signal_stops_at_once_says_how_to_go_on(signum, place):
    with handled(signum, signal.SIG_DFL):
        with pytest.raises(Interrupted, match="stopped") as stop, stop_at_once(lambda: place):
            send(signum)
            pytest.fail("not stopped")
        assert signal.getsignal(signum) is signal.SIG_DFL
    assert stop.value.exit_code == 128 + signum
    assert place in stop.value.message and ("same command" in stop.value.hint) == bool(place)


def test_a_training_whose_terminal_is_closed_is_saved_and_goes_on(tiny_config, tiny_run, tmp_path):
    with (
        handled(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
        pytest.raises(Interrupted, match="stopped at step 3 of 8") as stop,
    ):
        run_training(tiny_config, tmp_path / "run", CPU, stop_at(3, signal.SIGHUP))
    assert stop.value.exit_code == 129
    run_training(tiny_config, tmp_path / "run", CPU, QUIET)
    assert hashes(tmp_path / "run") == hashes(tiny_run)


def test_processes_of_a_sweep_leave_the_terminal_to_the_one_that_started_them():
    """They inherit what is ignored."""
    found, numbers = [], (signal.SIGINT, signal.SIGHUP)
    before = [*map(signal.getsignal, numbers)]
    processes._start([SimpleNamespace(start=lambda: found.append([*map(signal.getsignal, numbers)]))])
    assert found == [[signal.SIG_IGN] * 2] and [*map(signal.getsignal, numbers)] == before
