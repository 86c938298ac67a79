"""The configuration of a run, as config.yaml holds it."""

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.validation import Frozen, complete_options, digest_of
from sagd_cli.diffusion.catalogue import LOSSES, PREDICTIONS, SAMPLERS, SCHEDULES, SPACINGS
from sagd_cli.plugin.records import Split
from sagd_cli.spectral.band import ANY, RINGS
from sagd_cli.system.choices import Choice


def _explained(known: Mapping[str, Choice]) -> str:
    """Return the names of the choices with their summaries, as one sentence."""
    return "; ".join(f"{name}: {choice.summary}" for name, choice in known.items()) + "."


# The names of closed sets come from their tables, so a new choice is added there and needs no change here.
if TYPE_CHECKING:
    SamplerName = str
    SpacingName = str
    ScheduleName = str
    PredictionName = str
    LossName = str
else:
    SamplerName, ScheduleName, PredictionName, LossName = (
        Literal[tuple(known)] for known in (SAMPLERS, SCHEDULES, PREDICTIONS, LOSSES)
    )
    SpacingName = Literal[("auto", *SPACINGS)]


class DatasetConfig(Frozen):
    """A data set: a plug-in's name, the split and the plug-in's options."""

    name: str = Field("digits", description="Data set, a plug-in's name.")
    split: Split = Field("train", description="train, or the held-out test images.")
    options: dict[str, Any] = Field(default_factory=dict, description="The data set's options.")

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        complete_options(self, "dataset", self.name)
        return self

    @property
    def subject(self) -> str:
        """What messages call the data set: its file or folder if it has one, otherwise its name."""
        return str(self.options.get("path", f"the data set {self.name}"))


class BackboneConfig(Frozen):
    """The network: a plug-in's name and its options."""

    name: str = Field("unet", description="Network, a plug-in's name.")
    options: dict[str, Any] = Field(default_factory=dict, description="The network's options.")

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        complete_options(self, "backbone", self.name)
        return self


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"give one half-life or several that differ, not {list(values)}")
    return values


# In a file this is a number or a list, so that files with one half-life stay as they were.
_HalfLives = Annotated[
    tuple[PositiveInt, ...],
    AfterValidator(_distinct),
    BeforeValidator(
        lambda value: value if isinstance(value, list | tuple) else (value,),
        json_schema_input_type=PositiveInt | list[PositiveInt],
    ),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else list(values)),
]


LARGEST_INTEGER = 2**62  # that torch takes


