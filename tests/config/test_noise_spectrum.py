"""Noise as text: what each part names, the power of sums, and what is refused."""

import io
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.config.arguments import parse_filter
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.config.noise_text import path_text
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.spectral.band import Band, Notch, Ring, Stripe
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.spectral.spectrum import power_spectrum

GRID = FrequencyGrid((24, 32))


@dataclass(frozen=True)
class Measured:
    path: str

    def power(self, grid):
        return np.full(grid.half_shape, 4.0)

    def __str__(self):
        return f"from:{path_text(self.path)}"


def band(text):
    return Band.parse(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("high", [(band("high"), None)]),
        ("0.3:0.6:level=0.1", [(band("0.3:0.6"), 0.1)]),
        ("notch:0.1,-0.2,0.03:level=inf", [(band("notch:0.1,-0.2,0.03"), math.inf)]),
        ("stripe:horizontal,0:level=1", [(band("stripe:horizontal,0"), 1)]),
        ("stripe:vertical,level=1", [(band("stripe:vertical"), 1)]),
        ("high:level=0.5+white:level=0.05", [(band("high"), 0.5), (parse_filter("white"), 0.05)]),
        ("powerlaw:alpha=-1,level=0.2", [(parse_filter("powerlaw:alpha=-1"), 0.2)]),
        ("powerlaw:level=0.2,alpha=+1", [(parse_filter("powerlaw:alpha=1"), 0.2)]),
        ("powerlaw:alpha=1:level=1e+3 + low", [(parse_filter("powerlaw:alpha=1"), 1e3), (band("low"), None)]),
        ("stripe:axis=1,invert=true", [(parse_filter("stripe:axis=1,invert=true"), None)]),
        ("notch:centers=[[0.1,0.2]],level=2", [(parse_filter("notch:centers=[[0.1,0.2]]"), 2)]),
        ("(low+high):level=2", [(band("low+high"), 2)]),
        (
            '{"type": "white", "normalize": "none"}:level=2',
            [(FilterConfig(type="white", normalize="none"), 2)],
        ),
        ('from:"dark+low.tif":level=2+low', [(Measured("dark+low.tif"), 2), (band("low"), None)]),
        ("from:a.tif+from:b.tif", [(Measured("a.tif"), 1), (Measured("b.tif"), 1)]),
    ],
)
def test_a_text_is_the_sum_of_what_its_parts_name(text, parts):
    noise = NoiseSpectrum.parse(text, Measured)
    assert noise.parts == tuple(NoisePart(*part) for part in parts)
    assert NoiseSpectrum.parse(str(noise), Measured) == noise


def test_a_filter_file_is_read_and_written_out(tmp_path, monkeypatch):
    document = "type: bandpass\noptions: {low: 0.1}\nunits: cycles\nomit: low+high\n"
    (tmp_path / "a+b.yaml").write_text(document)
    monkeypatch.setattr("sys.stdin", io.StringIO(document))
    monkeypatch.chdir(tmp_path)
    noise = NoiseSpectrum.parse('"a+b.yaml":level=0.1+-')
    config = FilterConfig(type="bandpass", options={"low": 0.1}, units="cycles", omit="low+high")
    assert noise.parts == (NoisePart(config, 0.1), NoisePart(config))
    assert NoiseSpectrum.parse(str(noise)) == noise


bands = st.one_of(
    st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(lambda edges: Ring(*sorted(edges))),
    st.builds(
        Notch,
        st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
        st.floats(0, 0.5, exclude_min=True),
    ),
    st.builds(Stripe, st.sampled_from(["horizontal", "vertical"]), st.floats(0, 0.5)),
)
filters = st.one_of(
    st.builds(
        lambda alpha, normalize: FilterConfig(options={"alpha": alpha}, normalize=normalize),
        st.floats(-16, 16),
        st.sampled_from(["power", "none", "peak"]),
    ),
    st.builds(lambda a: FilterConfig(type="notch", options={"centers": [[a, -a]]}), st.floats(-0.5, 0.5)),
    st.just(FilterConfig(type="stripe")),
)
sources = st.one_of(st.lists(bands, min_size=1, max_size=3).map(lambda parts: Band(tuple(parts))), filters)
levels = st.none() | st.floats(0, 1e6) | st.just(math.inf)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.builds(NoisePart, sources, levels), min_size=1, max_size=3))
def test_the_text_of_noise_reads_back_as_the_same_noise(parts):
    noise = NoiseSpectrum(tuple(parts))
    assert NoiseSpectrum.parse(str(noise)) == noise


@pytest.mark.parametrize(
    "text",
    [
        "high:level=0.5+white:level=0.1",
        "powerlaw:alpha=-1,level=0.2+stripe:horizontal,0:level=1",
        "notch:0.25,0.125,0.05:level=2",
        "bandpass:low=0.2,high=0.6,floor=0.1,level=0.3",
    ],
)
def test_drawn_noise_has_the_stated_power_at_every_frequency(text):
    noise, count = NoiseSpectrum.parse(text), 600
    total = np.zeros((count, *GRID.shape))
    for seed, part in enumerate(noise.parts):
        weight = part.level * np.sqrt(part.unit(GRID))
        shaped = SpectralNoise(SpectralFilter.from_weight(GRID, weight))
        total += shaped.draw((count, 1, *GRID.shape), random_stream("cpu", seed)).numpy()[:, 0]
    found, stated = power_spectrum(total, GRID), noise.power(GRID)
    # A periodogram is exponential, or chi-squared of one degree where its bin is real.
    error = stated * math.sqrt(2 / count)
    assert np.all(np.abs(found - stated) <= 5 * error + 1e-9)


