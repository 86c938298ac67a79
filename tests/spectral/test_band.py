"""Bands as text: each form reads as the part it names, is written so that it reads back, or is refused."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import KINDS, Band, Notch, PartKind, Ring, Stripe, band_forms
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import indicator

laws = settings(deadline=None, derandomize=True, max_examples=60)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
images = st.tuples(st.integers(2, 24), st.integers(2, 24))

rings = st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(lambda e: Ring(*sorted(e)))
frequency = st.floats(-0.5, 0.5)
notches = st.builds(
    Notch,
    st.lists(frequency, min_size=1, max_size=3).map(tuple),
    st.floats(0, 0.5, exclude_min=True),
)
flat_notches = st.builds(Notch, st.tuples(frequency, frequency), st.floats(0.001, 0.5))
angles = st.integers(-360, 360).map(lambda k: k / 2)
wedges = st.tuples(angles, st.integers(0, 90)).map(
    lambda a: f"{min(a[0], 90.0)!r}:{min(a[0], 90.0) + a[1]!r}"
)
slanted = st.one_of(angles.map(repr), wedges).map(lambda text: text.replace(".0", ""))
directions = st.one_of(
    st.sampled_from(["horizontal", "vertical"]), slanted.filter(lambda text: Stripe(text).axis is None)
)
stripes = st.builds(Stripe, directions, st.floats(0, 0.5), st.floats(0, 0.4), st.floats(0.5, 1))


def mask_or_nothing(band, shape):
    try:
        return band.mask(FrequencyGrid(shape))
    except ConfigError:
        return np.zeros(FrequencyGrid(shape).half_shape, bool)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("low", [Ring(0, 0.25)]),
        ("high", [Ring(0.5, 1)]),
        ("0.125:0.5", [Ring(0.125, 0.5)]),
        (".5:1", [Ring(0.5, 1)]),
        ("notch:0.25,0.1,0.01", [Notch((0.25, 0.1), 0.01)]),
        ("notch:-0.25,-0.5,0.01", [Notch((-0.25, -0.5), 0.01)]),
        ("notch:0,0.5,5e-3", [Notch((0, 0.5), 0.005)]),
        ("notch:0.25,0.01", [Notch((0.25,), 0.01)]),
        ("notch:0.1,0.2,0.3,0.01", [Notch((0.1, 0.2, 0.3), 0.01)]),
        ("stripe:horizontal", [Stripe("horizontal", 0.01)]),
        ("stripe:vertical,0.03", [Stripe("vertical", 0.03)]),
        ("stripe:vertical,0", [Stripe("vertical", 0)]),
        ("stripe:20.0", [Stripe("20")]),
        ("stripe:-5:12.5,0.02,0", [Stripe("-5:12.5", 0.02, 0)]),
        ("stripe:90,0.02,0.1,0.4", [Stripe("vertical", 0.02, 0.1, 0.4)]),
        ("stripe:0,0,0", [Stripe("horizontal", 0, 0)]),
        ("stripe:-180+stripe:180:180", [Stripe("horizontal"), Stripe("horizontal")]),
        ("stripe:-90:-90", [Stripe("vertical")]),
        ("  mid ", [Ring(0.25, 0.5)]),
        (" 0.1 : 0.2 ", [Ring(0.1, 0.2)]),
        ("notch: 0.25, -0.1 , 0.01", [Notch((0.25, -0.1), 0.01)]),
        ("notch : 0.25,0.1,0.01", [Notch((0.25, 0.1), 0.01)]),
        ("stripe: horizontal , 0.02", [Stripe("horizontal", 0.02)]),
        ("low+high", [Ring(0, 0.25), Ring(0.5, 1)]),
        (
            "0:0.1 + notch:-0.25,0.1,0.01+ stripe:vertical",
            [Ring(0, 0.1), Notch((-0.25, 0.1), 0.01), Stripe("vertical", 0.01)],
        ),
    ],
)
def test_a_band_reads_as_the_parts_it_names(text, parts):
    assert Band.parse(text) == Band(tuple(parts))


def test_the_forms_are_those_of_the_table():
    stripe = "stripe:horizontal|vertical|ANGLE[,WIDTH[,FROM[,TO]]]"
    assert band_forms() == f"low, mid, high, LO:HI in rho, notch:FY,FX,RADIUS, {stripe}"
    with pytest.raises(ConfigError) as refused:
        Band.parse("lov")
    assert (
        "LO:HI in rho, notch:FY,FX,RADIUS or stripe:horizontal|vertical|ANGLE[,WIDTH[,FROM[,TO]]]"
        in refused.value.hint
    )


class Everything:
    """A part of a kind that a test adds: all frequencies."""

    is_radial = True
    is_thin = False

    def mask(self, grid):
        return np.ones(grid.half_shape, bool)

    def __str__(self):
        return "all:"


def test_a_kind_of_band_is_one_row_of_the_table(monkeypatch):
    monkeypatch.setitem(KINDS, "all", PartKind("all:", lambda text, rest: Everything()))
    band = Band.parse("notch:0.25,0.1,0.01+all:")
    assert isinstance(band.parts[1], Everything) and str(band) == "notch:0.25,0.1,0.01+all:"
    assert band.mask(FrequencyGrid((4, 4))).all()
    assert band_forms().endswith("stripe:horizontal|vertical|ANGLE[,WIDTH[,FROM[,TO]]], all:")
    with pytest.raises(ConfigError) as refused:
        Band.parse("al")
    assert refused.value.hint.endswith("stripe:horizontal|vertical|ANGLE[,WIDTH[,FROM[,TO]]] or all:.")


def test_a_misspelt_kind_is_named():
    with pytest.raises(ConfigError, match="unknown kind of band 'stripes'") as refused:
        Band.parse("0:0.1+stripes:horizontal")
    assert refused.value.hint == "Did you mean stripe?"


def test_rings_alone_are_radial():
    band = Band.parse("low+notch:0.25,0.1,0.01+stripe:vertical+0.6:0.7")
    assert [part.is_radial for part in band.parts] == [True, False, False, True]
    assert band.rings == (Ring(0, 0.25), Ring(0.6, 0.7))


@given(st.lists(st.one_of(rings, notches, stripes), min_size=1, max_size=4).map(tuple))
@laws
def test_a_band_reads_back_to_the_last_digit_as_it_is_written(parts):
    assert Band.parse(str(Band(parts))) == Band(parts)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("low", "0:0.25"),
        ("high + mid", "0.5:1+0.25:0.5"),
        ("notch:-.25,0.10,1e-2", "notch:-0.25,0.1,0.01"),
        ("stripe:vertical", "stripe:vertical,0.01"),
        ("0.123456789:1", "0.123456789:1"),
    ],
)
def test_a_band_is_written_in_its_shortest_form(text, written):
    assert str(Band.parse(text)) == written


def test_numbers_from_numpy_are_written_as_any_other():
    parts = (
        Ring(np.float64(0), np.float64(0.5)),
        Notch((np.float64(0.25), np.float64(-0.1)), np.float64(0.01)),
    )
    assert str(Band(parts)) == "0:0.5+notch:0.25,-0.1,0.01"


MALFORMED = [
    *["", " ", "+", "low+", "+low", "low++high", "lo", "LOW", "auto", "0.5", "low,high", "low high"],
    *["0.5:0.5", "0.7:0.2", "-0.1:0.5", "0.5:1.1", "a:b", "nan:1", "0:nan", "0:inf", ":", "0.5:", ":0.5"],
    *["0:0.5:1", "0.1,0.2:0.3", "low:high"],
    *["notch", "notch:", "notch:0.1", "notch:a,b,c", "notch:0.1,0.1,", "notch:,0.1,0.1", "notch:0.1 0.1 0.1"],
    *["notch:0.51,0,0.01", "notch:0,-0.6,0.01", "notch:0.1,0.1,0", "notch:0.1,0.1,-0.01"],
    *["notch:0.1,0.1,0.51", "notch:nan,0.1,0.01", "notch:0.1,inf,0.01", "notch:0.1,0.1,nan"],
    *["notch:0.1,0.1,0.1,0.1,0.01", "notch:0.1:0.1:0.01", "notches:0.1,0.1,0.01", "notch=0.1,0.1,0.01"],
    *[
        "stripe",
        "stripe:",
        "stripe:181",
        "stripe:20:10",
        "stripe:0:91",
        "stripe:1:2:3",
        "stripe:nan",
        "stripe:diagonal",
        "stripe:Horizontal",
        "stripe:horizontal,",
    ],
    *["stripe:horizontal,wide", "stripe:horizontal,-0.01", "stripe:vertical,0.51", "stripe:vertical,nan"],
    *[
        "stripe:vertical,0.1,0.1,0.1",
        "stripe:vertical,0.1,0.1,1.1",
        "stripe:20,0,0,1,1",
        "stripe:horizontal:0.1",
        "stripe,horizontal",
        "low+notch:1,1,1",
    ],
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_band_that_is_not_one_is_refused_in_one_sentence_with_a_hint_or_a_range(text):
    with pytest.raises(ConfigError) as refused:
        Band.parse(text)
    message, hint = refused.value.message, refused.value.hint
    assert message
    assert "\n" not in message
    assert ". " not in message
    assert not message.endswith(".")
    assert hint or "at most" in message or "from" in message


@given(shapes, st.sampled_from(["nyquist", "cycles"]), st.one_of(rings, notches, stripes))
@laws
def test_a_band_is_the_same_whatever_the_units_of_the_grid(shape, unit, part):
    try:
        expected = Band((part,)).mask(FrequencyGrid(shape))
    except ConfigError:
        return
    np.testing.assert_array_equal(Band((part,)).mask(FrequencyGrid(shape, unit)), expected)


@given(images, st.lists(st.one_of(rings, flat_notches, stripes), min_size=1, max_size=3).map(tuple))
@laws
def test_a_mask_is_symmetric_and_a_union_holds_what_its_parts_hold(shape, parts):
    grid = FrequencyGrid(shape)
    masks = [mask_or_nothing(Band((part,)), shape) for part in parts]
    union = mask_or_nothing(Band(parts), shape)
    np.testing.assert_array_equal(union, np.any(masks, axis=0))
    assert union.dtype == bool
    assert grid.is_symmetric(union.astype(float))


@given(shapes)
@laws
def test_the_named_bands_cover_the_spectrum(shape):
    np.testing.assert_array_equal(Band.parse("low+mid+high").mask(FrequencyGrid(shape)), True)
    total = sum(mask_or_nothing(Band.parse(name), shape).astype(int) for name in ("low", "mid", "high"))
    np.testing.assert_array_equal(total, 1)


@given(shapes, st.integers(0, 63))
@laws
def test_a_ring_is_the_half_open_band_in_rho(shape, low):
    grid = FrequencyGrid(shape)
    np.testing.assert_array_equal(
        mask_or_nothing(Band((Ring(low / 64, 1),)), shape), indicator(low / 64, 1, grid)
    )


@given(images, st.tuples(frequency, frequency), st.floats(0, 0.3, exclude_min=True))
@laws
def test_a_notch_holds_the_frequency_nearest_to_its_center_and_to_its_mirror(shape, center, radius):
    full = FrequencyGrid(shape).full(Notch(center, radius).mask(FrequencyGrid(shape)).astype(float))
    for sign in (1, -1):
        nearest = tuple(round(sign * f * n) % n for f, n in zip(center, shape, strict=True))
        assert full[nearest] == 1


@pytest.mark.parametrize("radius", ["1e-9", "0.001", "0.01"])
def test_a_tiny_notch_holds_one_frequency_and_its_mirror(radius):
    full = FrequencyGrid((64, 48)).full(
        Band.parse(f"notch:0.26,-0.11,{radius}").mask(FrequencyGrid((64, 48))).astype(float)
    )
    assert np.argwhere(full).tolist() == [[17, 43], [47, 5]], "17/64 = 0.266, -5/48 = -0.104"


def test_a_notch_at_the_corner_reaches_around_it():
    full = FrequencyGrid((16, 16)).full(
        Band.parse("notch:-0.5,0.5,0.0625").mask(FrequencyGrid((16, 16))).astype(float)
    )
    assert np.argwhere(full).tolist() == [[7, 8], [8, 7], [8, 8], [8, 9], [9, 8]]


@given(images, st.sampled_from(["horizontal", "vertical"]), st.integers(0, 500).map(lambda k: k / 1000))
@example((100, 80), "horizontal", 0.01)  # has frequencies just below and just above the guard
@laws
def test_stripes_lie_across_their_direction_beyond_rho_of_a_twentieth(shape, direction, width):
    """Horizontal stripes are constant along x: f_x is about 0."""
    f_y, f_x = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
    across = np.abs({"horizontal": f_x, "vertical": f_y}[direction])
    expected = (across <= width / 2 + 1e-9) & (np.hypot(f_y, f_x) * np.sqrt(2) >= 0.05 - 1e-9)
    grid = FrequencyGrid(shape)
    drawn = mask_or_nothing(Band((Stripe(direction, width),)), shape)
    np.testing.assert_array_equal(grid.full(drawn.astype(float)), expected)


def lines(angle, shape=(96, 128), seed=0):
    """Lines that run at an angle as seen, counter-clockwise from horizontal ones: / for 45."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    place = -rows * np.cos(np.radians(angle)) - columns * np.sin(np.radians(angle))
    random = np.random.default_rng(seed)
    waves = [np.cos(2 * np.pi * (f * place + random.uniform())) for f in random.uniform(0.1, 0.45, 20)]
    return sum(waves) * np.outer(np.hanning(shape[0]), np.hanning(shape[1]))


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 110, 135, 170, -20])
def test_lines_have_their_power_in_the_strip_of_their_angle(angle):
    image = lines(angle)
    grid = FrequencyGrid(image.shape)
    power = np.abs(np.fft.rfft2(image)) ** 2
    for text, share in ((f"{angle}", 0.98), (f"{angle - 4}:{angle + 4}", 0.98)):
        inside = Stripe(text, 5 / 96).mask(grid)
        assert grid.total(power * inside) > share * grid.total(power), text
        assert grid.mean(inside) < 0.15
    assert grid.total(
        power * Stripe(f"{angle + 40 if angle < 100 else angle - 40}", 5 / 96).mask(grid)
    ) < 0.1 * grid.total(power)


