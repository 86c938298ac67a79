"""What `sagd omit` is asked to do, and which of its options go together."""

from dataclasses import dataclass
from math import inf

from sagd_cli.damage.strength import WEAKEST
from sagd_cli.errors import UsageError
from sagd_cli.restoration.band_model import BandModel
from sagd_cli.restoration.clean_images import CleanImages
from sagd_cli.restoration.estimates import UNTRAINED
from sagd_cli.restoration.restorer import STRONGEST, Restoring
from sagd_cli.spectral.band import Band

ESTIMATES = ("mean", "sample", "ode", *UNTRAINED)
LEARNING_STEPS = 400
UNCERTAINTY_SAMPLES = 16  # behind an uncertainty


@dataclass(frozen=True)
class Omission:
    """What to do: the band (None: find it), the strength (None: measure it), the estimate, and how to come by it.

    With neither clean images (`reference`) nor a `model` of them, the damaged images are learned from. `draws` are
    posterior samples (None: 1, or 16 for an uncertainty).
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

    def __post_init__(self) -> None:
        """Raise UsageError on values that mean nothing, and on those that do not go together."""
        if self.estimate not in ESTIMATES:
            raise UsageError(f"unknown estimate {self.estimate!r}", f"Estimates are {', '.join(ESTIMATES)}.")
        strength = self.strength
        if strength is not None and not (WEAKEST <= strength <= STRONGEST or strength == inf):
            raise UsageError(
                f"the strength must be from {WEAKEST:g} to {STRONGEST:g} (range [-1, 1]) or inf, not {strength:g}",
                "Or use --strength auto.",
            )
        if self.is_self_supervised:
            for name, wanted in (
                (f"--estimate {self.estimate}", self.estimate in ("sample", "ode")),
                ("--uncertainty", self.uncertain),
                ("--per-image", self.per_image),
                ("--strength inf", strength == inf),
            ):
                if wanted:
                    raise UsageError(
                        f"{name} needs to know what clean images are like",
                        "Give a --reference, or a --model of clean images.",
                    )
        if self.uncertain and self.estimate in ("ode", *UNTRAINED):
            raise UsageError(f"--estimate {self.estimate} has no uncertainty", "Use mean or sample.")
        if self.is_untrained and self.model is not None:
            raise UsageError(f"--estimate {self.estimate} needs no model", "Leave out --model.")
        if self.uncertain and self.draws == 1:
            raise UsageError("one draw has no deviation", "Use --draws 2 or more, or leave it out.")
        if self.draws is not None and self.estimate != "sample" and not self.uncertain:
            raise UsageError(
                f"--estimate {self.estimate} draws nothing", "Leave out --draws, or use --estimate sample."
            )
        if self.per_image and (strength is not None or self.is_untrained):
            raise UsageError("--per-image is for strengths that are measured", "Leave it out.")

    @property
    def is_self_supervised(self) -> bool:
        """Whether what it learns from, or its model did, are damaged images themselves."""
        if self.is_untrained:
            return False
        return self.reference is None if self.model is None else self.model.settings.damage is not None

    @property
    def is_untrained(self) -> bool:
        """Whether its estimate needs no model."""
        return self.estimate in UNTRAINED

    @property
    def draws_samples(self) -> bool:
        """Whether the way from noise to image is walked, which takes a model of all levels on it."""
        return self.estimate in ("sample", "ode") or self.uncertain

    @property
    def restoring(self) -> Restoring:
        """How images are restored."""
        samples = self.draws or (UNCERTAINTY_SAMPLES if self.uncertain else 1)
        return Restoring(
            self.estimate, samples, self.uncertain, self.sampling_steps, self.seed, self.draws_written
        )

    @property
    def draws_written(self) -> int:
        """Posterior samples of an image that are written."""
        return (self.draws or 1) if self.estimate == "sample" else 1

    @property
    def method(self) -> str:
        """Name of the method, as reported."""
        if self.is_untrained:
            return self.estimate
        knowledge = "model" if self.model else "reference" if self.reference else "self-supervised"
        return f"{knowledge}-{self.estimate}"
