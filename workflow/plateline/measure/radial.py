"""Intensities from an object's centre to its edge (CellProfiler's MeasureObjectIntensityDistribution).

The centre is the pixel farthest from the edge, the first in reading order. Distances from it run inside the object,
from neighbour to neighbour; pieces that no way leads to are left out, as CellProfiler leaves them out.
"""

import numpy as np
from numba import njit

from plateline.measure.distance import from_centre, to_outside
from plateline.measure.names import ZERNIKES
from plateline.measure.pixels import Floats, Pixels, Values
from plateline.measure.zernike import intensity_moments

# As CellProfiler, to keep the outermost pixels in the last ring, and to divide by no 0.
_INWARDS = 0.001
_EPSILON = np.finfo(np.float64).eps


def measure_radial(pixels: Pixels, values: Values, *, bins: int) -> Floats:
    """Features `RadialDistribution` of each object, (C, F, n).

    NaN for fractions of an object without light, and for the moments of an object of one pixel.
    """
    light, area, spread = _rings(pixels, values.values, bins)  # (C, bins, n), (bins, n), (C, bins, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = light / light.sum(axis=1, keepdims=True)
        mean = fraction / (area / area.sum(axis=0) + _EPSILON)
    magnitude, phase = intensity_moments(pixels, values.values)
    turning = [place for place, (_, m) in enumerate(ZERNIKES) if m]
    found = np.concatenate([fraction, mean, spread, magnitude, phase[:, turning]], axis=1)
    found[np.broadcast_to(~values.known[:, None], found.shape)] = np.nan
    return found


@njit(cache=True, error_model="numpy")
def _rings(pixels, values, bins):
    """Light and pixels of each ring, and the coefficient of variation between its eight wedges."""
    channels, n = values.shape[0], pixels.box.shape[0]
    light, area, spread = np.zeros((channels, bins, n)), np.zeros((bins, n)), np.zeros((channels, bins, n))
    for row in range(n):
        first, last = pixels.start[row], pixels.start[row + 1]
        if first == last:
            continue
        wedges, pixels_of = _wedges(pixels, row, bins), np.zeros(8 * bins)
        for wedge in wedges:
            if wedge >= 0:
                pixels_of[wedge] += 1
        for ring in range(bins):
            area[ring, row] = pixels_of[8 * ring : 8 * ring + 8].sum()
        for channel in range(channels):
            light_of = np.zeros(8 * bins)
            for at in range(last - first):
                if wedges[at] >= 0:
                    light_of[wedges[at]] += values[channel, first + at]
            for ring in range(bins):
                light[channel, ring, row] = light_of[8 * ring : 8 * ring + 8].sum()
                spread[channel, ring, row] = _variation(light_of, pixels_of, ring)
    return light, area, spread


@njit(cache=True, error_model="numpy")
def _wedges(pixels, row, bins):
    """Ring x 8 + wedge of each pixel of an object, -1 where no way leads."""
    first, last = pixels.start[row], pixels.start[row + 1]
    outwards, centre = np.sqrt(to_outside(pixels, row, False).astype(np.float64)), 0
    for at in range(last - first):
        if outwards[at] > outwards[centre]:
            centre = at
    inwards = from_centre(pixels, row, centre)
    found = np.full(last - first, -1, np.int64)
    for at in range(last - first):
        if np.isfinite(inwards[at]):
            dy = pixels.y[first + at] - pixels.y[first + centre]
            dx = pixels.x[first + at] - pixels.x[first + centre]
            ring = int(inwards[at] / (inwards[at] + outwards[at] + _INWARDS) * bins)
            found[at] = 8 * ring + (dy > 0) + 2 * (dx > 0) + 4 * (abs(dy) > abs(dx))
    return found


@njit(cache=True, error_model="numpy")
def _variation(light_of, pixels_of, ring):
    """Standard deviation over mean of the wedges' means in a ring; of wedges without a pixel, or without light, 0."""
    total, squares, wedges = 0.0, 0.0, 0
    for wedge in range(8 * ring, 8 * ring + 8):
        if pixels_of[wedge]:
            total += light_of[wedge] / pixels_of[wedge]
            wedges += 1
    for wedge in range(8 * ring, 8 * ring + 8):
        if pixels_of[wedge]:
            squares += (light_of[wedge] / pixels_of[wedge] - total / wedges) ** 2
    return np.sqrt(squares / wedges) / (total / wedges) if total != 0 else 0.0
