"""Filters: the formulas of docs/theory.md, section 3, normalisation, figures of the covariance."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import pchip_interpolate

from sagd_cli.config.filter import FilterConfig
from sagd_cli.errors import ConfigError
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import window

laws = settings(deadline=None, derandomize=True, max_examples=80)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
small_shapes = st.one_of(
    st.tuples(st.integers(2, 24)),
    st.tuples(st.integers(2, 6), st.integers(2, 6)),
    st.tuples(st.integers(2, 3), st.integers(2, 3), st.integers(2, 4)),
)
# Steps of 1/1000 and 1/64 keep values apart: widths and gaps of 1e-300 are no law of ours.
fraction = st.integers(0, 1000).map(lambda k: k / 1000)
half_fraction = st.integers(0, 500).map(lambda k: k / 1000)
edge = st.integers(1, 63).map(lambda k: k / 64)
edges = st.lists(st.integers(0, 64), min_size=2, max_size=2, unique=True).map(
    lambda e: [k / 64 for k in sorted(e)]
)


@st.composite
def knots(draw):
    rho = sorted(draw(st.lists(st.integers(0, 32), min_size=2, max_size=6, unique=True)))
    return [[k / 32, draw(st.floats(0, 4).map(lambda w: round(w, 6)))] for k in rho]


def positive_knots():
    """Knots whose values go from 1/100 to 100."""
    value = st.integers(-40, 40).map(lambda k: round(10 ** (k / 20), 6))
    return knots().flatmap(
        lambda points: st.tuples(*[st.tuples(st.just(rho), value).map(list) for rho, _ in points]).map(list)
    )


def optional(**strategies):
    """A dictionary in which each key may be absent, so that defaults are drawn too."""
    return st.fixed_dictionaries({}, optional=strategies)


@st.composite
def cut(draw, grid):
    return {"cutoff": grid.radial_max * draw(edge), **draw(optional(floor=fraction, transition=fraction))}


@st.composite
def band(draw, grid):
    top = grid.radial_max
    low, high = draw(edges)
    return {"low": top * low, "high": top * high, **draw(optional(floor=fraction, transition=fraction))}


@st.composite
def two_bands(draw, grid):
    top = grid.radial_max
    (a_low, b_low), (a_high, b_high) = draw(edges), draw(edges)
    places = {"a_low": top * a_low, "b_low": top * b_low, "a_high": top * a_high, "b_high": top * b_high}
    return {**places, **draw(optional(gamma_low=fraction, gamma_high=st.floats(0, 3)))}


@st.composite
def notch(draw, grid):
    """Centres on and between the bins, of 1 to d frequencies each."""
    frequency = st.one_of(
        st.integers(-500, 500).map(lambda k: k / 1000), st.integers(-32, 32).map(lambda k: k / 64)
    )
    center = st.lists(frequency, min_size=1, max_size=grid.ndim)
    soft = optional(floor=fraction, transition=half_fraction, invert=st.booleans())
    return {
        "centers": draw(st.lists(center, min_size=1, max_size=3)),
        "radius": draw(st.one_of(st.just(0.001), st.integers(1, 32).map(lambda k: k / 64))),
        **draw(soft),
    }


@st.composite
def stripe(draw, grid):
    across = optional(width=fraction, floor=fraction, transition=half_fraction, invert=st.booleans())
    guard = draw(st.one_of(st.just(0), edge)) * grid.radial_max
    return {"axis": draw(st.integers(-grid.ndim, grid.ndim - 1)), "guard": guard, **draw(across)}


# Family -> strategy of valid options on a grid, whose units are those of the edges.
FAMILIES = {
    "white": lambda grid: st.just({}),
    "powerlaw": lambda grid: optional(alpha=st.floats(-16, 16), delta=st.floats(0.01, 1)),
    "exponential": lambda grid: optional(beta=st.floats(0, 64)),
    "lowpass": cut,
    "highpass": cut,
    "bandpass": band,
    "bandstop": band,
    "twoband": two_bands,
    "notch": notch,
    "stripe": stripe,
    "radial": lambda grid: st.fixed_dictionaries({"knots": knots()}),
    "matched": lambda grid: optional(kappa=st.floats(-4, 4), power=positive_knots()),
    "learned": lambda grid: optional(knots=positive_knots(), smoothness=fraction),
}


@st.composite
def filters(draw, shapes=shapes):
    """A family with valid options, and a shape."""
    shape = draw(shapes)
    unit = draw(st.sampled_from(["rho", "nyquist", "cycles"]))
    name = draw(st.sampled_from(sorted(FAMILIES)))
    options = draw(FAMILIES[name](FrequencyGrid(shape, unit)))
    return FilterConfig(type=name, options=options, normalize="none", units=unit), shape


def full_axes(shape):
    return np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")


def full_radius(shape):
    return np.sqrt(sum(f**2 for f in full_axes(shape)))


def torus_distance(center, shape):
    """Distance from `center` in cycles/sample on the full spectrum, which repeats with period 1."""
    apart = [np.abs(f - c) for f, c in zip(full_axes(shape), center, strict=True)]
    return np.sqrt(sum(np.minimum(a, np.abs(1 - a)) ** 2 for a in apart))


def half(full):
    return full[..., : full.shape[-1] // 2 + 1]


def formula(config, shape):
    """w of docs/theory.md, section 3, on the full spectrum, before normalisation."""
    o = config.options
    r, d = full_radius(shape), len(shape)
    rho = r / (np.sqrt(d) / 2)
    x = {"rho": rho, "nyquist": 2 * r, "cycles": r}[config.units]
    top = {"rho": 1, "nyquist": np.sqrt(d), "cycles": np.sqrt(d) / 2}[config.units]
    tiny = 1e-9 * top

    def inside(low, high):
        return ((x >= low - tiny) & ((x < high - tiny) | (high >= top - tiny))).astype(float)

    def rise(y, at):
        return (1 + np.sin(np.pi * np.clip((y - at) / o["transition"], -0.5, 0.5))) / 2

    def soft(low, high):
        if o["transition"] == 0:
            return inside(low, high)
        rising = rise(x, low) if low > 0 else np.ones(shape)
        return np.clip(rising - (rise(x, high) if high < top else 0), 0, 1)

    def within(distance, radius):
        return (distance <= radius + 1e-9) if o["transition"] == 0 else 1 - rise(distance, radius)

    def but(region):
        return o["floor"] + (1 - o["floor"]) * (region if o["invert"] else 1 - region)

    match config.type:
        case "white":
            return np.ones(shape)
        case "powerlaw":
            return (r + o["delta"]) ** o["alpha"]
        case "exponential":
            return np.exp(-o["beta"] * rho**2)
        case "lowpass":
            return o["floor"] + (1 - o["floor"]) * soft(0, o["cutoff"])
        case "highpass":
            return o["floor"] + (1 - o["floor"]) * soft(o["cutoff"], top)
        case "bandpass":
            return o["floor"] + (1 - o["floor"]) * soft(o["low"], o["high"])
        case "bandstop":
            return 1 - (1 - o["floor"]) * soft(o["low"], o["high"])
        case "twoband":
            low, high = inside(o["a_low"], o["b_low"]), inside(o["a_high"], o["b_high"])
            return o["gamma_low"] * low + o["gamma_high"] * high
        case "notch":
            discs = []
            for named in o["centers"]:
                center = np.array([0] * (d - len(named)) + list(named))
                distance = np.minimum(torus_distance(center, shape), torus_distance(-center, shape))
                discs.append(within(distance, max(o["radius"], distance.min())))
            return but(np.max(discs, axis=0))
        case "stripe":
            others = [
                np.abs(f) for k, f in enumerate(full_axes(shape)) if k not in (o["axis"], o["axis"] + d)
            ]
            across = np.max([np.zeros(shape), *others], axis=0)
            return but(within(across, o["width"] / 2) * soft(o["guard"], top))
        case "radial":
            at, w = np.array(o["knots"]).T
            return pchip_interpolate(at, w, np.clip(rho, at[0], at[-1])).clip(0)
        case "matched":
            at, power = np.array(o["power"]).T
            off_dc = at > 0
            first = at[off_dc][0]
            log_power = np.where(
                rho < first,
                np.interp(rho, at, np.log(power)),
                np.interp(np.log(np.maximum(rho, first)), np.log(at[off_dc]), np.log(power[off_dc])),
            )
            return (np.exp(log_power) / power.max()) ** (o["kappa"] / 2)
        case "learned":
            at, w = np.array(o["knots"]).T
            return np.interp(rho, at, w)


def build(config, shape, normalize="none"):
    """The filter, or None where the formula is zero or beyond float32, which must be refused."""
    w = formula(config, shape)
    config = config.model_copy(update={"normalize": normalize})
    if not np.any(w > 0) or w[w > 0].min() < 1e-30:
        with np.errstate(over="ignore"):
            try:
                config.weights(shape)
            except ConfigError:
                return None
        assert np.any(w > 0), "a filter that is zero everywhere was accepted"
        return None
    return config.weights(shape)


def dense(power):
    """The covariance matrix F^-1 diag(power) F, given `power` on the full spectrum."""
    n = power.size
    fields = np.eye(n).reshape(n, *power.shape)
    axes = tuple(range(1, fields.ndim))
    return np.fft.ifftn(power * np.fft.fftn(fields, axes=axes), axes=axes).real.reshape(n, n)


def test_every_built_in_family_is_covered():
    names = registry().names("filter")
    built_in = {n for n in names if registry().entry("filter", n).provider.module.startswith("sagd_plugins.")}
    assert built_in == set(FAMILIES)


@given(filters())
@laws
def test_raw_weight_is_the_formula(case):
    config, shape = case
    f = build(config, shape)
    if f is None:
        return
    np.testing.assert_allclose(f.weight, half(formula(config, shape)), rtol=1e-9, atol=1e-12)
    assert np.all(f.weight >= 0)
    assert np.all(np.isfinite(f.weight))


@given(filters())
@laws
def test_weight_is_symmetric(case):
    """A field filtered with the full spectrum of w stays real, and equals the one filtered on the half."""
    config, shape = case
    f = build(config, shape, "peak")
    if f is None:
        return
    x = np.random.default_rng(0).standard_normal(shape)
    raw = formula(config, shape)
    shaped = np.fft.ifftn(raw / raw.max() * np.fft.fftn(x))
    assert np.abs(shaped.imag).max() < 1e-12
    np.testing.assert_allclose(
        np.fft.irfftn(f.weight * np.fft.rfftn(x), s=shape, axes=range(len(shape))), shaped.real, atol=1e-8
    )


@given(filters())
@laws
def test_normalisations_are_exact_and_change_the_level_alone(case):
    config, shape = case
    raw, power, peak = (build(config, shape, n) for n in ("none", "power", "peak"))
    if raw is None:
        return
    full = formula(config, shape)
    assert power.power == pytest.approx(1, abs=1e-9)
    assert peak.weight.max() == 1
    assert raw.power == pytest.approx(np.mean(full**2), rel=1e-9)
    np.testing.assert_allclose(
        power.weight * np.sqrt(np.mean(full**2)), half(full), rtol=1e-8, atol=1e-9 * full.max()
    )
    np.testing.assert_array_equal(power.support, raw.support)
    assert power.condition == pytest.approx(peak.condition, rel=1e-9)
    assert power.band_shares == pytest.approx(raw.band_shares, abs=1e-9)


@given(filters(small_shapes))
@laws
def test_figures_are_those_of_the_dense_covariance(case):
    config, shape = case
    f = build(config, shape, "power")
    raw = formula(config, shape)
    if f is None or (raw[raw > 0].min() / raw.max()) < 1e-3:  # the dense matrix's own rounding
        return
    power = raw**2 / np.mean(raw**2)
    matrix, off_support = dense(power), dense((power == 0).astype(float))
    sign, logdet = np.linalg.slogdet(matrix + off_support)
    assert sign == 1
    assert f.logdet == pytest.approx(logdet, abs=1e-6)
    eigenvalues = np.linalg.eigvalsh(matrix)
    eigenvalues = eigenvalues[eigenvalues > 1e-9]
    assert f.rank == len(eigenvalues)
    assert f.condition == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-6)
    assert f.power == pytest.approx(np.trace(matrix) / len(matrix), rel=1e-9), "variance of one sample"


@given(filters())
@laws
def test_band_shares_sum_to_one_and_are_those_of_the_full_spectrum(case):
    config, shape = case
    f = build(config, shape, "power")
    if f is None:
        return
    assert sum(f.band_shares.values()) == pytest.approx(1, abs=1e-12)
    rho = full_radius(shape) / (np.sqrt(len(shape)) / 2) + 1e-10
    power = formula(config, shape) ** 2
    shares = [power[rho < 0.25].sum(), power[(rho >= 0.25) & (rho < 0.5)].sum(), power[rho >= 0.5].sum()]
    assert list(f.band_shares) == ["low", "mid", "high"]
    assert list(f.band_shares.values()) == pytest.approx(np.array(shares) / power.sum(), abs=1e-9)


@given(shapes, st.floats(-4, 4), st.integers(1, 40))
@laws
def test_profile_averages_the_formula_over_its_interval(shape, alpha, bins):
    f = FilterConfig(options={"alpha": alpha}, normalize="none").weights(shape)
    r_max = np.sqrt(len(shape)) / 2
    rho = np.minimum(full_radius(shape) / r_max, 1)
    index = np.minimum((rho * bins).astype(int), bins - 1)
    profile = f.profile(bins)
    assert len(profile) == len(np.unique(index))
    for (at, w), i in zip(profile, np.unique(index), strict=True):
        here = (rho[index == i] * r_max + 0.01) ** alpha
        assert at == pytest.approx(rho[index == i].mean(), rel=1e-9)
        assert w == pytest.approx(np.sqrt(np.mean(here**2)), rel=1e-9)


@pytest.mark.parametrize(("n", "alpha"), [(64, -0.5), (63, 0.7), (10, -2.0)])
def test_profile_of_a_line_lies_on_the_formula(n, alpha):
    f = FilterConfig(options={"alpha": alpha}, normalize="none").weights((n,))
    profile = np.array(f.profile(bins=4 * n))
    assert len(profile) == n // 2 + 1, "one interval a frequency"
    np.testing.assert_allclose(profile[:, 1], (profile[:, 0] / 2 + 0.01) ** alpha, rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.full((8, 5), -1.0), "negative"),
        (np.where(np.arange(40).reshape(8, 5) == 7, -1e-12, 1.0), "negative"),
        (np.full((8, 5), np.nan), "finite"),
        (np.full((8, 5), np.inf), "finite"),
        (np.ones((8, 8)), "shape"),
        (np.ones(40), "shape"),
        (np.zeros((8, 5)), "zero at every frequency"),
        (np.where(np.arange(40).reshape(8, 5) == 5, 2.0, 1.0), "symmetric"),
        (np.where(np.arange(40).reshape(8, 5) == 9, 2.0, 1.0), "symmetric"),
        (np.where(np.arange(40).reshape(8, 5) == 7, 1e-40, 1.0), "float32"),
    ],
)
@pytest.mark.parametrize("normalize", ["none", "power", "peak"])
def test_a_weight_that_is_no_filter_is_refused(weight, message, normalize):
    with pytest.raises(ConfigError, match=message):
        SpectralFilter.from_weight(FrequencyGrid((8, 8)), weight, normalize)


def test_a_weight_may_differ_between_a_bin_and_the_negative_of_one_axis():
    """w(f_y, f_x) = w(-f_y, -f_x) leaves w(f_y, f_x) and w(-f_y, f_x) free: oriented noise is allowed."""
    w = np.ones((8, 5))
    w[3, 2] = 2.0
    assert SpectralFilter.from_weight(FrequencyGrid((8, 8)), w).power == pytest.approx((62 + 2 * 4) / 64)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ConfigError, match="normalisation"):
        SpectralFilter.from_weight(FrequencyGrid((4,)), np.ones(3), "max")


def test_the_weight_cannot_be_changed_afterwards_nor_through_the_array_given():
    w = np.ones(3)
    f = SpectralFilter.from_weight(FrequencyGrid((4,)), w)
    w[0] = 5
    assert f.weight[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        f.weight[0] = 5


@pytest.mark.parametrize("name", ["lowpass", "highpass", "bandpass", "bandstop"])
def test_edges_are_half_open(name):
    """On a line of 64 samples bin k has rho k/32: an edge at 16/32 puts bin 16 above it."""
    options = {"cutoff": 0.5} if name in ("lowpass", "highpass") else {"low": 0.25, "high": 0.5}
    inside = {"lowpass": range(16), "highpass": range(16, 33), "bandpass": range(8, 16)}
    expected = inside.get(name, [*range(8), *range(16, 33)])
    f = FilterConfig(type=name, options=options).weights((64,))
    assert np.flatnonzero(f.weight).tolist() == list(expected)


@given(shapes, fraction, fraction, edge)
@laws
def test_low_and_high_pass_and_band_pass_and_stop_are_complements(shape, floor, transition, at):
    def weight(name, **options):
        options |= {"floor": floor, "transition": transition}
        try:
            return FilterConfig(type=name, options=options, normalize="none").weights(shape).weight
        except ConfigError:
            return 0.0

    np.testing.assert_allclose(
        weight("lowpass", cutoff=at) + weight("highpass", cutoff=at), 1 + floor, atol=1e-12
    )
    both = weight("bandpass", low=at / 2, high=at) + weight("bandstop", low=at / 2, high=at)
    np.testing.assert_allclose(both, 1 + floor, atol=1e-12)


@given(shapes, edge, st.floats(0.001, 1))
@laws
def test_a_raised_cosine_edge_is_monotone_and_sharp_beyond_its_width(shape, at, width):
    grid = FrequencyGrid(shape)
    order = np.argsort(grid.radial, axis=None)
    falling = window(0, at, grid, width).ravel()[order]
    assert np.all(np.diff(falling) <= 1e-15)
    far = np.abs(grid.radial - at) > width / 2 + 1e-9
    np.testing.assert_allclose(window(0, at, grid, width)[far], window(0, at, grid)[far], atol=1e-12)
    if at > 0.5:
        rising = window(at, 1, grid, width)
        assert np.all(np.diff(rising.ravel()[order]) >= -1e-15)
        np.testing.assert_allclose(rising[far], window(at, 1, grid)[far], atol=1e-12)


def test_a_raised_cosine_edge_is_one_half_at_the_edge():
    assert window(0.25, 0.75, FrequencyGrid((64,)), 0.125)[[8, 24]] == pytest.approx([0.5, 0.5])


@given(st.sampled_from(["lowpass", "highpass", "bandpass", "bandstop"]), st.floats(1e-3, 1), shapes)
@laws
def test_a_floor_keeps_full_support_and_is_the_least_weight(name, floor, shape):
    f = FilterConfig(type=name, options={"floor": floor}, normalize="none").weights(shape)
    assert f.rank == f.grid.size
    assert f.weight.min() >= floor * (1 - 1e-12)
    assert f.weight.max() <= 1


@given(fraction)
@laws
def test_the_two_gammas_sum_to_one_unless_both_are_given(gamma):
    assert FilterConfig(type="twoband", options={"gamma_low": gamma}).options["gamma_high"] == 1 - gamma
    both = FilterConfig(type="twoband", options={"gamma_low": gamma, "gamma_high": 0.25})
    assert both.options["gamma_high"] == 0.25
    f = FilterConfig(type="twoband", options={"gamma_low": gamma}, normalize="none").weights((16, 16))
    np.testing.assert_array_equal(f.weight, np.where(f.grid.rho < 0.5 - 1e-9, gamma, 1 - gamma))


@given(knots())
@laws
def test_a_radial_profile_passes_through_its_knots_without_overshoot(points):
    """On a line of 64 samples the bins are at rho = k/32, where the knots are."""
    at, w = np.array(points).T
    if not w.any():
        return
    f = FilterConfig(type="radial", options={"knots": points}, normalize="none").weights((64,))
    index = np.rint(at * 32).astype(int)
    np.testing.assert_allclose(f.weight[index], w, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(f.weight[: index[0]], w[0])
    np.testing.assert_array_equal(f.weight[index[-1] :], f.weight[index[-1]])
    for i, j, a, b in zip(index, index[1:], w, w[1:], strict=False):
        piece = f.weight[i : j + 1]
        assert np.all(np.diff(piece) * np.sign(b - a) >= -1e-12), "monotone between two knots"
        assert piece.min() >= min(a, b) - 1e-12
        assert piece.max() <= max(a, b) + 1e-12


def raw_weight(name, shape, units="rho", **options):
    return FilterConfig(type=name, options=options, normalize="none", units=units).weights(shape).weight


def test_a_center_with_fewer_frequencies_than_axes_names_the_last_axes():
    expected = raw_weight("notch", (16, 16), centers=[[0.0, 0.25]], radius=0.1)
    np.testing.assert_array_equal(raw_weight("notch", (16, 16), centers=[[0.25]], radius=0.1), expected)
    assert np.argwhere(raw_weight("notch", (16, 16), centers=[[0.25]], radius=0.01) == 0).tolist() == [[0, 4]]
    solid = raw_weight("notch", (8, 8, 8), centers=[[0.25, -0.125]], radius=0.01)
    assert np.argwhere(solid == 0).tolist() == [[0, 6, 1]], "(0, -f) is stored as the mirror of (0, f)"


def test_a_notch_reaches_around_the_corner_of_the_spectrum():
    """0.5 and -0.5 cycles/sample are one frequency: the disc about the corner of 16 x 16 holds 5 bins."""
    w = raw_weight("notch", (16, 16), centers=[[0.5, 0.5]], radius=1 / 16)
    assert np.argwhere(w == 0).tolist() == [[7, 8], [8, 7], [8, 8], [9, 8]]
    assert w.size - w.sum() == 4, "one of the five is the mirror of a stored bin"
    for corner in ([-0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]):
        np.testing.assert_array_equal(raw_weight("notch", (16, 16), centers=[corner], radius=1 / 16), w)


@given(shapes, fraction, st.data())
@laws
def test_an_inverse_is_the_complement_above_the_floor(shape, floor, data):
    grid = FrequencyGrid(shape)
    name = data.draw(st.sampled_from(["notch", "stripe"]))
    options = data.draw(FAMILIES[name](grid)) | {"floor": floor}

    def weight(invert):
        try:
            return raw_weight(name, shape, **options | {"invert": invert})
        except ConfigError:
            return 0.0

    np.testing.assert_allclose(weight(True) + weight(False), 1 + floor, atol=1e-12)


@given(shapes, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@laws
def test_the_smallest_notch_holds_the_nearest_frequency(shape, f_y, f_x):
    center = [f_y, f_x][-len(shape) :]
    f = FilterConfig(type="notch", options={"centers": [center], "radius": 1e-6, "invert": True}).weights(
        shape
    )
    distance = torus_distance([0] * (len(shape) - len(center)) + center, shape)
    nearest = half(distance <= distance.min() + 1e-12)
    assert f.rank >= 1
    assert np.all(f.support[nearest])


@given(shapes, positive_knots())
@laws
def test_matched_noise_has_the_spectrum_it_is_given_and_white_noise_at_kappa_zero(shape, power):
    """kappa = 1: S / w^2 is one figure; kappa k: w(k) = w(1)^k."""
    followed = raw_weight("matched", shape, power=power, kappa=1)
    np.testing.assert_array_equal(raw_weight("matched", shape, power=power, kappa=0), 1)
    for kappa in (-1, 0.5, 2):
        w = raw_weight("matched", shape, power=power, kappa=kappa)
        np.testing.assert_allclose(w, followed**kappa, rtol=1e-9)
    at, s = np.array(power).T
    on_knots = raw_weight("matched", (64,), power=power)[np.rint(at * 32).astype(int)]
    np.testing.assert_allclose(s / on_knots**2, s.max(), rtol=1e-9)


@pytest.mark.parametrize("beta", [0.5, 2.0, 3.0])
def test_two_pairs_of_a_power_law_give_the_power_law(beta):
    first = 1 / 32
    w = raw_weight("matched", (64,), power=[[first, 1.0], [1, first**beta]])
    rho = FrequencyGrid((64,)).rho[1:]
    np.testing.assert_allclose(w[1:], (rho / first) ** (-beta / 2), rtol=1e-12)
    assert w[0] == 1, "DC has the power of the first pair when none is given for it"


@given(positive_knots())
@laws
def test_a_learned_profile_is_linear_between_its_knots(points):
    at, w = np.array(points).T
    drawn = raw_weight("learned", (64,), knots=points)
    index = np.rint(at * 32).astype(int)
    np.testing.assert_allclose(drawn[index], w, rtol=1e-12)
    for i, j in pairwise(index):
        np.testing.assert_allclose(np.diff(drawn[i : j + 1], n=2), 0, atol=1e-12 * w.max())


@given(shapes, fraction, st.sampled_from(["nyquist", "cycles"]))
@laws
def test_the_guard_of_a_stripe_is_in_the_units_of_the_filter_and_its_width_is_not(shape, width, units):
    d = len(shape)
    guard = {"nyquist": np.sqrt(d), "cycles": np.sqrt(d) / 2}[units] * 0.3
    floor = {"width": width, "floor": 0.1}
    np.testing.assert_array_equal(
        raw_weight("stripe", shape, units, guard=guard, **floor),
        raw_weight("stripe", shape, guard=0.3, **floor),
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("powerlaw", {"alpha": 17}),
        ("powerlaw", {"delta": 0}),
        ("powerlaw", {"alpha": float("nan")}),
        ("exponential", {"beta": -1}),
        ("lowpass", {"floor": 1.5}),
        ("bandpass", {"transition": -0.1}),
        ("twoband", {"gamma_low": -0.1}),
        ("radial", {"knots": [[0, 1]]}),
        ("radial", {"knots": [[0.5, 1], [0.5, 2]]}),
        ("radial", {"knots": [[0, 1], [1.1, 2]]}),
        ("radial", {"knots": [[0, 1], [1, -2]]}),
        ("radial", {"knots": [[0.6, 1], [0.5, 2]]}),
        ("radial", {"knots": [[-0.1, 1], [1, 2]]}),
        ("radial", {"knots": [[0, 1], [1, float("inf")]]}),
        ("radial", {"knots": [[0, 1, 2], [1, 2, 3]]}),
        ("radial", {"knots": []}),
        *[
            (name, {key: knots})
            for name, key in [("matched", "power"), ("learned", "knots")]
            for knots in [
                [],
                [[0, 1]],
                [[0.6, 1], [0.5, 2]],
                [[0.5, 1], [0.5, 2]],
                [[-0.1, 1], [1, 1]],
                [[0, 1], [1.1, 1]],
                [[0, 1], [1, -1]],
                [[0, 0], [1, 1]],
                [[0, 1], [1, float("nan")]],
                [[0, 1], [1]],
            ]
        ],
        ("matched", {"kappa": 4.1}),
        ("matched", {"kappa": -4.1}),
        ("learned", {"smoothness": -1e-3}),
        ("notch", {"centers": []}),
        ("notch", {"centers": [[]]}),
        ("notch", {"centers": [[0.51]]}),
        ("notch", {"centers": [[0.1, 0.1], [0.1, -0.7]]}),
        ("notch", {"centers": [[0.1, 0.1, 0.1, 0.1]]}),
        ("notch", {"centers": [[float("nan"), 0.1]]}),
        ("notch", {"centers": [0.1, 0.1]}),
        ("notch", {"radius": 0}),
        ("notch", {"radius": -0.1}),
        ("notch", {"radius": 0.6}),
        ("notch", {"floor": 1.1}),
        ("notch", {"transition": -0.1}),
        ("notch", {"invert": "perhaps"}),
        ("stripe", {"axis": 3}),
        ("stripe", {"axis": -4}),
        ("stripe", {"axis": 0.5}),
        ("stripe", {"width": -0.01}),
        ("stripe", {"width": 1.01}),
        ("stripe", {"guard": -0.1}),
        ("stripe", {"floor": -0.1}),
        ("stripe", {"transition": 0.6}),
        ("white", {"alpha": 1}),
    ],
)
def test_options_outside_their_range_are_refused(name, options):
    with pytest.raises(ConfigError, match=name):
        FilterConfig(type=name, options=options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bandpass", {"low": 0.5, "high": 0.25}),
        ("bandpass", {"low": 0.01, "high": 0.02}),
        ("lowpass", {"cutoff": 1.2}),
        ("highpass", {"cutoff": 1.0}),
        ("twoband", {"gamma_low": 0, "gamma_high": 0}),
        ("radial", {"knots": [[0, 0], [1, 0]]}),
        ("powerlaw", {"alpha": -16, "delta": 1e-3}),
        ("notch", {"centers": [[0, 0], [0, 0.5], [0.5, 0], [0.5, 0.5]], "radius": 0.5}),
        ("notch", {"centers": [[0.1, 0.1, 0.1]]}),
        ("stripe", {"axis": 2}),
        ("stripe", {"axis": -3}),
        ("stripe", {"width": 1, "guard": 0}),
        ("stripe", {"guard": 1}),
        ("matched", {"power": [[0, 1], [1, 1e-25]], "kappa": 4}),
    ],
)
def test_a_filter_that_leaves_no_noise_or_no_float32_is_refused(name, options):
    with pytest.raises(ConfigError):
        FilterConfig(type=name, options=options).weights((8, 8))
