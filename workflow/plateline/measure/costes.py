"""Manders' coefficients above Costes' thresholds (CellProfiler's `Faster` search).

The thresholds go down along the line that fits both channels best, on the grid of the camera's counts, until the pixels
below either are no longer correlated. Each step is CellProfiler's, but a pixel is looked at only while it can still
change sides: each has a range of steps at which it lies above both thresholds.

References
----------
Costes et al. 2004, doi:10.1529/biophysj.103.038422.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from plateline.measure.pixels import Floats, Pixels, Values

# CellProfiler's grid for images that do not say their range.
_UNKNOWN_RANGE = 255
# Relative to the variances, below which a covariance is rounding.
_NO_COVARIANCE = 8 * np.finfo(np.float64).eps
_MOST_STEPS = 256


def measure_costes(pixels: Pixels, values: Values, full_scale: Sequence[float]) -> Floats:
    """Both coefficients of each pair of channels and object, (pairs, 2, n).

    NaN where no line fits (a channel is constant, or fewer than three pixels have light) and where no threshold leaves
    three pixels that differ below it.
    """
    grids = [round(scale) if scale >= 2 else _UNKNOWN_RANGE for scale in full_scale]
    return _search_all(pixels, values, np.array(grids, np.int64))


@njit(cache=True, error_model="numpy")
def _search_all(pixels, taken, grids):
    channels, n = taken.known.shape
    found, pair = np.full((channels * (channels - 1) // 2, 2, n), np.nan), 0
    for a in range(channels):
        for b in range(a + 1, channels):
            for row in range(n):
                first, last = pixels.start[row], pixels.start[row + 1]
                u, v = taken.values[a, first:last], taken.values[b, first:last]
                found[pair, 0, row], found[pair, 1, row] = _coefficients(u, v, float(max(grids[a], grids[b])))
            pair += 1
    return found


@njit(cache=True, error_model="numpy")
def _coefficients(u, v, grid):
    slope, offset = _fit(u, v)
    step = _search(u, v, slope, offset, grid) if np.isfinite(slope) else -1.0
    if step < 0:
        return np.nan, np.nan
    least_u = step / grid
    least_v = slope * least_u + offset
    above_u, above_v, all_u, all_v, sums = 0.0, 0.0, 0.0, 0.0, np.zeros(10)
    _clear(sums)
    for at in range(u.size):
        if u[at] >= least_u:
            all_u += u[at]
        if v[at] >= least_v:
            all_v += v[at]
        if u[at] > least_u and v[at] > least_v:
            above_u += u[at]
            above_v += v[at]
        if u[at] < least_u or v[at] < least_v:
            _add(sums, u[at], v[at])
    if np.isnan(_covariance(sums)) or all_u <= 0 or all_v <= 0:
        return np.nan, np.nan
    return above_u / all_u, above_v / all_v


@njit(cache=True, error_model="numpy")
def _fit(u, v):
    """Slope and offset of the line nearest to the pixels with light, NaN if there is none."""
    sums = np.zeros(10)
    _clear(sums)
    for at in range(u.size):
        if u[at] > 0 or v[at] > 0:
            _add(sums, u[at], v[at])
    n = sums[0]
    if n < 3 or sums[6] == sums[7] or sums[8] == sums[9]:
        return np.nan, np.nan
    mean_u, mean_v, uu, vv, ww = sums[1] / n, sums[2] / n, 0.0, 0.0, 0.0
    for at in range(u.size):
        if u[at] > 0 or v[at] > 0:
            du, dv = u[at] - mean_u, v[at] - mean_v
            uu += du * du
            vv += dv * dv
            ww += (du + dv) * (du + dv)
    uu, vv, ww = uu / (n - 1), vv / (n - 1), ww / (n - 1)
    uv = 0.5 * (ww - (uu + vv))
    if abs(uv) <= _NO_COVARIANCE * max(uu, vv):
        return np.nan, np.nan
    slope = ((vv - uu) + np.sqrt((vv - uu) * (vv - uu) + 4 * (uv * uv))) / (2 * uv)
    return slope, mean_v - slope * mean_u


@njit(cache=True, error_model="numpy")
def _search(u, v, slope, offset, grid):
    """Step of the grid that CellProfiler's bisection ends at; -1 if it finds none."""
    above = np.empty((u.size, 2))
    for at in range(u.size):
        above[at, 0], above[at, 1] = _range(np.float64(u[at]), np.float64(v[at]), slope, offset, grid)
    open_, below, here = np.arange(u.size), np.zeros(10), np.zeros(10)
    _clear(below)
    left, right, last, valid, steps = 1.0, grid, 0.0, 0.0, 0
    middle = (right - left) // (6 / 5) + left
    while last != middle:
        steps += 1
        if steps > _MOST_STEPS:
            return -1.0
        here[:] = below
        for at in open_:
            if middle <= above[at, 0] or middle >= above[at, 1]:
                _add(here, u[at], v[at])
        if _covariance(here) >= 0:
            right, valid = middle + 1, middle
        else:
            left = middle - 1
        last = middle
        middle = (right - left) // (6 / 5 if right - left > 6 else 2.0) + left
        open_, under = _decide(open_, above, left, right)
        for at in under:
            _add(below, u[at], v[at])
    return valid - 1


