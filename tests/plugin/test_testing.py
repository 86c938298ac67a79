"""The contract checks: every built-in passes, and each way to break the contract is named."""

from itertools import count, product

import numpy as np
import pytest
from pydantic import ConfigDict, Field, field_serializer

from sagd_cli.errors import ConfigError
from sagd_cli.plugin import DatasetPlugin, FeaturePlugin, FilterPlugin, Options
from sagd_cli.plugin.registry import Sources, load_registry
from sagd_cli.plugin.testing import SHAPES, check_features, check_filter, check_plugin

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


VARIANTS = {
    "white": [{}],
    "powerlaw": [{"alpha": -2}, {"alpha": 1.5, "delta": 0.1}, {"alpha": 0}],
    "exponential": [{"beta": 0}, {"beta": 8}, {"beta": 64}],
    "lowpass": [{"cutoff": 0.3}, {"cutoff": 0.7, "transition": 0.2}, {"cutoff": 1, "floor": 0.1}],
    "highpass": [{"cutoff": 0.3}, {"cutoff": 0.6, "floor": 0.05}, {"cutoff": 0.5, "transition": 0.2}],
    "bandpass": [{"low": 0, "high": 0.4}, {"low": 0.1, "high": 0.9, "floor": 0.2, "transition": 0.05}],
    "bandstop": [
        {"low": 0, "high": 0.4},
        {"low": 0.1, "high": 1},
        {"low": 0.3, "high": 0.5, "transition": 1},
    ],
    "twoband": [{"gamma_low": 0.9}, {"gamma_low": 0.2, "gamma_high": 3}, {"b_low": 0.2, "a_high": 0.7}],
    "notch": [
        {"centers": [[0.25, 0.1]]},
        {"centers": [[0.5, 0.5], [0.1]], "radius": 0.1, "floor": 0.1},
        {"centers": [[0.1, -0.2, 0.3]], "radius": 0.2, "transition": 0.1},
        {"centers": [[0], [0.5]], "radius": 0.05, "invert": True},
    ],
    "stripe": [
        {"axis": 1},
        {"axis": -1, "width": 0.3, "guard": 0.2, "transition": 0.1},
        {"axis": 2, "floor": 0.5},
        {"invert": True},
        {"axis": -2, "width": 0, "guard": 0, "floor": 0.01, "invert": True},
    ],
    "radial": [{"knots": [[0, 0.5], [0.4, 2], [1, 1]]}, {"knots": [[0.2, 0], [0.6, 1]]}],
    "matched": [
        {"power": [[0, 9], [0.1, 4], [1, 0.1]]},
        {"power": [[0.01, 1e3], [0.5, 1]], "kappa": -1},
        {"kappa": 0, "power": [[0.2, 1], [1, 1e-6]]},
    ],
    "learned": [
        {"knots": [[0, 2], [0.1, 1], [1, 0.2]]},
        {"knots": [[0.3, 1], [0.6, 4]], "smoothness": 0},
    ],
}


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, variants in VARIANTS.items() for options in variants]
)
def test_builtin_filters_keep_the_contract_with_other_options_than_the_defaults(name, options):
    check_filter(BUILTIN.get("filter", name), options)


def test_no_built_in_filter_is_left_out():
    assert {entry.name for entry in BUILTIN.entries if entry.kind == "filter"} == set(VARIANTS)


def test_the_shapes_cover_one_to_three_dimensions_even_and_odd():
    assert {(len(shape), shape[-1] % 2) for shape in SHAPES} == set(product((1, 2, 3), (0, 1)))
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


# -- shapes and units that options need not suit ---------------------------------------------------------


def images_only(grid, options):
    if grid.ndim == 1:
        raise ConfigError("an image is needed")
    return np.ones(grid.half_shape)


def test_the_defaults_suit_every_shape():
    with pytest.raises(
        AssertionError, match=r"on shape \(64,\): build raises ConfigError: an image is needed"
    ):
        check_filter(family(images_only))


