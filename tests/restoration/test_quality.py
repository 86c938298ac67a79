"""PSNR, SSIM and power in the band: the laws of each, and equality with a reference implementation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sagd_cli.data.images import Image
from sagd_cli.data.ranges import BYTES, UNIT, Range, image_signal
from sagd_cli.datasets.truth import Truth
from sagd_cli.restoration.quality import band_power, file_report, psnr, ssim
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid

shapes = st.tuples(st.sampled_from([1, 3]), st.integers(1, 30), st.integers(1, 30))


def pair(shape, seed=0, noise=0.3):
    """A field on [-1, 1] that is smooth along its diagonals, and the same with white noise."""
    random = np.random.default_rng(seed)
    truth = np.sin(np.add.outer(random.uniform(0, 6, shape[0]), np.add.outer(*map(np.arange, shape[1:])) / 3))
    return truth + noise * random.standard_normal(shape), truth


@pytest.mark.parametrize("shape", [(1, 11, 11), (1, 40, 31), (3, 64, 48)])
@pytest.mark.parametrize("noise", [0.02, 0.3, 2.0])
def test_ssim_is_that_of_scikit_image(shape, noise):
    metrics = pytest.importorskip("skimage.metrics")
    estimate, truth = (np.clip(field, -1, 1) for field in pair(shape, noise=noise))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = metrics.structural_similarity(estimate, truth, data_range=2, channel_axis=0, **settings)
    assert ssim(estimate, truth) == pytest.approx(expected, abs=1e-6)


@given(shapes, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_ssim_is_one_for_equal_images_only_and_symmetric(shape, seed):
    estimate, truth = (np.clip(field, -1, 1) for field in pair(shape, seed))
    assume(np.abs(estimate - truth).max() > 0.01)
    assert ssim(truth, truth) == pytest.approx(1, abs=1e-9)
    assert ssim(estimate, truth) == pytest.approx(ssim(truth, estimate), abs=1e-12)
    assert -1 <= ssim(estimate, truth) < 1 - 1e-6


def test_short_sides_are_continued_by_their_mirror_image():
    """The field of twice the side, mirrored, has the same windows twice."""
    estimate, truth = pair((1, 8, 8))
    whole = [np.pad(field, ((0, 0), (5, 5), (5, 5)), mode="symmetric") for field in (estimate, truth)]
    assert ssim(*whole) == pytest.approx(ssim(estimate, truth), abs=1e-12)


def test_psnr_follows_its_definition_within_the_range_and_ends_at_120_db():
    truth = np.zeros((1, 4, 4))
    assert psnr(truth + 0.2, truth) == pytest.approx(10 * np.log10(4 / 0.04))
    assert psnr(truth, truth) == 120
    assert psnr(np.full((1, 4, 4), 7.0), np.ones((1, 4, 4))) == 120  # what is brighter than white is white


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (64, 96)])
@pytest.mark.parametrize("band", ["low", "mid", "high", "0.3:1"])
def test_noise_of_amplitude_gamma_in_the_band_has_gamma_squared_in_it(shape, band):
    from sagd_cli.spectral.noise import band_noise, random_stream

    noise = band_noise(Band.parse(band), shape)
    draws = 0.5 * noise.draw((400, 1, *shape), random_stream("cpu", 0, "power")).numpy()[:, 0]
    bins = noise.filter.rank
    without_dc = bins - int(noise.filter.support.flat[0])
    measured = band_power(draws, Band.parse(band).mask(FrequencyGrid(shape)))
    assert abs(measured - 0.25) < 5 * 0.25 * np.sqrt(2 / (400 * without_dc))


def test_power_outside_the_band_and_the_mean_do_not_count():
    wave = np.cos(2 * np.pi * np.arange(16) / 4)[None, None] * np.ones((1, 12, 1))
    grid = FrequencyGrid(wave.shape[1:])
    assert band_power(wave + 0.7, Band.parse("notch:0,0.25,0.01").mask(grid)) == pytest.approx(12 * 16 / 4)
    assert band_power(wave + 0.7, Band.parse("low").mask(grid)) == pytest.approx(0, abs=1e-20)
    assert band_power(wave + 0.7, Band.parse("0:0.001").mask(grid)) == 0  # DC alone


HIGH = Band.parse("high")


def test_the_record_of_a_file_has_psnr_and_ssim_of_both_images_where_there_is_a_truth():
    before, truth = pair((3, 16, 16))
    after = (before + truth) / 2
    inside = HIGH.mask(FrequencyGrid((16, 16)))
    record = file_report(before, after, Truth(truth), inside)
    assert record == {
        "band_power_before": band_power(before, inside),
        "band_power_after": band_power(after, inside),
        "psnr_before": psnr(before, truth),
        "psnr": psnr(after, truth),
        "ssim_before": ssim(before, truth),
        "ssim": ssim(after, truth),
    }
    assert record["psnr"] > record["psnr_before"] and record["ssim"] > record["ssim_before"]
    blind = file_report(before, after, None, inside)
    assert blind == {key: value for key, value in record.items() if key[:4] not in ("psnr", "ssim")}


PICTURE = np.random.default_rng(0).integers(0, 256, (1, 12, 12))


def image_on(scale, offset, kind, noise=0.0, **known):
    values = (PICTURE + noise * np.sin(np.arange(144).reshape(1, 12, 12))) * scale + offset
    return Image(values.astype(kind), None, Path("x.tif"), **known)


@pytest.mark.parametrize(
    ("scale", "offset", "kind"),
    [
        (1, 0, "uint8"),
        (257, 0, "uint16"),
        (16, 0, "uint16"),
        (1, 0, "float32"),
        (8, -1000, "float32"),
        (1 / 255, 0, "float32"),
    ],
)
def test_a_truth_has_one_psnr_and_ssim_on_every_range(scale, offset, kind):
    """The range of the image is not that of its truth, as where it was found from values with noise in them."""
    values = Range(*(np.array([0, 255]) * scale + offset))
    found = Range(values.low - values.span / 10, values.high + values.span / 5)
    truth = Truth.of(image_on(scale, offset, kind, range=values), image_on(scale, offset, kind, range=found))
    np.testing.assert_allclose(
        truth.ends, (np.array(values.ends) - found.low) / found.span * 2 - 1, rtol=1e-5
    )
    damaged = image_signal(image_on(scale, offset, "float32", 20).pixels, found)
    expected, plain = image_on(1, 0, "float32", 20).pixels / 127.5 - 1, PICTURE / 127.5 - 1
    record = file_report(damaged, damaged, truth, None)
    assert record["psnr"] == record["psnr_before"] == pytest.approx(psnr(expected, plain), abs=1e-3)
    assert record["ssim"] == pytest.approx(ssim(expected, plain), abs=1e-4)


def test_a_truth_of_bytes_fits_an_image_of_floats_on_either_range():
    truth = image_on(1, 0, "uint8")
    for scale, values in ((1 / 255, UNIT), (1, BYTES), (16, Range(0, 4080))):
        found = Truth.of(truth, image_on(scale, 0, "float32", range=values))
        np.testing.assert_allclose(found.signal, PICTURE / 127.5 - 1, atol=1e-6)
        assert found.ends == pytest.approx((-1, 1), abs=1e-6)