class TrainingConfig(Frozen):
    """Optimisation. Amounts are counted in images, so that they do not depend on the batch size."""

    images: int = Field(
        200_000, ge=1, le=LARGEST_INTEGER, description="Images to train on, counted with repetition."
    )
    batch_size: int = Field(128, ge=1, le=LARGEST_INTEGER, description="Images per step.")
    accumulate: int = Field(1, ge=1, description="Passes a batch is divided into, to use less memory.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate of AdamW.")
    warmup_images: int = Field(
        6_400, ge=0, description="Images of linear warm-up, at most a fifth of the budget."
    )
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled weight decay.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema_half_life_images: _HalfLives = Field(
        (10_000,),
        description="Half-life of the weights' moving average, or several: the first is sampled by default.",
    )
    flips: bool = Field(False, description="Mirror half of the images left to right, at random.")
    turns: bool = Field(
        False, description="Mirror and turn images at random: all eight ways to lay down a square."
    )
    crops: tuple[Annotated[int, Field(ge=16, multiple_of=16)], ...] = Field(
        (),
        description="Sides of squares to cut from the images at random, one drawn for each step; []: whole images.",
    )
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of images shown without their class, which guidance needs."
    )
    seed: int = Field(0, ge=0, le=LARGEST_INTEGER, description="Seed of the run.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto: bf16 on GPUs that have it (compute capability 8.0), and on CPUs that have it (AVX-512 BF16 "
        "or AMX) where most convolutions have 128 channels or more; else fp32.",
    )
    deterministic: bool = Field(
        False,
        description="The same bits each time on CUDA too, which is slower; a CPU always repeats its bits.",
    )
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    checkpoint_images: int = Field(50_000, ge=1, description="Images between checkpoints.")
    checkpoint_minutes: float = Field(
        10.0, ge=0, description="Minutes between checkpoints, a tenth before the first; 0: by images only."
    )
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints to keep.")
    keep_every: int | None = Field(
        None, ge=1, description="Also keep one in this many checkpoints for good; null: none."
    )
    log_steps: int = Field(20, ge=1, description="Steps between metric records.")
    sample_images: int = Field(0, ge=0, description="Images between contact sheets of samples; 0: none.")

    @property
    def steps(self) -> int:
        """Optimiser steps in the budget."""
        return -(-self.images // self.batch_size)

    @property
    def checkpoint_steps(self) -> int:
        """Optimiser steps between checkpoints."""
        return max(1, self.checkpoint_images // self.batch_size)

    @property
    def milestone_steps(self) -> int | None:
        """Optimiser steps between checkpoints that are never pruned, or None when all may be pruned."""
        return None if self.keep_every is None else self.keep_every * self.checkpoint_steps


class RestorationConfig(Frozen):
    """Training to tell noise in a band from images instead of making images (docs/omission.md)."""

    bands: tuple[str, ...] = Field(
        min_length=1,
        description="BANDs and NOISEs; each image is given noise of one of them, at random, whose levels, 1 where none "
        "is given, are multiplied by a strength; rings: random rings; any: noise of any kind.",
    )
    strengths: tuple[float, float] = Field(
        (0.02, 2.0),
        description="Least and largest strength, log-uniform between: the noise amplitude on the [-1, 1] range.",
    )
    damage: float | None = Field(
        None,
        gt=0,
        description="Strength of the noise that the training images already have; null: they are clean.",
    )
    measured: str | None = Field(
        None, description="Hash of the spectra that `from:PATH` in bands stands for; null: there is none."
    )
    grey: float = Field(0.0, ge=0, le=1, description="Share of the RGB images that are made grey.")
    paler: float = Field(0.0, ge=0, le=1, description="Share of the images whose contrast is lowered.")
    inverted: float = Field(0.0, ge=0, le=1, description="Share of the images that are inverted.")
    clipped: float = Field(
        0.0, ge=0, le=1, description="Share of the images whose noise is clipped and rounded to 8 bits."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Filters are read as settings of a run.
        from sagd_cli.config.noise_spectrum import check_level
        from sagd_cli.config.trained_noise import trained_noise

        noises = {text: trained_noise(text) for text in {*self.bands} - {RINGS, ANY}}
        # What a filter file says is kept, and not where it was read.
        whole = {text: str(noise) for text, noise in noises.items() if noise.band is None}
        object.__setattr__(self, "bands", tuple(whole.get(text, text) for text in self.bands))
        for text, noise in noises.items():
            noise.check_told()
            if inf in noise.levels:
                raise ValueError(f"levels are finite, unlike in {text}; strengths of 100 say lost")
        if self.damage is not None and (len(self.bands) > 1 or self.bands[0] in (RINGS, ANY)):
            raise ValueError("damage is noise of one spectrum: give one band")
        for strength in self.strengths:
            check_level(strength)
        if self.strengths[0] > self.strengths[1]:
            raise ValueError("strengths go from the least to the largest")
        return self


class SamplingConfig(Frozen):
    """How `sagd sample` draws from the run unless told otherwise."""

    sampler: SamplerName = Field("dpmpp", description=f"Default sampler. {_explained(SAMPLERS)}")
    spacing: SpacingName = Field(
        "auto",
        description=f"Where the evaluations are. auto: what suits the schedule; {_explained(SPACINGS)}",
    )
    steps: int = Field(20, ge=1, le=1000, description="Network evaluations per image; guidance doubles them.")
    guidance: float = Field(
        1.0, ge=0, description="Scale of classifier-free guidance; 1: none, 0: without classes."
    )
    eta: float = Field(0.0, ge=0, le=1, description="Randomness of ddim, up to that of ddpm.")
    churn: float = Field(0.0, ge=0, description="Randomness of heun: EDM's S_churn.")
    fill: Literal["zero", "mean", "prior"] | None = Field(
        None,
        description="Content at frequencies without noise: zero or null (nothing), mean (the mean training image), or "
        "prior (drawn by the model that `--prior` names).",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto: as the checkpoint was trained, and fp32 for `sagd fid`; fp32 is without TF32 on CUDA.",
    )
    noise_device: Literal["auto", "cpu"] = Field(
        "auto",
        description="Where noise is drawn. auto: on the device, so that images depend on its kind; cpu: the same noise "
        "on all devices.",
    )

    def resolved(self, schedule: str) -> "SamplingConfig":
        """Return these settings; a spacing of auto is replaced by the one that suits `schedule`."""
        if self.spacing != "auto":
            return self
        return self.model_copy(update={"spacing": SCHEDULES[schedule].spacing})


# Settings that leave what is trained as it is, and so may differ when a run or a sweep is continued.
INDIFFERENT: dict[str, set[str]] = {"training": {"checkpoint_minutes"}}


class RunConfig(Frozen):
    """The configuration of a run, as RUN/config.yaml holds it."""

    init: str | None = Field(
        None,
        min_length=1,
        description="Run or folder of diffusers whose weights it starts from; null: random ones.",
    )
    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    filter: FilterConfig = Field(default_factory=FilterConfig)
    class_conditional: bool = Field(False, description="Train on the data set's class labels.")
    blind: bool = Field(
        False, description="Hide from the network the image content at frequencies without noise."
    )
    schedule: ScheduleName = Field("linear", description=f"Levels of noise. {_explained(SCHEDULES)}")
    prediction: PredictionName = Field(
        "eps", description=f"What the network predicts. {_explained(PREDICTIONS)}"
    )
    loss: LossName = Field(
        "plain",
        description=f"What is minimised. {_explained(LOSSES)} A learned filter is always trained on the whitened loss.",
    )
    restoration: RestorationConfig | None = Field(
        None,
        description="Train for `sagd omit`: bands and strengths of noise to remove; null: to make images.",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)

    @model_serializer(mode="wrap")
    def _document(self, document: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs from before it was a setting keep their settings and their names.
        return {key: value for key, value in document(self).items() if key != "init" or value is not None}

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        if self.sampling.guidance != 1 and not (self.class_conditional and self.training.label_dropout):
            raise ValueError(
                "sampling.guidance other than 1 needs class_conditional and training.label_dropout above 0"
            )
        if self.restoration is not None:
            self._check_restoration()
        return self

    def _check_restoration(self) -> None:
        """Raise ValueError when settings are changed that have only one value in a run with restoration.

        The filter becomes white: the noise in a band is white noise, restricted to the band.
        """
        fixed = {
            "filter": self.filter in (FilterConfig(), FilterConfig(type="white")),
            "blind": not self.blind,
            "prediction": self.prediction == "eps",
            "loss": self.loss == "plain",
            "schedule": self.schedule == "linear",
            "class_conditional": not self.class_conditional,
            "training.sample_images": not self.training.sample_images,
        }
        chosen = [key for key, is_default in fixed.items() if not is_default]
        if chosen:
            raise ValueError(f"a run with restoration leaves no choice of {', '.join(chosen)}")
        object.__setattr__(self, "filter", FilterConfig(type="white"))

    def identity(self) -> dict[str, Any]:
        """Return the document without the settings that leave what is trained as it is."""
        return self.model_dump(mode="json", exclude=INDIFFERENT)

    def sha256(self) -> str:
        """Return the hash of the identity."""
        return digest_of(self.identity())

    @property
    def default_name(self) -> str:
        """The run's name when none is given; the same settings of training always give the same name."""
        chosen = self.model_dump(
            mode="json", exclude_defaults=True, exclude={"sampling": True, **INDIFFERENT}
        )
        kind = self.filter.type if self.restoration is None else "restoration"
        return f"{self.dataset.name}-{kind}-{digest_of(chosen)[:8]}"
