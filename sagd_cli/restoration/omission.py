"""Omission: restore image files whose corruption lies in a known band (docs/theory.md, section 6)."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.validation import digest_of
from sagd_cli.damage.measured_noise import noise_files
from sagd_cli.data.folders import Collection, check_names, check_output_folder, collect, list_images
from sagd_cli.data.image_writer import ImageWriter, NoWriter
from sagd_cli.data.journal import Journal, journal_in, told
from sagd_cli.data.outcome import Outcome, RestoredImage
from sagd_cli.datasets.truth import TrueImages
from sagd_cli.errors import UsageError
from sagd_cli.restoration.folder_work import FolderWork
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.places import Places, Share, beside_name, draw_names
from sagd_cli.restoration.prepare import Preparation
from sagd_cli.restoration.prepared import Prepared
from sagd_cli.restoration.words import MOST_TABLES
from sagd_cli.run.manifest import has_run
from sagd_cli.system.console import Output
from sagd_cli.system.files import real_path, refuse_existing, shown_path, sole_user
from sagd_cli.system.signals import stop_at_once

if TYPE_CHECKING:
    import torch


def omit_files(
    omission: Omission,
    places: Places,
    device: "Callable[[], torch.device]",
    force: bool,
    output: Output,
    shown: int = 0,
) -> tuple[dict[str, Any], list[RestoredImage]]:
    """Restore the images of one folder into another, as `omission` says.

    Return the JSON object of `sagd omit` and the first `shown` restored images. Outside the band the images come back
    unchanged, except for rounding to their bit depth. A file that cannot be read is noted and skipped. Images are read
    a few at a time, so memory does not grow with their number. `device` gives the device of the model, if one is used.
    The same command goes on where one was stopped; other existing output is replaced only with `force`, and so is all
    of it. With a share of the files, all else is measured on all of them; the processes of one command that have shares
    return what they did together. Raises UsageError, before any work, when an output or a true image does not fit, and
    when another process writes there. Raises DataError when there is nothing to omit, Interrupted when a signal asks to
    stop.
    """
    with stop_at_once(lambda: journal_in(places.workspace)), sole_user(places.workspace):
        return _omitted(omission, places, device, force, output, shown)


def _omitted(
    omission: Omission,
    places: Places,
    device: "Callable[[], torch.device]",
    force: bool,
    output: Output,
    shown: int,
) -> tuple[dict[str, Any], list[RestoredImage]]:
    job = _opened(omission, places, force, output)
    prepared = job.prepared(omission, device)
    kept = job.shown_again(prepared, shown)
    work, more = job.restored(prepared, 0 if job.journal.done else shown)
    _share_outcome(work.outcome, places.share, output)
    work.outcome.say_clipped(output)
    work.outcome.say_copied(output)
    job.journal.end(bool(work.outcome.failed), output)
    if not work.outcome.failed:
        places.forget_learned()
    return work.result(), [*kept, *more]


def _opened(omission: Omission, places: Places, force: bool, output: Output) -> "_Job":
    """Open the journal and read some of the images; raise UsageError when something speaks against the outputs."""
    paths = list_images(places.source)
    _check_division(places, force)
    is_new = not force and places.share.is_whole and not journal_in(places.workspace)
    if is_new:  # before the long look at all files
        check_output_folder(places.folder, (), force, places.read)
    truths = TrueImages.found(paths, places.truth, omission.given)
    known = told_by(omission, places, paths, truths.paths)
    journal = Journal.opened(places.workspace, places.folder, places.folders, known, force)
    _check_outputs(omission, places, paths, force or journal.measured is not None)
    places.share.check_alike(_facts(known, places))  # and none of them writes before all may
    if force and places.share.shard.number == 1:
        _remove_workspaces(places.otherwise_divided)
    images = collect(paths, omission.given, output, journal.seen)
    truths.check(images.some)
    for remark in truths.ranges.remarks:
        output.note(f"true images: {remark}")
    return _Job(places, paths, truths, journal, images, output)


@dataclass
class _Job:
    """One command on the files `paths`: the `images` it looks at, and once it is prepared, those of its own share."""

    places: Places
    paths: Sequence[Path]
    truths: TrueImages
    journal: Journal
    images: Collection
    output: Output

    def __post_init__(self) -> None:
        self._are_few = len(self.images.places) <= MOST_TABLES

    def prepared(self, omission: Omission, device: "Callable[[], torch.device]") -> Prepared:
        """Look at some of all images, begin the journal with what they tell, and keep this process's own images."""
        preparation = Preparation(
            omission,
            self.places.source,
            self.images.some,
            device,
            self.output,
            self.places.workspace,
            self.places.run,
            self.journal.measured,
            not self.places.share.is_whole,
        )
        prepared = preparation.prepared()
        self.journal.begin(
            preparation.measured(prepared), [image.place for image in self.images.some], self.places.folder
        )
        own = {*self.places.share.shard.of(self.paths)}
        places = [place for place in self.images.places if place.path in own]
        self.images = replace(self.images.trimmed(), places=places)
        return prepared

    def shown_again(self, prepared: Prepared, count: int) -> list[RestoredImage]:
        """Return the first `count` images, restored but not written, where a stopped command has written them."""
        if not self.journal.done:
            return []
        self.output.note(f"{len(self.journal.done)} of {len(self.images.places)} images were restored before")
        again = self._work(prepared, NoWriter(), Output(quiet=True))
        some = again.restored([self.images.read(again.outcome, again.output)], count=0)
        return [give() for give in islice(some, count)]

    def restored(self, prepared: Prepared, shown: int) -> tuple[FolderWork, list[RestoredImage]]:
        """Restore and write what is left; return the work, and the first `shown` images of it."""
        journal, images, kept = self.journal, self.images, list[RestoredImage]()
        left = len(images.places) - len(journal.done)
        with (
            self.output.progress("omit", len(images.places), len(journal.done)) as bar,
            ImageWriter(journal.folder if journal.writes else None, journal.begun) as writer,
        ):
            work = self._work(prepared, writer, self.output, journal)
            work.outcome.files.extend(one.record for one in journal.done)
            runs = (
                replace(images, places=run).read(work.outcome, self.output, bar.advance)
                for run in journal.left(images.places)
            )
            for give in work.restored(runs, left):
                kept.extend([give()] if len(kept) < shown else [])
        return work, kept

    def _work(
        self, prepared: Prepared, writer: ImageWriter, output: Output, journal: Journal | None = None
    ) -> FolderWork:
        return FolderWork(prepared, self.places, self.truths, output, writer, journal, self._are_few)


