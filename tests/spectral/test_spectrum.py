"""Power spectra of images, all at once and streamed: levels, sums, places of peaks, and the bootstrap's spread."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import DataError
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import CHUNK, SpectrumAverage, hann_taper, power_spectrum

laws = settings(deadline=None, derandomize=True, max_examples=40)
shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def white(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def averaged(fields, tile, hann=False, **options):
    """The streamed spectrum of the fields."""
    average = SpectrumAverage(tile, hann, **options)
    for field in fields:
        average.add(field)
    return average.result()


@given(shapes, st.booleans(), st.booleans(), st.integers(0, 99))
@laws
def test_streamed_spectrum_is_that_of_all_images_at_once(shape, hann, keep_mean, seed):
    images = white((4, 2, *shape), seed) + 3
    streamed = averaged(images, shape, hann, keep_mean=keep_mean, replicates=5)
    if not keep_mean:
        images = images - images.mean(axis=tuple(range(2, images.ndim)), keepdims=True)
    at_once = power_spectrum(images, FrequencyGrid(shape), hann)
    np.testing.assert_allclose(streamed.power, at_once, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(streamed.rapsd, Annuli(FrequencyGrid(shape)).mean(streamed.power))
    assert (streamed.count, streamed.fields, streamed.hann) == (4, 4, hann)


@given(shapes, st.integers(0, 99))
@laws
def test_power_sums_to_the_mean_square(shape, seed):
    images = white((3, 2, *shape), seed) + 1
    grid = FrequencyGrid(shape)
    taper = np.ones(())
    for n in shape:
        taper = np.multiply.outer(taper, hann_taper(n))
    plain = averaged(images, shape, keep_mean=True).power
    assert grid.mean(plain) == pytest.approx(np.mean(images**2), rel=1e-12), "Parseval"
    tapered = averaged(images, shape, hann=True, keep_mean=True).power
    mean_square = np.mean((images * taper) ** 2) / np.mean(taper**2)
    assert grid.mean(tapered) == pytest.approx(mean_square, rel=1e-12), "Parseval"


@given(shapes, st.lists(st.integers(0, 11), min_size=3, max_size=3), st.integers(0, 99))
@laws
def test_tiles_half_overlap_and_end_flush_with_the_border(tile, extra, seed):
    field = white((2, *[t + e for t, e in zip(tile, extra, strict=False)]), seed)
    tiles = []
    starts = [[*range(0, n - t, max(1, t // 2)), n - t] for n, t in zip(field.shape[1:], tile, strict=True)]
    for corner in np.array(np.meshgrid(*starts)).reshape(len(tile), -1).T:
        cut = tuple(slice(c, c + t) for c, t in zip(corner, tile, strict=True))
        tiles.append(field[(slice(None), *cut)])
    result = averaged([field], tile, keep_mean=True)
    expected = power_spectrum(np.stack(tiles), FrequencyGrid(tile))
    np.testing.assert_allclose(result.power, expected, rtol=1e-10, atol=1e-12)
    assert result.fields == np.prod([n // t for n, t in zip(field.shape[1:], tile, strict=True)])


@pytest.mark.parametrize("hann", [False, True])
@pytest.mark.parametrize(("field", "count"), [((1, 16, 16), 1000), ((2, 72, 50), 25), ((3, 100), 300)])
def test_white_noise_has_its_variance_as_power_at_every_frequency(field, count, hann):
    tile = (16,) * (len(field) - 1)
    spectrum = averaged((0.3 * white((count, *field)) + 5), tile, hann)
    grid = spectrum.grid
    # Half-overlapping tiles add to the count of independent ones, so this is an upper bound of the errors.
    independent = spectrum.fields * field[0]
    kept = grid.radius * min(tile) > (1.5 if hann else 0.5)  # the tile's own mean is taken off below
    error = (spectrum.power / 0.09 - 1)[kept] * np.sqrt(independent * grid.multiplicity[kept] / 2)
    assert np.max(np.abs(error)) < 5
    assert np.mean(spectrum.power[kept]) == pytest.approx(0.09, rel=5 * (kept.sum() * independent) ** -0.5)


@pytest.mark.parametrize("hann", [False, True])
@pytest.mark.parametrize("k", [(3, 5), (0, 7), (10, 2), (8, 8)])
def test_a_sinusoid_peaks_at_its_bin_with_its_power(k, hann):
    y, x = np.mgrid[:16, :16]
    wave = np.cos(2 * np.pi * (k[0] * y + k[1] * x) / 16 + 0.7)
    power = averaged([wave[np.newaxis]], (16, 16), hann).power
    peak = np.unravel_index(np.argmax(power), power.shape)
    mirrored = k if k[1] <= 8 else tuple(-np.array(k) % 16)
    assert peak == mirrored
    real = k == (8, 8)
    level = 256 * (np.cos(0.7) ** 2 if real else 0.25)
    assert power[mirrored] == pytest.approx(level * (2 / 3) ** 2 if hann else level, rel=1e-9)


def test_a_sinusoid_in_a_large_field_peaks_at_the_frequency_it_has_there():
    y, x = np.mgrid[:200, :170]
    wave = np.cos(2 * np.pi * (0.125 * y + 0.3125 * x))
    spectrum = averaged([wave[np.newaxis]], (32, 32), hann=True)
    assert np.unravel_index(np.argmax(spectrum.power), spectrum.power.shape) == (4, 10)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 / 7])
@pytest.mark.parametrize("hann", [False, True])
def test_a_constant_image_has_no_power_once_its_mean_is_off(value, hann):
    field = np.full((3, 23, 31), value)
    assert np.all(averaged([field], (15, 14), hann).power == 0)
    kept = averaged([field], (15, 14), keep_mean=True)
    assert kept.power[0, 0] == pytest.approx(15 * 14 * value**2, rel=1e-12)
    assert kept.grid.total(kept.power) == pytest.approx(kept.power[0, 0], rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_leave_no_trace(bad):
    average = SpectrumAverage((8, 8), hann=False)
    average.add(white((1, 8, 8)))
    before = average.result()
    spoilt = white((1, 9, 9))
    spoilt[0, 8, 8] = bad
    with pytest.raises(DataError, match="not finite"):
        average.add(spoilt)
    after = average.result()
    np.testing.assert_array_equal(after.power, before.power)
    assert after.count == 1


@pytest.mark.parametrize("shape", [(1, 8, 7), (1, 100), (1, 9, 9, 9)])
def test_a_field_that_does_not_hold_a_tile_is_refused(shape):
    with pytest.raises(DataError, match="8x8"):
        SpectrumAverage((8, 8), hann=False).add(np.zeros(shape))


def test_nothing_added_has_no_spectrum():
    with pytest.raises(DataError, match="no image"):
        SpectrumAverage((8, 8), hann=False).result()


def test_the_order_of_the_images_does_not_matter():
    fields = [white((1, 8 + i, 9), i) * 10.0**i for i in range(6)]
    forth, back = averaged(fields, (8, 8)), averaged(fields[::-1], (8, 8))
    np.testing.assert_allclose(forth.power, back.power, rtol=1e-13)
    assert forth.fields == back.fields


def test_images_count_the_same_whatever_their_size():
    small, large = white((1, 8, 8), 1), white((1, 40, 40), 2)
    powers = [averaged([field], (8, 8)).power for field in (small, large)]
    both = averaged([small, large], (8, 8))
    np.testing.assert_allclose(both.power, np.mean(powers, axis=0), rtol=1e-13)
    assert both.fields == 1 + 25


def test_integers_and_half_precision_are_measured_exactly():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    expected = averaged([pixels.astype(np.float64)], (16, 16)).power
    np.testing.assert_array_equal(averaged([pixels], (16, 16)).power, expected)
    np.testing.assert_array_equal(averaged([pixels.astype(np.float16)], (16, 16)).power, expected)


def test_memory_does_not_grow_with_the_number_of_images_nor_with_a_field_beyond_its_chunk():
    import tracemalloc

    average = SpectrumAverage((8, 8), hann=True, replicates=50)
    arrays = {name: v.nbytes for name, v in vars(average).items() if isinstance(v, np.ndarray)}
    for i in range(20):
        average.add(white((1, 8 + i, 8), i))
    assert {name: v.nbytes for name, v in vars(average).items() if isinstance(v, np.ndarray)} == arrays
    field = np.ones((1, 1500, 1000), np.float32)  # its tiles hold 6 M samples, 48 MB
    tracemalloc.start()
    average.add(field)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 8 * CHUNK


def test_the_bootstrap_spreads_as_the_mean_over_images_does():
    images = white((40, 1, 16, 16)) * np.linspace(0.5, 2, 40).reshape(-1, 1, 1, 1)
    spectrum = averaged(images, (16, 16), replicates=2000)
    each = np.array([averaged([image], (16, 16), replicates=0).rapsd for image in images])
    standard_error = each.std(axis=0, ddof=1) / np.sqrt(40)
    np.testing.assert_allclose(spectrum.rapsd, each.mean(axis=0), rtol=1e-12)
    spread = spectrum.replicates.std(axis=0)
    np.testing.assert_allclose(spread[1:], standard_error[1:], rtol=0.12)
    centre = (spectrum.replicates.mean(axis=0) - spectrum.rapsd)[1:]
    assert np.all(np.abs(centre) < 5 * standard_error[1:] / np.sqrt(2000))


def test_the_bootstrap_is_a_function_of_the_seed():
    images = white((3, 1, 8, 8))
    one, same, other = (averaged(images, (8, 8), seed=seed).replicates for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert len(one) < 200, "samples in which no image was drawn, 1 in 20 here, are left out"
    assert one.shape != other.shape or not np.allclose(one, other)
