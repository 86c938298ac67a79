"""The frozen records that plug-in hooks yield, one class a kind."""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sagd_cli.errors import PluginError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
BUILD = re.compile(r"\w+(\.\w+)*:\w+")

Split = Literal["train", "test"]


class Options(BaseModel):
    """Base of every plug-in's options: frozen, unknown keys refused, the same schema for YAML and `-o`."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Images(Protocol):
    """Images one at a time, each (C, *spatial), as often as wanted."""

    def __len__(self) -> int:
        """Return their number."""
        ...

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Start over."""
        ...


@dataclass(frozen=True, eq=False)
class LazyImageSet:
    """Images of one shape (C, *spatial) and type, read one at a time, with optional class `labels` (N,) from 0.

    The type is uint8, pixels from 0 to 255; or float16 or float32, data without black and white (latents), which
    are trained on as they are. `class_names` are the names of the labels; without any, a class is called by its
    number.
    """

    images: Images
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ImageSet(LazyImageSet):
    """A LazyImageSet whose images are one array (N, C, *spatial), in memory or a read-only map of a file."""

    images: NDArray[Any]


@dataclass(frozen=True)
class Plugin:
    """What every kind shares.

    `build` is a callable or a "module:function" string; the string is imported on first use, so that listing
    plug-ins loads nothing heavy.
    """

    name: str
    summary: str
    options: type[Options]
    build: Callable[..., Any] | str

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise ValueError on a field that breaks the contract."""
        if not NAME.fullmatch(self.name):
            raise ValueError(f"plug-in name {self.name!r} does not match {NAME.pattern}")
        if not (isinstance(self.options, type) and issubclass(self.options, Options)):
            raise ValueError(
                f"options of plug-in {self.name!r} must be a subclass of sagd_cli.plugin.Options"
            )
        self.options()  # listings show the defaults, so there have to be some
        if not (isinstance(self.summary, str) and self.summary.isprintable()):
            raise ValueError(f"summary of plug-in {self.name!r} must be one line of text")
        if not (callable(self.build) or (isinstance(self.build, str) and BUILD.fullmatch(self.build))):
            raise ValueError(f'build of plug-in {self.name!r} must be a callable or "module:function"')

    def load(self) -> Callable[..., Any]:
        """Return the build callable; raise PluginError when it is given as a string and cannot be imported."""
        if callable(self.build):
            return self.build
        module, _, function = self.build.partition(":")
        try:
            return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"the {self.kind} {self.name!r} cannot import {self.build}: {error}",
                "Is what it needs installed?",
            ) from error


@dataclass(frozen=True)
class FilterPlugin(Plugin):
    """A filter family: `build(grid: FrequencyGrid, options) -> weight >= 0 on the half spectrum`.

    `grid.radial` is the coordinate for band edges (in the units the user chose), `grid.radius` is in
    cycles/sample and `grid.rho` in [0, 1]. Normalisation is not the family's business.

    `basis(grid, options) -> (*half_shape, K)`, when given, makes the family one that training learns: its weight is
    basis @ w for options that hold `knots`, K pairs (position, w > 0), and `smoothness`.
    """

    basis: Callable[..., Any] | None = None

    kind: ClassVar[str] = "filter"


@dataclass(frozen=True)
class DatasetPlugin(Plugin):
    """A data set: `build(options, split: "train" | "test") -> ImageSet | LazyImageSet`.

    Lazy is for data that memory may not hold: training gathers them in an array, `sagd data prepare` writes them
    one by one.

    `stream(options, split)`, when given, returns a sized iterable of the images, each (C, *spatial), read one at a
    time as spectra are measured on them: uint8 or other integers of full range, or floats on [-1, 1]. Their sizes
    and depths may differ.
    """

    stream: Callable[..., Any] | None = None

    kind: ClassVar[str] = "dataset"


@dataclass(frozen=True)
class BackbonePlugin(Plugin):
    """A network: `build(options, shape: (C, *spatial)) -> torch.nn.Module`.

    The module maps (x_t (B, C, *spatial), timestep (B,) in [0, 999]) to a prediction of the shape of x_t.
    `resolve(options, shape)`, when given, returns the options with every size-dependent default filled in.

    One that `takes_classes` can be trained on class labels: `build(options, shape, classes)` then gives a module of
    (x_t, timestep, labels (B,)), int64 from 0 to `classes`, the last of which means "of no class".
    """

    resolve: Callable[..., Options] | None = None
    takes_classes: bool = False

    kind: ClassVar[str] = "backbone"


@dataclass(frozen=True)
class FeaturePlugin(Plugin):
    """Features for distances between sets of images: `build(options, layers) -> torch.nn.Module`.

    `layers` is a tuple of names out of the record's `layers`, whose first is the default, or its `logits`. The module
    maps uint8 images (B, channels, H, W) to a tuple with the features (B, D) of each of these layers, those of an image
    whatever the others of its batch; a `FeatureExtractorBase` of torch-fidelity is one.

    `channels` is the number of channels it takes (grey images are repeated to fill them), None any. `distance` names
    the figure: only Inception's may be called "FID". `logits` is the layer of a classifier's logits, for the Inception
    score; None where there is none.
    """

    layers: tuple[str, ...] = ()
    channels: int | None = 3
    distance: str = ""
    logits: str | None = None

    kind: ClassVar[str] = "feature"
