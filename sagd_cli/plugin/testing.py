"""Contract checks that plug-in authors run in their own tests; `sagd plugins check` runs the same.

    from sagd_cli.plugin.testing import check_filter, check_plugin

Each check returns None, or raises AssertionError with one sentence that says what is not as it must be.
"""

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from sagd_cli.errors import SagdError
from sagd_cli.plugin.records import NAME, FeaturePlugin, FilterPlugin, Options, Plugin
from sagd_cli.spectral.filter import Normalize, SpectralFilter
from sagd_cli.spectral.grid import Array, FrequencyGrid
from sagd_cli.yaml_files import dump_yaml, parse_yaml

# Even and odd sides, sides that differ, and one to three dimensions.
SHAPES: tuple[tuple[int, ...], ...] = ((8, 8), (28, 28), (31, 17), (64,), (7,), (8, 9, 10))


def check_plugin(plugin: Plugin) -> None:
    """Raise AssertionError unless a record of any kind keeps the contract.

    Its name matches `[a-z0-9][a-z0-9_-]*`, its summary is one line that says something, its options have valid
    defaults, are frozen and refuse unknown keys, and what builds it can be imported. Nothing is built.
    """
    subject = f"{plugin.kind} {plugin.name!r}"
    _require(NAME.fullmatch(plugin.name), f"{subject}: the name does not match {NAME.pattern}")
    summary = plugin.summary
    _require(summary.strip() and summary.isprintable(), f"{subject}: the summary is not one line of text")
    _check_options(plugin, {})
    try:
        build = plugin.load()
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{subject}: build cannot be imported: {_named(error)}") from error
    _require(callable(build), f"{subject}: build is {type(build).__name__}, not callable")
    if isinstance(plugin, FeaturePlugin):
        _require(plugin.layers, f"{subject}: layers is empty; its first is the default")
        _require(plugin.channels >= 1, f"{subject}: channels is {plugin.channels}, not at least 1")
        _require(plugin.distance, f"{subject}: distance, the name of its figure, is empty")


def check_filter(plugin: FilterPlugin, options: Mapping[str, Any] | None = None) -> None:
    """Raise AssertionError unless a filter family keeps the contract with `options` (its defaults if absent).

    On every shape of `SHAPES`, the weight is a floating-point array of `grid.half_shape`, finite, >= 0, not zero
    everywhere and symmetric, w(f) = w(-f); two builds are equal; the grid is left as it was; every
    normalisation accepts it and "power" gives noise of variance 1. The options survive YAML and refuse unknown
    keys.
    """
    chosen = _check_options(plugin, options or {})
    for shape in SHAPES:
        _check_weight(plugin, chosen, shape)


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


def _check_weight(plugin: FilterPlugin, options: Options, shape: tuple[int, ...]) -> None:
    subject = f"filter {plugin.name!r} on shape {shape}"
    grid = FrequencyGrid(shape)
    w = _build(plugin, options, grid, subject)
    same = all(map(np.array_equal, _arrays(grid), _arrays(FrequencyGrid(shape))))
    _require(same, f"{subject}: build changes the grid it is given; work on a copy")
    _require(w.shape == grid.half_shape, f"{subject}: the weight has shape {w.shape}, not {grid.half_shape}")
    _require(np.all(np.isfinite(w)), f"{subject}: the weight is not finite at some frequency")
    _require(np.all(w >= 0), f"{subject}: the weight is negative at some frequency")
    _require(np.any(w > 0), f"{subject}: the weight is zero at every frequency")
    _require(grid.is_symmetric(w), f"{subject}: the weight is not symmetric, w(f) = w(-f)")
    again = _build(plugin, options, FrequencyGrid(shape), subject)
    _require(np.array_equal(w, again), f"{subject}: two builds with the same options differ")
    for normalize in get_args(Normalize):
        try:
            built = SpectralFilter.from_weight(grid, w, normalize)
        except SagdError as error:
            raise AssertionError(f"{subject}: normalize={normalize} refuses the weight: {error}") from error
        if normalize == "power":
            unit = abs(built.power - 1) < 1e-9
            _require(unit, f"{subject}: the noise has variance {built.power}, not 1, after normalisation")


def _build(plugin: FilterPlugin, options: Options, grid: FrequencyGrid, subject: str) -> Array:
    try:
        w = plugin.load()(grid, options)
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{subject}: build raises {_named(error)}") from error
    if not isinstance(w, np.ndarray):
        raise AssertionError(f"{subject}: build returns {type(w).__name__}, not a NumPy array")
    _require(np.issubdtype(w.dtype, np.floating), f"{subject}: the weight is {w.dtype}, not floating-point")
    return w


def _arrays(grid: FrequencyGrid) -> tuple[Array, ...]:
    return (*grid.axes, grid.radius, grid.rho, grid.radial, grid.multiplicity)


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False)
    return "; ".join(": ".join([".".join(map(str, p["loc"])), p["msg"]]) for p in problems)


def _named(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _require(condition: object, message: str) -> None:
    # Not `assert`: the contract holds under `python -O` as well.
    if not condition:
        raise AssertionError(message)
