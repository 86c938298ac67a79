"""The frozen records that plug-in hooks yield, one class for each kind."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer

from sagd_cli.errors import PluginError
from sagd_cli.plugin.guard import GuardedImages, guarded, guarded_call
from sagd_cli.system.choices import load_reference
from sagd_cli.system.settings import Settings

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
BUILD = re.compile(r"\w+(\.\w+)*:\w+")

Split = Literal["train", "test"]


class Options(Settings):
    """Base of every plug-in's options: frozen, unknown keys refused, the same schema for YAML and `-o`.

    `later` names options that were added to a plug-in in use. Where they are None, settings do not mention them, so
    that runs from before keep their settings and their names.
    """

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _document(self, document: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            key: value for key, value in document(self).items() if value is not None or key not in self.later
        }


class Images(Protocol):
    """Images, each (C, *spatial), that can be read one at a time, and again from the start."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Return an iterator from the first image on."""
        ...


@dataclass(frozen=True, eq=False)
class LazyImageSet:
    """Images of one shape (C, *spatial) and type, read one at a time, with optional class `labels` (N,) from 0.

    The type is uint8 for pixels from 0 to 255. It is float16 or float32 for signals, of which black is -1 and white 1,
    and for data without black and white (latents); both are trained on as they are. `class_names` are the names of the
    labels; without them, a class is called by its number. `latents` says of latents what made them, as JSON can hold.
    """

    images: Images
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    latents: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class ImageSet(LazyImageSet):
    """A LazyImageSet whose images are one array (N, C, *spatial), in memory or a read-only memory map."""

    images: NDArray[Any]


@dataclass(frozen=True)
class Plugin:
    """The fields that records of every kind have.

    `build` is a callable or a "module:function" string; the string is imported on first use, so that listing
    plug-ins loads nothing heavy.
    """

    name: str
    summary: str
    options: type[Options]
    build: Callable[..., Any] | str

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        """Raise ValueError when a field does not keep the contract."""
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            raise ValueError(f"plug-in name {self.name!r} does not match {NAME.pattern}")
        if not (isinstance(self.options, type) and issubclass(self.options, Options)):
            raise ValueError(
                f"options of plug-in {self.name!r} must be a subclass of sagd_cli.plugin.Options"
            )
        self.options()  # raises when an option has no default; listings show the defaults
        if not (isinstance(self.summary, str) and self.summary.isprintable()):
            raise ValueError(f"summary of plug-in {self.name!r} must be one line of text")
        if not (callable(self.build) or (isinstance(self.build, str) and BUILD.fullmatch(self.build))):
            raise ValueError(f'build of plug-in {self.name!r} must be a callable or "module:function"')
        for part in ("basis", "stream", "accepts", "resolve"):
            function = getattr(self, part, None)
            if not (function is None or callable(function)):
                raise ValueError(f"{part} of plug-in {self.name!r} must be a function")

    def load(self, part: str = "build") -> Callable[..., Any]:
        """Return the function in the field `part`, run as `plugin.guard.guarded_call` says.

        Raises PluginError when it is given as a string and cannot be imported.
        """
        subject, function = f"the {self.kind} {self.name!r}", getattr(self, part)
        if isinstance(function, str):
            with guarded(subject):
                function = _imported(function, subject)
        return guarded_call(subject, function)


def _imported(reference: str, subject: str) -> Callable[..., Any]:
    try:
        function = load_reference(reference)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"{subject} cannot import {reference}: {error}", "Is what it needs installed?"
        ) from error
    if not callable(function):
        raise PluginError(f"{subject} names {reference}, which is no function")
    return function  # type: ignore[no-any-return]


@dataclass(frozen=True)
class FilterPlugin(Plugin):
    """A filter family: `build(grid: FrequencyGrid, options) -> weight >= 0 on the half spectrum`.

    `grid.radial` is the coordinate for band edges (in the units the user chose), `grid.radius` is in
    cycles/sample and `grid.rho` in [0, 1]. The family need not normalise the weight.

    `basis(grid, options) -> (*half_shape, K)`, when given, makes the family one that training learns: its weight is
    basis @ w for options that hold `knots`, K pairs (position, w > 0), and `smoothness`.
    """

    basis: Callable[..., Any] | None = None

    kind: ClassVar[str] = "filter"


