"""Stopping on request: the first signal stops the work, a second SIGINT or SIGTERM ends the process at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from sagd_cli.errors import Interrupted


class StopRequest:
    """Whether a signal has asked the work to stop; `signum` is its number, or None."""

    signum: int | None = None

    def requested(self) -> bool:
        """Whether the work should save its state and stop."""
        return self.signum is not None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Give a StopRequest that SIGINT, SIGTERM and SIGHUP set; the previous handlers come back at the end.

    SIGHUP stays ignored where it is, as under `nohup`. After the first signal it is ignored too, since a terminal that
    is closed sends several.
    """
    request = StopRequest()

    def ask(signum: int) -> None:
        request.signum = signum

    with _first_signal(ask):
        yield request


@contextmanager
def stop_at_once(kept: Callable[[], str]) -> Iterator[None]:
    """Raise Interrupted at the end of a block that a signal stopped; all else is as in `stop_on_signal`.

    In the block it is a KeyboardInterrupt, whichever signal came. `kept` then tells where the work is kept with which
    the same command goes on, "" where there is none.
    """
    came = signal.SIGINT

    def interrupt(signum: int) -> None:
        nonlocal came
        came = signal.Signals(signum)
        raise KeyboardInterrupt

    try:
        with _first_signal(interrupt):
            yield
    except KeyboardInterrupt:
        place = kept()
        message = f"stopped; what was done is kept in {place}" if place else "stopped"
        raise Interrupted(came, message, "Run the same command again to go on." if place else "") from None


@contextmanager
def _first_signal(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` with the first signal that comes in the block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def handle(signum: int, frame: FrameType | None) -> None:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else handler)
        act(signum)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
