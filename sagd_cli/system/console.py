"""Output: data to standard output, everything else to standard error, progress, --json and --quiet."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from rich.console import Console, RenderableType
from rich.markup import escape

from sagd_cli.errors import SagdError

PLAIN_INTERVAL_SECONDS = 10.0
PIPE_WIDTH = 200


def binary_size(count: int) -> str:
    """Return a number of bytes as text: in GiB, or in MiB below one GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def told_apart(low: float, high: float) -> tuple[str, str]:
    """Return two numbers as text, in the fewest digits from 7 on that tell them apart."""
    digits = next(n for n in range(7, 18) if low == high or f"{low:.{n}g}" != f"{high:.{n}g}")
    return f"{low:.{digits}g}", f"{high:.{digits}g}"


def _plain(message: str) -> str:
    """Return a message that a terminal shows as it is: names of files may hold its codes, or rich's markup."""
    return escape("".join(char if _is_shown(char) else ascii(char)[1:-1] for char in message))


def _is_shown(char: str) -> bool:
    # A byte of a name that is not UTF-8 stays what it is (streams.py).
    return char.isprintable() or char == "\n" or "\udc80" <= char <= "\udcff"


@dataclass(frozen=True)
class Output:
    """How one command prints.

    `json`: the result is one object on standard output. `quiet`: no notes and no progress. `verbose`: also details.
    `debug`: the traceback of an error. `mute`: errors alone, as another process prints the rest. `results`: where
    results go; None: to `sys.stdout`.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    mute: bool = False
    said: set[str] = field(default_factory=set, repr=False, compare=False)
    results: TextIO | None = None
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, soft_wrap=True))

    def result(self, data: dict[str, Any], text: RenderableType | None = None) -> None:
        """Print the command's result: `data` under --json, else `text` (a string, or anything rich renders)."""
        if self.mute:
            return
        stream = self.results or sys.stdout
        if self.json:
            print(json.dumps(data, allow_nan=False, default=str), file=stream)
        elif isinstance(text, str):
            print(text, end="" if text.endswith("\n") else "\n", file=stream)
        elif text is not None:
            # A pipe has no width to wrap to.
            width = None if stream.isatty() else PIPE_WIDTH
            Console(file=stream, highlight=False, width=width).print(text)
        stream.flush()

    def note(self, message: str) -> None:
        """Print a message on standard error, unless --quiet."""
        if not (self.quiet or self.mute):
            self.console.print(_plain(message))

    def once(self, message: str, warns: bool = False) -> None:
        """Print a note, or a warning, but no message twice."""
        if message not in self.said:
            self.said.add(message)
            (self.warn if warns else self.note)(message)

    def detail(self, message: str) -> None:
        """Print a message on standard error with --verbose only."""
        if self.verbose and not self.mute:
            self.console.print(_plain(message), style="dim")

    def warn(self, message: str) -> None:
        """Print a warning on standard error, also with --quiet."""
        if not self.mute:
            self.console.print(f"[yellow]warning:[/] {_plain(message)}")

    def error(self, error: SagdError) -> None:
        """Report an error: one sentence and its hint; under --json also as an object."""
        if self.json:
            body = {"code": error.code, "message": error.message, "hint": error.hint}
            print(json.dumps({"error": body}), file=sys.stderr)
            return
        stop = "" if error.message.endswith((".", "?", "!")) else "."
        hint = f" {error.hint}" if error.hint else ""
        self.console.print(f"[red]error:[/] {_plain(error.message + stop + hint)}")

    @contextmanager
    def progress(
        self, label: str, total: int, done: int = 0, images_per_step: float = 1
    ) -> "Iterator[Progress]":
        """Show progress over `total` steps: a bar on a terminal, else a plain line every 10 s."""
        if self.quiet or self.mute or total <= done:
            yield _Silent()
        elif self.console.is_terminal:
            with _Bar(self.console, label, total, done, images_per_step) as bar:
                yield bar
        else:
            yield _Lines(self.console, label, total, done, images_per_step)


class Progress(Protocol):
    """Progress of one piece of work, counted in steps."""

    def advance(self) -> None:
        """Count one step."""

    def show(self, **figures: float) -> None:
        """Show figures beside the progress, such as the loss."""


class _Silent:
    def advance(self) -> None: ...

    def show(self, **figures: float) -> None: ...


class _Meter:
    """Steps done, their rate and what is left."""

    def __init__(self, label: str, total: int, done: int, images_per_step: float) -> None:
        self.label, self.total, self.done = label, total, done
        self._first, self._images, self._started = done, images_per_step, time.monotonic()
        self.figures: dict[str, float] = {}

    def line(self) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._first) / elapsed
        eta = (self.total - self.done) / rate if rate else 0.0
        figures = "".join(f" {name} {value:.4f}" for name, value in self.figures.items())
        minutes, seconds = divmod(round(eta), 60)
        speed = (
            f"{rate * self._images:.0f} img/s"
            if rate * self._images >= 10
            else f"{rate * self._images:.2g} img/s"
        )
        return f"{self.label} {self.done}/{self.total}{figures} {speed} eta {minutes}m{seconds:02d}"


class _Lines:
    def __init__(self, console: Console, *meter: Any) -> None:
        self._console, self._meter, self._shown = console, _Meter(*meter), time.monotonic()

    def advance(self) -> None:
        self._meter.done += 1
        now = time.monotonic()
        if now - self._shown >= PLAIN_INTERVAL_SECONDS:
            self._shown = now
            self._console.print(self._meter.line())

    def show(self, **figures: float) -> None:
        self._meter.figures.update(figures)


class _Bar:
    def __init__(self, console: Console, *meter: Any) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._meter = _Meter(*meter)
        columns = (BarColumn(), TextColumn("{task.description}"))
        self._rich = RichProgress(*columns, console=console, transient=True)
        self._task = self._rich.add_task(
            self._meter.line(), total=self._meter.total, completed=self._meter.done
        )

    def __enter__(self) -> "_Bar":
        self._rich.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._rich.stop()

    def advance(self) -> None:
        self._meter.done += 1
        self._rich.update(self._task, completed=self._meter.done, description=self._meter.line())

    def show(self, **figures: float) -> None:
        self._meter.figures.update(figures)


_current = Output()


def output() -> Output:
    """Return the Output of the command that runs."""
    return _current


def use_output(chosen: Output) -> None:
    """Set the Output of the command that runs; called once, before the command."""
    global _current  # noqa: PLW0603
    _current = chosen
