"""Neighbours of objects: how many, how much of the outline touches them, how far and where they are.

The definitions are those of CellProfiler's MeasureObjectNeighbors. A neighbour at a reach of r pixels has a pixel in
the disk of that radius around one of the object's; adjacent, reach 0 here, is CellProfiler's reach of 1.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from plateline.measure.pixels import Floats, Pixels


def measure_neighbors(pixels: Pixels, reaches: Sequence[int]) -> Floats:
    """Features `Neighbors` of each object, (reaches, 5, n).

    NaN where there is no first or second other object in the field; the angle, in degrees, is the one between the two.
    """
    nearest = _nearest(pixels)
    found = [np.concatenate([_near(pixels, max(reach, 1)), nearest]) for reach in reaches]
    return np.stack(found) if found else np.empty((0, 5, pixels.n))


@njit(cache=True, error_model="numpy")
def _near(pixels, reach):
    """Number of objects within reach, and percent of the outline that touches one, (2, n)."""
    n = pixels.box.shape[0]
    found, last_seen = np.zeros((2, n)), np.full(n + 1, -1, np.int64)
    touching = (reach + 0.5) ** 2
    for row in range(n):
        outline, touched = 0, 0
        for at in range(pixels.start[row], pixels.start[row + 1]):
            y, x = pixels.y[at] + 1, pixels.x[at] + 1
            if not _inside(pixels.rows, y, x):
                outline += 1
                touched += _look_around(pixels.rows, y, x, reach, touching, last_seen, found[0])
        found[1, row] = 100 * touched / max(outline, 1)
    return found


@njit(cache=True, error_model="numpy")
def _inside(rows, y, x):
    """Whether all eight neighbours of a pixel are of its object."""
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if rows[y + dy, x + dx] != rows[y, x]:
                return False
    return True


@njit(cache=True, error_model="numpy")
def _look_around(rows, y, x, reach, touching, last_seen, counts):
    """Count the objects in reach that were not seen from this object before; whether there is one just beyond."""
    own, touches = rows[y, x], 0
    for dy in range(-min(reach, y), min(reach, rows.shape[0] - 1 - y) + 1):
        for dx in range(-min(reach, x), min(reach, rows.shape[1] - 1 - x) + 1):
            other = rows[y + dy, x + dx]
            if other and other != own and dy * dy + dx * dx <= touching:
                touches = 1
                if dy * dy + dx * dx <= reach * reach and last_seen[other] != own:
                    last_seen[other] = own
                    counts[own - 1] += 1
    return touches


@njit(cache=True, error_model="numpy")
def _nearest(pixels):
    """Distance of the nearest and the second nearest centre, and the angle between them, (3, n)."""
    n = pixels.box.shape[0]
    centre_y, centre_x, found = np.full(n, np.nan), np.full(n, np.nan), np.full((3, n), np.nan)
    for row in range(n):
        first, last = pixels.start[row], pixels.start[row + 1]
        if last > first:
            centre_y[row], centre_x[row] = pixels.y[first:last].mean(), pixels.x[first:last].mean()
    for row in range(n):
        near, second, least, next_least = -1, -1, np.inf, np.inf
        for other in range(n):
            away = (centre_y[other] - centre_y[row]) ** 2 + (centre_x[other] - centre_x[row]) ** 2
            if other != row and away < least:
                second, next_least, near, least = near, least, other, away
            elif other != row and away < next_least:
                second, next_least = other, away
        if near >= 0:
            found[0, row] = np.sqrt(least)
        if second >= 0:
            found[1, row] = np.sqrt(next_least)
            dot = (centre_y[near] - centre_y[row]) * (centre_y[second] - centre_y[row])
            dot += (centre_x[near] - centre_x[row]) * (centre_x[second] - centre_x[row])
            found[2, row] = np.degrees(np.arccos(min(1.0, max(-1.0, dot / np.sqrt(least * next_least)))))
    return found
