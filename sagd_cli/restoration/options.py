"""What `sagd omit` is asked to do, and which of its options go together."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from sagd_cli.damage.strength import STRONGEST, WEAKEST
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
    """What to do: the band (None: find it), the strength (None: measure it), the estimate, and how to come by it.

    With neither clean images (`reference`) nor a `model` of them, the damaged images are learned from. `draws` is the
    number of posterior samples per image (None: 1, or 16 for an uncertainty). `keeps_model` says that what is learned
    is to be saved. Raises UsageError on values that mean nothing, and on those that do not go together.
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

    def __post_init__(self) -> None:
        """Raise the first error there is."""
        chosen("estimate", self.estimate, ESTIMATES)
        for is_wrong, message, hint in self._rules():
            if is_wrong:
                raise UsageError(message, hint)

    def _rules(self) -> Iterator[tuple[bool, str, str]]:
        """Yield what must not be: whether it is so, the sentence that says it, and what to do."""
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
        """The record of its estimate."""
        return ESTIMATES[self.estimate]

    @property
    def is_self_supervised(self) -> bool:
        """Whether it learns from damaged images, or its model did."""
        if not self.choice.needs_model:
            return False
        return self.reference is None if self.model is None else self.model.settings.damage is not None

    @property
    def walks_path(self) -> bool:
        """Whether the way from noise to image is walked, which takes a model of all levels on it."""
        return self.choice.walks_path or self.uncertain

    @property
    def restoring(self) -> Restoring:
        """How images are restored."""
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
        """Name of the method, as reported."""
        if not self.choice.needs_model:
            return self.estimate
        knowledge = "model" if self.model else "reference" if self.reference else "self-supervised"
        return f"{knowledge}-{self.estimate}"


def _users(ability: str) -> str:
    """Name the estimates that have an ability."""
    able = {name: choice for name, choice in ESTIMATES.items() if getattr(choice, ability)}
    return f"Use {listing(able)}."
