"""How good an estimate is: power left in the band, PSNR and SSIM, and the JSON record of a file."""

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.data.ranges import Signal
from sagd_cli.datasets.truth import Truth
from sagd_cli.spectral.grid import FrequencyGrid

RANGE = 2.0  # from black, -1, to white, 1
LARGEST_PSNR = 120.0
# Wang et al. 2004, section III.C: an 11 x 11 Gaussian window, and constants that keep the denominators above zero.
WINDOW_SIGMA, WINDOW_REACH = 1.5, 5
K1, K2 = 0.01, 0.03


def file_report(
    before: Signal, after: Signal, truth: Truth | None, inside: NDArray[np.bool_] | None
) -> dict[str, Any]:
    """Return what the JSON record of a restored image says of its quality.

    `before` and `after` are (C, H, W) on the [-1, 1] range. The record holds the `band_power` before and after, at the
    frequencies `inside` (half spectrum) that had noise, if there are any. With a true image it also holds the PSNR (dB)
    and the SSIM before and after, on the range of the true image.
    """
    record: dict[str, Any] = {}
    if inside is not None:
        record |= {
            f"band_power_{when}": band_power(x, inside) for when, x in (("before", before), ("after", after))
        }
    if truth is not None:
        before, after, true = (truth.on_its_range(signal) for signal in (before, after, truth.signal))
        record |= {"psnr_before": psnr(before, true), "psnr": psnr(after, true)}
        record |= {"ssim_before": ssim(before, true), "ssim": ssim(after, true)}
    return record


def band_power(signal: Signal, inside: NDArray[np.bool_]) -> float:
    """Return the mean power |F x|^2 / N of `signal` (C, H, W) over its colours and the bins `inside` but DC.

    For noise of amplitude gamma in a band this is gamma^2. It is 0 when no bin but DC is inside.
    """
    chosen = inside.copy()
    chosen[0, 0] = False
    about_mean = signal - signal.mean(axis=(1, 2), keepdims=True, dtype=signal.dtype)
    spectrum = scipy.fft.rfft2(about_mean, norm="ortho", overwrite_x=True)[:, chosen]
    counts = FrequencyGrid(signal.shape[1:]).multiplicity[chosen]
    power = np.square(np.abs(spectrum), dtype=np.float64)
    return float(np.sum(power * counts) / max(len(signal) * counts.sum(), 1))


def psnr(estimate: Signal, truth: Signal) -> float:
    """Return the peak signal-to-noise ratio of `estimate` (C, H, W) in dB, at most 120.

    `estimate` and `truth` are first clipped to the [-1, 1] range, which is what a viewer sees.
    """
    error = float(np.mean((_clipped(estimate) - _clipped(truth)) ** 2))
    smallest = RANGE**2 * 10 ** (-LARGEST_PSNR / 10)
    return float(10 * np.log10(RANGE**2 / max(error, smallest)))


def ssim(estimate: Signal, truth: Signal) -> float:
    """Return the structural similarity of `estimate` (C, H, W), the mean over places and colours; 1 for equal images.

    `estimate` and `truth` are first clipped to the [-1, 1] range. A place counts when its window of 11 x 11 pixels
    lies within the image. A side shorter than 11 pixels is continued by its mirror image, and all its places count.
    Source: Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Processing 13 (2004), equation 13.
    """
    x, y = _clipped(estimate), _clipped(truth)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(similarity.mean())


def _clipped(signal: Signal) -> NDArray[np.float64]:
    return np.clip(np.asarray(signal, dtype=np.float64), -1, 1)


def _windowed(fields: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each plane of `fields` (C, H, W) under the window, at the places that count."""
    mean = scipy.ndimage.gaussian_filter(fields, WINDOW_SIGMA, axes=(1, 2), radius=WINDOW_REACH)
    rows, columns = (
        slice(WINDOW_REACH, -WINDOW_REACH) if side > 2 * WINDOW_REACH else slice(None)
        for side in fields.shape[1:]
    )
    return np.asarray(mean[:, rows, columns])
