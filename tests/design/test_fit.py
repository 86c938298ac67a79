"""Fitted filters: equal signal-to-noise at every frequency where it is asked for, within the terminal bound."""

import io

import numpy as np
import pytest
from scipy import stats

from sagd_cli.config.arguments import parse_dataset, parse_filter
from sagd_cli.config.filter import FilterConfig
from sagd_cli.datasets.loading import load_images
from sagd_cli.design.fit import fit_filter
from sagd_cli.design.measure import measure_diffused
from sagd_cli.diffusion.schedule_tables import snr_level
from sagd_cli.errors import ConfigError, DataError, UsageError
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.region import PRESETS, indicator
from sagd_cli.spectral.snr import band_snr, largest_snr
from sagd_cli.system.console import Output
from sagd_cli.system.yaml import dump_yaml

QUIET = Output(quiet=True)
# Fields enough for the lowest annulus, of 4 frequencies in an image and 2 in a signal, to be known within 3 %.
SETTINGS = [((32, 32), 700), ((28, 28), 700), ((256,), 1500)]
BETAS = [0.5, 1.0, 2.0, 3.0]


def power_law(beta, shape):
    """r^-beta on the half spectrum; at DC, where it has none, that of the lowest frequency."""
    radius = FrequencyGrid(shape).radius
    return np.maximum(radius, 1 / max(shape)) ** -beta


def gaussian_fields(power, shape, count, seed):
    """Periodic Gaussian fields (count, 1, *shape) of that power."""
    axes = tuple(range(-len(shape), 0))
    xi = np.fft.rfftn(np.random.default_rng(seed).standard_normal((count, 1, *shape)), axes=axes)
    return np.fft.irfftn(xi * np.sqrt(power), s=shape, axes=axes)


def saved(path, array):
    np.save(path, array)
    return str(path)


def fit(data, method, output=QUIET, **options):
    return fit_filter(data, method, options, "linear", output)


def listening():
    """An Output and the text it has said."""
    from rich.console import Console

    said = io.StringIO()
    return Output(console=Console(file=said, width=1000)), said


@pytest.fixture(scope="module", params=[(*s, b) for s in SETTINGS for b in BETAS], ids=str)
def law_data(request, tmp_path_factory):
    """True power and a file of Gaussian fields that have it."""
    shape, count, beta = request.param
    power = power_law(beta, shape)
    path = tmp_path_factory.mktemp("fields") / "fields.npy"
    return power, saved(path, gaussian_fields(power, shape, count, 1)), shape


@pytest.mark.slow
def test_kappa_1_gives_every_band_the_same_signal_to_noise(law_data):
    power, data, shape = law_data
    measured = measure_diffused(data, QUIET).spectrum.power
    weights = fit(data, "matched", kappa=1).config.weights(shape)
    for spectrum, tolerance in ((power, 0.05), (measured, 0.01)):
        ratios = band_snr(weights, spectrum, 1.0)
        for name in ("low", "mid", "high"):
            assert ratios[name] == pytest.approx(ratios["all"], rel=tolerance), name


STEEP = pytest.mark.parametrize("law_data", [(*s, 2.0) for s in SETTINGS], indirect=True, ids=str)


@STEEP
def test_kappa_0_is_white_and_one_half_lies_between(law_data):
    power, data, shape = law_data
    assert np.ptp(fit(data, "matched", kappa=0).config.weights(shape).weight) < 1e-12
    ratios = band_snr(fit(data, "matched", kappa=0.5).config.weights(shape), power, 1.0)
    grid = FrequencyGrid(shape)
    masks = {name: indicator(*edges, grid) for name, edges in PRESETS.items()}
    # w^2 ~ S^(1/2): a band's signal is sum S and its noise sum S^(1/2), so SNR goes like S^(1/2).
    expected = {name: grid.total(power * m) / grid.total(np.sqrt(power) * m) for name, m in masks.items()}
    for name in masks:
        assert ratios[name] / ratios["low"] == pytest.approx(expected[name] / expected["low"], rel=0.05)


@STEEP
def test_the_knots_lie_on_every_measured_annulus(law_data):
    power, data, _ = law_data
    knots = np.array(fit(data, "matched").config.options["power"])
    spectrum = measure_diffused(data, QUIET).spectrum
    np.testing.assert_allclose(knots[:, 0], spectrum.annuli.rho, rtol=1e-5)
    np.testing.assert_allclose(knots[:, 1], spectrum.rapsd, rtol=1e-5)
    assert knots[0, 0] == 0 and knots[0, 1] == pytest.approx(power.ravel()[0], rel=0.2)


@pytest.mark.parametrize("beta", BETAS)
def test_the_power_law_is_minus_half_beta_and_its_interval_covers(tmp_path, beta):
    covered = 0
    for seed in range(12):
        fields = gaussian_fields(power_law(beta, (24, 24)), (24, 24), 50, seed)
        fitted = fit(saved(tmp_path / "fields.npy", fields / fields.std()), "powerlaw")
        low, high = fitted.alpha_interval
        assert fitted.config.options["alpha"] == pytest.approx(-fitted.law.beta / 2, rel=1e-5)
        assert not fitted.bounded
        assert high - low == pytest.approx(stats.t.ppf(0.975, 49) * fitted.law.beta_se, rel=1e-9)
        assert abs(fitted.law.beta - beta) < 4 * fitted.law.beta_se
        covered += low <= -beta / 2 <= high
    # Of 12 intervals of 95 %, fewer than 9 cover once in 500 times.
    assert covered >= 9


