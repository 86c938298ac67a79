"""What is computed for the images of one `sagd omit`: in this process, or in others, which have no network."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.data.images import Image
from sagd_cli.datasets.truth import Truth
from sagd_cli.errors import SagdError
from sagd_cli.files.metadata import NOTHING
from sagd_cli.restoration.parts import part_records
from sagd_cli.restoration.prepared import Prepared, noisy_bins
from sagd_cli.restoration.quality import file_report
from sagd_cli.restoration.second_look import Looked, restored_images
from sagd_cli.restorer.restoring import Estimates
from sagd_cli.system.console import Output, output, use_output

if TYPE_CHECKING:
    from sagd_cli.restorer.restoring_model import RestoringModel


@dataclass(frozen=True, eq=False)
class Damaged:
    """A damaged image, and its truth if that is known."""

    image: Image
    truth: Truth | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Send another process no more than what is computed depends on."""
        missing = self.image.missing if self.image.is_empty else None
        return Damaged, (replace(self.image, alpha=None, metadata=NOTHING, missing=missing), self.truth)


@dataclass(frozen=True, eq=False)
class Done:
    """What was computed for an image: the pixels of its estimates, and the report about the first of them as written.

    `removed` is what was taken away, where that is asked for, `deviation` that of the estimates; both on [-1, 1].
    """

    pixels: list[np.ndarray]
    report: dict[str, Any]
    noise: NoiseSpectrum | None
    left: NoiseSpectrum | None
    removed: NDArray[np.float64] | None
    deviation: NDArray[np.float32] | None


@dataclass(frozen=True)
class Computation:
    """Computes images of one shape, which are restored together.

    `measures_lines`: also measure what is left of whole lines that were told, which takes as long as taking them away.
    """

    prepared: Prepared
    keeps_removed: bool = False
    measures_lines: bool = True

    def __call__(self, batch: Sequence[Damaged]) -> list[Done | SagdError]:
        """Return what is computed for images, or why that cannot be."""
        found: dict[int, Done | SagdError] = {}
        signals, noises = [job.image.signal for job in batch], dict[int, NoiseSpectrum | None]()
        for i, signal in enumerate(signals):
            try:
                noises[i] = None if batch[i].image.is_empty else self.prepared.noise_of(signal)
            except SagdError as error:
                found[i] = error
        names = [batch[i].image.place.name for i in noises]
        is_clipped = batch[0].image.pixels.dtype.kind == "u"
        try:
            some = [signals[i] for i in noises]
            all_seen = (
                restored_images(self.prepared, some, [*noises.values()], names, is_clipped) if noises else []
            )
            for i, seen in zip(noises, all_seen, strict=True):
                found[i] = self._reported(batch[i], signals[i], seen)
        except SagdError as error:
            found |= {i: error for i in noises if i not in found}
        return [found[i] for i in range(len(batch))]

    def _reported(self, job: Damaged, before: NDArray[np.float32], seen: Looked[Estimates]) -> Done:
        image, noise, estimates, left = job.image, seen.noise, seen.restored, seen.left
        pixels = [image.changed(before, draw) for draw in estimates.draws]
        after = replace(image, pixels=pixels[0]).signal
        inside = None if noise is None else noisy_bins(noise, before.shape[1:])
        report: dict[str, Any] = {**file_report(before, after, job.truth, inside), "method": estimates.method}
        report |= {"range": image.values.ends, "clipped": image.clipped(estimates.draws[0])}
        looks_again = self.prepared.looks_again
        records = partial(part_records, is_looked_at=looks_again, measures_lines=self.measures_lines)
        report["parts"] = [] if noise is None else records(noise, before, after, left)
        report |= {"left": None if left is None else str(left)} if looks_again else {}
        removed = np.subtract(before, estimates.draws[0], dtype=np.float64) if self.keeps_removed else None
        return Done(pixels, report, noise, left, removed, estimates.deviation)

    @property
    def elsewhere(self) -> "Elsewhere":
        """The same for another process."""
        prepared = replace(
            self.prepared,
            omission=replace(self.prepared.omission, reference=None),
            output=_Remarks(quiet=True),
            model=None if self.prepared.model is None else _no_network,
        )
        return Elsewhere(replace(self, prepared=prepared))


@dataclass(frozen=True)
class Elsewhere:
    """Computes in another process what needs no network."""

    computation: Computation

    def __call__(self, batch: Sequence[Damaged]) -> tuple[list[Done | SagdError] | None, dict[str, bool]]:
        """Return what is computed, or None where a network is needed, and what is to be said: which of it is warnings.

        Nothing is said for images that are computed again.
        """
        before, remarks = output(), _Remarks(quiet=True)
        use_output(remarks)
        prepared = replace(self.computation.prepared, output=remarks)
        try:
            return replace(self.computation, prepared=prepared)(batch), remarks.remarks
        except _NetworkNeeded:
            return None, {}
        finally:
            use_output(before)


@dataclass(frozen=True)
class _Remarks(Output):
    """Prints nothing, and remembers what would be said once."""

    remarks: dict[str, bool] = field(default_factory=dict)

    def once(self, message: str, warns: bool = False) -> None:
        self.remarks[message] = warns

    def __reduce__(self) -> tuple[Any, ...]:
        return _Remarks, (False, True)


class _NetworkNeeded(Exception):
    """An image needs a network, which only the first process has."""


def _no_network() -> "RestoringModel":
    raise _NetworkNeeded
