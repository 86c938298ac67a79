"""Folders of images: which files are read, how outputs are named, and what became of each file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from sagd_cli.data.entries import SAMPLES_RECORD, SAMPLES_WORK, entries_in
from sagd_cli.data.images import Image, ImagePlace, images_in, read_even_empty, read_image
from sagd_cli.data.outcome import Outcome
from sagd_cli.data.ranges import Range, Ranges, RangeSurvey
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.files.formats import FORMATS, accepted_suffixes, format_in, format_of, is_lossless, stack_form
from sagd_cli.files.layout import is_store
from sagd_cli.system.console import Output, output
from sagd_cli.system.files import reason_of, refuse_existing, remove_left_over, shown_path

MOST_IMAGES, MOST_IMAGE_VALUES = 10_000, 1 << 26
KEPT_BYTES = 1 << 28
# Files with these suffixes lie beside images and are none.
DOCUMENTS = frozenset(
    {".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"}
    | {".html", ".log", ".pdf", ".py", ".sh", ".db", ".npy", ".npz"}
)


def output_name(path: Path) -> str:
    """Return the name to write the processed `path` under: its own if that holds it unchanged, else with a suffix."""
    name, form = format_of(path), stack_form(path)
    fits = name is not None and is_lossless(name) if form is None else name == form.format
    return path.name if fits else f"{path.stem}{FORMATS['PNG' if form is None else form.format].suffixes[0]}"


def _is_folder(path: Path) -> bool:
    """Whether images may lie in `path`, which is then no image itself."""
    return path.is_dir() and not is_store(path)


def list_images(folder: Path) -> list[Path]:
    """Return the files in `folder` that have the suffix of a format, sorted by name, without hidden ones.

    Of a folder of samples, those in its parts count too.

    `folder` may also be one file of any suffix, which is returned. A note says what is left out. Raises `UsageError`
    where there is no image or `folder` cannot be read, and when most files, but documents and companions, are no image.
    """
    if folder.exists() and not _is_folder(folder):
        return [folder]
    images, others = _listed(folder)
    _check_left_out(folder, images, others)
    return images


def images_by_class(folder: Path) -> dict[Path, list[Path]]:
    """Return the images of each folder in `folder`, which are classes, or of `folder` itself where it holds images.

    Hidden ones are left out. Raises what `list_images` raises, and `UsageError` when `folder` holds images beside
    folders with more of them.
    """
    here, others = _listed(folder) if _is_folder(folder) else ([], [])
    classes = [path for path in others if _is_folder(path)]
    if here:
        inside = sum(map(_images_inside, classes))
        if inside >= len(here):
            names = ", ".join(file.name for file in here[:3]) + (", ..." if len(here) > 3 else "")
            raise UsageError(
                f"{shown_path(folder)} holds {len(here)} image(s) ({names}) beside folders with {inside}",
                "Where the folders are classes, move the images into one of them, or else the folders away.",
            )
    if here or not classes:
        return {folder: list_images(folder)}
    found, others = {}, [path for path in others if path not in classes]
    for path in classes:
        found[path], more = _listed(path)
        if not found[path]:
            raise UsageError(f"{shown_path(path)} holds no image", f"Accepted are {accepted_suffixes()}.")
        others += more
    _check_left_out(folder, [*chain(*found.values())], others)
    return found


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images in `folder` and what else is there, without hidden ones, both sorted by name.

    Raises UsageError on one that cannot be read, and on samples that are not complete.
    """
    try:
        entries = entries_in(folder)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{shown_path(folder)} is not a folder of images, nor an image: {reason_of(error)}"
        ) from error
    if (folder / SAMPLES_RECORD).is_file() and (folder / SAMPLES_WORK).is_dir():
        raise UsageError(
            f"the samples in {shown_path(folder)} are not complete",
            "The `sagd sample` that began them goes on with them; or move the images that are meant to another folder.",
        )
    shown = [path for path in entries if not path.name.startswith(".")]
    images = [path for path in shown if format_of(path) and not _is_folder(path)]
    known = {*images}
    return images, [path for path in shown if path not in known]


def _check_left_out(folder: Path, images: Sequence[Path], others: Sequence[Path]) -> None:
    """Say which files are left out; raise UsageError when there is no image, or when they are most."""
    if not images:
        raise UsageError(f"{shown_path(folder)} holds no image", f"Accepted are {accepted_suffixes()}.")
    if not others:
        return
    folders = {path for path in others if _is_folder(path)}
    inside = sum(map(_images_inside, folders))
    files = [path for path in others if path not in folders]
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files)
    words = [f"{count} {kind}" for kind, count in kinds.items()]
    if folders:
        words.append(f"{len(folders)} folder(s)" + (f" with {inside} image(s)" if inside else ""))
    named, stems = ", ".join(words), {path.stem for path in images}
    if inside + sum(path.stem not in stems and _may_be_picture(path) for path in files) > len(images):
        raise UsageError(
            f"most of {shown_path(folder)} would be left out: {named}, beside {len(images)} image(s)",
            f"Name the folder that is meant; convert the others or move them away. Accepted are {accepted_suffixes()}.",
        )
    output().once(f"{shown_path(folder)}: {len(images)} image(s); left out: {named}")


def _images_inside(folder: Path) -> int:
    """Return the number of images in `folder`, 0 where it cannot be read."""
    try:
        return len(_listed(folder)[0])
    except UsageError:
        return 0


