"""The contract checks: every built-in passes, and each way to break the contract is named."""

import numpy as np
import pytest
from pydantic import ConfigDict, Field, field_serializer

from sagd_cli.plugin import DatasetPlugin, FeaturePlugin, FilterPlugin, Options
from sagd_cli.plugin.registry import Sources, load_registry
from sagd_cli.plugin.testing import SHAPES, check_filter, check_plugin

BUILTIN = load_registry(Sources(frozenset()))


class Strength(Options):
    strength: float = Field(1.0, ge=0)


def ones(grid, options):
    return np.ones(grid.half_shape)


def family(build, options=Options):
    return FilterPlugin("probe", "a probe", options, build)


@pytest.mark.parametrize("entry", BUILTIN.entries, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_builtins_keep_the_contract(entry):
    check_plugin(entry.record)
    if entry.kind == "filter":
        check_filter(entry.record)


def test_the_shapes_cover_one_to_three_dimensions_even_and_odd():
    assert {len(shape) for shape in SHAPES} == {1, 2, 3}
    assert {shape[-1] % 2 for shape in SHAPES} == {0, 1}
    assert any(len(set(shape)) > 1 for shape in SHAPES)


def test_a_symmetric_family_that_depends_on_direction_keeps_the_contract():
    # w depends on the sign of f_y f_x, which f -> -f keeps; at Nyquist f and -f are the same frequency.
    def diagonal(grid, options):
        phase = sum(k * f for k, f in enumerate(grid.axes, start=1))
        return 1.5 + np.broadcast_to(np.cos(2 * np.pi * phase), grid.half_shape)

    check_filter(family(diagonal))


def lopsided(grid, options):
    w = np.ones(grid.half_shape)
    if grid.ndim > 1:
        w[1, ..., 0] = 2  # f = (1/n, 0) is its own plane, and -f is stored as well
    return w


def lopsided_at_nyquist(grid, options):
    w = np.ones(grid.half_shape)
    if grid.ndim > 1:
        w[1, ..., -1] = 2
    return w


def changes_grid(grid, options):
    w = grid.rho
    w += 1
    return w


def growing():
    calls = iter(range(1, 1000))
    return lambda grid, options: np.full(grid.half_shape, float(next(calls)))


def raising(grid, options):
    raise ZeroDivisionError("no such thing")


FAILING = {
    "not an array": (lambda grid, options: [1.0], "returns list, not a NumPy array"),
    "integers": (lambda grid, options: np.ones(grid.half_shape, int), "not floating-point"),
    "complex": (lambda grid, options: np.ones(grid.half_shape, complex), "not floating-point"),
    "full spectrum": (lambda grid, options: np.ones(grid.shape), "has shape"),
    "negative": (lambda grid, options: grid.rho - 0.5, "is negative"),
    "infinite at DC": (lambda grid, options: 1 / np.maximum(grid.rho, 1e-320), "not finite"),
    "nan": (lambda grid, options: np.full(grid.half_shape, np.nan), "not finite"),
    "zero": (lambda grid, options: np.zeros(grid.half_shape), "zero at every frequency"),
    "lopsided": (lopsided, "not symmetric"),
    "lopsided at Nyquist": (lopsided_at_nyquist, "not symmetric"),
    "changes its grid": (changes_grid, "changes the grid"),
    "not deterministic": (growing(), "two builds"),
    "raises": (raising, "build raises ZeroDivisionError: no such thing"),
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_each_breach_of_the_weight_is_named(case):
    build, message = FAILING[case]
    with pytest.raises(AssertionError, match=f"filter 'probe' on shape .*{message}"):
        check_filter(family(build))


def test_a_breach_on_one_shape_only_is_found_and_the_shape_named():
    def only_even(grid, options):
        return np.ones(grid.half_shape) if grid.shape[-1] % 2 == 0 else np.zeros(grid.half_shape)

    with pytest.raises(AssertionError, match=r"shape \(31, 17\)"):
        check_filter(family(only_even))


def test_options_given_are_the_ones_checked():
    def scaled(grid, options):
        return np.full(grid.half_shape, options.strength)

    check_filter(family(scaled, Strength), {"strength": 2})
    with pytest.raises(AssertionError, match="zero at every frequency"):
        check_filter(family(scaled, Strength), {"strength": 0})
    with pytest.raises(
        AssertionError, match="not valid: strength: Input should be greater than or equal to 0"
    ):
        check_filter(family(scaled, Strength), {"strength": -1})


class Loose(Options):
    model_config = ConfigDict(extra="ignore")


class Mutable(Options):
    model_config = ConfigDict(frozen=False)


class Lossy(Options):
    strength: float = 1 / 3

    @field_serializer("strength")
    def _rounded(self, value: float) -> float:
        return round(value, 2)


class Unreadable(Options):
    strength: float = 1.0

    @field_serializer("strength")
    def _spelled(self, value: float) -> str:
        return "one"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Loose, "an unknown option is accepted"),
        (Mutable, "not frozen"),
        (Lossy, "change in YAML"),
        (Unreadable, "cannot be read back"),
    ],
)
def test_each_breach_of_the_options_is_named_by_both_checks(options, message):
    for check in (check_plugin, check_filter):
        with pytest.raises(AssertionError, match=f"filter 'probe': .*{message}"):
            check(family(ones, options))


@pytest.mark.parametrize("build", ["no_such_module:build", "json:no_such", "json:__name__"])
def test_check_plugin_imports_what_builds(build):
    with pytest.raises(AssertionError, match="dataset 'probe': build"):
        check_plugin(DatasetPlugin("probe", "a probe", Options, build))


def test_check_plugin_does_not_build():
    check_plugin(DatasetPlugin("probe", "a probe", Options, raising))


def test_a_summary_has_to_say_something():
    with pytest.raises(AssertionError, match="summary"):
        check_plugin(FilterPlugin("probe", " ", Options, ones))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": (), "distance": "fd-x"}, "layers"),
        ({"layers": ("64",), "distance": ""}, "distance"),
        ({"layers": ("64",), "distance": "fd-x", "channels": 0}, "channels"),
    ],
)
def test_a_feature_extractor_needs_layers_channels_and_a_name_for_its_figure(fields, message):
    with pytest.raises(AssertionError, match=message):
        check_plugin(FeaturePlugin("probe", "a probe", Options, ones, **fields))
