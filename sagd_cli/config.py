"""The configuration of a run: frozen models, YAML in and out, dotted overrides, presets."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from sagd_cli.errors import ConfigError, UsageError, suggest
from sagd_cli.plugin.records import FilterPlugin, Options, Split
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.band import RINGS, Band
from sagd_cli.spectral.filter import Normalize, SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid, Units
from sagd_cli.yaml_files import parse_yaml, read_mapping

M = TypeVar("M", bound=BaseModel)


_STRICT = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class _Frozen(BaseModel):
    model_config = _STRICT

    def document(self) -> dict[str, Any]:
        """Return the model as plain YAML values, defaults written out."""
        return self.model_dump(mode="json")

    def sha256(self) -> str:
        """Hash of the meaning: the same for any order of keys and spelling of numbers."""
        return _digest(self.document())


def _digest(document: dict[str, Any]) -> str:
    canonical = json.dumps(_without_negative_zero(document), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_negative_zero(value: Any) -> Any:
    """-0.0 is another spelling of 0.0."""
    if isinstance(value, dict):
        return {key: _without_negative_zero(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_negative_zero(item) for item in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


class FilterSource(BaseModel):
    """The data a filter was fitted to."""

    model_config = _STRICT

    data: str = Field(description="DATA as it was named.")
    images: int = Field(ge=1, description="Number of images.")
    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="Hash of the images, as `sagd data info` gives it."
    )


class FilterConfig(_Frozen):
    """A filter file: a family, its options, how it is normalised, the unit of its edges, what it omits, its source.

    `omit` is kept in one spelling, so that a band has one hash. Raises ConfigError when it is no BAND.
    """

    type: str = Field("powerlaw", description="Filter family, a plug-in's name.")
    options: dict[str, Any] = Field(default_factory=dict, description="The family's options.")
    normalize: Normalize = Field("power", description="power: unit variance; none: raw; peak: max w = 1.")
    units: Units = Field("rho", description="Unit of band edges: rho, nyquist or cycles.")
    omit: Annotated[str, AfterValidator(lambda text: str(Band.parse(text)))] | None = Field(
        None,
        description="BAND where the weight is zero, in rho and cycles/pixel whatever the unit; null: none.",
    )
    source: FilterSource | None = Field(
        None, description="The data it was fitted to, for the record: no part of the filter's hash."
    )

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        _complete_options(self, "filter", self.type)
        return self

    def document(self) -> dict[str, Any]:
        """Return the filter as plain YAML values, defaults written out, `omit` and `source` left out where missing."""
        document = super().document()
        absent = {key for key in ("omit", "source") if document[key] is None}
        return {key: value for key, value in document.items() if key not in absent}

    def sha256(self) -> str:
        """Hash of what the filter is, not of where it came from."""
        return super().sha256() if self.source is None else self.model_copy(update={"source": None}).sha256()

    def weights(self, shape: tuple[int, ...]) -> SpectralFilter:
        """Build the filter for a field of `shape`; raise ConfigError when it has none there."""
        plugin: FilterPlugin = registry().get("filter", self.type)
        grid = FrequencyGrid(shape, self.units)
        weight = plugin.load()(grid, plugin.options.model_validate(self.options))
        omitted = self.omitted(shape)
        if omitted is not None:
            weight = np.where(omitted, 0.0, SpectralFilter.from_weight(grid, weight).weight)
            if not weight.any():
                raise ConfigError(
                    f"a {self.type} filter without the band {self.omit} is zero at every frequency of a field of "
                    f"shape {shape}",
                    "Omit less.",
                )
        return SpectralFilter.from_weight(grid, weight, self.normalize)

    def omitted(self, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Bins of the half spectrum of `shape` in the band `omit`, if any; raise ConfigError when it holds none."""
        return None if self.omit is None else Band.parse(self.omit).mask(FrequencyGrid(shape))


class DatasetConfig(_Frozen):
    """A data set: a plug-in's name, the split and the plug-in's options."""

    name: str = Field("digits", description="Data set, a plug-in's name.")
    split: Split = Field("train", description="train, or the held-out test images.")
    options: dict[str, Any] = Field(default_factory=dict, description="The data set's options.")

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        _complete_options(self, "dataset", self.name)
        return self

    @property
    def subject(self) -> str:
        """What a message calls it: the file or folder, where there is one."""
        return str(self.options.get("path", f"the data set {self.name}"))


