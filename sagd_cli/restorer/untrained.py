"""Estimates of the clean image that need no network; they change the noisy frequencies only. Imports no torch."""

import math
from collections.abc import Callable
from functools import lru_cache
from inspect import unwrap

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.strength import TINY
from sagd_cli.errors import DataError
from sagd_cli.spectral.grid import Array

SignalArray = NDArray[np.float32]  # (..., C, H, W) on [-1, 1]
NoisyBins = NDArray[np.bool_]  # on the half spectrum of (H, W)

NEAREST = 2.0  # distance in bins from which on the spectrum around a band counts less
KEPT_SHAPES, LARGEST_KEPT = 2, 1 << 22  # a folder has few shapes; arrays of larger images take too many bytes


def notch(y: SignalArray, inside: NoisyBins) -> SignalArray:
    """Return images `y` without the frequencies `inside`. The mean of each image stays."""
    spectrum = scipy.fft.rfft2(_about_mean(y))
    return _without(y, spectrum * inside)


def wiener(y: SignalArray, inside: NoisyBins) -> SignalArray:
    """Reduce each frequency of `inside` to the level around them: a Wiener filter without training.

    The amplitude of images `y` is multiplied by S / max(S, P); the phase stays. P = |F y|^2 / N is the power at that
    frequency, averaged over colours. S is the power that the spectrum around `inside` suggests. The noise power P - S,
    or 0 where S is larger, is the likeliest one. The mean of each image stays. Raises DataError when no other frequency
    but the mean is left.
    """
    outside = ~inside
    outside[0, 0] = False
    if not outside.any():
        raise DataError("the band leaves no frequency to compare it with", "Use --estimate notch.")
    shape, channels = y.shape[-2:], y.shape[-3]
    spectrum = scipy.fft.rfft2(_about_mean(y), norm="ortho")
    power = np.maximum(np.mean(spectrum.real**2 + spectrum.imag**2, axis=-3, keepdims=True), TINY)
    # E log P = log S + bias, as P is the mean over C colours and each colour's power is exponential with mean S.
    bias = float(scipy.special.digamma(channels)) - math.log(channels)
    seen = _blurred(np.where(outside, np.log(power) - bias, 0), shape)[..., inside]
    expected = np.exp(seen / _kept(_share, shape)(outside.tobytes(), shape)[inside])
    damage = np.zeros(power.shape, np.float32)
    damage[..., inside] = 1 - expected / np.maximum(expected, power[..., inside])
    return _without(y, spectrum * damage, "ortho")


def _about_mean(y: SignalArray) -> SignalArray:
    return np.asarray(y - y.mean(axis=(-2, -1), keepdims=True))


def _without(y: SignalArray, spectrum: NDArray[np.complex64], norm: str = "backward") -> SignalArray:
    removed = scipy.fft.irfft2(spectrum, s=y.shape[-2:], norm=norm, overwrite_x=True)
    return np.asarray(y - removed, np.float32)


def _blurred(values: Array, shape: tuple[int, ...]) -> Array:
    """Return at each frequency the weighted sum of `values` (..., half spectrum).

    A bin at distance d (in bins) has the weight (2^2 + d^2)^(-5/2). Near bins count most. In float64 the weights do
    not vanish in the middle of a band, however wide it is.
    """
    smooth = scipy.fft.irfft2(values, s=shape) * _kept(_kernel, shape)(shape)
    return np.asarray(scipy.fft.rfft2(smooth, overwrite_x=True).real)


def _kept(function: Callable[..., Array], shape: tuple[int, ...]) -> Callable[..., Array]:
    """Return `function`, or for large images the one that keeps nothing."""
    return function if math.prod(shape) <= LARGEST_KEPT else unwrap(function)


@lru_cache(maxsize=KEPT_SHAPES)
def _kernel(shape: tuple[int, ...]) -> Array:
    rows, columns = (np.fft.fftfreq(n, 1 / n) for n in shape)
    weights = (NEAREST**2 + rows[:, None] ** 2 + columns[: shape[1] // 2 + 1] ** 2) ** -2.5
    return np.asarray(scipy.fft.irfft2(weights, s=shape))


@lru_cache(maxsize=KEPT_SHAPES)
def _share(outside: bytes, shape: tuple[int, ...]) -> Array:
    """Return the weighted share of the bins around each frequency that are `outside`, as bytes of a mask."""
    return _blurred(np.frombuffer(outside, bool).reshape(shape[0], -1).astype(np.float64), shape)