def test_a_fitted_power_law_evens_out_the_signal_to_noise_like_a_matched_filter(tmp_path):
    power = power_law(2.0, (32, 32))
    data = saved(tmp_path / "fields.npy", gaussian_fields(power, (32, 32), 400, 0) / 3)
    ratios = band_snr(fit(data, "powerlaw").config.weights((32, 32)), power, 1.0)
    white = band_snr(FilterConfig(type="white").weights((32, 32)), power, 1.0)
    assert white["low"] > 30 * white["high"]
    # delta = 0.01 bends the weight at the lowest frequencies, from 1/32 on.
    assert ratios["mid"] == pytest.approx(ratios["high"], rel=0.05)
    assert ratios["low"] == pytest.approx(ratios["high"], rel=0.6)


def corner_fields(tmp_path, floor, scale):
    """Fields whose power is r^-2, and `floor` times its least in the corners, which the fit leaves out."""
    power = power_law(2.0, (24, 24))
    power = power + np.where(FrequencyGrid((24, 24)).radius > 0.5, floor * power.min(), 0.0)
    return saved(tmp_path / "corners.npy", scale * gaussian_fields(power, (24, 24), 200, 3))


def worst(config, power):
    return max(largest_snr(config.weights((24, 24)), power, snr_level("linear", 1.0)).values())


def with_alpha(config, alpha):
    return FilterConfig(type="powerlaw", options={**config.options, "alpha": alpha})


@pytest.mark.parametrize(("floor", "scale"), [(30, 1.0), (100, 0.5), (300, 0.5)])
def test_where_the_terminal_bound_acts_alpha_is_the_nearest_within_it(tmp_path, floor, scale):
    data = corner_fields(tmp_path, floor, scale)
    output, said = listening()
    fitted = fit(data, "powerlaw", output)
    power = measure_diffused(data, QUIET).spectrum.power
    alpha, wanted = fitted.config.options["alpha"], -fitted.law.beta / 2
    assert fitted.bounded and wanted < alpha < 0
    assert worst(with_alpha(fitted.config, wanted), power) > 0.01
    assert worst(fitted.config, power) <= 0.01 * (1 + 1e-5)
    # The next candidate towards -beta / 2 is a hundredth of the way off, and beyond the bound.
    assert worst(with_alpha(fitted.config, alpha + wanted / 99), power) > 0.01
    assert "nearer to white: the terminal signal-to-noise ratio is then at most 0.01" in fitted.notes()[2]
    assert "warning" not in said.getvalue()


@pytest.mark.parametrize(("floor", "scale"), [(0, 30.0), (100, 2.0), (300, 2.0)])
def test_where_no_alpha_keeps_the_bound_the_best_is_taken_with_a_warning(tmp_path, floor, scale):
    data = corner_fields(tmp_path, floor, scale)
    output, said = listening()
    fitted = fit(data, "powerlaw", output)
    assert fitted.bounded and -fitted.law.beta / 2 < fitted.config.options["alpha"] <= 0
    power = measure_diffused(data, QUIET).spectrum.power
    least = worst(fitted.config, power)
    others = [worst(with_alpha(fitted.config, a), power) for a in np.linspace(-fitted.law.beta / 2, 0, 25)]
    assert 0.01 < least <= min(others) * (1 + 1e-5)
    assert "the data still show through the noise at t = 1" in said.getvalue()


def test_the_schedule_sets_the_bound(tmp_path):
    """The cosine table ends at an SNR of 2.4e-9: nothing shows through that."""
    data = corner_fields(tmp_path, 100, 1.0)
    output, said = listening()
    fitted = fit_filter(data, "powerlaw", {}, "cosine", output)
    assert not fitted.bounded and said.getvalue() == ""
    assert fitted.config.options["alpha"] == pytest.approx(-fitted.law.beta / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("matched", {"power": [[0, 1], [1, 1]]}, "power is what matched is fitted for"),
        ("powerlaw", {"alpha": -1}, "alpha is what powerlaw is fitted for"),
    ],
)
def test_what_the_fit_decides_is_no_option(method, options, message):
    with pytest.raises(UsageError, match=message) as error:
        fit("no-such.npy", method, **options)
    assert error.value.hint == f"Leave out -o {next(iter(options))}=."


def test_wrong_use_is_said_before_the_data_are_read():
    with pytest.raises(UsageError, match="unknown method 'machted'") as error:
        fit("no-such.npy", "machted")
    assert error.value.hint == "Did you mean matched?"
    with pytest.raises(ConfigError, match="unknown schedule 'cosin'") as error:
        fit_filter("no-such.npy", "matched", {}, "cosin", QUIET)
    assert error.value.hint == "Did you mean cosine?"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kapa": 1}, "unknown key 'kapa'"), ({"kappa": 9}, "kappa"), ({"kappa": "x"}, "kappa")],
)
def test_a_wrong_option_of_the_family_is_named_before_the_data_are_read(options, message):
    with pytest.raises(ConfigError, match=message):
        fit("no-such.npy", "matched", **options)


