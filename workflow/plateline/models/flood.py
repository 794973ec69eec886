"""Flooding of a map from its peaks: one object per peak that stands out by enough, in one pass over the pixels.

Owns the decoder that the methods `distance` and `boundary` share.
"""

import numba
import numpy as np
import numpy.typing as npt

_LEVELS = 1024


def flood(height: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], prominence: float) -> npt.NDArray[np.int32]:
    """Labels of the peaks of a map within a mask.

    Parameters
    ----------
    height : (Y, X) float32
        0 to 1; values outside count as the nearest end. Rounded to 1/1023.
    mask : (Y, X) bool
        What is labelled; every pixel of it gets a number.
    prominence : float
        Two basins are one when the lower of their peaks is less than this above the pass between them, 0 to 1.

    Returns
    -------
    (Y, X) int32
        Numbered from 1 in the raster order of first pixels. Pieces of the mask that do not touch, corner to corner
        included, are different objects, however low.

    Notes
    -----
    Pixels are visited from high to low, equal ones in raster order; each joins the basin of its highest visited
    neighbour, the first of equals. A pixel at which two basins meet decides once whether they are one.

    References
    ----------
    Najman and Couprie 2006, doi:10.1109/TIP.2006.877518 (union-find on sorted pixels); Grimaud 1992,
    doi:10.1117/12.60650 (dynamics of a peak).
    """
    level = np.clip(np.rint(height * (_LEVELS - 1)), 0, _LEVELS - 1).astype(np.int32)
    return _flood(level, np.ascontiguousarray(mask), round(prominence * (_LEVELS - 1)))


@numba.njit(cache=True)
def _ordered(level, mask):
    """Flat places of the mask from high to low, equal levels in raster order: a counting sort."""
    start = np.zeros(_LEVELS + 1, np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                start[_LEVELS - level[y, x]] += 1
    start = np.cumsum(start)
    places = np.empty(start[-1], np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                slot = _LEVELS - 1 - level[y, x]
                places[start[slot]] = y * mask.shape[1] + x
                start[slot] += 1
    return places


@numba.njit(cache=True)
def _root(parent, basin):
    while parent[basin] != basin:
        parent[basin] = parent[parent[basin]]
        basin = parent[basin]
    return basin


@numba.njit(cache=True)
def _flood(level, mask, prominence):
    high, wide = mask.shape
    labels = np.zeros((high, wide), np.int32)
    places = _ordered(level, mask)
    parent, peak = np.zeros(places.size + 1, np.int32), np.zeros(places.size + 1, np.int32)
    basins = 0
    for place in places:
        y, x = divmod(place, wide)
        best, best_level = 0, -1
        for b in range(max(y - 1, 0), min(y + 2, high)):
            for a in range(max(x - 1, 0), min(x + 2, wide)):
                if labels[b, a] and level[b, a] > best_level:
                    best, best_level = labels[b, a], level[b, a]
        if best == 0:
            basins += 1
            parent[basins], peak[basins], best = basins, level[y, x], basins
        labels[y, x] = best
        _join(labels, parent, peak, y, x, level[y, x] + prominence)
    return _renumbered(labels, parent, basins)


@numba.njit(cache=True)
def _join(labels, parent, peak, y, x, least):
    """Make one of the basins that meet at a pixel, if all but the highest stand out by too little."""
    for b in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
        for a in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
            if labels[b, a]:
                one, other = _root(parent, labels[y, x]), _root(parent, labels[b, a])
                if one != other and min(peak[one], peak[other]) < least:
                    low, top = (one, other) if peak[one] < peak[other] else (other, one)
                    parent[low] = top


@numba.njit(cache=True)
def _renumbered(labels, parent, basins):
    """Numbers from 1 in raster order, one per joined basin."""
    number, count = np.zeros(basins + 1, np.int32), 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x]:
                root = _root(parent, labels[y, x])
                if number[root] == 0:
                    count += 1
                    number[root] = count
                labels[y, x] = number[root]
    return labels
