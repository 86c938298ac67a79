"""What became of the image files of one command, and a restored image as it goes to figures and reports."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sagd_cli.data.images import Image, ImagePlace, images_in
from sagd_cli.data.ranges import Signal
from sagd_cli.errors import SagdError
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output


@dataclass(frozen=True, eq=False)
class RestoredImage:
    """An image before and after its restoration; all signals are (C, H, W) on [-1, 1].

    `name` is what people know it by, `record` its JSON record. `truth` is the true image, `deviation` the standard
    deviation of the estimate at each pixel; both are None where they are not known.
    """

    name: str
    before: Signal
    after: Signal
    record: dict[str, Any]
    truth: Signal | None = None
    deviation: Signal | None = None


@dataclass
class Outcome:
    """What became of the files of a folder: the records of those that were done, the errors of those that failed."""

    files: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    _failed_paths: set[Path] = field(default_factory=set)

    def fail(self, place: ImagePlace, error: SagdError, output: Output) -> None:
        """Note that the file of `place` failed with `error`, and warn of it, once for each file."""
        if self.has_failed(place.path):
            return
        message = error.message
        if place.page is not None:
            message += f"; without image {place.page + 1} none of its {len(images_in(place.path))} images are written"
        self.failed.append({"input": str(place.path), "error": message})
        self._failed_paths.add(place.path)
        output.warn(message)

    def has_failed(self, path: Path) -> bool:
        """Whether the file at `path` has failed."""
        return path in self._failed_paths

    @property
    def done(self) -> list[dict[str, Any]]:
        """The records of the files that were written, in their order; a stack of which an image failed was not."""
        failed = {record["input"] for record in self.failed}
        done = (record for record in self.files if record["input"] not in failed)
        return sorted(done, key=lambda record: (str(record["input"]), record.get("page", 0)))

    def say_clipped(self, output: Output) -> None:
        """Say how many values were clipped to the ends of their type, by the `clipped` shares of the records."""
        shares = [record["clipped"] for record in self.done if record.get("clipped")]
        if shares:
            output.note(
                f"in {len(shares)} of {len(self.done)} images values were beyond the ends of their type and were "
                f"clipped, at most {max(shares):.2%} of an image"
            )

    def say_copied(self, output: Output) -> None:
        """Say how many images hold no data to restore, by the `copied` of the records."""
        count = sum(record.get("copied", False) for record in self.done)
        if count:
            output.note(
                f"{count} of {len(self.done)} images hold nothing but missing data in one of their channels and are "
                "copied as they are"
            )

    def has_frequencies(self, image: Image, of: Callable[[FrequencyGrid], object], output: Output) -> bool:
        """Tell whether `of` raises nothing on the image's frequencies; note the file as failed when it does."""
        try:
            of(FrequencyGrid(image.pixels.shape[1:]))
        except SagdError as error:
            self.fail(image.place, SagdError(f"{image.place.shown}: {error.message}"), output)
            return False
        return True


def raise_if_failed(result: dict[str, Any]) -> None:
    """Raise SagdError, exit code 1, when any file of a command's result failed."""
    if result["failed"]:
        message = f"{len(result['files'])} ok, {len(result['failed'])} failed"
        raise SagdError(message, "The warnings above name the files.")