class BackboneConfig(_Frozen):
    """The network: a plug-in's name and its options."""

    name: str = Field("unet", description="Network, a plug-in's name.")
    options: dict[str, Any] = Field(default_factory=dict, description="The network's options.")

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        _complete_options(self, "backbone", self.name)
        return self


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError(f"give one half-life or several that differ, not {list(values)}")
    return values


# A number or a list in a file, so that files of one half-life read as they always did.
_HalfLives = Annotated[
    tuple[PositiveInt, ...],
    AfterValidator(_distinct),
    BeforeValidator(
        lambda value: value if isinstance(value, list | tuple) else (value,),
        json_schema_input_type=PositiveInt | list[PositiveInt],
    ),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else list(values)),
]


class TrainingConfig(_Frozen):
    """Optimisation; amounts are in images, so that the batch size does not change a schedule's meaning."""

    images: int = Field(200_000, ge=1, description="Images to train on, counted with repetition.")
    batch_size: int = Field(128, ge=1, description="Images a step.")
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
    label_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of images shown without their class, which guidance needs."
    )
    seed: int = Field(0, ge=0, description="Seed of the run.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, else fp32.")
    compile: bool = Field(False, description="Compile the network with torch.compile.")
    checkpoint_images: int = Field(50_000, ge=1, description="Images between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints to keep.")
    keep_every: int | None = Field(
        None, ge=1, description="Also keep every so many-th checkpoint; null: none."
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
        """Optimiser steps between checkpoints that are kept for good, if any are."""
        return None if self.keep_every is None else self.keep_every * self.checkpoint_steps


class RestorationConfig(_Frozen):
    """Training to tell noise in a band from images instead of making images (docs/omission.md)."""

    bands: tuple[str, ...] = Field(
        min_length=1, description="BANDs, of which each image is given one at random; rings: random rings."
    )
    strengths: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.02, 2.0),
        description="Least and largest noise amplitude on the [-1, 1] range, log-uniform between.",
    )
    window: int | None = Field(
        None, ge=4, description="Side of the square of an image that the network sees; null: all of it."
    )
    damage: float | None = Field(
        None, gt=0, description="Amplitude of noise the training images have already; null: they are clean."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for band in set(self.bands) - {RINGS}:
            Band.parse(band)
        if self.strengths[0] > self.strengths[1]:
            raise ValueError("strengths go from the least to the largest")
        return self


class SamplingConfig(_Frozen):
    """How `sagd sample` draws from the run unless told otherwise."""

    sampler: Literal["dpmpp", "dpmpp-sde", "unipc", "ddim", "ddpm", "heun"] = Field(
        "dpmpp", description="Default sampler."
    )
    spacing: Literal["auto", "uniform", "quadratic", "karras", "log-snr"] = Field(
        "auto",
        description="Where the evaluations are: equal steps in t, its root, (sigma / alpha)^(1/7) or log-SNR; auto: "
        "uniform, but log-snr on the cosine schedule.",
    )
    steps: int = Field(20, ge=1, le=1000, description="Network evaluations an image; guidance doubles them.")
    guidance: float = Field(
        1.0, ge=0, description="Scale of classifier-free guidance; 1: none, 0: without classes."
    )
    eta: float = Field(0.0, ge=0, le=1, description="Randomness of ddim, up to that of ddpm.")
    churn: float = Field(0.0, ge=0, description="Randomness of heun: EDM's S_churn.")
    fill: Literal["zero", "mean", "prior"] | None = Field(
        None,
        description="What goes where the filter gives no noise: zero (so does null), the mean training image, or draws "
        "of the model that `--prior` names.",
    )

    def resolved(self, schedule: str) -> "SamplingConfig":
        """Return it with the spacing chosen for `schedule`, where that was left open."""
        if self.spacing != "auto":
            return self
        # The first uniform steps of the cosine schedule are too long in log-SNR for any solver (docs/theory.md).
        return self.model_copy(update={"spacing": "log-snr" if schedule == "cosine" else "uniform"})


class RunConfig(_Frozen):
    """All of a run, as written to runs/NAME/config.yaml."""

    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    filter: FilterConfig = Field(default_factory=FilterConfig)
    class_conditional: bool = Field(False, description="Train on the data set's class labels.")
    blind: bool = Field(
        False, description="Hide from the network what the images have where the filter gives no noise."
    )
    schedule: Literal["linear", "cosine", "edm"] = Field(
        "linear", description="linear: the DDPM table; cosine; edm: alpha = 1, sigma from 0.002 to 80."
    )
    prediction: Literal["eps", "x0", "v", "edm", "edm-spectral"] = Field(
        "eps",
        description="What the network says: the noise, the image, v, or EDM's preconditioned remainder.",
    )
    loss: Literal["plain", "whitened", "min-snr"] = Field(
        "plain", description="What is minimised; a learned filter is always trained on the whitened loss."
    )
    restoration: RestorationConfig | None = Field(
        None,
        description="Train for `sagd omit`: bands and strengths of noise to remove; null: to make images.",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)

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
        """What a network that restores is trained on leaves no choice of these; its noise is white but for its band."""
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

    @property
    def default_name(self) -> str:
        """Name of the run when none is given: the same settings of training always give the same run."""
        chosen = self.model_dump(mode="json", exclude_defaults=True, exclude={"sampling"})
        kind = self.filter.type if self.restoration is None else "restoration"
        return f"{self.dataset.name}-{kind}-{_digest(chosen)[:8]}"


def _complete_options(model: Any, kind: str, name: str) -> None:
    """Replace `options` of a frozen model by the plug-in's, checked and with defaults written out."""
    schema: type[Options] = registry().get(kind, name).options
    options = validate(schema, model.options, f"{kind} {name}")
    object.__setattr__(model, "options", options.model_dump(mode="json"))


def validate(schema: type[M], values: Mapping[str, Any], source: str) -> M:
    """Validate `values`; turn what pydantic reports into one ConfigError that names the key."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        first = problems[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" ({len(problems) - 1} more problems)" if len(problems) > 1 else ""
        if first["type"] == "extra_forbidden":
            known = _fields_at(schema, first["loc"])
            raise ConfigError(
                f"{source}: unknown key {key!r}{more}", suggest(str(first["loc"][-1]), known)
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        shown = f", not {first['input']!r}" if isinstance(first["input"], str | int | float | bool) else ""
        place = f"{source}: {key}: " if key else f"{source}: "
        choices = re.findall("'([^']+)'", message) if first["type"] == "literal_error" else []
        hint = suggest(str(first["input"]), choices)
        raise ConfigError(f"{place}{message[:1].lower()}{message[1:]}{shown}{more}", hint) from None


def _fields_at(schema: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    for part in location[:-1]:
        annotation = schema.model_fields[str(part)].annotation if str(part) in schema.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return schema.model_fields


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` pairs; values are YAML, so numbers, lists and booleans come out typed."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"{pair!r} is not key=value", "For example -o alpha=-0.1")
        if key in options:
            raise UsageError(f"the key {key!r} is given twice")
        options[key] = parse_yaml(value, f"the value of {key}")
    return options


def filter_schema() -> dict[str, Any]:
    """Return the JSON Schema of a filter file: with the options of every family that is installed."""
    schema = FilterConfig.model_json_schema()
    families = []
    for name in registry().names("filter"):
        options = registry().get("filter", name).options.model_json_schema()
        families.append({"properties": {"type": {"const": name}, "options": options}})
    return {**schema, "required": ["type"], "oneOf": families}


def presets() -> dict[str, Path]:
    """Presets that come with the program, by name."""
    folder = Path(str(files("sagd_cli") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset; raise ConfigError with near names when there is none."""
    if name not in presets():
        raise ConfigError(f"unknown preset {name!r}", suggest(name, presets()))
    return read_mapping(presets()[name])


def resolve(
    flags: Mapping[str, Any],
    overrides: Iterable[str] = (),
    config: Path | str | Mapping[str, Any] | None = None,
    preset: str | None = None,
) -> RunConfig:
    """Merge settings: `flags` (dotted keys) > `overrides` (a.b=c) > `config` file > `preset` > defaults.

    `config` may be what was read from a file, such as standard input, which can be read once.
    """
    layers = [
        read_preset(preset) if preset is not None else {},
        config if isinstance(config, Mapping) else read_mapping(config) if config is not None else {},
    ]
    document: dict[str, Any] = {}
    for layer in layers:
        document = _merged(document, layer)
    for key, value in [*parse_options(overrides).items(), *flags.items()]:
        document = _merged(document, _nested(key, value))
    named = config is not None and not isinstance(config, Mapping)
    return validate(RunConfig, document, str(config) if named else "configuration")


def _merged(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _names_another(old, value):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _names_another(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether `new` chooses another plug-in than `old`, whose options then mean nothing."""
    return any(key in old and key in new and old[key] != new[key] for key in ("type", "name"))


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for the dotted key a.b."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two documents."""
    keys = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{prefix}{key}.")
        elif left != right:
            keys.append(f"{prefix}{key}")
    return keys
