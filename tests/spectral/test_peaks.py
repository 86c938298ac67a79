"""Peaks and stripes: planted ones are found and named, natural spectra have none."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.synthetic import natural, wave

from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.peaks import Peak, find_peaks
from sagd_cli.spectral.spectrum import power_spectrum


def field(shape: tuple[int, ...], beta: float, seed: int, count: int = 1) -> np.ndarray:
    return natural(shape, seed, count, beta)


def found(fields: np.ndarray) -> list[Peak]:
    grid = FrequencyGrid(fields.shape[1:])
    fields = fields - fields.mean(axis=tuple(range(1, fields.ndim)), keepdims=True)
    return find_peaks(power_spectrum(fields, grid, hann=True), grid, len(fields))[0]


def bins_off(center: tuple, frequency: tuple, shape: tuple[int, ...]) -> float:
    """Distance on the torus in bins, along the worst axis, to the frequency or its mirror."""
    both = [np.array(center) - sign * np.array(frequency) for sign in (1, -1)]
    return min(float(np.max(np.abs(d - np.round(d)) * shape)) for d in both)


CORNERS_AND_AXES = [(0.497, -0.499), (0.5, 0.5), (-0.4999, 0.31), (0.0, 0.208), (0.2503, 0.0), (0.5, 0.0)]


@pytest.mark.parametrize("shape", [(128, 128), (97, 160)])
def test_a_planted_wave_is_found_within_a_bin_and_nothing_else_is(shape):
    rng = np.random.default_rng(1)
    drawn = [tuple(f) for f in rng.uniform(-0.5, 0.5, (30, 2)) if np.hypot(*f) > 0.08]
    for seed, frequency in enumerate([*drawn, *CORNERS_AND_AXES]):
        # A single small field: 0.2 of the standard deviation, 10 grey levels of a photograph's 50.
        peaks = found(field(shape, 2, seed) + 0.2 * wave(shape, frequency))
        assert [peak.kind for peak in peaks] == ["notch"], frequency
        assert bins_off(peaks[0].center, frequency, shape) <= 1


def test_three_waves_are_listed_by_their_height():
    frequencies, amplitudes = [(0.46, -0.48), (0.02, 0.21), (-0.3, 0.1)], [0.4, 0.2, 0.1]
    waves = sum(a * wave((200, 150), f) for a, f in zip(amplitudes, frequencies, strict=True))
    peaks = found(field((200, 150), 1, 0) + waves)
    assert len(peaks) == 3
    for peak, frequency in zip(peaks, frequencies, strict=True):
        assert bins_off(peak.center, frequency, (200, 150)) <= 1
    assert [peak.excess_db for peak in peaks] == sorted((peak.excess_db for peak in peaks), reverse=True)


def test_the_excess_is_the_power_of_the_wave_over_that_of_the_noise():
    # A wave of amplitude a on a bin of N samples has Hann power a^2 N / 4 / 1.5^2 over white noise of power 1.
    peaks = found(np.random.default_rng(0).standard_normal((16, 128, 128)) + wave((128, 128), (0.25, 0.125)))
    expected = 10 * np.log10(128**2 / 4 / 2.25 + 1)
    # The background is the highest of 16 medians, so up to 1.5 dB above the mean level.
    assert expected - 1.5 < peaks[0].excess_db < expected + 0.5


@pytest.mark.parametrize("shape", [(256, 128), (120, 250)])
@pytest.mark.parametrize("across", [0, 1])
def test_a_planted_stripe_is_named_by_its_axis_and_is_not_a_row_of_peaks(shape, across):
    rng = np.random.default_rng(2)
    for seed in range(5):
        offsets = np.expand_dims(0.4 * rng.standard_normal(shape[across]), 1 - across)
        peaks = found(field(shape, 2, seed) + offsets)
        assert [peak.kind for peak in peaks] == [("stripe-horizontal", "stripe-vertical")[across]]
        assert peaks[0].center == ((None, 0.0), (0.0, None))[across]
        # Straight through, the stripe is as wide as the main lobe of the taper: 2 bins to either side.
        assert 4 / shape[1 - across] < peaks[0].extent <= 7 / shape[1 - across]


def test_a_peak_off_the_stripe_is_listed_beside_it():
    offsets = 0.3 * np.random.default_rng(0).standard_normal((200, 1))
    peaks = found(field((200, 200), 2, 0) + offsets + 0.3 * wave((200, 200), (0.1, 0.35)))
    assert {peak.kind for peak in peaks} == {"notch", "stripe-horizontal"}
    assert len(peaks) == 2


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 2.0, 3.0])
@pytest.mark.parametrize(
    ("shape", "count"), [((96, 128), 1), ((64, 64), 8), ((28, 28), 1), ((1000,), 1), ((24, 22, 26), 2)]
)
def test_gaussian_fields_have_none(beta, shape, count):
    seeds = range(10 if len(shape) == 3 else 50)
    assert [peak for seed in seeds for peak in found(field(shape, beta, seed, count))] == []


def test_anisotropic_gaussian_fields_have_none():
    """A ridge along a slanting or upright direction is neither a peak nor a stripe."""
    for turn in (0.0, 0.4):
        grid = FrequencyGrid((256, 256))
        f_y, f_x = grid.axes
        along, across = np.cos(turn) * f_y + np.sin(turn) * f_x, np.cos(turn) * f_x - np.sin(turn) * f_y
        weight = 1 / (0.02 + np.abs(along) + 8 * np.abs(across))
        white = np.random.default_rng(0).standard_normal((20, 256, 256))
        images = np.fft.irfft2(np.fft.rfft2(white) * weight, s=(256, 256))
        assert [found(image[None]) for image in images] == [[]] * 20


def test_hum_and_its_harmonic_are_found_in_coloured_noise():
    for seed in range(10):
        hum = 0.6 * wave((4000,), (0.0125,)) + 0.06 * wave((4000,), (0.1,))
        peaks = found(field((4000,), 2, seed) + hum)
        assert len(peaks) == 2
        for frequency in ((0.0125,), (0.1,)):
            assert min(bins_off(peak.center, frequency, (4000,)) for peak in peaks) <= 1
        assert peaks[0].band.count(",") == 1


def test_a_wave_in_a_volume_is_found():
    shape = (24, 32, 28)
    peaks = found(field(shape, 2, 0) + 0.5 * wave(shape, (0.3, -0.2, 0.41)))
    assert len(peaks) == 1
    assert bins_off(peaks[0].center, (0.3, -0.2, 0.41), shape) <= 1
    assert peaks[0].band.startswith("notch:") and peaks[0].band.count(",") == 3


def corrupted_field(shape: tuple[int, ...]) -> np.ndarray:
    offsets = 0.3 * np.random.default_rng(3).standard_normal((shape[0], 1))
    return field(shape, 2, 3) + offsets + 0.4 * wave(shape, (0.1, 0.35)) + 0.2 * wave(shape, (0.4, -0.2))


def test_the_scale_of_the_power_does_not_matter():
    grid = FrequencyGrid((128, 160))
    power = power_spectrum(corrupted_field(grid.shape), grid, hann=True)
    first, second = find_peaks(power, grid, 1)[0], find_peaks(1e6 * power, grid, 1)[0]
    assert len(first) == 3
    assert [peak.band for peak in first] == [peak.band for peak in second]
    assert np.allclose([peak.excess_db for peak in first], [peak.excess_db for peak in second], atol=1e-9)


def test_transposing_the_image_swaps_the_axes():
    images = corrupted_field((128, 160))
    upright, turned = found(images), found(images.transpose(0, 2, 1))
    swapped = {"stripe-horizontal": "stripe-vertical", "notch": "notch"}
    assert [swapped[peak.kind] for peak in upright] == [peak.kind for peak in turned]
    assert np.allclose([p.excess_db for p in upright], [p.excess_db for p in turned], atol=1e-9)
    for one, other in zip(upright, turned, strict=True):
        assert one.extent == other.extent
        if one.kind == "notch":
            assert bins_off(one.center[::-1], other.center, (160, 128)) < 1e-6


def test_a_field_without_room_for_a_background_has_none():
    for shape in [(8, 8), (20, 500), (40,)]:
        assert found(wave(shape, tuple(0.25 for _ in shape))[None]) == []


def test_a_blank_field_has_none():
    assert found(np.zeros((1, 64, 64))) == []


def test_band_texts():
    assert Peak("notch", (-0.4619, 0.4823), 0.0125, 30.0).band == "notch:-0.4619,0.4823,0.0125"
    assert Peak("notch", (0.0125,), 0.001, 30.0).band == "notch:0.0125,0.001"
    assert Peak("notch", (0.25, 0.125, 0.5), 0.1, 30.0).band == "notch:0.25,0.125,0.5,0.1"
    assert Peak("stripe-horizontal", (None, 0.0), 0.01234567, 9.0).band == "stripe:horizontal,0.01235"
    assert Peak("stripe-vertical", (0.0, None), 0.02, 9.0).band == "stripe:vertical,0.02"


def test_the_rounded_band_covers_the_disc():
    rng = np.random.default_rng(0)
    for center, extent in zip(rng.uniform(-0.5, 0.5, (500, 2)), 10 ** rng.uniform(-6, -1, 500), strict=True):
        *rounded, radius = map(float, Peak("notch", tuple(center), extent, 1.0).band.split(":")[1].split(","))
        assert np.linalg.norm(rounded - center) + extent <= radius + 1e-15
        assert radius <= 1.001 * (extent + 2e-4)


def tiles(image: np.ndarray, side: int = 256) -> np.ndarray:
    starts = [sorted({*range(0, n - side + 1, side // 2), n - side}) for n in image.shape]
    return np.array([image[y : y + side, x : x + side] for y in starts[0] for x in starts[1]])


@pytest.mark.parametrize("cut", [lambda image: image[None], tiles], ids=["whole", "tiles"])
def test_real_damage_is_found_where_the_readme_says(data_root, cut):
    folder = data_root / "corrupted"
    mariner = found(cut(np.asarray(Image.open(folder / "mariner6_mars_interference.png")) / 127.5 - 1))
    stated = [(0.462, -0.482), (0.477, 0.465), (0.009, 0.208)]
    nearest = [min(stated, key=lambda f: bins_off(peak.center, f, (1, 1))) for peak in mariner[:3]]
    assert sorted(nearest) == sorted(stated)
    assert all(bins_off(p.center, f, (1, 1)) < 0.01 for p, f in zip(mariner[:3], nearest, strict=True))
    assert all(peak.kind == "notch" for peak in mariner)
    florida = found(cut(tifffile.imread(folder / "florida_satellite_scanlines.tif") / 127.5 - 1))
    assert [peak.kind for peak in florida if peak.kind != "notch"] == ["stripe-horizontal"]
    sinogram = found(cut(tifffile.imread(folder / "sinogram_neutron_stripes.tif") / 32767.5 - 1))
    assert [peak.kind for peak in sinogram if peak.kind != "notch"] == ["stripe-vertical"]


def test_photographs_have_none(data_root):
    # kodim01, a wall of coursed stone, is honestly periodic.
    paths = sorted((data_root / "kodak").glob("*.png"))[1::3]
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB")).mean(axis=2) / 127.5 - 1
        assert found(image[None]) == [], path.name
        assert found(tiles(image)) == [], path.name


def test_the_peaks_of_a_board_are_found_beside_each_other():
    rows, columns = np.mgrid[:128, :128]
    board = np.where((rows % 16 < 8) ^ (columns % 16 < 8), 0.6, -0.6)
    peaks = found(board[None])
    for peak in peaks:
        odd = 16 * np.array(peak.center)
        np.testing.assert_allclose(odd % 2, 1)
        assert peak.extent < 1 / 8
    assert len(peaks) > 20


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 10.0, 1000.0])
def test_a_tone_is_found_however_strong_it_is(amplitude):
    """Its disc ends where it would cost more of a smooth field than it takes of the tone's arms."""
    peaks = found(field((256, 256), 4, 0) + amplitude * wave((256, 256), (0.0883, 0.1711)))
    assert len(peaks) == 1 and peaks[0].kind == "notch"
    assert bins_off(peaks[0].center, (0.0883, 0.1711), (256, 256)) <= 1
    assert peaks[0].extent <= 0.25
