"""What one command has done with images, kept beside its output until all is done, so that the same command goes on."""

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from sagd_cli import __version__
from sagd_cli.data.image_writer import kept_images
from sagd_cli.data.images import ImagePlace, naming
from sagd_cli.errors import UsageError
from sagd_cli.system.console import Output, output
from sagd_cli.system.files import append_text, real_path, reason_of, shown_path, write_text

State = list[int]  # size in bytes and time of change (ns) of a file
SettingText = tuple[str, str]
_NOISE = "noise"  # the key of the files on which noise is measured, beside those of the images
_NAME = "journal.jsonl"
_PATHS = {"input", "output", "uncertainty", "removed"}  # in a record


@dataclass(frozen=True)
class WrittenImage:
    """An image that was worked on: its place, its record, and the files it is in.

    Each file has its state, or None where it was a stack that was not whole yet.
    """

    path: str
    page: int | None
    record: dict[str, Any]
    files: Mapping[str, State | None]

    @property
    def place(self) -> ImagePlace:
        """Where the image was read."""
        return ImagePlace(Path(self.path), self.page)

    def spelled(self, spell: Callable[[str], str]) -> "WrittenImage":
        """Return the same with other spellings of all paths."""
        record = {key: spell(value) if key in _PATHS else value for key, value in self.record.items()}
        files = {spell(file): state for file, state in self.files.items()}
        return WrittenImage(spell(self.path), self.page, record, files)


