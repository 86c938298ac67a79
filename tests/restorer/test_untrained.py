"""Estimates without a network: what they take, what stays."""

import numpy as np
import pytest
from support.gaussian_fields import SHAPE, fields

from sagd_cli.errors import DataError
from sagd_cli.restorer import untrained
from sagd_cli.restorer.untrained import notch, wiener
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid


def mask(text, shape):
    return Band.parse(text).mask(FrequencyGrid(shape))


def spectrum(x):
    return np.fft.rfft2(x.astype(np.float64), norm="ortho")


def drawn(*settings, **more):
    return fields(*settings, **more).numpy()


def test_notch_empties_the_band_and_keeps_the_mean():
    inside = mask("low", SHAPE)
    y = drawn(6) + np.float32(0.7)
    removed = notch(y, inside)
    left = spectrum(removed)
    assert removed.dtype == np.float32 and np.abs(left[..., 1:, 1:][..., inside[1:, 1:]]).max() < 1e-5
    np.testing.assert_allclose(removed.mean((-2, -1)), y.mean((-2, -1)), rtol=1e-5)
    np.testing.assert_allclose(left[..., ~inside], spectrum(y)[..., ~inside], atol=1e-5)


def test_nothing_is_kept_of_large_images(monkeypatch):
    inside, y = mask("0.3:0.5", SHAPE), drawn(2)
    expected = wiener(y, inside)
    for cached in (untrained._kernel, untrained._share):
        assert cached.cache_info().currsize
        cached.cache_clear()
    monkeypatch.setattr(untrained, "LARGEST_KEPT", SHAPE[0] * SHAPE[1] - 1)
    np.testing.assert_array_equal(wiener(y, inside), expected)
    assert not untrained._kernel.cache_info().currsize + untrained._share.cache_info().currsize


def test_the_wiener_estimate_takes_a_band_to_the_level_of_its_surroundings():
    """Of fields of power S with stripes 20 dB above the band ends below S, and the rest stays."""
    shape = (96, 80)
    grid, inside = FrequencyGrid(shape), mask("stripe:horizontal,0.03", shape)
    power = 0.05 / (grid.radius + 0.05) ** 2
    clean = drawn(40, power, shape=shape)
    y = clean + drawn(40, np.where(inside, 100 * power, 0), seed=1, shape=shape)
    restored = wiener(y, inside)
    change = (spectrum(restored) - spectrum(y))[..., ~inside]
    assert restored.dtype == np.float32 and np.abs(change).max() <= 1e-5 * np.abs(spectrum(y)).max()
    left = np.mean(np.abs(spectrum(restored)[:, 0, inside]) ** 2, axis=0) / power[inside]
    # Of |F y|^2 = P the share S / P squared stays: S^2 / P, which is below S, and never above it.
    assert 0.02 < left.mean() < 1
    # Of fields without damage, whose power is S times an exponential e, it takes E[(1 - 1/e)^2 e; e > 1] = E1(1) of S.
    taken = np.mean(np.abs(spectrum(wiener(clean, inside) - clean)[:, 0, inside]) ** 2, axis=0)
    assert np.mean(taken / power[inside]) == pytest.approx(0.219, rel=0.3)
    assert np.mean((restored - clean) ** 2) < np.mean((y - clean) ** 2) / 20


def test_images_and_their_number_change_nothing_for_one_of_them():
    """Nor does it matter which bands were asked for before: what is kept of one is not used for another."""
    y = drawn(3, channels=3)
    for text in ("mid", "high"):
        inside = mask(text, SHAPE)
        each = [wiener(image, inside) for image in y]
        np.testing.assert_allclose(wiener(y, inside), each, atol=1e-6)
    assert not np.allclose(wiener(y, mask("mid", SHAPE)), wiener(y, inside), atol=1e-3)


def test_the_wiener_estimate_of_constant_images_and_of_bands_that_hold_everything():
    flat = np.full((1, 64, 64), 0.4, np.float32)
    assert np.array_equal(wiener(flat, mask("stripe:horizontal", (64, 64))), flat)
    with pytest.raises(DataError, match="no frequency to compare"):
        wiener(flat, mask("0:1", (64, 64)))
