"""Random command lines in this process, and the laws that they must keep.

`python tests/support/fuzzing.py SECONDS [SEED [FIRST]]` runs the cases of a seed, from number FIRST on, until the
time is up. It prints each command line that breaks a law, to be pasted into a shell, and then counts by sub-command.
"""

import io
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # it is run as a script

from support.fuzz_commands import Case, draw
from support.fuzz_inputs import make_inputs
from support.fuzz_laws import Ran, broken_by_any, broken_by_result

from sagd_cli.__main__ import main
from sagd_cli.plugin import registry

MEMORY = 4 << 30  # bytes that hostile sizes may ask for beyond what the process has


@dataclass
class Report:
    """What the cases did: exit codes by sub-command, seconds of the slowest, and what broke a law, by its line.

    A line may be drawn several times; its first time is kept.
    """

    codes: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    broken: dict[str, str] = field(default_factory=dict)
    slowest: list[tuple[float, str]] = field(default_factory=list)


class TooSlow(BaseException):
    """A case that does not end; no `except Exception` of the program stops it."""


class Fuzz:
    """The inputs in `folder`/in, and a fresh folder `folder`/work for each case."""

    def __init__(self, folder: Path) -> None:
        """Make the inputs."""
        self.work, self.inputs = folder / "work", folder / "in"
        self._make_inputs()

    def _make_inputs(self) -> None:
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir(parents=True)
        make_inputs(self.inputs)
        with self._at_work():
            words = ["--features", "pixels", "--output", "../in/fid.json"]
            result = self._run("fid", "../in/u8.npy", "digits:test", *words)
            assert result.code == 0, result.err
        self.whole = _listing(self.inputs)

    def check(self, seed: int, number: int, report: Report) -> None:
        """Run one case, and add what it did to `report`."""
        case = draw(seed, number)
        begun = time.monotonic()
        with self._at_work():
            try:
                ran = self._run(*case.words, stdin=case.stdin)
                broken = broken_by_any(case, ran)
                broken += broken_by_result(case, ran, self._run)
                code = ran.code
            except TooSlow:
                broken, code, ran = ["does not end"], -1, None
        if _listing(self.inputs) != self.whole:
            found = _listing(self.inputs)
            names = [name for name in {*found, *self.whole} if found.get(name) != self.whole.get(name)]
            broken.append(f"the inputs are changed: {sorted(names)}")
            self._make_inputs()
        line = _pasted(case)
        report.codes[case.command][code] += 1
        report.slowest = sorted([*report.slowest, (time.monotonic() - begun, line)])[-5:]
        if broken:
            said = ran.err.strip()[-300:] if ran else ""
            text = f"# {seed} {number}: {'; '.join(broken)}\n{line}\n#   {code} {said!r}\n"
            report.broken.setdefault(line, text)

    def _run(self, *words: str, stdin: str | None = "") -> Ran:
        before = _listing(Path())
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
        kept, sys.stdin = sys.stdin, stdin if stdin is None else io.TextIOWrapper(io.BytesIO(stdin.encode()))
        registry.use_sources(registry.Sources.from_environment())
        code = 0
        try:
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.filterwarnings("ignore", category=DeprecationWarning)
                warnings.filterwarnings("ignore", category=FutureWarning)
                main(words)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except (TooSlow, KeyboardInterrupt):
            raise
        except BaseException:
            code = -2
            err.write(traceback.format_exc())
        finally:
            sys.stdin = kept
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
        return Ran(code, *texts, before, _listing(Path()))

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Be in the folder of outputs, which holds an old one of each kind."""
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / "old").mkdir(parents=True)
        for name in ("old.png", "old.npy", "old/a.png", "old/notes.txt"):
            (self.work / name).write_text("old")
        home = Path.cwd()
        os.chdir(self.work)
        try:
            yield
        finally:
            os.chdir(home)


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Give the program a cache and a width of its own, one thread and little memory, and put all back."""
    variables = dict(os.environ)
    os.environ |= {"COLUMNS": "200", "SAGD_CACHE": str(folder / "cache")}
    os.environ.pop("SAGD_DATA", None)
    threads, limits = torch.get_num_threads(), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        os.environ.clear()
        os.environ.update(variables)
        registry.use_sources(registry.Sources.from_environment())


def _listing(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the names in `folder`, all the way down, with what changes when a file does."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            file = () if name in folders else (status.st_size, status.st_mtime_ns)
            found[str(path.relative_to(folder))] = (status.st_ino, *file)
    return found


def _pasted(case: Case) -> str:
    """Return the case as a line for a shell; long words are cut."""
    words = [word if len(word) < 200 else f"{word[:20]}...{len(word)} characters" for word in case.words]
    line = f"sagd {shlex.join(words)}"
    return f"printf %s {shlex.quote(case.stdin[:100])} | {line}" if "-" in case.words and case.stdin else line


def fuzz(folder: Path, seed: int, numbers: Iterator[int] | range) -> Report:
    """Run the cases of these `numbers`; return how they fared."""
    report = Report()
    with surroundings(folder):
        cases = Fuzz(folder)
        for number in numbers:
            cases.check(seed, number, report)
    return report


def _until(end: float, first: int) -> Iterator[int]:
    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    number = first
    while time.monotonic() < end:
        signal.alarm(60)
        yield number
        number += 1
    signal.alarm(0)


if __name__ == "__main__":
    seconds, seed, first = [*map(int, sys.argv[1:]), 0, 0][:3]
    place = Path(tempfile.mkdtemp(prefix="sagd-fuzz-"))
    done = fuzz(place, seed, _until(time.monotonic() + seconds, first))
    print(f"# in a folder beside {place / 'in'}")
    print(*done.broken.values(), sep="\n")
    for command, codes in sorted(done.codes.items()):
        print(f"{command:<18} {codes.total():>5} cases, exit codes {dict(sorted(codes.items()))}")
    for took, line in done.slowest:
        print(f"{took:.1f} s: {line}")
    print(f"{sum(codes.total() for codes in done.codes.values())} cases, {len(done.broken)} break a law")
    sys.exit(bool(done.broken))
