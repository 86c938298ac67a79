"""What one `sagd omit` has done, kept beside its output until all is done, so that the same command goes on."""

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from sagd_cli import __version__
from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.measured_noise import MeasuredNoise
from sagd_cli.data.folders import list_images
from sagd_cli.data.image_writer import kept_images
from sagd_cli.data.images import ImagePlace
from sagd_cli.errors import UsageError
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.places import Places
from sagd_cli.system.console import output
from sagd_cli.system.files import append_text, reason_of, shown_path, try_lock, write_text

State = list[int]  # size in bytes and time of change (ns) of a file


@dataclass(frozen=True)
class Restored:
    """An image that was restored: its place, its record, and the files it is in.

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


@dataclass
class Journal:
    """The journal in `folder`: lines of JSON, the first of which is what the command was `told` and has `measured`.

    Each further line lists images that were restored together, and is written after all their files. They are done
    while each file is as it was left, or is a stack that is not whole, of which that many images are kept.
    """

    folder: Path
    told: Mapping[str, Any]
    measured: Mapping[str, Any] | None = None
    batches: Sequence[Sequence[Restored]] = ()
    writes: bool = field(default=False, init=False)

    @classmethod
    def opened(cls, folder: Path, target: Path, told: Mapping[str, Any], anew: bool) -> "Journal":
        """Return the journal of a command that writes to `target`: an empty one, or what the same command left.

        With `anew` it is empty. Raises UsageError where a command of other settings or inputs left one.
        """
        first, *others = _lines(folder / "journal.jsonl") or [None]
        if anew or first is None:
            return cls(folder, told)
        _check_same(first["told"], told, target)
        return cls(folder, told, first["measured"], [[Restored(**one) for one in line] for line in others])

    @property
    def goes_on(self) -> bool:
        """Whether an earlier command left something to go on with."""
        return self.measured is not None

    @cached_property
    def done(self) -> list[Restored]:
        """The images that need not be restored again."""
        return [*chain.from_iterable(self._sound)]

    @cached_property
    def _sound(self) -> list[Sequence[Restored]]:
        """The lines all of whose images are sound: restored with others an image may differ in its last digits."""
        entries = [*chain.from_iterable(self.batches)]
        states = {file: state for one in entries for file, state in one.files.items() if state}
        whole = {file for file, state in states.items() if file_state(file) == state}
        kept = self._kept([one for one in entries if not whole.issuperset(one.files)], whole)

        def is_sound(one: Restored) -> bool:
            missing = [kept[file] for file in one.files if file not in whole]
            return not missing or (one.page is not None and one.page < min(missing))

        return [batch for batch in self.batches if all(map(is_sound, batch))]

    def _kept(self, entries: Sequence[Restored], whole: Container[str]) -> dict[str, int]:
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
        """Yield the runs of `places` that are to be restored; between them lie those that are done."""
        done = {one.place for one in self.done}
        for is_done, run in groupby(places, done.__contains__):
            if not is_done:
                yield [*run]

    @contextmanager
    def writing(self, measured: Mapping[str, Any]) -> Iterator[None]:
        """Keep the journal, from what was `measured` on; a note says where that cannot be.

        Raises UsageError where another process keeps it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            output().note(
                f"when stopped, this starts anew: {self.folder} cannot be made ({reason_of(error)})"
            )
            yield
            return
        with try_lock(self.folder / "lock") as is_free:
            if not is_free:
                raise UsageError("another command writes the same output", "Wait for its end.")
            self.writes, self.measured = True, self.measured or measured
            kept = {kept_images(self.folder, Path(file)).path for file in self.begun}
            for path in {*self.folder.glob("*.images")} - kept:
                path.unlink()
            first = {"told": self.told, "measured": self.measured}
            lines = [first, *([asdict(one) for one in batch] for batch in self._sound)]
            write_text(self._path, "".join(map(_line, lines)))
            yield

    def add(self, batch: Sequence[Restored]) -> None:
        """Add images that were restored together, whose files are there."""
        if self.writes and batch:
            append_text(self._path, _line([asdict(one) for one in batch]))
            for file in (file for one in batch for file, state in one.files.items() if state):
                kept_images(self.folder, Path(file)).remove()

    def remove(self) -> None:
        """Remove the journal, and its folder unless something else lies there."""
        for path in (self._path, self.folder / "lock", *self.folder.glob("*.images")):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    @property
    def _path(self) -> Path:
        return self.folder / "journal.jsonl"


def file_state(path: Path | str) -> State | None:
    """Return the state of a file, None where there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def told_by(omission: Omission, places: Places, files: Iterable[Path]) -> dict[str, Any]:
    """Return what decides the results of a command: its settings, and the states of the `files` that it reads."""
    settings = {key: str(value) for key, value in {**vars(omission), **places.settings}.items()}
    read = [*files]
    if isinstance(omission.noise, NoiseSpectrum):
        sources = [part.source for part in omission.noise.parts]
        read += chain(*(list_images(Path(one.path)) for one in sources if isinstance(one, MeasuredNoise)))
    if omission.reference is not None:
        pixels = sha256(
            b"".join(sha256(image.pixels.tobytes()).digest() for image in omission.reference.images)
        )
        settings["reference"] = f"{omission.reference.data} {pixels.hexdigest()[:16]}"
    if omission.model is not None:
        weights = omission.model.model.network.state_dict().values()
        hashes = (sha256(tensor.cpu().numpy().tobytes()).digest() for tensor in weights)
        settings["model"] = f"{omission.model.name} {sha256(b''.join(hashes)).hexdigest()[:16]}"
    return {
        "settings": {"version": __version__, **settings},
        "inputs": {str(path): file_state(path) for path in read},
    }


def _check_same(old: Mapping[str, Any], new: Mapping[str, Any], target: Path) -> None:
    hint = "Give the same command to go on, or start anew with --force."
    settings = {**old["settings"], **new["settings"]}
    for key in settings:
        before, now = (told["settings"].get(key) for told in (old, new))
        if before != now:
            raise UsageError(f"{shown_path(target)} was begun with {key} {before}, not {now}", hint)
    for path in {**old["inputs"], **new["inputs"]}:
        if old["inputs"].get(path) != new["inputs"].get(path):
            changed = shown_path(Path(path))
            raise UsageError(f"{changed} is not what it was when {shown_path(target)} was begun", hint)


def _line(document: Any) -> str:
    return json.dumps(document) + "\n"


def _lines(path: Path) -> list[Any]:
    """Return what the lines of a journal say, but what a kill left of the last one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