@dataclass(frozen=True)
class DatasetPlugin(Plugin):
    """A data set: `build(options, split: "train" | "test") -> ImageSet | LazyImageSet`.

    A LazyImageSet is for data that may not fit in memory: `sagd data prepare` writes them one by one. Training gathers
    them in an array.

    `stream(options, split)`, when given, returns a sized iterable of the images, each (C, *spatial), read one at a
    time. Spectra are measured on them. They are uint8 or other integers of full range, or floats on [-1, 1]. Their
    sizes and depths may differ. It may leave out images that cannot be read, with a warning of each, so that fewer
    come than its size says.

    `accepts(path)`, when given, tells whether a path that stands for DATA is for this data set, whose options then have
    a `path`. It goes by names alone and reads no file. The path may lead to nothing. The first data set that accepts a
    path takes it, in the order of loading; `folder` takes what no other does.
    """

    stream: Callable[..., Any] | None = None
    accepts: Callable[[Path], bool] | None = None

    kind: ClassVar[str] = "dataset"

    def __post_init__(self) -> None:
        """Raise ValueError when a field does not keep the contract."""
        super().__post_init__()
        if self.accepts is not None and "path" not in self.options.model_fields:
            raise ValueError(f"the data set {self.name!r} accepts paths, and its options have no `path`")

    def load(self, part: str = "build") -> Callable[..., Any]:
        """Return the function in the field `part`; reading the images that it returns is guarded, too."""
        subject, function = f"the {self.kind} {self.name!r}", super().load(part)
        if part == "accepts":
            return function

        def images_of(options: Options, split: Split) -> Any:
            found = function(options, split)
            if part == "stream":
                return found if isinstance(found, np.ndarray) else GuardedImages(subject, found)
            lazy = isinstance(found, LazyImageSet) and not isinstance(found.images, np.ndarray)
            return replace(found, images=GuardedImages(subject, found.images)) if lazy else found

        return images_of


@dataclass(frozen=True)
class BackbonePlugin(Plugin):
    """A network: `build(options, shape: (C, *spatial)) -> torch.nn.Module`.

    The module maps (x_t (B, C, *spatial), timestep (B,) in [0, 999]) to a prediction of the shape of x_t.
    `resolve(options, shape)`, when given, returns the options with every size-dependent default filled in.

    A network that `takes_classes` can be trained on class labels: `build(options, shape, classes)` then returns a
    module of (x_t, timestep, labels). `labels` (B,) are int64 from 0 to `classes`, and `classes` means "no class".
    """

    resolve: Callable[..., Options] | None = None
    takes_classes: bool = False

    kind: ClassVar[str] = "backbone"


@dataclass(frozen=True)
class FeaturePlugin(Plugin):
    """Features for distances between sets of images: `build(options, layers) -> torch.nn.Module`.

    The argument `layers` is a tuple of names from the record's `layers` (the first one is the default) or its `logits`.
    The module maps uint8 images (B, channels, H, W) to a tuple with the features (B, D) of each of these layers. The
    features of an image do not depend on the other images of its batch. A `FeatureExtractorBase` of torch-fidelity is
    such a module.

    `channels` is the number of channels that the module takes (grey images are repeated to fill them); None: any
    number. `distance` names the distance: only Inception's may be called "FID". `logits` is the layer with a
    classifier's logits, for the Inception score, or None without such a layer. `preprocessing` says, for the receipt,
    how the module resizes, crops and normalises images; empty: not at all, or as the name says.
    """

    layers: tuple[str, ...] = ()
    channels: int | None = 3
    distance: str = ""
    logits: str | None = None
    preprocessing: str = ""

    kind: ClassVar[str] = "feature"

    def __post_init__(self) -> None:
        """Raise ValueError when a field does not keep the contract."""
        super().__post_init__()
        if not (isinstance(self.layers, tuple) and all(isinstance(layer, str) for layer in self.layers)):
            raise ValueError(f"layers of plug-in {self.name!r} must be a tuple of names")
        if not (self.channels is None or type(self.channels) is int):
            raise ValueError(f"channels of plug-in {self.name!r} must be a whole number or None")
