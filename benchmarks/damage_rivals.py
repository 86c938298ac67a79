"""Other methods for lines, tones and screens, for benchmarks/damage.py. What they are told, the program is not.

Every rival has a list of settings, and the first is its own default or what its pages show. Those of lines are told
the directions: pystripe, algotom and the medians know rows and columns alone, and do one direction after the other.

median    the median over a line of its difference to the line before, summed over the lines, less the moving median of
          31 lines; also in windows of 101 pixels; or of the logarithm
pystripe  a notch in each band of a wavelet transform, here on 16 bits with a pedestal (its logarithm ruins what is dark
          without). It asks for a NumPy that no Python from 3.10 on has, but works with today's: so it is not in the
          extra, and `pip install --no-deps pystripe` gets it
algotom   eight ways to take stripes out of sinograms, which are columns
vsnr      pyvsnr on NumPy: VSNR, told the lines' lengths and widths too, without the stretching of its result
destripe  total variation with lines of five directions; only for some photographs
bm3d      BM3D told the mean spectrum of 16 draws of the damage on the very photograph; only for some
notches   told the place: where those 16 draws are stronger than the damaged image around, the magnitude is set to that
descreen  after fft-descreen, which is no Python package: peaks of the magnitude, set to that around them
blur      a Gaussian
"""

import importlib.util
import itertools
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from unittest.mock import Mock, patch

import numpy as np
from damage_spectrum import peaks, surroundings
from restorer import bm3d as told_bm3d
from scipy import ndimage

from sagd_cli.spectral.grid import Array, FrequencyGrid

GREY_LEVEL = 2 / 255
TREND, WINDOW = 31, 101
PEDESTAL = 0.5
UPRIGHT = 90.0
ITERATIONS = 200  # of destripe, which takes 10 s for them

Method = Callable[[Array], Array]


@dataclass(frozen=True)
class Lines:
    """Lines seen at an angle in degrees; length and width as standard deviations of a Gaussian, in pixels."""

    angle: float
    length: float = 1000.0
    width: float = 0.1


@dataclass(frozen=True)
class Told:
    """What rivals know: the lines in an image, and the power of the damage on the half spectrum."""

    lines: tuple[Lines, ...] = ()
    power: Callable[[], Array] | None = None


def in_turn(told: Told, function: Method) -> Method:
    """A method for rows on each direction of lines, the image turned so that they are its rows, nearly."""

    def applied(y: Array) -> Array:
        for lines in told.lines:
            is_upright = abs(lines.angle - UPRIGHT) < UPRIGHT / 2
            y = function(y.T).T if is_upright else function(y)
        return y

    return applied


def are_straight(told: Told) -> bool:
    """Whether there are lines, and all are rows or columns."""
    return bool(told.lines) and all(lines.angle % UPRIGHT == 0 for lines in told.lines)


def medians(told: Told) -> list[Method]:
    """Running sums of medians of differences."""
    settings = itertools.product((False, True), (None, WINDOW))
    return [in_turn(told, partial(without_medians, is_gain=gain, window=window)) for gain, window in settings]


