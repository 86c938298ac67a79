"""Contract checks that plug-in authors run in their own tests; `sagd plugins check` runs the same.

    from sagd_cli.plugin.testing import check_features, check_filter, check_plugin

Each check returns None, or raises AssertionError with one sentence that says what is wrong.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from sagd_cli.errors import SagdError
from sagd_cli.plugin.records import NAME, DatasetPlugin, FeaturePlugin, FilterPlugin, Options, Plugin
from sagd_cli.spectral.filter import Normalize, SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid, Units
from sagd_cli.system.failures import named_error
from sagd_cli.system.yaml import dump_yaml, parse_yaml

# Even and odd sides, sides that differ, and one to three dimensions.
SHAPES: tuple[tuple[int, ...], ...] = ((8, 8), (28, 28), (31, 17), (64,), (7,), (8, 9, 10), (5, 6, 7))
OTHER_UNITS: tuple[Units, ...] = ("nyquist", "cycles")


def check_plugin(plugin: Plugin) -> None:
    """Raise AssertionError unless a record of any kind keeps the contract.

    Its name matches `[a-z0-9][a-z0-9_-]*`. Its summary is one line and not empty. Its options have valid defaults,
    are frozen and refuse unknown keys. Its `build` can be imported; it is not called. What a data set `accepts` is a
    truth value, also for a path that leads to nothing.
    """
    subject = f"{plugin.kind} {plugin.name!r}"
    _require(NAME.fullmatch(plugin.name), f"{subject}: the name does not match {NAME.pattern}")
    summary = plugin.summary
    _require(summary.strip() and summary.isprintable(), f"{subject}: the summary is not one line of text")
    _check_options(plugin, {})
    try:
        build = plugin.load()
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{subject}: build cannot be imported: {named_error(error)}") from error
    _require(callable(build), f"{subject}: build is {type(build).__name__}, not callable")
    if isinstance(plugin, DatasetPlugin) and plugin.accepts is not None:
        answer = plugin.load("accepts")(Path("no such folder", "no such file"))
        _require(type(answer) is bool, f"{subject}: accepts returns {answer!r}, not True or False")
    if isinstance(plugin, FeaturePlugin):
        _require(plugin.layers, f"{subject}: layers is empty; its first is the default")
        any_or_some = plugin.channels is None or plugin.channels >= 1
        _require(any_or_some, f"{subject}: channels is {plugin.channels}, neither None nor at least 1")
        _require(plugin.distance, f"{subject}: distance, the name of its figure, is empty")


def check_filter(plugin: FilterPlugin, options: Mapping[str, Any] | None = None) -> None:
    """Raise AssertionError unless a filter family keeps the contract with `options` (its defaults if absent).

    On every shape of `SHAPES`, the weight is a floating-point array of `grid.half_shape`, finite, >= 0, not zero
    everywhere and symmetric, w(f) = w(-f); two builds are equal; the grid is left as it was; every
    normalisation accepts it and "power" gives noise of variance 1. The options survive YAML and refuse unknown
    keys. A family with `basis` has options `knots` (pairs, w > 0) and `smoothness`. Its basis has one column for each
    knot, each finite, >= 0 and symmetric. The basis times the knots' w is the weight.

    Band edges that are valid in rho need not be valid in nyquist and cycles. In these units, `build` may raise an error
    of `sagd_cli.errors` or return zero; the rest of the contract holds. When `options` are given, `build` may also
    raise such an error on some shapes (two frequencies do not fit a line), but not on all of them.
    """
    chosen = _check_options(plugin, options or {})
    subject = f"filter {plugin.name!r}"
    try:
        plugin.load()
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{subject}: build cannot be imported: {named_error(error)}") from error
    if plugin.basis is not None:
        _check_knots(chosen, subject)
    refusals = []
    for shape in SHAPES:
        try:
            _check_shape(plugin, chosen, shape)
        except SagdError as error:
            _require(options, f"{subject} on shape {shape}: build raises {named_error(error)}")
            refusals.append(named_error(error))
    if len(refusals) == len(SHAPES):
        raise AssertionError(
            f"{subject}: no shape suits the options {dict(options or {})}: build raises {refusals[0]}"
        )


def check_features(plugin: FeaturePlugin, options: Mapping[str, Any] | None = None) -> None:
    """Raise AssertionError unless a feature extractor keeps the contract with `options` (its defaults if absent).

    It is built for each of its layers, and for its logits. The module maps uint8 images (B, channels, 16, 16) on the
    CPU to a tuple of one floating tensor (B, D). The values are finite, the same in a second run, and, to a relative
    1e-4, the same for an image alone.
    """
    import torch

    chosen = _check_options(plugin, options or {})
    generator = torch.Generator().manual_seed(0)
    shape = (5, plugin.channels or 3, 16, 16)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    for layer in dict.fromkeys([*plugin.layers, *([plugin.logits] if plugin.logits else [])]):
        subject = f"feature {plugin.name!r}, layer {layer!r}"
        network = plugin.load()(chosen, (layer,)).eval()
        with torch.inference_mode():
            found = network(images)
            _require(
                isinstance(found, tuple) and len(found) == 1,
                f"{subject}: the result is no tuple of one tensor",
            )
            again, alone = network(images)[0], torch.cat([network(image[None])[0] for image in images])
        (values,) = found
        _require(
            values.ndim == 2 and len(values) == 5,
            f"{subject}: the shape is {tuple(values.shape)}, not (5, D)",
        )
        _require(
            values.is_floating_point(), f"{subject}: the features are {values.dtype}, not floating-point"
        )
        _require(values.isfinite().all(), f"{subject}: the features are not finite")
        _require(torch.equal(values, again), f"{subject}: two runs differ")
        scale = float(values.abs().max())
        near = torch.allclose(values, alone, rtol=1e-4, atol=1e-4 * scale)
        _require(near, f"{subject}: the features of an image depend on the others of its batch")


def _check_options(plugin: Plugin, values: Mapping[str, Any]) -> Options:
    subject = f"{plugin.kind} {plugin.name!r}"
    schema = plugin.options
    try:
        options = schema.model_validate(dict(values))
    except ValidationError as error:
        raise AssertionError(
            f"{subject}: the options {dict(values)} are not valid: {_said(error)}"
        ) from error
    _require(schema.model_config.get("frozen"), f"{subject}: the options are not frozen")
    document = options.model_dump(mode="json")
    try:
        schema.model_validate({**document, "no_such_option": 0})
    except ValidationError:
        pass
    else:
        raise AssertionError(f"{subject}: an unknown option is accepted; keep `extra` at forbid")
    try:
        again = schema.model_validate(parse_yaml(dump_yaml(document), "the options"))
    except (SagdError, ValidationError) as error:
        raise AssertionError(
            f"{subject}: the options cannot be read back from YAML: {_said(error)}"
        ) from error
    _require(again == options, f"{subject}: the options change in YAML: {options!r} comes back as {again!r}")
    return options


def _check_knots(options: Options, subject: str) -> None:
    missing = [name for name in ("knots", "smoothness") if name not in type(options).model_fields]
    _require(not missing, f"{subject}: it has a basis, and no option {' and no '.join(missing)}")
    values = options.model_dump()
    try:
        knots = np.array(values["knots"], dtype=np.float64)
    except (TypeError, ValueError):
        knots = np.empty(0)
    pairs = knots.ndim == 2 and knots.shape[-1] == 2
    _require(pairs, f"{subject}: the knots {values['knots']!r} are not pairs (position, w)")
    _require(np.all(knots[:, -1] > 0), f"{subject}: a knot's w is not above 0")
    smoothness = values["smoothness"]
    number = isinstance(smoothness, int | float) and smoothness >= 0
    _require(number, f"{subject}: the smoothness {smoothness!r} is not a number >= 0")


def _check_shape(plugin: FilterPlugin, options: Options, shape: tuple[int, ...]) -> None:
    subject = f"filter {plugin.name!r} on shape {shape}"
    w = _check_weight(plugin, options, FrequencyGrid(shape), subject)
    _require(np.any(w > 0), f"{subject}: the weight is zero at every frequency")
    for normalize in get_args(Normalize):
        try:
            built = SpectralFilter.from_weight(FrequencyGrid(shape), w, normalize)
        except SagdError as error:
            raise AssertionError(f"{subject}: normalize={normalize} refuses the weight: {error}") from error
        if normalize == "power":
            unit = abs(built.power - 1) < 1e-9
            _require(unit, f"{subject}: the noise has variance {built.power}, not 1, after normalisation")
    for units in OTHER_UNITS:
        with suppress(SagdError):
            _check_weight(plugin, options, FrequencyGrid(shape, units), f"{subject} in units {units}")


def _check_weight(plugin: FilterPlugin, options: Options, grid: FrequencyGrid, subject: str) -> Array:
    w = _built(plugin.load(), "build", "weight", grid, options, subject)
    _require(w.shape == grid.half_shape, f"{subject}: the weight has shape {w.shape}, not {grid.half_shape}")
    _check_values("weight", w, subject)
    _require(grid.is_symmetric(w), f"{subject}: the weight is not symmetric, w(f) = w(-f)")
    again = _built(plugin.load(), "build", "weight", FrequencyGrid(grid.shape, grid.units), options, subject)
    _require(np.array_equal(w, again), f"{subject}: two builds with the same options differ")
    if plugin.basis is not None:
        _check_basis(plugin.load("basis"), options, grid, w, subject)
    return w


def _check_basis(
    function: Callable[..., Any], options: Options, grid: FrequencyGrid, w: Array, subject: str
) -> None:
    knots = np.array(options.model_dump()["knots"], dtype=np.float64)
    wanted = (*grid.half_shape, len(knots))
    basis = _built(function, "basis", "basis", grid, options, subject)
    _require(basis.shape == wanted, f"{subject}: the basis has shape {basis.shape}, not {wanted}")
    _check_values("basis", basis, subject)
    columns = np.moveaxis(basis, -1, 0)
    _require(all(map(grid.is_symmetric, columns)), f"{subject}: the basis is not symmetric in f")
    # The loss divides by w, whatever knots training arrives at.
    _require(np.all(basis.sum(axis=-1) > 0), f"{subject}: the basis is zero at some frequency for every knot")
    same = np.allclose(basis @ knots[:, -1], w, rtol=1e-9, atol=0)
    _require(same, f"{subject}: the basis times the knots' w is not the weight that build returns")


def _built(
    function: Callable[..., Any], name: str, noun: str, grid: FrequencyGrid, options: Options, subject: str
) -> Array:
    try:
        values = function(grid, options)
    except SagdError:
        raise
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{subject}: {name} raises {named_error(error)}") from error
    if not isinstance(values, np.ndarray):
        raise AssertionError(f"{subject}: {name} returns {type(values).__name__}, not a NumPy array")
    floating = np.issubdtype(values.dtype, np.floating)
    _require(floating, f"{subject}: the {noun} is {values.dtype}, not floating-point")
    same = all(map(np.array_equal, _arrays(grid), _arrays(FrequencyGrid(grid.shape, grid.units))))
    _require(same, f"{subject}: {name} changes the grid it is given; work on a copy")
    return values


def _check_values(noun: str, values: Array, subject: str) -> None:
    _require(np.all(np.isfinite(values)), f"{subject}: the {noun} is not finite at some frequency")
    _require(np.all(values >= 0), f"{subject}: the {noun} is negative at some frequency")


def _arrays(grid: FrequencyGrid) -> tuple[Array, ...]:
    return (*grid.axes, grid.radius, grid.rho, grid.radial, grid.multiplicity)


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False)
    return "; ".join(": ".join([".".join(map(str, p["loc"])), p["msg"]]) for p in problems)


def _require(condition: object, message: str) -> None:
    # Not `assert`: the contract holds under `python -O` as well.
    if not condition:
        raise AssertionError(message)
