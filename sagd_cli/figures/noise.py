"""What the noise of a filter looks like: one draw of it, and the spectrum of many draws."""

from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import Array
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.spectral.spectrum import power_spectrum

FIGURE_DRAWS, MOST_SAMPLES = 256, 2**22


def measure_noise(spectral_filter: SpectralFilter, seed: int = 0) -> tuple[Array, list[tuple[float, float]]]:
    """Return one draw of the filter's noise, and pairs (rho, amplitude) measured on many draws.

    They are 256 draws, fewer of large fields. What is drawn is a function of `seed`.
    """
    grid = spectral_filter.grid
    count = max(4, min(FIGURE_DRAWS, MOST_SAMPLES // grid.size))
    drawn = SpectralNoise(spectral_filter).draw((count, 1, *grid.shape), random_stream("cpu", seed, "figure"))
    fields = drawn.double().numpy()
    annuli = Annuli(grid)
    amplitude = annuli.mean(power_spectrum(fields, grid)) ** 0.5
    return fields[0, 0], list(zip(annuli.rho.tolist(), amplitude.tolist(), strict=True))
