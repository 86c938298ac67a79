"""Stopping on request: the first signal asks the work to stop, a second SIGINT or SIGTERM ends the process at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if previous[signal.SIGHUP] is signal.SIG_IGN:
        del previous[signal.SIGHUP]

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else handler)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
