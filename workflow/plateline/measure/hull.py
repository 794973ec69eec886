"""Convex hulls of objects, and what follows from them: enclosing circle, Feret diameters, convex area.

All functions are compiled and work on one object; the families call them for each. A hull starts at the topmost pixel
of the leftmost column and goes right along the top. CellProfiler has this order too, and since features depend on
whether a pixel on the circle counts as inside it, the order of its arithmetic is kept.
"""

import numpy as np
from numba import njit

_NONE = 1 << 30


@njit(cache=True, error_model="numpy")
def hull_of(pixels, row):
    """Corners of the convex hull of an object's pixel centres: y and x, (h,) int64 each, in the field's coordinates."""
    top, bottom = _columns(pixels, row)
    y, x = _chain(top, bottom)
    return y + pixels.box[row, 0], x + pixels.box[row, 1]


@njit(cache=True, error_model="numpy")
def _columns(pixels, row):
    """First and last y of each column of the object's box, counted from the box; `_NONE` and -1 where it is empty."""
    y0, x0, width = pixels.box[row, 0], pixels.box[row, 1], pixels.box[row, 3] - pixels.box[row, 1]
    top, bottom = np.full(width, _NONE, np.int64), np.full(width, -1, np.int64)
    for at in range(pixels.start[row], pixels.start[row + 1]):
        column, y = pixels.x[at] - x0, pixels.y[at] - y0
        top[column], bottom[column] = min(top[column], y), max(bottom[column], y)
    return top, bottom


@njit(cache=True, error_model="numpy")
def _chain(top, bottom):
    """Corners of the hull of columns: along the top to the right, along the bottom back."""
    width = top.size
    y, x, n = np.empty(2 * width, np.int64), np.empty(2 * width, np.int64), 0
    for column in range(width):
        if top[column] < _NONE:
            n = _push(y, x, n, 0, top[column], column)
    # The last corner of the top starts the way back, unless the last column has a lower pixel.
    turn = n - 1
    for column in range(width - 1, -1, -1):
        if top[column] < _NONE and not (column == x[turn] and bottom[column] == y[turn]):
            n = _push(y, x, n, turn, bottom[column], column)
    if n > 1 and y[n - 1] == y[0] and x[n - 1] == x[0]:
        n -= 1
    return y[:n].copy(), x[:n].copy()


@njit(cache=True, error_model="numpy")
def _push(y, x, n, least, new_y, new_x):
    """Add a corner after dropping those before it, down to `least`, that it makes no corners; their number then."""
    while n - least >= 2:
        away_y, away_x = y[n - 1] - y[n - 2], x[n - 1] - x[n - 2]
        if away_x * (new_y - y[n - 2]) - away_y * (new_x - x[n - 2]) > 0:
            break
        n -= 1
    y[n], x[n] = new_y, new_x
    return n + 1


@njit(cache=True, error_model="numpy")
def enclosing_circle(y, x):
    """Centre y, centre x and radius of the smallest circle around the corners of a hull (Chrystal 1885)."""
    if y.size == 1:
        return float(y[0]), float(x[0]), 0.0
    first, second = 0, 1
    while y.size > 2:
        third, angle, at_first, at_second = _sharpest(y, x, first, second)
        if angle >= np.pi / 2:
            break
        if at_first <= np.pi / 2 and at_second <= np.pi / 2:
            return _circumcircle(y, x, first, second, third)
        if at_first > np.pi / 2:
            first = third
        else:
            second = third
    return (
        (y[first] + y[second]) / 2,
        (x[first] + x[second]) / 2,
        np.sqrt(float((y[first] - y[second]) ** 2 + (x[first] - x[second]) ** 2)) / 2,
    )


