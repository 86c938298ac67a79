"""Standard output kept for results: whatever else is written there goes to standard error."""

import ctypes
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from sagd_cli.system.streams import UnwritableError, result_stream

STDOUT, STDERR = 1, 2


@contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """Yield a stream that writes to standard output; until the block ends, all other output goes to standard error.

    That includes what C code, child processes and holders of the descriptor write. An output that is not the process's
    own, such as a notebook's or a test's, is yielded as it is.
    """
    shown = sys.stdout
    _flush(shown)
    own = _descriptor(shown) == STDOUT
    kept = _redirected()
    results = _on_descriptor(kept, shown) if own and kept is not None else shown
    sys.stdout = sys.stderr
    try:
        yield results
    finally:
        sys.stdout = shown
        # What code that kept a reference to the old stream has written, and what C code has buffered.
        _flush(shown)
        ctypes.CDLL(None).fflush(None)
        if kept is not None:
            os.dup2(kept, STDOUT)
            if results is not shown:
                # An output that could not be written was reported when it was flushed.
                with suppress(OSError):
                    results.close()
            with suppress(OSError):
                os.close(kept)


def _redirected() -> int | None:
    """Let descriptor 1 lead where 2 leads; return one that leads where it led, or None where one is closed."""
    try:
        kept = os.dup(STDOUT)
    except OSError:
        return None
    try:
        os.dup2(STDERR, STDOUT)
    except OSError:
        os.close(kept)
        return None
    return kept


def _on_descriptor(kept: int, like: TextIO) -> TextIO:
    file = os.fdopen(kept, "wb", closefd=False)
    return result_stream(io.TextIOWrapper(file, encoding=like.encoding, errors=like.errors, newline="\n"))


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError, AttributeError, UnwritableError):
        stream.flush()
