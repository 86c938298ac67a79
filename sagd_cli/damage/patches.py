"""How patches of images vary, beside what noise and the spectrum of images explain.

Texture fills a patch of 8x8 pixels in some directions only, and noise in all of them: what varies in the emptiest
directions of the quietest patches is nearly noise alone (Chen, Zhu, Heng, ICCV 2015). Directions are those of the
covariance of one half of the patches relative to the noise, and the variance along them is measured on the other half.
They are independent of what quiet patches are selected by. So neither choice makes the noise smaller.
"""

import numpy as np
import scipy
from numpy.typing import NDArray

from sagd_cli.damage.fields import Signals
from sagd_cli.spectral.grid import Array, FrequencyGrid

PATCH_SIDE, PATCH_CELL = (
    8,
    16,
)  # pixels: patches lie in cells, and the two halves are the colours of a chessboard of cells
STARTS = range(0, PATCH_CELL - PATCH_SIDE + 1, 2)  # of the patches in a cell
QUIET = 0.1  # share of the patches that is looked at: those whose quarters differ least in brightness
FEWEST_PATCHES = 128  # in each half
MOST_CELLS = 8192
EMPTIEST = 0.5  # share of the directions that is looked at
SATURATED = 0.05  # share of black and white pixels from which on a patch is left out: its noise was clipped


def patch_variances(signals: Signals, powers: Array, noise: Array, grid: FrequencyGrid) -> list[Array] | None:
    """Return what patches of `signals` vary by along their emptiest directions, and what spectra make of that.

    `signals` (C, H, W) are images whose noise is alike. Directions are relative to noise of the power `noise`, which is
    positive at nearly all frequencies. The result is the variance (M,) along each direction, the variance (M, P) that
    fields of the spectra `powers` (P, *half spectrum of `grid`) have along it, and the number (M,) of independent
    values of which the variance is the mean. It is None when the images have too few patches.
    """
    halves, cells = zip(*map(_quiet_patches, _cells(signals)), strict=True)
    if min(map(len, halves)) < FEWEST_PATCHES:
        return None
    covariance = _covariance(noise, grid)
    basis = scipy.linalg.null_space(_quarters() @ covariance)
    seen = [basis.T @ (half.T @ half / len(half)).astype(np.float64) @ basis for half in halves]
    emptiest = (0, round(EMPTIEST * basis.shape[1]) - 1)
    chosen = [
        basis @ scipy.linalg.eigh(moment, basis.T @ covariance @ basis, subset_by_index=emptiest)[1]
        for moment in seen
    ]
    observed = [
        np.mean(np.square(half @ directions.astype(np.float32)), axis=0, dtype=np.float64)
        for half, directions in zip(halves, chosen[::-1], strict=True)
    ]
    expected = [
        [np.sum(directions * (_covariance(power, grid) @ directions), axis=0) for power in powers]
        for directions in chosen
    ]
    # A cell has many patches, but room for only so many that share no pixel.
    independent = min(sum(map(len, halves)), sum(cells) * (PATCH_CELL / PATCH_SIDE) ** 2)
    return [
        np.mean(observed, axis=0),
        np.mean(expected, axis=0).T,
        np.full(emptiest[1] + 1, max(independent, 1.0)),
    ]


def _cells(signals: Signals) -> list[NDArray[np.float32]]:
    """Return the cells (M, 16, 16) of either colour of the chessboards of all planes, 8,192 at most."""
    halves: list[list[NDArray[np.float32]]] = [[], []]
    share = min(1.0, MOST_CELLS / max(1, sum(signal.size // PATCH_CELL**2 for signal in signals)))
    for signal in signals:
        rows, columns = (side // PATCH_CELL for side in signal.shape[1:])
        cut = signal[:, : rows * PATCH_CELL, : columns * PATCH_CELL]
        board = cut.reshape(len(signal), rows, PATCH_CELL, columns, PATCH_CELL).swapaxes(2, 3)
        colour = np.broadcast_to(np.add.outer(np.arange(rows), np.arange(columns)) % 2, board.shape[:3])
        for value, half in enumerate(halves):
            places = np.argwhere(colour == value)
            wanted = np.linspace(0, max(len(places) - 1, 0), int(np.ceil(share * len(places)))).astype(int)
            half.append(board[tuple(places[wanted].T)])
    return [np.concatenate(half) for half in halves]


def _quiet_patches(cells: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Return the patches (M, 64) of cells whose four quarters differ least in brightness; count cells that have any."""
    patches = np.concatenate(
        [cells[:, y : y + PATCH_SIDE, x : x + PATCH_SIDE] for y in STARTS for x in STARTS]
    )
    patches = patches.reshape(-1, PATCH_SIDE**2)
    contrast = np.var(patches @ _quarters().T.astype(np.float32), axis=1)
    clipped = np.mean(np.abs(patches) >= 1, axis=1) > SATURATED
    if np.count_nonzero(~clipped) >= FEWEST_PATCHES:
        contrast[clipped] = np.inf
    kept = max(FEWEST_PATCHES, round(QUIET * np.count_nonzero(np.isfinite(contrast))))
    quiet = np.argsort(contrast)[:kept]
    return patches[quiet], len(np.unique(quiet % max(len(cells), 1)))


def _quarters() -> Array:
    """Return the means (4, 64) over the four quarters of a patch."""
    half = np.kron(np.eye(2), np.full(PATCH_SIDE // 2, 2 / PATCH_SIDE))
    return np.asarray(np.kron(half, half), dtype=np.float64)


def _covariance(power: Array, grid: FrequencyGrid) -> Array:
    """Return the covariance (64, 64) of the pixels of a patch of a field with the spectrum `power`."""
    correlation = np.fft.irfft2(power, s=grid.shape)
    row, column = np.divmod(np.arange(PATCH_SIDE**2), PATCH_SIDE)
    return np.asarray(correlation[np.subtract.outer(row, row), np.subtract.outer(column, column)])
