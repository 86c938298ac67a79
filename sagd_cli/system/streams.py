"""Standard streams: what cannot be told is dropped, and a result that cannot be written is an error."""

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO, cast

from sagd_cli.errors import SagdError
from sagd_cli.system.environment import variable

STREAMS = ("stdin", "stdout", "stderr")  # in the order of their descriptors
KEEP_BYTES = "sagd-keep-bytes"


class UnwritableError(SagdError):
    """The result cannot be written to standard output."""

    def __init__(self, error: Exception) -> None:
        """Make the message from the error of the write; `reader_left` says that nobody reads the pipe any more."""
        reason = getattr(error, "strerror", None) or "it is closed"
        super().__init__(f"the result cannot be written to standard output: {reason.lower()}")
        self.reader_left = isinstance(error, BrokenPipeError)


class GuardedStream:
    """A text stream that calls `failed` when it cannot write. In all else it is the stream it is made of."""

    def __init__(self, stream: TextIO, failed: Callable[[Exception], None]) -> None:
        """Guard `stream`."""
        self._stream, self._failed = stream, failed

    def write(self, text: str) -> int:
        """Write `text`; return its length."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:
            self._failed(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        """Return what the stream itself has of this name."""
        return getattr(self._stream, name)


def result_stream(stream: TextIO) -> TextIO:
    """Return a stream that writes to `stream`, and raises UnwritableError where that fails."""
    return cast(TextIO, GuardedStream(stream, _raise))


def mend_streams() -> None:
    """Make the standard streams of this process safe to use, whatever they are connected to.

    A write to standard error that fails is dropped. One to standard output raises UnwritableError. Standard input that
    is closed is empty. Text is UTF-8, and names of files that are not keep their bytes. Only a terminal, or
    PYTHONIOENCODING, may choose another encoding; characters that it lacks are replaced.
    """
    _occupy_descriptors()
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            # Reading one gives nothing, and writing to the other fails.
            stream = io.StringIO() if name == "stdin" else io.TextIOBase()
        elif hasattr(stream, "reconfigure"):
            _set_encoding(name, stream)
        if name != "stdin" and not isinstance(stream, GuardedStream):
            stream = GuardedStream(stream, _drop) if name == "stderr" else result_stream(stream)
        setattr(sys, name, stream)


def discard_output() -> None:
    """Send what is still in the buffer of standard output nowhere, so that the interpreter does not fail on it."""
    _connect_to_nothing(sys.stdout.fileno())


def _occupy_descriptors() -> None:
    """Connect closed standard descriptors to nothing, or files opened later would get what C libraries print."""
    for number in range(len(STREAMS)):
        try:
            os.fstat(number)
        except OSError:
            _connect_to_nothing(number)


def _connect_to_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
    os.set_inheritable(number, True)


def _set_encoding(name: str, stream: Any) -> None:
    if name == "stdin":
        stream.reconfigure(encoding="utf-8", errors="strict")
    elif stream.isatty() or variable("PYTHONIOENCODING"):
        stream.reconfigure(errors="replace")
    else:
        codecs.register_error(KEEP_BYTES, _kept_bytes)
        stream.reconfigure(encoding="utf-8", errors=KEEP_BYTES)


def _kept_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the byte that a character of a file's name stands for; ? for other characters that are no text."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    return bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else b"?", error.start + 1


def _drop(error: Exception) -> None:
    """Go on without the message."""


def _raise(error: Exception) -> None:
    raise UnwritableError(error) from error