def _share_outcome(outcome: Outcome, share: Share, output: Output) -> None:
    """Make the outcome that of all processes of this command, when all have come here; warn of what failed there."""
    own = [*outcome.failed]
    together = share.gathered({"files": outcome.files, "failed": outcome.failed})
    outcome.files, outcome.failed = (
        [record for one in together for record in one[key]] for key in ("files", "failed")
    )
    for record in outcome.failed:
        if record not in own:
            output.warn(record["error"])


def told_by(
    omission: Omission, places: Places, images: Sequence[Path], truths: Mapping[Path, Path]
) -> dict[str, Any]:
    """Return what decides the results: the settings, and the states of the files that are read."""
    read = {path: [one for one in (path, truths.get(path)) if one] for path in images}
    noise = noise_files(omission.noise) if isinstance(omission.noise, NoiseSpectrum) else []
    return told({**omission.settings, **places.settings}, read, noise)


def _facts(known: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """Return in what all processes of one command must agree, of what is `told_by` it.

    The files have the same names and sizes; their times, and where they lie, may differ between machines.
    """
    settings = {option: same for option, (_, same) in known["settings"].items()}
    chosen = {option: option in places.settings or same for option, same in settings.items()}
    sizes = {
        Path(key).name: [(Path(path).name, state and state[0]) for path, state in states.items()]
        for key, states in known["files"].items()
    }
    return {"model": settings.get("--model"), "settings": digest_of(chosen), "files": digest_of(sizes)}


def _check_division(places: Places, force: bool) -> None:
    """Raise UsageError where a command with another number of shares was stopped that wrote to the same folder."""
    begun = {count for path, count in places.otherwise_divided.items() if journal_in(path)}
    if force or not begun or not places.folder.is_dir() or not any(places.folder.iterdir()):
        return
    shown, count = shown_path(places.folder), max(begun)
    if count == 1:
        raise UsageError(f"{shown} was begun by one process", "Go on with one, or start anew with --force.")
    raise UsageError(
        f"{shown} was begun by {count} processes",
        f"Go on with as many under torchrun, or with --shard K/{count}; or start anew with --force.",
    )


def _remove_workspaces(folders: Iterable[Path]) -> None:
    """Remove them; raise UsageError where another command works in one."""
    for folder in folders:
        with sole_user(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _check_outputs(omission: Omission, places: Places, paths: Sequence[Path], force: bool) -> None:
    """Raise UsageError when an output would overwrite something, or would lie in a folder of inputs.

    What other shares write lies there besides.
    """
    share = places.share

    def checked(folder: Path, target_names: Callable[[Path], list[str]]) -> set[Path]:
        names = check_names(paths, target_names)
        check_output_folder(folder, names, force or not share.is_whole, places.read)
        own = [] if share.is_whole else check_names(share.shard.of(paths), target_names)
        for name in own:
            refuse_existing(folder / name, force)
        return {folder.resolve(), *(folder.resolve() / name for name in names)}

    written = checked(places.folder, lambda path: draw_names(path, omission.draws_written))
    for option, folder in places.beside.items():
        if folder.resolve() in written:
            raise UsageError(
                f"what --{option} writes would lie among the images", "Choose another folder for it."
            )
        written |= checked(folder, lambda path: [beside_name(path)])
    for option, path in places.extras.items():
        if path is not None and Path(real_path(path)) in written:
            raise UsageError(
                f"{path} would be written by {option} and among the images",
                f"Choose another name for {option}.",
            )
    if places.run is not None and not has_run(places.run):
        refuse_existing(places.run, False)
