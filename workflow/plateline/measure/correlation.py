"""Correlation and colocalisation of two channels on objects (CellProfiler's MeasureColocalization).

Overlap, Manders and rank-weighted coefficients count the pixels that reach a share of the object's maximum in both
channels. Ranks come with the pixels, sorted once per channel and not once per pair.

References
----------
Manders et al. 1993, doi:10.1111/j.1365-2818.1993.tb03313.x. Singan et al. 2011, doi:10.1186/1471-2105-12-407.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from plateline.measure.costes import measure_costes
from plateline.measure.names import Settings
from plateline.measure.pixels import Floats, Pixels, Values


def measure_correlation(pixels: Pixels, values: Values, full_scale: Sequence[float], settings: Settings) -> Floats:
    """Features `Correlation` of each object, (pairs, F, n), pairs of channels in order.

    NaN where a channel is constant on the object (Correlation, Slope, Costes), or has no light (Overlap, K, Manders,
    RWC).
    """
    found = _correlate(pixels, values, settings.correlation_threshold / 100)
    if settings.costes:
        found = np.concatenate([found, measure_costes(pixels, values, full_scale)], axis=1)
    channels = len(values.known)
    known = [values.known[a] & values.known[b] for a in range(channels) for b in range(a + 1, channels)]
    if known:
        found[np.broadcast_to(~np.array(known)[:, None], found.shape)] = np.nan
    return found


@njit(cache=True, error_model="numpy")
def _correlate(pixels, taken, share):
    channels, n = taken.known.shape
    found, pair = np.full((channels * (channels - 1) // 2, 9, n), np.nan), 0
    for a in range(channels):
        for b in range(a + 1, channels):
            for row in range(n):
                first, last = pixels.start[row], pixels.start[row + 1]
                if last > first:
                    _regress(taken, a, b, first, last, found[pair, :2, row])
                    _overlap(taken, a, b, first, last, share, found[pair, 2:, row])
            pair += 1
    return found


@njit(cache=True, error_model="numpy")
def _regress(taken, a, b, first, last, out):
    """Correlation, and slope of the second on the first channel."""
    if taken.ordered[a, first] == taken.ordered[a, last - 1]:
        return
    u, v, mean_u, mean_v = taken.values[a, first:last], taken.values[b, first:last], 0.0, 0.0
    for at in range(u.size):
        mean_u += u[at]
        mean_v += v[at]
    mean_u, mean_v, uu, vv, uv = mean_u / u.size, mean_v / u.size, 0.0, 0.0, 0.0
    for at in range(u.size):
        du, dv = u[at] - mean_u, v[at] - mean_v
        uu += du * du
        vv += dv * dv
        uv += du * dv
    out[1] = uv / uu
    if taken.ordered[b, first] != taken.ordered[b, last - 1]:
        out[0] = uv / np.sqrt(uu) / np.sqrt(vv)
    else:
        out[1] = 0.0


@njit(cache=True, error_model="numpy")
def _overlap(taken, a, b, first, last, share, out):
    """Overlap, both K, both Manders and both rank-weighted coefficients."""
    least_u, least_v = share * taken.ordered[a, last - 1], share * taken.ordered[b, last - 1]
    ranks = max(_top(taken.rank[a], first, last), _top(taken.rank[b], first, last)) + 1
    uu, vv, uv, in_u, in_v, ranked_u, ranked_v, all_u, all_v = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    both = False
    for at in range(first, last):
        u, v = np.float64(taken.values[a, at]), np.float64(taken.values[b, at])
        if u >= least_u:
            all_u += u
        if v >= least_v:
            all_v += v
        if u >= least_u and v >= least_v:
            weight, both = (ranks - abs(taken.rank[a, at] - taken.rank[b, at])) / ranks, True
            uu += u * u
            vv += v * v
            uv += u * v
            in_u += u
            in_v += v
            ranked_u += u * weight
            ranked_v += v * weight
    if not both:
        out[:] = 0
        return
    out[0], out[1], out[2] = uv / np.sqrt(uu * vv), uv / uu, uv / vv
    out[3], out[4], out[5], out[6] = in_u / all_u, in_v / all_v, ranked_u / all_u, ranked_v / all_v


@njit(cache=True, error_model="numpy")
def _top(rank, first, last):
    top = 0
    for at in range(first, last):
        top = max(top, rank[at])
    return top