def test_options_that_are_given_suit_one_shape_at_least():
    check_filter(family(images_only, Strength), {"strength": 2})

    def nothing(grid, options):
        raise ConfigError("no field will do")

    message = r"no shape suits the options \{'strength': 2\}: build raises ConfigError: no field will do"
    with pytest.raises(AssertionError, match=message):
        check_filter(family(nothing, Strength), {"strength": 2})


def test_an_error_that_is_not_for_the_user_is_a_breach_whatever_the_options():
    def on_images(grid, options):
        return np.ones(grid.half_shape) if grid.ndim > 1 else raising(grid, options)

    with pytest.raises(AssertionError, match=r"shape \(64,\): build raises ZeroDivisionError"):
        check_filter(family(on_images, Strength), {"strength": 2})


@pytest.mark.parametrize("units", ["nyquist", "cycles"])
def test_edges_that_suit_rho_need_not_suit_the_other_units(units):
    def refused(grid, options):
        if grid.units == units:
            raise ConfigError("the edge is outside the spectrum")
        return np.ones(grid.half_shape)

    def empty(grid, options):
        return np.full(grid.half_shape, float(grid.units != units))

    check_filter(family(refused))
    check_filter(family(empty))


@pytest.mark.parametrize("units", ["nyquist", "cycles"])
@pytest.mark.parametrize(
    "case", ["negative", "nan", "full spectrum", "lopsided", "changes its grid", "raises"]
)
def test_a_breach_in_one_unit_is_found_and_the_unit_named(units, case):
    build, message = FAILING[case]

    def there(grid, options):
        return build(grid, options) if grid.units == units else np.ones(grid.half_shape)

    with pytest.raises(AssertionError, match=f"on shape .* in units {units}: .*{message}"):
        check_filter(family(there))


# -- families that training learns -----------------------------------------------------------------------


class Knotted(Options):
    knots: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.5, 2.0), (1.0, 0.5))
    smoothness: float = 0.1


def hats(grid, options):
    at = np.array(options.knots)[:, 0]
    return np.stack([np.interp(grid.rho, at, hat) for hat in np.eye(len(at))], axis=-1)


def interpolated(grid, options):
    return hats(grid, options) @ np.array(options.knots)[:, 1]


def learnable(basis=hats, options=Knotted, build=interpolated):
    return FilterPlugin("probe", "a probe", options, build, basis=basis)


def test_a_family_with_a_basis_keeps_the_contract():
    check_filter(learnable())
    check_filter(learnable(), {"knots": [[0.1, 3], [0.2, 1]], "smoothness": 0})


def test_a_family_without_a_basis_needs_no_knots():
    check_filter(family(ones))


class Knotless(Options):
    smoothness: float = 0.1


class Rough(Options):
    knots: tuple[tuple[float, float], ...] = ((0.0, 1.0), (1.0, 1.0))


class Triples(Knotted):
    knots: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 1.0), (0.5, 0.5, 2.0))


class Ragged(Knotted):
    knots: tuple[tuple[float, ...], ...] = ((0.0, 1.0), (0.5,))


class Named(Knotted):
    knots: str = "flat"


class Zero(Knotted):
    knots: tuple[tuple[float, float], ...] = ((0.0, 1.0), (1.0, 0.0))


class Negative(Knotted):
    smoothness: float = -0.1


class Worded(Knotted):
    smoothness: str = "some"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options, "it has a basis, and no option knots and no smoothness$"),
        (Knotless, "no option knots$"),
        (Rough, "no option smoothness$"),
        (Triples, "are not pairs"),
        (Ragged, "are not pairs"),
        (Named, "the knots 'flat' are not pairs"),
        (Zero, "a knot's w is not above 0"),
        (Negative, "the smoothness -0.1 is not a number >= 0"),
        (Worded, "the smoothness 'some' is not a number >= 0"),
    ],
)
def test_each_breach_of_a_learnable_familys_options_is_named(options, message):
    with pytest.raises(AssertionError, match=f"filter 'probe': .*{message}"):
        check_filter(learnable(options=options, build=ones))


