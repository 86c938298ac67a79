"""The code of plug-ins, kept from changing what the whole process shares, and from ending it."""

import locale
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from sagd_cli.errors import PluginError
from sagd_cli.system.console import output
from sagd_cli.system.failures import named_error

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
_STREAMS = ("stdin", "stdout", "stderr")

_said: set[str] = set()


@dataclass(frozen=True)
class _Shared:
    """Something that the whole process shares; `initial` is its value before its library is imported."""

    what: str
    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    initial: Any = None


@contextmanager
def guarded(subject: str) -> Iterator[None]:
    """Run the code of the plug-in `subject`, then put back what it has changed of the process, and warn of it.

    These are settings that would change results or messages: the working folder, the locale, standard streams, handlers
    of signals, filters that catch every warning, NumPy's handling of errors, and torch's defaults.
    """
    before = {shared.what: shared.read() for shared in _all_shared()}
    try:
        yield
    finally:
        changed = []
        for shared in _all_shared():
            value = before.get(shared.what, shared.initial)
            if shared.read() != value:
                shared.put_back(value)
                changed.append(shared.what)
        if changed:
            _say(f"{subject} changed {', '.join(changed)} for the whole program; that was undone")


def guarded_call(subject: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` of the plug-in `subject`, run as `guarded` says.

    It raises PluginError where `function` raises something that would end the program, such as SystemExit.
    """

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with guarded(subject):
            try:
                return function(*arguments, **named)
            except (Exception, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise PluginError(f"{subject} failed: {named_error(error)}") from error

    return call


@dataclass(frozen=True, eq=False)
class GuardedImages:
    """Images of the plug-in `subject`, each read as `guarded_call` says."""

    subject: str
    images: Any

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __iter__(self) -> Iterator[Any]:
        """Read the images one by one."""
        return self._read(iter, self.images)

    def at(self, places: Sequence[int]) -> Iterator[Any]:
        """Read the images at `places`, which grow."""
        return self._read(images_at, self.images, places)

    def _read(self, begin: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
        end = object()
        images = guarded_call(self.subject, begin)(*arguments)
        read = guarded_call(self.subject, next)
        while (image := read(images, end)) is not end:
            yield image


def images_at(images: Any, places: Sequence[int]) -> Iterator[Any]:
    """Return the images at `places`, which grow.

    They are read alone from an array, and from images that have a method `at(places)`; from others, all are read.
    """
    if isinstance(images, np.ndarray):
        return (images[place] for place in places)
    if hasattr(images, "at"):
        return iter(images.at(places))
    wanted = {*places}
    return compress(images, (place in wanted for place in range(len(images))))


def _say(message: str) -> None:
    if message not in _said:
        _said.add(message)
        output().warn(message)


def _all_shared() -> list[_Shared]:
    # A plug-in may import torch, and nothing else is to import it for this.
    torch = sys.modules.get("torch")
    return _OF_PYTHON if torch is None else [*_OF_PYTHON, *_of_torch(torch)]


def _of_torch(torch: Any) -> list[_Shared]:
    cpu = torch.device("cpu")
    return [
        _Shared("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        _Shared(
            "torch's default device",
            torch.get_default_device,
            # None, because to name the CPU slows every call.
            lambda device: torch.set_default_device(None if device == cpu else device),
            cpu,
        ),
        _Shared("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        _Shared(
            "torch's choice of deterministic algorithms",
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
            False,
        ),
        _Shared(
            "torch's precision of products",
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
            "highest",
        ),
    ]


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _enter(folder: Path | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _streams() -> list[Any]:
    return [getattr(sys, name) for name in _STREAMS]


def _set_streams(streams: list[Any]) -> None:
    for name, stream in zip(_STREAMS, streams, strict=True):
        setattr(sys, name, stream)


def _set_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(SIGNALS, handlers, strict=True):
        # ValueError: not in the main thread, which alone can set one. TypeError: a handler of C code.
        with suppress(ValueError, TypeError):
            signal.signal(number, handler)


def _catches_all(warning_filter: tuple[Any, ...]) -> bool:
    _, message, category, module, line = warning_filter
    return message is None and module is None and not line and issubclass(Warning, category)


def _keep_filters(catching_all: list[Any]) -> None:
    """Leave these alone of the filters that catch every warning. Libraries add filters of their own when imported."""
    kept = [each for each in warnings.filters if not _catches_all(each) or each in catching_all]
    warnings.filters[:] = [*kept, *(each for each in catching_all if each not in kept)]  # type: ignore[index]


_OF_PYTHON = [
    _Shared("the working folder", _folder, _enter),
    _Shared("the standard streams", _streams, _set_streams),
    _Shared("the handlers of signals", lambda: [signal.getsignal(n) for n in SIGNALS], _set_handlers),
    _Shared(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda value: locale.setlocale(locale.LC_ALL, value),
    ),
    _Shared(
        "the filters of warnings",
        lambda: [each for each in warnings.filters if _catches_all(each)],
        _keep_filters,
    ),
    _Shared("NumPy's handling of errors", np.geterr, lambda value: np.seterr(**value)),
]