@dataclass
class Journal:
    """The journal in `folder`: lines of JSON, the first of which is what the command was `told` and has `measured`.

    It was measured on the images `seen`. Each further line lists images that were worked on together, and is written
    after all their files. They are done while each file is as it was left, or is a stack that is not whole, of which
    that many images are kept. The journal knows all files under their `real_path`; `spell` gives that of this command.
    """

    folder: Path
    told: Mapping[str, Any]
    spell: Callable[[str], str] = str
    measured: Mapping[str, Any] | None = None
    seen: Sequence[ImagePlace] | None = None
    batches: Sequence[Sequence[WrittenImage]] = ()
    writes: bool = field(default=False, init=False)

    @classmethod
    def opened(
        cls, folder: Path, target: Path, folders: Iterable[Path], told: Mapping[str, Any], anew: bool
    ) -> "Journal":
        """Return the journal in `folder` of a command that writes to `target`: empty, or what the same command left.

        `folders` are those in which the command reads and writes, as it spells them. With `anew` it is empty. Raises
        UsageError where what a command of other settings or inputs has written is there, and where files were changed
        since.
        """
        first, *others = _lines(folder / _NAME) or [None]
        typed = {place.resolve(): place for place in (*folders, target)}
        empty = cls(
            folder, told, lambda path: str(typed.get(Path(path).parent, Path(path).parent) / Path(path).name)
        )
        if anew or first is None:
            return empty
        seen = [ImagePlace(Path(empty.spell(path)), page) for path, page in first["seen"]]
        batches = [[WrittenImage(**one).spelled(empty.spell) for one in line] for line in others]
        left = replace(empty, measured=first["measured"], seen=seen, batches=batches)
        fault = left._fault(first["told"], shown_path(target))
        if fault and not left._is_there:
            return empty
        if fault:
            raise UsageError(fault, "Give the same command to go on, or start anew with --force.")
        changed = [file for file, state in left._states.items() if file_state(file) not in (None, state)]
        if changed:
            hint = "Move it away to have it made again, or replace all with --force."
            raise UsageError(f"{shown_path(Path(changed[0]))} was changed since it was written", hint)
        return left

    def _fault(self, old: Mapping[str, Any], target: str) -> str | None:
        """Return in what an earlier command was `told` other things.

        Files in which nothing was seen or done took no part, and may be others or none now.
        """
        before, now = old["settings"], self.told["settings"]
        for option in {**before, **now}:
            (one, same), (other, same_now) = before.get(option, ("", None)), now.get(option, ("", None))
            if same != same_now:
                if one == other:
                    return f"{one} is not what it was when {target} was begun"
                words = [
                    f"with {text}" if text else f"without {(one or other).split()[0]}"
                    for text in (one, other)
                ]
                return f"{target} was begun {words[0]}, now {words[1]}"
        part = [*(self.seen or ()), *(one.place for one in self._entries)]
        took_part = {_NOISE, *(real_path(place.path) for place in part)}
        before, now = old["files"], self.told["files"]
        for key in {**before, **now}:
            states, states_now = before.get(key, {}), now.get(key, {})
            for path in {**states, **states_now}:
                if states.get(path) != states_now.get(path) and (key in took_part or key not in before):
                    return f"{shown_path(Path(self.spell(path)))} is not what it was when {target} was begun"
        return None

    @property
    def _entries(self) -> list[WrittenImage]:
        return [*chain.from_iterable(self.batches)]

    @property
    def _states(self) -> dict[str, State]:
        """The files that were whole, as they were left."""
        return {file: state for one in self._entries for file, state in one.files.items() if state}

    @property
    def _is_there(self) -> bool:
        """Whether anything that was written is there."""
        files = {file for one in self._entries for file in one.files}
        return any(Path(file).exists() for file in files) or any(self._kept(self._entries, ()).values())

    @cached_property
    def done(self) -> list[WrittenImage]:
        """The images that need not be worked on again."""
        return [*chain.from_iterable(self._sound)]

    @cached_property
    def _sound(self) -> list[Sequence[WrittenImage]]:
        """The lines all of whose images are sound: done with others an image may differ in its last digits."""
        entries, states = self._entries, self._states
        whole = {file for file, state in states.items() if file_state(file) == state}
        kept = self._kept([one for one in entries if not whole.issuperset(one.files)], whole)

        def is_sound(one: WrittenImage) -> bool:
            missing = [kept[file] for file in one.files if file not in whole]
            return not missing or (one.page is not None and one.page < min(missing))

        return [batch for batch in self.batches if all(map(is_sound, batch))]

    def _kept(self, entries: Sequence[WrittenImage], whole: Container[str]) -> dict[str, int]:
        """Return of how many of the first images of each stack that is not whole both samples and records are there."""
        pages: dict[str, set[int | None]] = {}
        for one in entries:
            for file in one.files:
                pages.setdefault(file, set()).add(one.page)
        counts = {file: kept_images(self.folder, Path(file)).count() for file in pages if file not in whole}
        return {
            file: next((page for page in range(count) if page not in pages[file]), count)
            for file, count in counts.items()
        }

    @property
    def begun(self) -> Mapping[str, int]:
        """How many images are kept of each stack."""
        return Counter(file for one in self.done for file in one.files)

    def left(self, places: Sequence[ImagePlace]) -> Iterator[list[ImagePlace]]:
        """Yield the runs of `places` that are to be worked on; between them lie those that are done."""
        done = {one.place for one in self.done}
        for is_done, run in groupby(places, done.__contains__):
            if not is_done:
                yield [*run]

    def begin(self, measured: Mapping[str, Any], seen: Iterable[ImagePlace], target: Path) -> None:
        """Keep the journal, from what was `measured` on; a note says where that cannot be, but the output can."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            with naming(target):
                target.mkdir(parents=True, exist_ok=True)
            why = f"{self.folder} cannot be made ({reason_of(error)})"
            output().note(f"when stopped, this starts anew: {why}")
            return
        self.writes, self.measured = True, self.measured or measured
        self.seen = [*seen] if self.seen is None else self.seen
        kept = {kept_images(self.folder, Path(file)).path for file in self.begun}
        for path in {*self.folder.glob("*.images")} - kept:
            path.unlink()
        places = [(real_path(path), page) for path, page in self.seen]
        first = {"told": self.told, "measured": self.measured, "seen": places}
        write_text(self.folder / _NAME, _line(first) + "".join(map(_batch_line, self._sound)))

    def add(self, batch: Sequence[WrittenImage]) -> None:
        """Add images that were worked on together, whose files are there."""
        if self.writes and batch:
            append_text(self.folder / _NAME, _batch_line(batch))
            for file in (file for one in batch for file, state in one.files.items() if state):
                kept_images(self.folder, Path(file)).remove()

    def end(self, has_failed: bool, output: Output) -> None:
        """Remove the journal, or say where it is kept for what failed."""
        if not has_failed:
            for path in (self.folder / _NAME, *self.folder.glob("*.images")):
                path.unlink(missing_ok=True)
        elif self.writes:
            output.note(f"what was done is kept in {self.folder}: the same command tries again what failed")


def journal_in(folder: Path) -> str:
    """Return `folder` as text where it holds a journal, "" where not."""
    return shown_path(folder) if (folder / _NAME).exists() else ""


def file_state(path: Path | str) -> State | None:
    """Return the state of a file, or of all files in a Zarr store; None where there is none."""
    path = Path(path)
    try:
        found = [one.stat() for one in (path, *(path.rglob("*") if path.is_dir() else ()))]
    except OSError:
        return None
    return [sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)]


def setting(option: str, value: object, same: str | None = None) -> SettingText:
    """Return the text of a setting, and what it has in common with the `same` one spelled otherwise.

    That is the text where nothing else is told, and of a path the file.
    """
    text = f"{option} {'' if value is True else value}".strip()
    if same is None:
        same = real_path(value.resolve()) if isinstance(value, Path) else text
    return text, same


def told(
    settings: Mapping[str, SettingText], images: Mapping[Path, Iterable[Path]], noise: Iterable[Path]
) -> dict[str, Any]:
    """Return what decides the results of a command: its settings by their options, and the states of what it reads.

    `images` are its image files, each with the files that are read for it; on the files `noise` noise is measured.
    """
    files = {**{real_path(path): some for path, some in images.items()}, _NOISE: noise}
    states = {key: {real_path(one): file_state(one) for one in some} for key, some in files.items()}
    return {"settings": {"version": (f"version {__version__}", __version__), **settings}, "files": states}


def _batch_line(batch: Sequence[WrittenImage]) -> str:
    return _line([asdict(one.spelled(real_path)) for one in batch])


def _line(document: Any) -> str:
    return json.dumps(document) + "\n"


def _lines(path: Path) -> list[Any]:
    """Return what the lines of a journal say, but what a kill left of the last one."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
