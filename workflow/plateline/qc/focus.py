"""Sharpness of one image. Every score here keeps its value under another gain or offset of the camera."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

# Rings of the spectrum that tell focus, in 64ths of a cycle per pixel: waves of 4 to 26 pixels. Longer ones are the
# arrangement of the cells and the illumination, shorter ones the noise.
_RINGS = 64
_FOCUS_RINGS = slice(2, 16)
_NOISE_RINGS = slice(28, 40)
# Power below this share of the noise floor is not told from it.
_LEAST_SHARE = 0.03
# Rings of pure noise vary by a few tenths of the floor; an image must rise clearly above that to have a focus.
_LEAST_POWER = 2.0


def power_slope(plane: npt.NDArray) -> float:
    """Slope of log radial power over log spatial frequency of one image.

    Parameters
    ----------
    plane : array of shape (Y, X)
        Counts; at least 32 pixels a side.

    Returns
    -------
    float
        Power is summed over rings of one cycle per shorter side, from 2 cycles to an eighth of that side, and a line
        fitted by least squares, as CellProfiler's PowerLogLogSlope does. It does not depend on gain or offset. NaN if
        the image is constant, too small, or has an empty ring.

    References
    ----------
    Bray et al. (2012), https://doi.org/10.1177/1087057111420292; Field (1987),
    https://doi.org/10.1364/JOSAA.4.002379.
    """
    short = min(plane.shape)
    radii = np.arange(2, short // 8)
    if len(radii) < 2 or plane.min() == plane.max():
        return np.nan
    rings, weights = _rings(plane.shape, short)
    sums = np.bincount(rings, (_power(_centred(plane)) * weights).ravel())[radii]
    return float(np.polyfit(np.log(radii), np.log(sums), 1)[0]) if (sums > 0).all() else np.nan


def focus_score(plane: npt.NDArray) -> float:
    """Slope of log power over log frequency above the noise: lower when blurred, whatever the number of cells.

    Parameters
    ----------
    plane : array of shape (Y, X)
        Counts; at least 64 pixels a side.

    Returns
    -------
    float
        Slope of the mean power per ring over waves of 4 to 26 pixels, of the windowed image. The floor of white noise,
        the least ring among waves of about 2 pixels, is subtracted first, and each ring weighs as much as its power
        stands above that floor. Cells scattered at random raise all rings alike, so few cells do not read as blur. On
        fields of BBBC013, 1 px of blur takes 1.2 away and 2 px take 3.4. NaN if the image is constant, too small, or
        its long waves do not stand above the noise: an empty field has no focus.

    Notes
    -----
    `power_slope` looks at waves of 8 pixels and more, which 1 px of blur hardly touches.
    """
    if min(plane.shape) < _RINGS or plane.min() == plane.max():
        return np.nan
    rings, weights = _rings(plane.shape, _RINGS)
    windowed = _centred(plane)
    windowed *= _window(plane.shape)
    sums = np.bincount(rings, (_power(windowed) * weights).ravel())
    power = sums / _ring_sizes(plane.shape, _RINGS)  # mean of a ring
    floor = power[_NOISE_RINGS].min()
    total = power[_FOCUS_RINGS]
    # Total power 0 is a periodic image whose waves all fall on other rings.
    if not total.min() > 0 or total[:3].mean() < _LEAST_POWER * floor:
        return np.nan
    signal = np.maximum(total - floor, _LEAST_SHARE * floor)
    x = np.log(np.arange(len(power))[_FOCUS_RINGS] + 0.5)
    share = signal / total
    x -= np.average(x, weights=share)
    return float((share * x * np.log(signal)).sum() / (share * x**2).sum())


def laplacian(plane: npt.NDArray) -> float:
    """Variance of the Laplacian over that of the image; falls with blur, rises with noise.

    NaN for a constant image and one of less than 3 pixels a side; the outermost pixels have no Laplacian.
    """
    if min(plane.shape) < 3 or plane.min() == plane.max():
        return np.nan
    light = _centred(plane)
    curvature = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:] - 4 * light[1:-1, 1:-1]
    return _mean_square(curvature - float(curvature.mean(dtype=np.float64))) / _mean_square(light)


def tenengrad(plane: npt.NDArray) -> float:
    """Mean squared Sobel gradient over the variance of the image; falls with blur, rises with noise.

    NaN for a constant image and one of less than 3 pixels a side; the outermost pixels have no gradient.

    References
    ----------
    Krotkov (1988), https://doi.org/10.1007/BF00127822.
    """
    if min(plane.shape) < 3 or plane.min() == plane.max():
        return np.nan
    light = _centred(plane)
    across = light[:, 2:] - light[:, :-2]
    down = light[2:] - light[:-2]
    across = across[:-2] + 2 * across[1:-1] + across[2:]
    down = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    return (_mean_square(across) + _mean_square(down)) / _mean_square(light)


def _centred(plane: npt.NDArray) -> npt.NDArray[np.float32]:
    """The plane about its mean; a Python float keeps it in single precision."""
    centred = plane.astype(np.float32)
    centred -= float(plane.mean(dtype=np.float64))
    return centred


def _mean_square(values: npt.NDArray[np.float32]) -> float:
    return float(np.square(values).mean(dtype=np.float64))


def _power(plane: npt.NDArray) -> npt.NDArray:
    """Power of the half spectrum, (Y, X // 2 + 1)."""
    spectrum = fft.rfft2(plane)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power


@lru_cache(maxsize=4)
def _rings(shape: tuple[int, int], per_unit: int) -> tuple[npt.NDArray, npt.NDArray]:
    """Ring of each frequency of the half spectrum, (Y * (X // 2 + 1),), and how many of the whole one it stands for."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    weights = np.ones(frequency.shape, np.float32)
    # The half spectrum leaves out the mirror images of all columns but that of frequency 0 and, of an even width, the
    # last.
    weights[:, 1 : (shape[1] + 1) // 2] = 2
    return (frequency * per_unit).astype(np.intp).ravel(), weights


@lru_cache(maxsize=4)
def _ring_sizes(shape: tuple[int, int], per_unit: int) -> npt.NDArray[np.float64]:
    """Frequencies of the whole spectrum in each ring."""
    rings, weights = _rings(shape, per_unit)
    return np.bincount(rings, weights.ravel()).astype(np.float64)


@lru_cache(maxsize=2)
def _window(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """A raised cosine, so that the borders of the image are no edges in it."""
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in shape)
    return (rows[:, None] * columns).astype(np.float32)
