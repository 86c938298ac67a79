"""Images in memory, restored as `sagd omit` restores files (docs/theory.md, section 6)."""

import inspect
import warnings
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.measured_noise import typed_noise
from sagd_cli.data.images import Image
from sagd_cli.data.ranges import Range, RangeSurvey
from sagd_cli.datasets.truth import clean_images
from sagd_cli.errors import DataError, UsageError, suggest
from sagd_cli.restoration.options import AUTO, Omission
from sagd_cli.restoration.prepare import Preparation
from sagd_cli.restoration.second_look import restored_images
from sagd_cli.spectral.band import Band
from sagd_cli.system.console import Output
from sagd_cli.system.devices import choose_device

if TYPE_CHECKING:
    import torch

    from sagd_cli.restorer.restoring_model import RestoringModel

SOURCE = Path("the images")
_TYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True)
class Knowledge:
    """What is known besides the damaged images. Without any of it, the restorer of the package is used.

    `model`: a run of `sagd train --restore` or `sagd omit --save-model`. `reference`: DATA, clean images of the same
    kind. `strength`: the amplitude of the noise on the [-1, 1] range, or inf for a band that is lost (None: it is
    measured). `range`: the values of black and white (None: those of integers by their type, [0, 1] for floats that
    lie there; others are found, with a warning). `learns`: learn from the damaged images.
    """

    model: Path | str | None = None
    reference: str | None = None
    strength: float | None = None
    range: tuple[float, float] | None = None
    learns: bool = False


class RestoreSettings(TypedDict, total=False):
    """Further settings of `restore`, by keyword; see `Omission`."""

    per_image: bool
    sampling_steps: int
    steps: int
    seed: int


@dataclass(frozen=True)
class _Warnings(Output):
    """Passes warnings on to Python's own `warnings`."""

    quiet: bool = True

    def warn(self, message: str) -> None:
        """Warn the caller of `restore`."""
        frames = enumerate(inspect.stack(context=0))
        depth = next(k for k, one in frames if (one.filename, one.function) == (__file__, restore.__name__))
        warnings.warn(message, stacklevel=depth + 2)


def restore(
    images: NDArray[Any],
    noise: NoiseSpectrum | Band | str | None = None,
    *,
    estimate: str = "mean",
    known: Knowledge | None = None,
    device: str = "auto",
    **settings: Unpack[RestoreSettings],
) -> NDArray[Any]:
    """Return `images` (N, C, H, W) with `noise` removed, in their own type; C is 1 (grey) or 3 (RGB).

    Images are uint8, uint16 or float32. `noise` is a NoiseSpectrum, a Band, or a text as --noise takes it. The text
    auto finds stripes and peaks of all images, and None all noise of each; both look again at what was restored.
    `estimate` is a key of `restorer.catalogue.ESTIMATES`. Frequencies without noise come back unchanged, except for
    rounding to their type. Raises DataError for other arrays, and when there is nothing to omit. Raises UsageError for
    an unknown setting, and for settings that do not go together. What looks doubtful is a Python warning.
    """
    _check(images)
    for name in settings.keys() - RestoreSettings.__annotations__:
        raise UsageError(f"restore has no setting {name!r}", suggest(name, RestoreSettings.__annotations__))
    known, output, where = known or Knowledge(), _Warnings(), cache(partial(choose_device, device))
    omission = Omission(
        noise=_noise(noise, known),
        reference=None if known.reference is None else clean_images(known.reference),
        model=None if known.model is None else _opened(known.model, where(), output),
        learns=known.learns,
        estimate=estimate,
        **settings,
    )
    survey = RangeSurvey(None if known.range is None else Range(*known.range))
    survey.add(images)
    ranges = survey.decided()
    for remark in ranges.remarks:
        output.warn(remark)
    damaged = [Image(pixels, None, SOURCE, ranges.of(images.dtype)) for pixels in images]
    with TemporaryDirectory() as workspace:
        prepared = Preparation(omission, SOURCE, damaged, where, output, Path(workspace)).prepared()
    restored = np.empty_like(images)
    for i, image in enumerate(damaged):
        signal = image.signal
        noises = [prepared.noise_of(signal)]
        (seen,) = restored_images(prepared, [signal], noises, [str(i)], images.dtype.kind == "u")
        restored[i] = image.changed(signal, seen.restored.draws[0])
    return restored


def _opened(path: Path | str, device: "torch.device", output: Output) -> "RestoringModel":
    from sagd_cli.restorer.restoring_model import open_model  # torch, which many calls do not need

    return open_model(Path(path), device, output)


def _noise(
    noise: NoiseSpectrum | Band | str | None, known: Knowledge
) -> NoiseSpectrum | Literal["auto"] | None:
    if noise is None or noise == AUTO:
        return None if noise is None else AUTO
    if isinstance(noise, Band):
        return NoiseSpectrum.of_band(noise, known.strength)
    given = None if known.range is None else Range(*known.range)
    if isinstance(noise, str):
        noise = typed_noise(noise, given)
    return noise.with_default(known.strength)


def _check(images: Any) -> None:
    """Raise DataError unless these are images as `restore` takes them."""
    if not isinstance(images, np.ndarray):
        raise DataError(f"images are a NumPy array (N, C, H, W), not {type(images).__name__}")
    if (
        images.ndim != 4
        or not images.size
        or images.shape[1] not in (1, 3)
        or images.dtype.name not in _TYPES
    ):
        raise DataError(
            f"images are (N, C, H, W) of {', '.join(_TYPES)} with 1 or 3 channels, not {images.dtype} of shape "
            f"{images.shape}"
        )
    if not np.isfinite(images).all():
        raise DataError("the images hold values that are not finite")
