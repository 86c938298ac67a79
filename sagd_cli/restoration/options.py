"""What `sagd omit` is asked to do, and which of its options go together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.measured_noise import noise_setting
from sagd_cli.data.journal import SettingText, setting
from sagd_cli.data.ranges import Range
from sagd_cli.datasets.truth import CleanImages
from sagd_cli.errors import UsageError
from sagd_cli.restorer.catalogue import ESTIMATES, EstimateChoice
from sagd_cli.restorer.restoring import Restoring
from sagd_cli.system.choices import chosen, listing

if TYPE_CHECKING:
    from sagd_cli.restorer.restoring_model import RestoringModel

AUTO: Literal["auto"] = "auto"  # for `noise`: find peaks and stripes
LEARNING_STEPS = 400
UNCERTAINTY_SAMPLES = 16
# The options of settings that have other names.
_OPTIONS = {
    "learns": "--learn",
    "given": "--range",
    "uncertain": "--uncertainty",
    "keeps_model": "--save-model",
}


@dataclass(frozen=True)
class Omission:
    """What one call of `sagd omit` is asked to do.

    `noise`: the noise to remove, whose unknown levels are measured (None: find all of it; `AUTO`: find peaks and
    stripes). `estimate`: a name in `ESTIMATES`. With neither clean images (`reference`) nor a `model` of them, the
    program uses the model in the package; with `learns`, and for small images, it learns from the damaged images.
    `draws`: the number of posterior samples per image (None: 1, or 16 with `uncertain`). `keeps_model`: save what is
    learned. `given`: the values of black and white in the image files (None: those of `RangeSurvey`). Raises UsageError
    for a value that is not valid and for values that do not go together.
    """

    noise: NoiseSpectrum | Literal["auto"] | None
    reference: CleanImages | None = None
    model: "RestoringModel | None" = None
    learns: bool = False
    per_image: bool = False
    estimate: str = "mean"
    uncertain: bool = False
    draws: int | None = None
    sampling_steps: int = 20
    steps: int = LEARNING_STEPS
    seed: int = 0
    keeps_model: bool = False
    given: Range | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for the first rule that is broken."""
        chosen("estimate", self.estimate, ESTIMATES)
        if isinstance(self.noise, NoiseSpectrum):
            self.noise.check_told()
        for is_wrong, message, hint in self._rules():
            if is_wrong:
                raise UsageError(message, hint)

    def _rules(self) -> Iterator[tuple[bool, str, str]]:
        """Yield one triple for each rule: whether it is broken, the error message, and the hint."""
        choice, name = self.choice, f"--estimate {self.estimate}"
        yield (
            self.learns and (self.model is not None or not choice.needs_model),
            "--learn learns from the images themselves",
            "Leave out --learn, or --model and the estimates without a model.",
        )
        yield (
            self.learns and self.reference is not None,
            "--learn learns from the images themselves, --reference from clean ones",
            "Give one of them.",
        )
        for option, is_given in (
            ("--reference", self.reference is not None),
            ("--save-model", self.keeps_model),
            ("--per-image", self.per_image),
            ("--learn", self.learns),
        ):
            yield (
                self.noise is None and is_given,
                f"{option} needs to know the noise",
                "Say it with --band or --noise.",
            )
        yield (
            isinstance(self.noise, NoiseSpectrum) and self.noise.band is None and not choice.needs_model,
            f"{name} is for noise in a BAND",
            "Leave --estimate out: the restorer of the package takes any noise.",
        )
        yield (
            self.uncertain and not choice.has_deviation,
            f"{name} has no uncertainty",
            _users("has_deviation"),
        )
        untrained = not choice.needs_model
        yield untrained and self.model is not None, f"{name} needs no model", "Leave out --model."
        yield untrained and self.keeps_model, f"{name} learns nothing to save", "Leave out --save-model."
        yield (
            self.model is not None and self.keeps_model,
            "with --model nothing is learned to save",
            "Leave out --save-model.",
        )
        yield (
            self.uncertain and self.draws == 1,
            "one draw has no deviation",
            "Use --draws 2 or more, or leave it out.",
        )
        yield (
            self.draws is not None and not choice.draws and not self.uncertain,
            f"{name} draws nothing",
            "Leave out --draws, or use --estimate sample.",
        )
        yield (
            self.per_image and (untrained or (bool(self.levels) and None not in self.levels)),
            "--per-image is for strengths that are measured",
            "Leave it out.",
        )

        yield (
            self.per_image and self.reference is not None and self.model is None and len(self.levels) > 1,
            "what is learned is noise of one spectrum, which that of several parts is not with --per-image",
            "Leave out --per-image, or --reference: the restorer of the package takes any noise.",
        )

    @property
    def settings(self) -> dict[str, SettingText]:
        """What was given, by its options."""
        given = {
            name: value for name, value in vars(self).items() if value is not None and value is not False
        }
        named = (
            (_OPTIONS.get(name) or f"--{name.replace('_', '-')}", value) for name, value in given.items()
        )
        return {option: _setting(option, value) for option, value in named}

    @property
    def levels(self) -> list[float | None]:
        """The levels of the noise as told, none where it is to be found."""
        return self.noise.levels if isinstance(self.noise, NoiseSpectrum) else []

    @property
    def tells_levels(self) -> bool:
        """Whether the level of some noise was given."""
        return any(level is not None for level in self.levels)

    @property
    def choice(self) -> EstimateChoice:
        """The record of the chosen estimate."""
        return ESTIMATES[self.estimate]

    @property
    def walks_path(self) -> bool:
        """Whether the reverse process is followed, which needs a model of all noise levels on the way."""
        return self.choice.walks_path or self.uncertain

    @property
    def restoring(self) -> Restoring:
        """The settings of the restorer."""
        return Restoring(
            estimate=self.estimate,
            samples=self.draws or (UNCERTAINTY_SAMPLES if self.uncertain else 1),
            uncertain=self.uncertain,
            steps=self.sampling_steps,
            seed=self.seed,
            returned=self.draws_written,
        )

    @property
    def draws_written(self) -> int:
        """Number of posterior samples per image that are written."""
        return (self.draws or 1) if self.choice.draws else 1


def _users(ability: str) -> str:
    """Return a hint that names the estimates whose attribute `ability` is true."""
    able = {name: choice for name, choice in ESTIMATES.items() if getattr(choice, ability)}
    return f"Use {listing(able)}."


def _setting(option: str, value: Any) -> SettingText:
    if value == AUTO:
        return setting("--band", AUTO)
    if isinstance(value, NoiseSpectrum):
        return noise_setting(value)
    if isinstance(value, CleanImages):
        pixels = (
            image.pixels.tobytes() + f"{image.range}{value.have_unit}".encode() for image in value.images
        )
        return setting(option, value.data.subject, _hash(pixels))
    if hasattr(value, "model"):  # a RestoringModel, whose module imports torch
        weights = value.model.network.state_dict().values()
        return setting(option, value.name, _hash(tensor.cpu().numpy().tobytes() for tensor in weights))
    return setting(option, value)


def _hash(parts: Iterable[bytes]) -> str:
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()[:16]