@given(images, st.integers(0, 90), st.integers(0, 30), st.floats(0, 0.2))
@example((16, 24), 45, 0, 0.0)
@laws
def test_a_turned_or_mirrored_picture_has_the_turned_or_mirrored_strip(shape, angle, spread, width):
    def full(shape, low, high):
        grid = FrequencyGrid(shape)
        return grid.full(Stripe(f"{low}:{high}", width, 0.0).mask(grid).astype(float))

    upright = full(shape, angle, angle + spread)
    turned = full(shape[::-1], angle - 90, angle + spread - 90)
    mirrored = full(shape, -angle - spread, -angle)
    rows, columns = (-np.arange(n) % n for n in shape)
    np.testing.assert_array_equal(mirrored, upright[rows])
    np.testing.assert_array_equal(turned, upright[:, columns].T)


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_the_thinnest_strip_has_no_gap_and_a_strip_of_two_equal_angles_is_that_of_one(angle):
    grid = FrequencyGrid((40, 64))
    thin = Stripe(f"{angle}", 0.0, 0.0).mask(grid)
    assert np.array_equal(thin, Stripe(f"{angle}:{angle}", 0.0, 0.0).mask(grid))
    full = np.fft.fftshift(grid.full(thin.astype(float)))
    steep = abs(np.cos(np.radians(angle))) / 64 > abs(np.sin(np.radians(angle))) / 40
    assert (full.sum(axis=1 if steep else 0) > 0).mean() > 0.7
    assert thin.sum() <= 2.2 * max(grid.shape)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_fast_stripes_have_their_power_in_the_band_of_their_name(direction):
    """Every second line is brighter: f = 1/2 along the axis on which the lines are stacked."""
    lines = np.broadcast_to((np.arange(64) % 2)[:, None], (64, 64))
    image = lines if direction == "horizontal" else lines.T
    power = np.abs(np.fft.rfftn(image - image.mean())) ** 2
    grid = FrequencyGrid((64, 64))
    inside = Band.parse(f"stripe:{direction}").mask(grid)
    assert grid.total(power * inside) == pytest.approx(grid.total(power), rel=1e-9)


