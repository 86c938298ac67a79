"""Short lines: the spectrum of their shape, and shape and strength from the blocks that have least."""

import numpy as np
import pytest

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.lines import without_line_noise
from sagd_cli.detection.line_shape import ShortLines, fitted_lines, is_worth_it
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import hann_taper

SIDE, BLOCKS = 128, 80
RANDOM = np.random.default_rng(0)
LINES = ShortLines(33.0, 17.0, 1.3, 0.1)


def spectrum(grid, lines):
    """The power of white noise through a Gaussian line, whose variance is that of the lines."""
    f_y, f_x = grid.axes
    turn = np.radians(lines.angle)
    along, across = f_x * np.cos(turn) - f_y * np.sin(turn), f_x * np.sin(turn) + f_y * np.cos(turn)
    power = np.exp(-4 * np.pi**2 * ((along * lines.length) ** 2 + (across * lines.width) ** 2))
    return lines.deviation**2 * power / grid.mean(power)


def blocks(lines, image, amounts):
    """Tapered power in blocks of lines, and of an image of the power law `image` in different amounts."""
    grid = FrequencyGrid((2 * SIDE, 2 * SIDE))
    taper, law = np.outer(hann_taper(SIDE), hann_taper(SIDE)), image * (grid.radius + 0.005) ** -2.9

    def field(power):
        white = np.fft.rfft2(RANDOM.standard_normal(grid.shape))
        return np.fft.irfft2(white * np.sqrt(power), s=grid.shape)[:SIDE, :SIDE]

    drawn = [field(spectrum(grid, lines)) + amount * field(law) for amount in amounts]
    return np.array([np.abs(np.fft.fft2((x - x.mean()) * taper)) ** 2 for x in drawn])


@pytest.mark.parametrize("lines", [LINES, ShortLines(90.0, 17.0, 1.3, 0.1), ShortLines(5.0, 60.0, 3.0, 0.1)])
def test_strips_within_strips_have_the_variance_and_nearly_the_spectrum_of_the_lines(lines):
    grid = FrequencyGrid((512, 512))
    truth, power = spectrum(grid, lines), NoiseSpectrum(tuple(lines.parts)).power(grid)
    assert grid.mean(power) == pytest.approx(lines.deviation**2, rel=0.15)
    strong = (truth > truth.max() / 100) & (grid.radius > 0.01)
    assert np.quantile(np.abs(10 * np.log10(power[strong] / truth[strong])), 0.8) < 4.5
    assert grid.total(truth * lines.stripe.mask(grid)) > 0.95 * grid.total(truth * (grid.radius > 0.01))


def test_no_part_is_taken_for_offsets_of_whole_columns():
    noise = NoiseSpectrum(tuple(ShortLines(90.0, 64.0, 0.4, 0.1).parts))
    image = RANDOM.standard_normal((1, 64, 64)).astype(np.float32)
    cleaned, left = without_line_noise(image, noise)
    assert left == noise
    assert np.array_equal(cleaned, image)


def test_small_images_have_frequencies_of_every_part():
    for lines in (ShortLines(45.0, 64.0, 8.0, 0.1), ShortLines(90.0, 1.0, 8.0, 0.1)):
        assert NoiseSpectrum(tuple(lines.parts)).power(FrequencyGrid((64, 64))).any()


def test_shape_and_strength_come_from_the_blocks_that_have_least_of_the_image():
    """Most blocks have a hundred times the power that the others have, and hide the lines."""
    amounts = np.where(np.arange(BLOCKS) % 5, 1.0, 0.1)
    best, *_ = fitted_lines(blocks(LINES, 2.4e-4, amounts), 38.0)
    assert best.angle == pytest.approx(33, abs=1)
    assert best.length == pytest.approx(17, rel=0.3)
    assert best.width == pytest.approx(1.3, rel=0.2)
    assert best.deviation == pytest.approx(0.1, rel=0.15)


def test_a_filter_is_worth_it_unless_most_blocks_have_more_than_the_lines_in_their_strip():
    seen = blocks(LINES, 2.4e-5, np.ones(BLOCKS))
    assert is_worth_it(seen, LINES)
    planks = blocks(ShortLines(33.0, 17.0, 1.3, 0.4), 2.4e-5, np.ones(BLOCKS))
    few = np.arange(BLOCKS)[:, None, None] < BLOCKS // 4
    assert not is_worth_it(np.where(few, seen, planks), LINES)
    assert is_worth_it(np.where(few, planks, seen), LINES)