@njit(cache=True, error_model="numpy")
def _decide(open_, above, left, right):
    """Pixels that may still change sides between the steps left and right, and those below a threshold throughout."""
    kept, lost, under = 0, 0, np.empty(open_.size, np.int64)
    for at in open_:
        if above[at, 1] <= left or above[at, 0] >= right:
            under[lost] = at
            lost += 1
        elif not (above[at, 0] < left and above[at, 1] > right):
            open_[kept] = at
            kept += 1
    return open_[:kept], under[:lost]


@njit(cache=True, error_model="numpy")
def _range(u, v, slope, offset, grid):
    """Steps between which, both excluded, a pixel lies above both thresholds."""
    before = min(max(np.floor(u * grid), -1.0), grid + 1)
    while before >= 0 and u < before / grid:
        before -= 1
    while before <= grid and not u < before / grid:
        before += 1
    if slope == 0:
        return (grid + 1 if v < offset else -1.0), before
    turn = min(max(np.floor((v - offset) / slope * grid), -1.0), grid + 1)
    if slope > 0:
        while turn >= 0 and v < slope * (turn / grid) + offset:
            turn -= 1
        while turn <= grid and not v < slope * (turn / grid) + offset:
            turn += 1
        return -1.0, min(before, turn)
    while turn <= grid and v < slope * (turn / grid) + offset:
        turn += 1
    while turn >= 0 and not v < slope * (turn / grid) + offset:
        turn -= 1
    return turn, before


@njit(cache=True, error_model="numpy")
def _clear(sums):
    """Number, sums of u, v, uu, vv and uv, then least and largest u and v, of no pixel."""
    sums[:6] = 0
    sums[6], sums[7], sums[8], sums[9] = np.inf, -np.inf, np.inf, -np.inf


@njit(cache=True, error_model="numpy")
def _add(sums, u, v):
    # float() would leave a float32 what it is.
    u, v = np.float64(u), np.float64(v)
    sums[0] += 1
    sums[1] += u
    sums[2] += v
    sums[3] += u * u
    sums[4] += v * v
    sums[5] += u * v
    sums[6], sums[7], sums[8], sums[9] = min(sums[6], u), max(sums[7], u), min(sums[8], v), max(sums[9], v)


@njit(cache=True, error_model="numpy")
def _covariance(sums):
    """Covariance x number^2; NaN with fewer than three pixels, or a channel that is constant on them."""
    if sums[0] < 3 or sums[6] == sums[7] or sums[8] == sums[9]:
        return np.nan
    return sums[0] * sums[5] - sums[1] * sums[2]