@pytest.mark.parametrize("text", ["0.01:0.02", "stripe:horizontal,0"])
def test_a_band_without_frequencies_is_refused(text):
    shape = (8, 8) if text == "0.01:0.02" else (1, 8)
    with pytest.raises(ConfigError, match="no frequency"):
        Band.parse(text).mask(FrequencyGrid(shape))


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("notch:0.1,0.1,0.01", (64,), "frequencies and a radius, for a field"),
        ("notch:0.1,0.1,0.1,0.01", (8, 8), "frequencies and a radius, for a field"),
        ("stripe:horizontal", (64,), "need an image"),
        ("stripe:vertical", (8, 8, 8), "need an image"),
        ("low+stripe:vertical", (64,), "need an image"),
    ],
)
def test_a_part_that_does_not_fit_the_field_is_refused(text, shape, message):
    with pytest.raises(ConfigError, match=message):
        Band.parse(text).mask(FrequencyGrid(shape))


@pytest.mark.parametrize("kind", [Band, NoiseSpectrum])
def test_messages_show_the_first_of_many_parts(kind):
    parts = [f"{(10 + k) / 500:g}:0.9" for k in range(160)]
    assert kind.parse("+".join(parts[:4])).shown == "+".join(parts[:4])
    assert kind.parse("+".join(parts)).shown == "+".join(parts[:4]) + " and 156 more"