def _may_be_picture(path: Path) -> bool:
    """Whether a file may be an image that is not read: not with a document's suffix, nor without one and no image."""
    if path.suffix:
        return path.suffix.lower() not in DOCUMENTS
    try:
        with path.open("rb") as file:
            format_in(file.read(64))
    except (OSError, DataError):
        return False
    return True


def check_output_folder(folder: Path, names: Iterable[str], force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise `UsageError` unless `folder` can take files called `names`.

    It must be empty or not there. With `force`, it may hold images of those very names, which will be replaced.
    Nothing is deleted but temporary files of a killed command, and images of an earlier output never mix with new
    ones. `inputs` are what the command reads: none of them may be in `folder`.
    """
    for path in inputs:
        if folder.resolve() in (path.resolve(), path.resolve().parent):
            raise UsageError(f"{shown_path(folder)} is where the input is", "Choose another --output.")
    store = next((place for place in (folder, *folder.resolve().parents) if is_store(place)), None)
    if store is not None:
        raise UsageError(
            f"{shown_path(folder)} lies in the Zarr store {shown_path(store)}", "Choose another --output."
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"{shown_path(folder)} is a file, and the output is a folder", "Choose another --output."
        )
    remove_left_over(folder)
    refuse_existing(folder, force)
    found = entries_in(folder) if folder.is_dir() else []
    expected = set(names) if found else set()
    for path in found:
        name = str(path.relative_to(folder))
        if (format_of(path) or path.suffix.lower() == ".npz") and name not in expected:
            raise UsageError(
                f"{shown_path(folder)} holds {shown_path(Path(name))}, which is not part of the new output and would "
                "mix with it",
                "Remove the folder or choose another --output; --force only replaces files of the same names.",
            )


def check_names(paths: Iterable[Path], target_names: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return the names that the files of `paths` are written under; `target_names` gives those of one file.

    Raises UsageError when two files would be written under one name.
    """
    names: dict[str, Path] = {}
    for path in paths:
        for name in target_names(path):
            other = names.setdefault(name, path)
            if other is not path:
                raise UsageError(
                    f"{other.name} and {path.name} would both be written to {name}", "Rename one of them."
                )
    return list(names)


@dataclass(frozen=True, eq=False)
class Collection:
    """Images that are worked on together: their `places` in files, and the `ranges` of their values.

    `some` are images that were read before and stay in memory; they are not read again.
    """

    places: Sequence[ImagePlace]
    ranges: Ranges
    some: Sequence[Image]

    def trimmed(self) -> "Collection":
        """Return the collection without `some` where they take more memory than `KEPT_BYTES`."""
        size = sum(image.pixels.nbytes for image in self.some)
        return self if size <= KEPT_BYTES else replace(self, some=())

    def of(self, image: Image) -> Image:
        """Return an image of the collection with the range that was decided for its type."""
        return replace(image, range=self.ranges.of(image.pixels.dtype, image.range))

    def read(
        self, outcome: Outcome, output: Output, on_image: Callable[[], None] = lambda: None
    ) -> Iterator[Image]:
        """Yield the images that can be read, also empty ones; note the files of the others as failed in `outcome`.

        What is left of a stack that has failed is not read. `on_image` is called once for each image.
        """
        known = {image.place: image for image in self.some}
        for place in self.places:
            on_image()
            if outcome.failed and outcome.has_failed(place.path):
                continue
            try:
                yield known[place] if place in known else self.of(read_even_empty(*place))
            except SagdError as error:
                outcome.fail(place, error, output)


def collect(
    paths: Sequence[Path], given: Range | None, output: Output, seen: Sequence[ImagePlace] | None = None
) -> Collection:
    """Read some of the images in the files `paths`, and decide the ranges by them; `given` is what the user says.

    Those at `seen` are read, where they are told. A note tells of ranges that were found from the values.
    """
    places = [place for path in paths for place in images_in(path)]
    some = some_images(places) if seen is None else [read_image(*place) for place in seen]
    survey = RangeSurvey(given)
    for image in some:
        survey.add(image.pixels, image.range)
    found = Collection(places, survey.decided(), ())
    for remark in found.ranges.remarks:
        output.note(f"{remark} (--range LO:HI says otherwise)")
    return replace(found, some=[found.of(image) for image in some])


def some_images(places: Sequence[ImagePlace]) -> list[Image]:
    """Read images to learn from, drawn from all `places`, as many as memory should hold.

    They come in the order of `places`, and which they are is a function of the number of places. Files that cannot be
    read are left out. Raises `DataError`, with the cause of the first, when none can be read.
    """
    order = np.random.default_rng(len(places)).permutation(len(places))[:MOST_IMAGES]
    images, values, faults = dict[int, Image](), 0, list[SagdError]()
    for index in order.tolist():
        try:
            images[index] = read_image(*places[index])
        except SagdError as error:
            faults.append(error)
            continue
        values += images[index].pixels.size
        if values >= MOST_IMAGE_VALUES:
            break
    if faults and not images:
        first = min(faults, key=lambda fault: fault.message)
        raise (
            first
            if len(faults) == 1
            else DataError(f"none of {len(places)} images can be read: {first.message}", first.hint)
        )
    return [images[index] for index in sorted(images)]
