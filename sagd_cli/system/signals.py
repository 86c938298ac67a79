"""Stopping on request: the first SIGINT or SIGTERM asks the work to stop, the second ends the process at once."""

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
    """Give a StopRequest that SIGINT and SIGTERM set; the previous handlers come back at the end."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
