"""Sharpness of one image. Every score here keeps its value under another gain or offset of the camera."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft

from plateline.qc.kernels import edge_sums, ring_power, windowed_ring_power
from plateline.qc.levels import Levels, levels_of, mean

# Rings of the spectrum that tell focus, in 64ths of a cycle per pixel: waves of 4 to 26 pixels. Longer ones are the
# arrangement of the cells and the illumination, shorter ones the noise.
_RINGS = 64
_FOCUS_RINGS = slice(2, 16)
_NOISE_RINGS = slice(28, 40)
# Power below this share of the noise floor is not told from it.
_LEAST_SHARE = 0.03
# Rings of pure noise vary by a few tenths of the floor; an image must rise clearly above that to have a focus.
_LEAST_POWER = 2.0
# Below, CellProfiler's slope has no two rings.
_SMALLEST = 32


class Light(NamedTuple):
    """An image about a whole number near its mean, which single precision holds without loss, and its variance."""

    plane: npt.NDArray[np.float32]
    variance: float


def centred(plane: npt.NDArray, levels: Levels) -> Light:
    """The light of an image (Y, X) about its mean; the variance of a constant image is 0 exactly."""
    centre = mean(levels) if len(levels.values) else 0.0
    light = plane.astype(np.float32)
    light -= np.float32(round(centre) if plane.dtype.kind in "iu" else centre)
    return Light(light, mean(Levels((levels.values - centre) ** 2, levels.counts)) if len(levels.values) > 1 else 0.0)


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
    return spectral_focus(centred(plane, levels_of(plane)))[1]


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
    return spectral_focus(centred(plane, levels_of(plane)))[0]


def spectral_focus(light: Light) -> tuple[float, float]:
    """`focus_score` and `power_slope` of an image, from one Fourier transform."""
    height, width = light.plane.shape
    short = min(height, width)
    if short < _SMALLEST or not light.variance:
        return np.nan, np.nan
    spectrum = fft.rfft2(light.plane)
    spectrum[0, 0] = 0
    cycles = ring_power(spectrum, _rings(light.plane.shape, short), width, short // 8, width // 8 + 1)
    slope = _fit_slope(cycles)
    if short < _RINGS:
        return np.nan, slope
    sums = windowed_ring_power(spectrum, _rings(light.plane.shape, _RINGS), width, _NOISE_RINGS.stop)
    return _fit_focus(sums / _ring_sizes(light.plane.shape, _RINGS)), slope


def _fit_slope(sums: npt.NDArray[np.float64]) -> float:
    """Slope of log power over log frequency, of the power in rings of 2 cycles and more."""
    radii = np.arange(2, len(sums))
    return float(np.polyfit(np.log(radii), np.log(sums[2:]), 1)[0]) if (sums[2:] > 0).all() else np.nan


def _fit_focus(power: npt.NDArray[np.float64]) -> float:
    """Slope above the noise, of the mean power in each ring."""
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


def edges(light: Light) -> tuple[float, float]:
    """Variance of the Laplacian, and mean squared Sobel gradient (Tenengrad), over the variance of the image.

    Both fall with blur and rise with noise. NaN for a constant image and one of less than 3 pixels a side; the
    outermost pixels have neither.

    References
    ----------
    Krotkov (1988), https://doi.org/10.1007/BF00127822.
    """
    if min(light.plane.shape) < 3 or not light.variance:
        return np.nan, np.nan
    inner = (light.plane.shape[0] - 2) * (light.plane.shape[1] - 2)
    total, squared, gradient = edge_sums(light.plane)
    return (squared / inner - (total / inner) ** 2) / light.variance, gradient / inner / light.variance


@lru_cache(maxsize=4)
def _rings(shape: tuple[int, int], per_unit: int) -> npt.NDArray[np.int16]:
    """Ring of each frequency of the half spectrum, (Y, X // 2 + 1)."""
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1]))
    return np.minimum(frequency * per_unit, np.iinfo(np.int16).max).astype(np.int16)


@lru_cache(maxsize=4)
def _ring_sizes(shape: tuple[int, int], per_unit: int) -> npt.NDArray[np.float64]:
    """Frequencies of the whole spectrum in each ring up to those of the noise."""
    rings = _rings(shape, per_unit)
    return ring_power(np.ones(rings.shape, np.complex64), rings, shape[1], _NOISE_RINGS.stop, rings.shape[1])
