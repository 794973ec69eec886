"""Intensities on objects, and where their centre and maximum lie (CellProfiler's MeasureObjectIntensity).

References
----------
Stirling et al. 2021, doi:10.1186/s12859-021-04344-9.
"""

import numpy as np
from numba import njit

from plateline.measure.pixels import Floats, Pixels, Values


def measure_intensity(pixels: Pixels, values: Values) -> tuple[Floats, Floats]:
    """Features `Intensity` of each object, (C, 15, n), and x and y of its centre of mass and its maximum, (C, 4, n).

    The standard deviation is that of the population. Quantiles lie between the sorted values at and after `share` times
    the area, as CellProfiler has them. The maximum's place is the first in reading order.
    """
    found, places = _summarise(pixels, values)
    for table in (found, places):
        table[np.broadcast_to(~values.known[:, None], table.shape)] = np.nan
    return found, places


@njit(cache=True, error_model="numpy")
def _summarise(pixels, taken):
    channels, n = taken.known.shape
    found, places = np.zeros((channels, 15, n)), np.zeros((channels, 4, n))
    for row in range(n):
        first, last = pixels.start[row], pixels.start[row + 1]
        if first == last:
            continue
        edge = _edge(pixels, row)
        for channel in range(channels):
            values, ordered = taken.values[channel, first:last], taken.ordered[channel, first:last]
            table = found[channel, :, row]
            table[0], table[1], table[2] = _spread(values)
            table[3], table[4] = ordered[0], ordered[-1]
            table[5], table[6], table[7] = _quantile(ordered, 0.25), _quantile(ordered, 0.5), _quantile(ordered, 0.75)
            table[8] = _deviation(ordered, table[6])
            table[9] = _place(pixels, first, values, table[0], places[channel, :, row])
            if edge.size:
                values = values[edge]
                table[10], table[11], table[12] = _spread(values)
                table[13], table[14] = values.min(), values.max()
    return found, places


@njit(cache=True, error_model="numpy")
def _edge(pixels, row):
    """Which pixels of an object, counted from its first, have a direct neighbour in the field that is not of it."""
    rows, first, last = pixels.rows, pixels.start[row], pixels.start[row + 1]
    found, n = np.empty(last - first, np.int64), 0
    for at in range(first, last):
        y, x = pixels.y[at], pixels.x[at]
        if (
            (y > 0 and rows[y, x + 1] != row + 1)
            or (x > 0 and rows[y + 1, x] != row + 1)
            or (y + 3 < rows.shape[0] and rows[y + 2, x + 1] != row + 1)
            or (x + 3 < rows.shape[1] and rows[y + 1, x + 2] != row + 1)
        ):
            found[n] = at - first
            n += 1
    return found[:n]


@njit(cache=True, error_model="numpy")
def _spread(values):
    """Sum, mean and standard deviation."""
    total, squares = 0.0, 0.0
    for value in values:
        total += value
    mean = total / values.size
    for value in values:
        squares += (value - mean) ** 2
    return total, mean, np.sqrt(squares / values.size)


@njit(cache=True, error_model="numpy")
def _quantile(ordered, share):
    place = ordered.size * share
    at = int(place)
    after = min(at + 1, ordered.size - 1)
    return np.float64(ordered[at]) * (1 - (place - at)) + np.float64(ordered[after]) * (place - at)


@njit(cache=True, error_model="numpy")
def _deviation(ordered, median):
    """CellProfiler's median of the distances from the median; they rise to both sides of it, so none is sorted."""
    n, right = ordered.size, 0
    while right < n and ordered[right] < median:
        right += 1
    left, at, here, after = right - 1, n // 2, 0.0, 0.0
    for place in range(min(at + 1, n - 1) + 1):
        if right == n or (left >= 0 and median - ordered[left] <= ordered[right] - median):
            after, left = median - ordered[left], left - 1
        else:
            after, right = ordered[right] - median, right + 1
        if place == at:
            here = after
    weight = n * 0.5 - at
    return here * (1 - weight) + after * weight


@njit(cache=True, error_model="numpy")
def _place(pixels, first, values, total, places):
    """Write x and y of centre of mass and maximum; the distance of the centres of mass and shape."""
    y, x, mass_y, mass_x, best = 0.0, 0.0, 0.0, 0.0, 0
    for at in range(values.size):
        y += pixels.y[first + at]
        x += pixels.x[first + at]
        mass_y += pixels.y[first + at] * np.float64(values[at])
        mass_x += pixels.x[first + at] * np.float64(values[at])
        if values[at] > values[best]:
            best = at
    mass = total if total != 0 else np.nan
    places[0], places[1] = mass_x / mass, mass_y / mass
    places[2], places[3] = pixels.x[first + best], pixels.y[first + best]
    return np.hypot(places[0] - x / values.size, places[1] - y / values.size)
