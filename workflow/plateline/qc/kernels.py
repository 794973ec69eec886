"""Compiled loops over one image: one pass each, where numpy would write an array per step."""

import numpy as np
import numpy.typing as npt
from numba import njit

# Side of the averaged blocks, pixels: smaller than a nucleus, and a hot pixel counts for a sixteenth.
BLOCK = 4


@njit(cache=True)
def count_values(values: npt.NDArray, number: int) -> npt.NDArray[np.int64]:
    """How often each whole number below `number` occurs in a one-dimensional array of them."""
    counts = np.zeros(number, np.int64)
    for value in values:
        counts[value] += 1
    return counts


@njit(cache=True, fastmath=True)
def edge_sums(light: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Sums over the inner pixels of the Laplacian, of its square, and of both Sobel gradients squared.

    Parameters
    ----------
    light : float32 array of shape (Y, X)
        At least 3 pixels a side; about its mean, so that single precision suffices. Rows are summed in single
        precision, the image in double.
    """
    height, width = light.shape
    total, squared, gradient = 0.0, 0.0, 0.0
    for y in range(1, height - 1):
        above, here, below = light[y - 1], light[y], light[y + 1]
        row, row_squared, row_gradient = np.float32(0), np.float32(0), np.float32(0)
        for x in range(1, width - 1):
            curvature = above[x] + below[x] + here[x - 1] + here[x + 1] - np.float32(4) * here[x]
            left = above[x - 1] + np.float32(2) * here[x - 1] + below[x - 1]
            right = above[x + 1] + np.float32(2) * here[x + 1] + below[x + 1]
            top = above[x - 1] + np.float32(2) * above[x] + above[x + 1]
            bottom = below[x - 1] + np.float32(2) * below[x] + below[x + 1]
            row += curvature
            row_squared += curvature * curvature
            row_gradient += (right - left) * (right - left) + (bottom - top) * (bottom - top)
        total += float(row)
        squared += float(row_squared)
        gradient += float(row_gradient)
    return total, squared, gradient


@njit(cache=True, fastmath=True)
def block_means(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Means of whole blocks of `BLOCK` pixels a side, (Y // BLOCK, X // BLOCK); the rest is not seen."""
    height, width = light.shape[0] // BLOCK, light.shape[1] // BLOCK
    means = np.zeros((height, width))
    for y in range(height):
        for step in range(BLOCK):
            row = light[y * BLOCK + step]
            for x in range(width):
                start = x * BLOCK
                means[y, x] += (row[start] + row[start + 1]) + (row[start + 2] + row[start + 3])
        for x in range(width):
            means[y, x] /= BLOCK * BLOCK
    return means


@njit(cache=True, fastmath=True)
def mixed_differences(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How far the diagonals of each square of 2 x 2 pixels differ, (Y // 2, X // 2): no level, no slope, only noise."""
    height, width = light.shape[0] // 2, light.shape[1] // 2
    mixed = np.empty((height, width), np.float32)
    for y in range(height):
        above, below = light[2 * y], light[2 * y + 1]
        for x in range(width):
            mixed[y, x] = abs(above[2 * x] - above[2 * x + 1] - below[2 * x] + below[2 * x + 1])
    return mixed


@njit(cache=True, fastmath=True)
def ring_power(
    spectrum: npt.NDArray[np.complex64], rings: npt.NDArray[np.int16], width: int, number: int, last: int
) -> npt.NDArray[np.float64]:
    """Power of a half spectrum summed over rings of the whole one.

    Parameters
    ----------
    spectrum : complex64 array of shape (Y, X // 2 + 1)
        Of a real image.
    rings : int16 array of the same shape
        Ring of each frequency.
    width : int
        X, pixels.
    number : int
        Rings from here on are left out.
    last : int
        Frequencies along x from here on are left out: none of them lies in these rings.
    """
    sums = np.zeros(number)
    for y in range(spectrum.shape[0]):
        for x in range(last):
            ring = rings[y, x]
            if ring < number:
                value = spectrum[y, x]
                power = value.real * value.real + value.imag * value.imag
                # The half spectrum leaves out the mirror images of all columns but frequency 0 and, of an even width,
                # the last.
                sums[ring] += power if x == 0 or 2 * x == width else 2 * power
    return sums


# Without fast maths, by which this had other last digits in the process that compiled it than loaded from the cache.
@njit(cache=True)
def windowed_ring_power(
    spectrum: npt.NDArray[np.complex64], rings: npt.NDArray[np.int16], width: int, number: int
) -> npt.NDArray[np.float64]:
    """As `ring_power`, of the image under a raised cosine, sin^2 along each axis, from the spectrum of the bare image.

    Such a window has three frequencies an axis, so that it mixes each frequency with its neighbours. That takes a
    fraction of the time of a second transform; three rows at a time, since writing whole spectra costs more than all
    else.
    """
    height, half = spectrum.shape
    turn = np.complex64(np.exp(1j * np.pi / height) / 4)
    back = np.conj(turn)
    sums = np.zeros(number)
    rows = np.empty((3, half), np.complex64)
    for y in range(-1, height + 1):
        _window_row(spectrum[y % height], spectrum[-y % height], width, rows[y % 3])
        if y < 1:
            continue
        above, here, below = rows[(y - 2) % 3], rows[(y - 1) % 3], rows[y % 3]
        for x in range(half):
            ring = rings[y - 1, x]
            if ring < number:
                value = np.float32(0.5) * here[x] - turn * above[x] - back * below[x]
                power = value.real * value.real + value.imag * value.imag
                sums[ring] += power if x == 0 or 2 * x == width else 2 * power
    return sums


@njit(cache=True)
def _window_row(
    row: npt.NDArray[np.complex64], mirror: npt.NDArray[np.complex64], width: int, windowed: npt.NDArray[np.complex64]
) -> None:
    """One row of a half spectrum under the window along x; beyond both its ends stands its mirror image."""
    half = len(row)
    turn = np.complex64(np.exp(1j * np.pi / width) / 4)
    back = np.conj(turn)
    for x in range(1, half - 1):
        windowed[x] = np.float32(0.5) * row[x] - turn * row[x - 1] - back * row[x + 1]
    windowed[0] = np.float32(0.5) * row[0] - turn * np.conj(mirror[1]) - back * row[1]
    beyond = np.conj(mirror[width - half])
    windowed[half - 1] = np.float32(0.5) * row[half - 1] - turn * row[half - 2] - back * beyond
