"""Distances inside objects: to the nearest pixel outside, and from a centre along the object.

Compiled functions that work on one object at a time, in its box.
"""

import numpy as np
from numba import njit

# Farther than any pixel of a field; its square fits an int32.
_FAR = 32000


@njit(cache=True, error_model="numpy")
def to_outside(pixels, row, bounded):
    """Squared distance of each pixel of an object to the nearest pixel outside it, (p,) int64.

    `bounded` says whether what lies beyond the field's border is outside (as for CellProfiler's radii) or unknown (as
    for its radial distribution).
    """
    y0, x0, x1 = pixels.box[row, 0], pixels.box[row, 1], pixels.box[row, 3]
    # What lies beyond a side of the box is outside, unless the field ends there.
    ends_left, ends_right = not bounded and x0 == 0, not bounded and x1 == pixels.rows.shape[1] - 2
    down = _to_outside_in_column(pixels, row, bounded)
    first, last = pixels.start[row], pixels.start[row + 1]
    found = np.empty(last - first, np.int64)
    for at in range(first, last):
        y, x = pixels.y[at] - y0, pixels.x[at] - x0
        best, away = down[y, x] * down[y, x], 1
        while away * away < best:
            left = down[y, x - away] if x >= away else (_FAR if ends_left else 0)
            right = down[y, x + away] if x + away < x1 - x0 else (_FAR if ends_right else 0)
            nearer = min(left, right)
            best, away = min(best, nearer * nearer + away * away), away + 1
        found[at - first] = best
    return found


@njit(cache=True, error_model="numpy")
def _to_outside_in_column(pixels, row, bounded):
    """Distance of each pixel of the box to the nearest one above or below it outside the object; 0 outside."""
    y0, x0, y1, x1 = pixels.box[row, 0], pixels.box[row, 1], pixels.box[row, 2], pixels.box[row, 3]
    down = np.zeros((y1 - y0, x1 - x0), np.int64)
    for x in range(x1 - x0):
        reach = 0 if bounded or y0 > 0 else _FAR
        for y in range(y1 - y0):
            reach = min(reach + 1, _FAR) if pixels.rows[y0 + y + 1, x0 + x + 1] == row + 1 else 0
            down[y, x] = reach
        reach = 0 if bounded or y1 < pixels.rows.shape[0] - 2 else _FAR
        for y in range(y1 - y0 - 1, -1, -1):
            reach = min(reach + 1, _FAR) if down[y, x] else 0
            down[y, x] = min(down[y, x], reach)
    return down


@njit(cache=True, error_model="numpy")
def from_centre(pixels, row, centre):
    """Distance of each pixel of an object from its pixel number `centre` along steps inside it, (p,) float64.

    A step to a direct neighbour is 1 long, to a diagonal one the root of 2; infinite where no way leads.
    """
    y0, x0, y1, x1 = pixels.box[row, 0], pixels.box[row, 1], pixels.box[row, 2], pixels.box[row, 3]
    first, last = pixels.start[row], pixels.start[row + 1]
    way = np.full((y1 - y0 + 2, x1 - x0 + 2), -1.0)
    for at in range(first, last):
        way[pixels.y[at] - y0 + 1, pixels.x[at] - x0 + 1] = np.inf
    way[pixels.y[first + centre] - y0 + 1, pixels.x[first + centre] - x0 + 1] = 0
    while _sweep(way, pixels, row, 1) | _sweep(way, pixels, row, -1):
        pass
    found = np.empty(last - first)
    for at in range(first, last):
        found[at - first] = way[pixels.y[at] - y0 + 1, pixels.x[at] - x0 + 1]
    return found


@njit(cache=True, error_model="numpy")
def _sweep(way, pixels, row, step):
    """Shorten ways by the four neighbours that come before in reading order, or after it for `step` -1; any change."""
    y0, x0, diagonal, changed = pixels.box[row, 0] - 1, pixels.box[row, 1] - 1, np.sqrt(2.0), False
    first, last = pixels.start[row], pixels.start[row + 1]
    for number in range(last - first):
        at = first + number if step > 0 else last - 1 - number
        y, x = pixels.y[at] - y0, pixels.x[at] - x0
        best = way[y, x]
        for dx in range(-1, 2):
            near = way[y - step, x + dx]
            if near >= 0:
                best = min(best, near + (1.0 if dx == 0 else diagonal))
        if way[y, x - step] >= 0:
            best = min(best, way[y, x - step] + 1.0)
        if best < way[y, x]:
            way[y, x], changed = best, True
    return changed
