"""The noise that corruption adds: what it is a function of, and where in the spectrum it lies."""

import numpy as np
import pytest
import tifffile

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.corruption import Corruption
from sagd_cli.damage.measured_noise import measured_noise
from sagd_cli.data.images import read_image, write_array
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import band_noise, random_stream
from sagd_cli.spectral.spectrum import power_spectrum

MID = Band.parse("mid")


def in_mid(strength, seed=0):
    return Corruption(NoiseSpectrum.of_band(MID, strength), seed)


def test_the_noise_is_a_function_of_the_seed_and_the_key():
    noise = in_mid(0.5, 1).noise((3, 16, 20), "a.png")
    np.testing.assert_array_equal(noise, in_mid(0.5, 1).noise((3, 16, 20), "a.png"), strict=True)
    assert noise.dtype == np.float32
    for other in (
        in_mid(0.5, 2).noise(noise.shape, "a.png"),
        in_mid(0.5, 1).noise(noise.shape, 0),
    ):
        assert not np.array_equal(noise, other)


def test_the_noise_has_its_strength_in_its_band_and_nothing_outside():
    grid = FrequencyGrid((32, 24))
    noise = np.stack([in_mid(0.5).noise((1, 32, 24), key) for key in range(400)])
    power = power_spectrum(noise[:, 0], grid)
    inside = MID.mask(grid)
    assert np.mean(power[inside]) == pytest.approx(0.25, rel=0.02) and power[~inside].max() < 1e-10
    double = in_mid(1.0).noise((1, 32, 24), 0)
    np.testing.assert_allclose(double, 2 * noise[0], rtol=1e-6)


@pytest.mark.parametrize(("strength", "shape"), [(0.5, (1, 16, 20)), (0.3, (3, 9, 7)), (1e-3 / 3, (1, 64))])
@pytest.mark.parametrize("band", ["high", "0:1", "low+0.1:0.6"])
def test_the_noise_of_a_band_is_bit_for_bit_the_strength_times_that_of_a_mask(strength, shape, band):
    noise = Corruption(NoiseSpectrum.of_band(Band.parse(band), strength), seed=3).noise(shape, "a.png")
    unit = band_noise(Band.parse(band), shape[1:]).draw(
        (1, *shape), random_stream("cpu", 3, "corrupt", "a.png")
    )
    np.testing.assert_array_equal(noise, strength * unit[0].numpy(), strict=True)


def test_the_noise_of_a_sum_has_the_power_of_the_sum():
    grid, spectrum = (
        FrequencyGrid((24, 16)),
        NoiseSpectrum.parse("high:level=0.5+powerlaw:alpha=-1,level=0.2"),
    )
    noise = np.stack([Corruption(spectrum).noise((1, 24, 16), key)[0] for key in range(500)])
    ratio = power_spectrum(noise, grid) / spectrum.power(grid)
    # A periodogram is exponential, or chi-squared of one degree where its bin is real.
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / 500)


def test_what_is_said_of_a_band_and_of_other_noise():
    assert in_mid(0.5).document() == {"band": "0.25:0.5", "strength": 0.5, "noise": "0.25:0.5:level=0.5"}
    text = "0.25:0.5:level=0.5+white:level=0.1"
    said = Corruption(NoiseSpectrum.parse(text)).document()
    assert said == {"band": None, "strength": None, "noise": text}


@pytest.mark.parametrize("strength", [0.0, -1.0, 1e-300, float("inf"), float("nan")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(UsageError, match=r"strength must be from|is lost"):
        in_mid(strength)


def test_noise_without_a_strength_is_refused():
    with pytest.raises(UsageError, match="the noise white has no strength"):
        Corruption(NoiseSpectrum.parse("high:level=1+white"))


def test_the_command_takes_sums_files_and_measured_noise(sagd, tmp_path):
    for folder, shape in (("in", (24, 32)), ("dark", (48, 64))):
        (tmp_path / folder).mkdir()
        values = np.random.default_rng(0).integers(100, 160, (3, *shape)).astype(np.uint8)
        write_array(values, tmp_path / folder / "a.png")
    filter_file = tmp_path / "a+b.yaml"
    filter_file.write_text("type: bandpass\nnormalize: none\n")
    source, dark = tmp_path / "in", tmp_path / "dark" / "a.png"
    noise = f"high+{filter_file}:level=0.1+from:{dark}:level=2"
    done = sagd(
        "corrupt", source, "--noise", noise, "--strength", 0.5, "--output", tmp_path / "out", "--json"
    )
    assert done.code == 0 and f"from:{dark}: measured on 48x64, interpolated to 24x32" in done.err
    assert (done.json["band"], done.json["strength"]) == (None, None)
    again = sagd("corrupt", source, "--noise", done.json["noise"], "--output", tmp_path / "again", "--json")
    assert again.json["noise"] == done.json["noise"]
    first, second = (read_image(tmp_path / folder / "a.tiff").pixels for folder in ("out", "again"))
    np.testing.assert_array_equal(first, second)
    band = [("--band", "high", "--strength", 0.5), ("--noise", "high:level=0.5")]
    for k, options in enumerate(band):
        assert sagd("corrupt", source, *options, "--output", tmp_path / f"band{k}").code == 0
    one, other = (read_image(tmp_path / f"band{k}" / "a.tiff").pixels for k in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_noise_that_was_measured_anew_is_not_the_noise_from_before(tmp_path):
    """A file that was written over between two corruptions of one process."""
    dark, fields = (
        tmp_path / "dark.tif",
        np.random.default_rng(0).normal(0.5, 0.02, (16, 16)).astype(np.float32),
    )
    deviations = []
    for scale in (1, 3):
        tifffile.imwrite(dark, 0.5 + scale * (fields - 0.5))
        noise = NoiseSpectrum.parse(f"from:{dark}", measured_noise)
        deviations.append(Corruption(noise).noise((1, 16, 16), 0).std())
    assert deviations[1] == pytest.approx(3 * deviations[0], rel=1e-3)


def test_a_band_without_frequencies_is_refused():
    with pytest.raises(ConfigError, match="no frequency"):
        Corruption(NoiseSpectrum.parse("0.01:0.02:level=1")).noise((1, 8, 8), 0)
