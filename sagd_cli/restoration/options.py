"""What `sagd omit` is asked to do, and which of its options go together."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from sagd_cli.damage.strength import STRONGEST, WEAKEST
from sagd_cli.data.ranges import Range
from sagd_cli.errors import UsageError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.catalogue import ESTIMATES, EstimateChoice
from sagd_cli.restoration.clean_images import CleanImages
from sagd_cli.restoration.restorer import Restoring
from sagd_cli.spectral.band import Band
from sagd_cli.system.choices import chosen, listing

LEARNING_STEPS = 400
UNCERTAINTY_SAMPLES = 16


@dataclass(frozen=True)
class Omission:
    """What one call of `sagd omit` is asked to do.

    `band`: the band to restore (None: find it). `strength`: the noise amplitude on the [-1, 1] range, infinite for a
    lost band (None: measure it). `estimate`: a name in `ESTIMATES`. With neither clean images (`reference`) nor a
    `model` of them, the program learns from the damaged images. `draws`: the number of posterior samples per image
    (None: 1, or 16 with `uncertain`). `keeps_model`: save what is learned. `given`: the values of black and white in
    the image files (None: those of `RangeSurvey`). Raises UsageError for a value that is
    not valid and for values that do not go together.
    """

    band: Band | None
    reference: CleanImages | None = None
    model: BandModel | None = None
    strength: float | None = None
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
        for is_wrong, message, hint in self._rules():
            if is_wrong:
                raise UsageError(message, hint)

    def _rules(self) -> Iterator[tuple[bool, str, str]]:
        """Yield one triple for each rule: whether it is broken, the error message, and the hint."""
        choice, strength, name = self.choice, self.strength, f"--estimate {self.estimate}"
        yield (
            strength is not None and not (WEAKEST <= strength <= STRONGEST or strength == inf),
            f"the strength must be from {WEAKEST:g} to {STRONGEST:g} (range [-1, 1]) or inf, not {strength or 0:g}",
            "Or use --strength auto.",
        )
        for option, is_given in (
            (name, choice.walks_path),
            ("--uncertainty", self.uncertain),
            ("--per-image", self.per_image),
            ("--strength inf", strength == inf),
        ):
            yield (
                is_given and self.is_self_supervised,
                f"{option} needs to know what clean images are like",
                "Give a --reference, or a --model of clean images.",
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
            self.per_image and (strength is not None or untrained),
            "--per-image is for strengths that are measured",
            "Leave it out.",
        )

    @property
    def choice(self) -> EstimateChoice:
        """The record of the chosen estimate."""
        return ESTIMATES[self.estimate]

    @property
    def is_self_supervised(self) -> bool:
        """Whether the network learns, or has learned, from damaged images alone."""
        if not self.choice.needs_model:
            return False
        return self.reference is None if self.model is None else self.model.settings.damage is not None

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

    @property
    def method(self) -> str:
        """The name of the method in the JSON object."""
        if not self.choice.needs_model:
            return self.estimate
        knowledge = "model" if self.model else "reference" if self.reference else "self-supervised"
        return f"{knowledge}-{self.estimate}"


def _users(ability: str) -> str:
    """Return a hint that names the estimates whose attribute `ability` is true."""
    able = {name: choice for name, choice in ESTIMATES.items() if getattr(choice, ability)}
    return f"Use {listing(able)}."