def test_the_level_of_a_filter_is_the_rms_of_its_noise_and_that_of_a_band_its_amplitude():
    pink = NoiseSpectrum.parse("powerlaw:alpha=-1,level=0.2").power(GRID)
    assert GRID.mean(pink) == pytest.approx(0.04)
    ring = NoiseSpectrum.of_band(band("high"), 0.5).power(GRID)
    np.testing.assert_array_equal(ring, 0.25 * band("high").mask(GRID))


def test_powers_add_and_pieces_in_parentheses_count_once():
    low, white = NoiseSpectrum.parse("0:0.5:level=3"), NoiseSpectrum.parse("white:level=4")
    both = NoiseSpectrum.parse("0:0.5:level=3+white:level=4")
    np.testing.assert_array_equal(both.power(GRID), low.power(GRID) + white.power(GRID))
    np.testing.assert_array_equal(both.units(GRID)[1], 1)
    assert NoiseSpectrum.parse("0:0.5+0.25:1").with_default(1).power(GRID).max() == 2
    once = NoiseSpectrum.parse("(0:0.5+0.25:1)").with_default(1)
    assert once.power(GRID).max() == 1
    assert once.band == band("0:0.5+0.25:1") == NoiseSpectrum.parse("0:0.5+0.25:1").band
    assert both.band is None


def test_levels_are_told_together_or_where_there_is_none():
    noise = NoiseSpectrum.parse("low:level=1+white")
    assert [part.level for part in noise.with_default(2).parts] == [1, 2]
    assert [part.level for part in noise.with_levels([None, 3]).parts] == [None, 3]
    with pytest.raises(ValueError, match="shorter"):
        noise.with_levels([1])


def test_a_lost_part_is_infinite_where_it_has_weight_but_at_dc():
    noise = NoiseSpectrum.parse("low:level=inf+white:level=0.5").power(GRID)
    inside = band("low").mask(GRID)
    assert noise[0, 0] == 0.25
    inside[0, 0] = False
    assert np.isinf(noise[inside]).all()
    np.testing.assert_array_equal(noise[~inside], 0.25)


def test_measured_noise_is_what_is_measured_times_its_level():
    noise = NoiseSpectrum.parse("from:dark.tif:level=0.5", Measured)
    np.testing.assert_array_equal(noise.power(GRID), 1)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "unknown noise ''", "Known: "),
        ("white+", "unknown noise ''", "A part of the noise is"),
        ("hihg+white", "unknown noise 'hihg'", "high"),
        ("white+powerlow:alpha=1", "unknown noise 'powerlow:alpha=1'", "powerlaw"),
        ("high+powerlaw:alfa=1", "'powerlaw:alfa=1': filter powerlaw: unknown key 'alfa'", "alpha"),
        ("notch", "unknown band 'notch'", "notch:FY,FX,RADIUS"),
        ("stripe:diagonal", "'stripe:diagonal' have no direction", "horizontal"),
        ("0.6:0.3:level=1", "'0.6:0.3:level=1': the band 0.6 to 0.3 is reversed", ""),
        ("high:level=x", "level of the noise 'high:level=x' is not a number", "For example"),
        ("high:level=1:level=2", "'high:level=1:level=2' gives its level twice", ""),
        ("high:level=-1", "strength must be from 1e-06 to 1e+06, or inf, not -1", "inf says"),
        ("white:level=nan", "not nan", ""),
        ("white:level=1e300", "not 1e+300", ""),
        ("missing.yaml", "cannot read missing.yaml", ""),
        ("{type: wite}", "wite", "white"),
        ("from:dark.tif", "unknown noise 'from:dark.tif'", ""),
        ('white+"a.yaml', "not a name in double quotes", "a+b.tif"),
    ],
)
def test_text_that_names_no_noise_is_refused_and_the_part_named(text, words, hint):
    with pytest.raises(UsageError) as refused:
        NoiseSpectrum.parse(text)
    assert words in refused.value.message and hint in refused.value.hint


def test_an_image_is_no_filter_file(tmp_path):
    (tmp_path / "dark.tif").write_bytes(b"II*\0")
    with pytest.raises(ConfigError, match="not a filter file") as refused:
        NoiseSpectrum.parse(str(tmp_path / "dark.tif"))
    assert f"from:{tmp_path}/dark.tif" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("high", "has no level"),
        ("high:level=0+white:level=0", "no power"),
        ("0.001:0.002:level=1", "holds no frequency"),
        ("white:level=inf", "leaves no frequency"),
        ("low:level=inf+powerlaw:level=inf", "leaves no frequency"),
        ("0:0.001:level=inf", "no power"),
    ],
)
def test_power_without_levels_or_signal_is_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        NoiseSpectrum.parse(text).power(GRID)