def test_data_enlarged_by_zero_padding_are_refused_with_the_empty_band(tmp_path):
    small = np.fft.rfft2(np.random.default_rng(0).standard_normal((40, 1, 8, 8)))
    # Its highest frequency along an axis is 3 / 16, and along the diagonal rho = 3 / 8.
    padded = np.zeros((40, 1, 16, 9), complex)
    padded[..., :4, :4], padded[..., -3:, :4] = small[..., :4, :4], small[..., -3:, :4]
    data = saved(tmp_path / "enlarged.npy", np.fft.irfft2(padded, s=(16, 16)))
    rho = FrequencyGrid((16, 16)).rho
    with pytest.raises(DataError, match=r"hold no power from rho = 0\.\d+ to 1: a matched filter") as error:
        fit(data, "matched")
    first = float(error.value.message.split("rho = ")[1].split()[0])
    assert 3 / 8 < first < 0.5 and np.any(np.abs(rho - first) < 0.03)
    assert "--method powerlaw" in error.value.hint
    with pytest.raises(DataError, match=r"no power at rho = 0\.\d+"):
        fit(data, "powerlaw")


def test_signals_enlarged_by_repetition_are_refused_where_they_are_empty(tmp_path):
    """Each sample twice: the Nyquist frequency, alone in its annulus, is exactly empty."""
    fields = np.random.default_rng(0).standard_normal((40, 1, 8)).repeat(2, axis=-1)
    with pytest.raises(DataError, match="hold no power from rho = 1 to 1"):
        fit(saved(tmp_path / "repeated.npy", fields), "matched")


@pytest.mark.parametrize("method", ["matched", "powerlaw"])
def test_the_file_gives_the_same_weights_to_the_last_bit(tmp_path, method):
    config = fit("digits", method).config
    path = tmp_path / "fitted.yaml"
    path.write_text(dump_yaml(config.document()))
    again = parse_filter(str(path))
    assert again == config and again.sha256() == config.sha256()
    for shape in [(8, 8), (28, 27), (50,), (6, 7, 8)]:
        assert again.weights(shape).weight.tobytes() == config.weights(shape).weight.tobytes()


def test_the_source_is_recorded_and_no_part_of_the_hash():
    config = fit("digits:test", "matched").config
    images = load_images(parse_dataset("digits:test")).images
    assert config.source.data == "digits:test" and config.source.images == len(images) == 297
    without = FilterConfig(**{key: value for key, value in config.document().items() if key != "source"})
    assert without.source is None and "source" not in without.document()
    assert without.sha256() == config.sha256()
    other = fit("digits", "matched").config
    assert other.sha256() != config.sha256() and other.source.sha256 != config.source.sha256


def test_the_same_data_give_the_same_file():
    first, second = fit("digits", "powerlaw"), fit("digits", "powerlaw")
    assert (first.document(), first.notes()) == (second.document(), second.notes())


def test_a_filter_fitted_to_digits_evens_out_their_bands():
    """1,500 8x8 digits: in the middle band 4 times the signal-to-noise of the high one, then the same within 2 %."""
    power = measure_diffused("digits", QUIET).spectrum.power
    white = band_snr(FilterConfig(type="white").weights((8, 8)), power, 1.0)
    even = band_snr(fit("digits", "matched").config.weights((8, 8)), power, 1.0)
    assert white["mid"] / white["high"] > 3.9
    assert all(ratio == pytest.approx(even["all"], rel=0.02) for ratio in even.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["matched", "powerlaw"])
def test_training_takes_the_file_and_keeps_the_filter(sagd, tmp_path, method):
    path, run = tmp_path / "fitted.yaml", tmp_path / "run"
    assert sagd("filter", "fit", "digits", "--method", method, "--output", path).code == 0
    settings = ["--set", "backbone.options.channels=[8,8]", "--batch-size", 4]
    assert sagd("train", "--filter", path, "--steps", 1, *settings, "--output", run).code == 0
    shown, fitted = (sagd("filter", "show", text, "--size", "8x8", "--json").json for text in (run, path))
    assert {key: shown[key] for key in fitted} == fitted


def test_two_or_few_images_have_no_false_certainty(tmp_path):
    """About their mean two images have one spectrum, so the bootstrap would find no error at all."""
    fields = gaussian_fields(power_law(2.0, (24, 24)), (24, 24), 4, 5)
    two = fit(saved(tmp_path / "two.npy", fields[:2]), "powerlaw")
    assert two.alpha_interval is None and two.law.beta_se is None
    assert "cannot be told from so few images" in two.notes()[1]
    four = fit(saved(tmp_path / "four.npy", fields), "powerlaw")
    low, high = four.alpha_interval
    assert (high - low) / four.law.beta_se == pytest.approx(3.182, abs=1e-3), "Student's t of three"
