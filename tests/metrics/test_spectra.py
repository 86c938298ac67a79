"""Power of samples over that of data: exact on fields of known spectrum, with errors that cover."""

import numpy as np
import pytest

from sagd_cli.design.radial_power import PowerAverage
from sagd_cli.metrics.spectra import compare_power
from sagd_cli.spectral.grid import FrequencyGrid


def measured(images):
    average = PowerAverage(images.shape[1:])
    for image in images:
        average.add(image)
    return average.result()


def fields(count, shape, seed, weight=None, mean=0.0):
    white = np.random.default_rng(seed).standard_normal((count, *shape))
    if weight is None:
        return white + mean
    spectrum = np.fft.rfftn(white, axes=tuple(range(2, white.ndim))) * weight
    return np.fft.irfftn(spectrum, s=shape[1:], axes=tuple(range(2, white.ndim))) + mean


def test_it_is_the_variance_of_every_frequency():
    images = fields(50, (3, 8, 7), 0, mean=np.linspace(-2, 2, 56).reshape(8, 7))
    spectrum = np.fft.rfft2(images) / np.sqrt(56)
    exact = np.mean(np.var(spectrum, axis=0, ddof=1), axis=0)
    np.testing.assert_allclose(measured(images).power, exact, rtol=1e-10)


def test_the_ratio_of_shaped_to_white_fields_is_the_filter():
    grid = FrequencyGrid((16, 16))
    weight = (grid.radius + 0.05) ** -0.3
    found = compare_power(
        measured(fields(400, (1, 16, 16), 0, weight)), measured(fields(400, (1, 16, 16), 1))
    )
    rho, ratio, error = np.array(found["profile"]).T
    from sagd_cli.spectral.annuli import Annuli

    exact = Annuli(grid).mean(weight**2)
    assert np.all(np.abs(ratio - exact) < 5 * error)
    assert np.all(error < 0.15 * exact)
    assert rho[0] == 0 and list(found["bands"]) == ["low", "mid", "high"]


def test_errors_are_standard_errors():
    """Over many pairs the ratio less 1, over its error, has unit deviation."""
    scores = []
    for k in range(60):
        found = compare_power(
            measured(fields(60, (1, 8, 8), 2 * k)), measured(fields(60, (1, 8, 8), 2 * k + 1))
        )
        scores += [(one["ratio"] - 1) / one["ratio_se"] for one in found["bands"].values()]
    assert 0.8 < np.std(scores) < 1.25


def test_bytes_are_taken_on_the_range_of_images():
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    as_floats = images / 127.5 - 1
    np.testing.assert_allclose(measured(images).power, measured(as_floats).power, rtol=1e-12)


def test_frequencies_without_power_are_left_out():
    grid = FrequencyGrid((8, 8))
    low = fields(20, (1, 8, 8), 0, (grid.rho < 0.25).astype(float))
    found = compare_power(
        measured(fields(20, (1, 8, 8), 1)), measured(low.astype(np.float32).astype(float) * 0)
    )
    assert found == {"profile": [], "bands": {}}
    assert measured(low).bands[2] == pytest.approx(0, abs=1e-25)