def without_medians(y: Array, is_gain: bool, window: int | None) -> Array:
    """An image less the running sum of the medians, over rows or windows of them, of steps from row to row."""
    if is_gain:
        return np.exp(without_medians(np.log(np.maximum(y + 1, GREY_LEVEL)), False, window)) - 1
    steps = np.diff(y, axis=0, prepend=y[:1])
    if window is None:
        found = np.median(steps, axis=1, keepdims=True)
    else:
        found = ndimage.median_filter(steps[:, ::4], (1, window // 4), mode="nearest").repeat(4, axis=1)
    profile = found[:, : y.shape[1]].cumsum(axis=0)
    return y - profile + ndimage.median_filter(profile, (TREND, 1), mode="nearest")


def imported_pystripe() -> ModuleType:
    """The package, without the reader of camera files, and without silencing all warnings."""
    with warnings.catch_warnings(), patch.dict(sys.modules, dcimg=Mock()):
        import pystripe
    return pystripe


def pystripe(told: Told) -> list[Method]:
    """That of its README, and twelve of one bandwidth."""
    filter_streaks = imported_pystripe().filter_streaks
    scale = (2**16 - 1) / (2 + 2 * PEDESTAL)

    def filtered(y: Array, **settings: object) -> Array:
        lifted = np.clip((y + 1 + PEDESTAL) * scale, 0, 2**16 - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return filter_streaks(lifted, **settings) / scale - 1 - PEDESTAL

    shown = partial(filtered, sigma=[128, 256], level=7, wavelet="db2")
    grid = itertools.product(("db5", "db10", "db20"), (2, 8, 32, 128))
    return [
        in_turn(told, shown),
        *(in_turn(told, partial(filtered, sigma=[size, size], wavelet=name)) for name, size in grid),
    ]


def algotom(told: Told) -> list[Method]:
    """Its functions by their defaults, and some others."""
    from algotom.prep import removal

    functions = [
        removal.remove_stripe_based_sorting,
        removal.remove_stripe_based_wavelet_fft,
        partial(removal.remove_stripe_based_wavelet_fft, wavelet_name="db20"),
        removal.remove_stripe_based_filtering,
        removal.remove_stripe_based_normalization,
        partial(removal.remove_stripe_based_normalization, sigma=5),
        removal.remove_stripe_based_interpolation,
        partial(removal.remove_stripe_based_fft, u=50),
    ]
    # Some divide, so all is lifted above zero.
    return [in_turn(told, lambda y, f=f: f(np.ascontiguousarray(y.T + 2)).T - 2) for f in functions]


def vsnr(told: Told) -> list[Method]:
    """Six levels and weights of its two terms. Its angles go the other way round."""
    from pyvsnr.vsnr2d import vsnr2d_py

    def filtered(y: Array, beta: float, level: float) -> Array:
        filters = [
            {"name": "Gabor", "noise_level": level, "sigma": (one.length, one.width), "theta": -one.angle}
            for one in told.lines
        ]
        ready = ((y + 1) / 2).astype(np.float32)
        return 2 * vsnr2d_py(ready, filters, beta=beta, norm=False).astype(float) - 1

    return [partial(filtered, beta=b, level=n) for b, n in itertools.product((10, 100), (10, 1, 0.3))]


def destripe(told: Told) -> list[Method]:
    """Its default, and a weaker one."""
    from destripe import UniversalStripeRemover

    def filtered(y: Array, weight: float) -> Array:
        remover = UniversalStripeRemover(mu1=weight, device="cpu")
        upright = np.ascontiguousarray((y.T + 1) / 2, np.float32)
        return 2 * remover.process(upright, ITERATIONS).numpy().T.astype(float) - 1

    return [in_turn(told, partial(filtered, weight=weight)) for weight in (0.33, 0.01)]


def bm3d(told: Told) -> list[Method]:
    """Of the spectrum."""
    return [lambda y: told_bm3d(y, told.power())]


def notches(told: Told) -> list[Method]:
    """Four thresholds of the power of the damage over that of the damaged image around."""

    def filtered(y: Array, times: float) -> Array:
        spectrum = np.fft.fft2(y)
        level = surroundings(np.abs(spectrum))
        places = FrequencyGrid(y.shape).full(told.power()) * y.size > times * level**2
        return levelled(spectrum, places, level)

    return [partial(filtered, times=times) for times in (1, 0.1, 0.3, 3)]


def descreen(told: Told) -> list[Method]:
    """Eight thresholds and sizes of the middle, which is spared."""

    def filtered(y: Array, times: float, smallest: float) -> Array:
        spectrum = np.fft.fft2(y)
        magnitude = np.abs(spectrum)
        return levelled(spectrum, peaks(magnitude, times, smallest), surroundings(magnitude))

    grid = itertools.product((4, 3, 6, 10), (0.05, 0.1))
    return [partial(filtered, times=times, smallest=smallest) for times, smallest in grid]


def levelled(spectrum: Array, places: Array, level: Array) -> Array:
    """The image whose magnitude is lowered to a level at some places."""
    magnitude = np.maximum(np.abs(spectrum), 1e-12)
    return np.fft.ifft2(np.where(places, spectrum * np.minimum(1, level / magnitude), spectrum)).real


def blur(told: Told) -> list[Method]:
    """Eight widths."""
    return [partial(ndimage.gaussian_filter, sigma=s) for s in (1.5, 0.5, 0.75, 1, 1.25, 2, 2.5, 3)]


@dataclass(frozen=True)
class Rival:
    """The settings of a method, the package that it needs, what it can do, and for how many photographs it is run."""

    settings: Callable[[Told], list[Method]]
    package: str | None = None
    can: Callable[[Told], bool] = lambda told: True
    most: int | None = None

    def is_there(self) -> bool:
        """Whether its package is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None


SOME, FEW = 4, 2  # photographs, where a method takes long
RIVALS = {
    "median": Rival(medians, can=are_straight),
    "pystripe": Rival(pystripe, "pystripe", are_straight, SOME),
    "algotom": Rival(algotom, "algotom", are_straight, SOME),
    "vsnr": Rival(vsnr, "pyvsnr", most=SOME),
    "destripe": Rival(destripe, "destripe", most=FEW),
    "bm3d": Rival(bm3d, "bm3d", most=FEW),
    "notches": Rival(notches),
    "descreen": Rival(descreen),
    "blur": Rival(blur),
}
LINES = ("median", "pystripe", "algotom", "vsnr", "destripe", "bm3d")


def installed(names: Sequence[str]) -> list[str]:
    """Those that can be run; a sentence on the error stream for each of the others."""
    for name in names:
        if not RIVALS[name].is_there():
            print(f"{name} is skipped: {RIVALS[name].package} is not installed", file=sys.stderr)
    return [name for name in names if RIVALS[name].is_there()]