@njit(cache=True, error_model="numpy")
def _sharpest(y, x, first, second):
    """The corner that sees the side from `first` to `second` under the smallest angle, and the triangle's angles."""
    best, angle, at_first, at_second = -1, np.inf, 0.0, 0.0
    side_y, side_x = float(y[first] - y[second]), float(x[first] - x[second])
    side = side_y * side_y + side_x * side_x
    for corner in range(y.size):
        if corner in (first, second):
            continue
        y0, x0 = float(y[corner] - y[first]), float(x[corner] - x[first])
        y1, x1 = float(y[corner] - y[second]), float(x[corner] - x[second])
        here_second = np.arccos((side_y * y1 + side_x * x1) / np.sqrt(side * (y1 * y1 + x1 * x1)))
        here_first = np.arccos((-side_y * y0 - side_x * x0) / np.sqrt(side * (y0 * y0 + x0 * x0)))
        here = np.pi - here_second - here_first
        if here < angle:
            best, angle, at_first, at_second = corner, here, here_first, here_second
    return best, angle, at_first, at_second


@njit(cache=True, error_model="numpy")
def _circumcircle(ys, xs, a, b, c):
    ay, ax, by, bx, cy, cx = float(ys[a]), float(xs[a]), float(ys[b]), float(xs[b]), float(ys[c]), float(xs[c])
    a2, b2, c2 = ay * ay + ax * ax, by * by + bx * bx, cy * cy + cx * cx
    twice = 2 * (ax * (by - cy) + bx * (cy - ay) + cx * (ay - by))
    x = (a2 * (by - cy) + b2 * (cy - ay) + c2 * (ay - by)) / twice
    y = (a2 * (cx - bx) + b2 * (ax - cx) + c2 * (bx - ax)) / twice
    return y, x, np.sqrt((ay - y) ** 2 + (ax - x) ** 2)


@njit(cache=True, error_model="numpy")
def feret_diameters(y, x):
    """Smallest and largest distance between two parallel lines that touch the hull on either side."""
    longest, narrowest = 0, np.inf
    for a in range(y.size):
        b, reach = (a + 1) % y.size, 0.0
        edge_y, edge_x = y[b] - y[a], x[b] - x[a]
        for c in range(y.size):
            longest = max(longest, (y[c] - y[a]) ** 2 + (x[c] - x[a]) ** 2)
            reach = max(reach, float(abs(edge_x * (y[c] - y[a]) - edge_y * (x[c] - x[a]))))
        if y.size > 2:
            narrowest = min(narrowest, reach / np.sqrt(float(edge_y * edge_y + edge_x * edge_x)))
    return narrowest if y.size > 2 else 0.0, np.sqrt(float(longest))


@njit(cache=True, error_model="numpy")
def convex_area(pixels, row):
    """Pixels whose centre lies in the hull of the middles of all pixel edges, as scikit-image counts them."""
    top, bottom = _columns(pixels, row)
    # In half pixels: a pixel at column x covers the columns 2x to 2x + 2 here, one less on either side of its middle.
    high, low = np.full(2 * top.size + 1, _NONE, np.int64), np.full(2 * top.size + 1, -1, np.int64)
    for column in range(top.size):
        if top[column] < _NONE:
            for side in (0, 2):
                high[2 * column + side] = min(high[2 * column + side], 2 * top[column] + 1)
                low[2 * column + side] = max(low[2 * column + side], 2 * bottom[column] + 1)
            high[2 * column + 1], low[2 * column + 1] = 2 * top[column], 2 * bottom[column] + 2
    y, x = _chain(high, low)
    first, last = np.full(top.size, _NONE, np.int64), np.full(top.size, -1, np.int64)
    for a in range(y.size):
        b = (a + 1) % y.size
        for column in range(min(x[a], x[b]) // 2, (max(x[a], x[b]) + 1) // 2):
            away = 2 * column + 1 - x[a]
            if x[a] != x[b] and min(x[a], x[b]) <= 2 * column + 1 <= max(x[a], x[b]):
                # y of the edge at the middle of the column, as a fraction over the edge's width.
                width = abs(x[b] - x[a])
                edge = y[a] * width + (y[b] - y[a]) * (away if x[b] > x[a] else -away)
                first[column] = min(first[column], -((width - edge) // (2 * width)))
                last[column] = max(last[column], (edge - width) // (2 * width))
    return np.sum(last - first + 1)