def lopsided_hats(grid, options):
    """Columns that are lopsided each, and not in their sum at the knots given."""
    basis = hats(grid, options)
    bump = lopsided(grid, options) - 1
    w = np.array(options.knots)[:, 1]
    basis[..., 0] += bump * w[1]
    basis[..., 1] += bump.max() * w[0] - bump * w[0]
    return basis


def changes_grid_for_hats(grid, options):
    basis = hats(grid, options)
    grid.rho[...] = 0.5
    return basis


def one_sided(grid, options):
    basis = hats(grid, options)
    return np.where(grid.rho[..., None] < 0.9, basis, 0)


BASES = {
    "not an array": (lambda g, o: hats(g, o).tolist(), "basis returns list, not a NumPy array"),
    "integers": (lambda g, o: hats(g, o).astype(int), "the basis is int64, not floating-point"),
    "knots first": (lambda g, o: np.moveaxis(hats(g, o), -1, 0), "the basis has shape"),
    "a knot short": (lambda g, o: hats(g, o)[..., 1:], "the basis has shape"),
    "no knots": (lambda g, o: np.ones(g.half_shape), "the basis has shape"),
    "nan": (lambda g, o: hats(g, o) * np.nan, "the basis is not finite"),
    "negative": (lambda g, o: hats(g, o) - 0.01, "the basis is negative"),
    "lopsided": (lopsided_hats, "the basis is not symmetric"),
    "empty": (one_sided, "the basis is zero at some frequency for every knot"),
    "another weight": (
        lambda g, o: hats(g, o) * (1 + 1e-6),
        "the basis times the knots' w is not the weight",
    ),
    "changes its grid": (changes_grid_for_hats, "basis changes the grid"),
    "raises": (raising, "basis raises ZeroDivisionError: no such thing"),
}


@pytest.mark.parametrize("case", BASES)
def test_each_breach_of_the_basis_is_named(case):
    basis, message = BASES[case]
    with pytest.raises(AssertionError, match=f"filter 'probe' on shape .*: .*{message}"):
        check_filter(learnable(basis))


def test_a_basis_is_checked_in_every_unit():
    def in_cycles(grid, options):
        return hats(grid, options) * (2 if grid.units == "cycles" else 1)

    with pytest.raises(AssertionError, match="in units cycles: the basis times"):
        check_filter(learnable(in_cycles))


@pytest.mark.parametrize("build", ["no_such_module:build", "json:no_such"])
def test_a_build_that_cannot_be_imported_is_named_whatever_the_options(build):
    for options in (None, {"strength": 2}):
        with pytest.raises(AssertionError, match="filter 'probe': build cannot be imported"):
            check_filter(FilterPlugin("probe", "a probe", Strength, build), options)


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


@pytest.mark.parametrize("name", ["digits-cnn", "spectrum", "pixels"])
def test_the_built_in_features_keep_the_contract(name):
    check_features(BUILTIN.get("feature", name))


COUNTER = count(1)


def _features(forward, **fields):
    import torch

    class Probe(torch.nn.Module):
        def forward(self, images):
            return forward(images.double().flatten(1))

    return FeaturePlugin(
        "probe", "a probe", Options, lambda options, layers: Probe(), ("1",), 1, "fd-x", **fields
    )


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x, "no tuple of one tensor"),
        (lambda x: (x, x), "no tuple of one tensor"),
        (lambda x: (x.mean(dim=1),), r"the shape is \(5,\)"),
        (lambda x: (x.long(),), "not floating-point"),
        (lambda x: (x.log(),), "not finite"),
        (lambda x: (x - x.mean(dim=0),), "depend on the others of its batch"),
        (lambda x: (x * next(COUNTER),), "two runs differ"),
    ],
)
def test_each_breach_of_features_is_named(forward, message):
    check_features(_features(lambda x: (x,)))
    with pytest.raises(AssertionError, match=message):
        check_features(_features(forward))
