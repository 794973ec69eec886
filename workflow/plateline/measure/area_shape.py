"""Size and shape of objects (CellProfiler's MeasureObjectSizeShape).

References
----------
Stirling et al. 2021, doi:10.1186/s12859-021-04344-9. Hu 1962, doi:10.1109/TIT.1962.1057692.
"""

import numpy as np
from numba import njit

from plateline.measure import zernike
from plateline.measure.distance import to_outside
from plateline.measure.hull import convex_area, feret_diameters, hull_of
from plateline.measure.names import CENTRAL, NORMALIZED, SPATIAL
from plateline.measure.pixels import Floats, Pixels, sort_keys

# Weights of the outline's pixels by 1 + 2 x (direct) + 10 x (diagonal neighbours on the outline); Benkrid and Crookes,
# as scikit-image's `perimeter`, which CellProfiler uses, has them.
_OUTLINE_WEIGHTS = np.zeros(50)
_OUTLINE_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1
_OUTLINE_WEIGHTS[[21, 33]] = np.sqrt(2)
_OUTLINE_WEIGHTS[[13, 23]] = (1 + np.sqrt(2)) / 2


def measure_area_shape(pixels: Pixels) -> Floats:
    """Features `AreaShape` of each object, (F, n), in the order of the names."""
    area = np.where(pixels.area > 0, pixels.area, np.nan)
    raw, central = _moments(pixels)  # (n, 4, 4), powers of y, then of x
    perimeter, euler = _outline(pixels, _OUTLINE_WEIGHTS)
    box = pixels.box.astype(np.float64).T
    box_area = np.where(pixels.area > 0, (box[2] - box[0]) * (box[3] - box[1]), np.nan)
    centre_y, centre_x = box[0] + raw[:, 1, 0] / area, box[1] + raw[:, 0, 1] / area
    inertia = central[:, [0, 1, 2], [2, 1, 0]].T / area * np.array([[1], [-1], [1]])
    hull, radii = _hulls(pixels), _radii(pixels)
    normalized = _normalize(central, area)
    sizes = [
        *(area, box_area, box[1], box[0], box[3], box[2], centre_x, centre_y, *_ellipse(*inertia)),
        *(area / box_area, np.sqrt(4 * area / np.pi), perimeter),
        *(4 * np.pi * area / np.where(perimeter == 0, np.nan, perimeter) ** 2, perimeter**2 / (4 * np.pi * area)),
        *(hull[:, 0], area / np.where(hull[:, 0] == 0, np.nan, hull[:, 0]), euler, *radii.T, hull[:, 1], hull[:, 2]),
    ]
    moments = [
        *(raw[:, p, q] for p, q in SPATIAL),
        *(central[:, p, q] for p, q in CENTRAL),
        *(normalized[:, p, q] for p, q in NORMALIZED),
        *_hu(normalized),
        *(inertia[0], inertia[1], inertia[1], inertia[2], *_eigenvalues(*inertia)),
    ]
    return np.concatenate([sizes, moments, zernike.shape_moments(pixels)])


def _eigenvalues(xx: Floats, xy: Floats, yy: Floats) -> tuple[Floats, Floats]:
    """Larger and smaller eigenvalue of the inertia tensor."""
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    return middle + half, np.maximum(middle - half, 0)


def _ellipse(xx: Floats, xy: Floats, yy: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Major and minor axis, eccentricity and orientation of the ellipse with the object's second moments."""
    long, short = _eigenvalues(xx, xy, yy)
    flatness = np.divide(short, long, out=np.where(np.isnan(long), np.nan, 1.0), where=long > 0)
    # A round object has no direction; scikit-image, and so CellProfiler, says -45 degrees.
    angle = np.where((yy == xx) & (xy == 0), -np.pi / 4, np.arctan2(-2 * xy, yy - xx) / 2)
    return 4 * np.sqrt(long), 4 * np.sqrt(short), np.sqrt(1 - flatness), np.degrees(angle)


def _normalize(central: Floats, area: Floats) -> Floats:
    """Central moments, (n, 4, 4), without the object's size."""
    order = np.arange(4)[:, None] + np.arange(4)
    return central / area[:, None, None] ** (order / 2 + 1)


def _hu(normalized: Floats) -> list[Floats]:
    """Hu's seven invariants of normalized moments (n, 4, 4)."""
    yy, xx, xy = normalized[:, 2, 0], normalized[:, 0, 2], normalized[:, 1, 1]
    skew_y = normalized[:, 3, 0] - 3 * normalized[:, 1, 2]
    skew_x = 3 * normalized[:, 2, 1] - normalized[:, 0, 3]
    a, b = normalized[:, 3, 0] + normalized[:, 1, 2], normalized[:, 2, 1] + normalized[:, 0, 3]
    cube_a, cube_b = a * (a**2 - 3 * b**2), b * (3 * a**2 - b**2)
    return [
        yy + xx,
        (yy - xx) ** 2 + 4 * xy**2,
        skew_y**2 + skew_x**2,
        a**2 + b**2,
        skew_y * cube_a + skew_x * cube_b,
        (yy - xx) * (a**2 - b**2) + 4 * xy * a * b,
        skew_x * cube_a - skew_y * cube_b,
    ]


@njit(cache=True, error_model="numpy")
def _moments(pixels):
    """Sums of y^p x^q over each object, counted from its box and from its centre, (n, 4, 4) each."""
    n = pixels.box.shape[0]
    raw, central = np.zeros((n, 4, 4)), np.zeros((n, 4, 4))
    for row in range(n):
        y0, x0 = float(pixels.box[row, 0]), float(pixels.box[row, 1])
        _add_moments(pixels, row, y0, x0, raw[row])
        area = raw[row, 0, 0]
        # From the centre at once: from the raw moments, four digits would cancel.
        _add_moments(pixels, row, y0 + raw[row, 1, 0] / area, x0 + raw[row, 0, 1] / area, central[row])
    return raw, central


@njit(cache=True, error_model="numpy")
def _add_moments(pixels, row, y0, x0, sums):
    for at in range(pixels.start[row], pixels.start[row + 1]):
        y, x, high = pixels.y[at] - y0, pixels.x[at] - x0, 1.0
        for p in range(4):
            sums[p, 0] += high
            sums[p, 1] += high * x
            sums[p, 2] += high * x * x
            sums[p, 3] += high * x * x * x
            high *= y


@njit(cache=True, error_model="numpy")
def _outline(pixels, weights):
    """Length of each object's outline, of its holes too, and its pieces less its holes (8-connected), (n,) each."""
    n, rows = pixels.box.shape[0], pixels.rows
    perimeter, euler, edge = np.zeros(n), np.zeros(n), np.zeros(rows.shape, np.bool_)
    for row in range(n):
        own = row + 1
        for at in range(pixels.start[row], pixels.start[row + 1]):
            y, x = pixels.y[at] + 1, pixels.x[at] + 1
            right, below, corner = rows[y, x + 1] == own, rows[y + 1, x] == own, rows[y + 1, x + 1] == own
            if not corner and right == below:
                euler[row] += -1 if right else 1
            if rows[y, x - 1] != own and rows[y + 1, x - 1] == own and not below:
                euler[row] -= 1
            edge[y, x] = not (right and below and rows[y, x - 1] == own and rows[y - 1, x] == own)
    for row in range(n):
        for at in range(pixels.start[row], pixels.start[row + 1]):
            y, x = pixels.y[at] + 1, pixels.x[at] + 1
            if edge[y, x]:
                perimeter[row] += weights[_code(rows, edge, y, x)]
    return perimeter, euler


@njit(cache=True, error_model="numpy")
def _code(rows, edge, y, x):
    """1 + 2 x direct + 10 x diagonal neighbours that are on the same outline."""
    code = 1
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if (dy or dx) and edge[y + dy, x + dx] and rows[y + dy, x + dx] == rows[y, x]:
                code += 10 if dy and dx else 2
    return code


@njit(cache=True, error_model="numpy")
def _hulls(pixels):
    """Convex area, smallest and largest Feret diameter, (n, 3)."""
    found = np.zeros((pixels.box.shape[0], 3))
    for row in range(found.shape[0]):
        if pixels.start[row + 1] > pixels.start[row]:
            y, x = hull_of(pixels, row)
            found[row, 0] = convex_area(pixels, row)
            found[row, 1], found[row, 2] = feret_diameters(y, x)
    return found


@njit(cache=True, error_model="numpy")
def _radii(pixels):
    """Largest, mean and median distance of an object's pixels to the nearest outside it, (n, 3)."""
    found = np.zeros((pixels.box.shape[0], 3))
    for row in range(found.shape[0]):
        squares = to_outside(pixels, row, True)
        if squares.size:
            keys = sort_keys(squares.astype(np.uint64) << np.uint64(32))
            total = 0.0
            for square in squares:
                total += np.sqrt(float(square))
            high, low = keys[keys.size // 2], keys[(keys.size - 1) // 2]
            found[row, 0] = np.sqrt(float(keys[-1] >> np.uint64(32)))
            found[row, 1] = total / keys.size
            found[row, 2] = (np.sqrt(float(high >> np.uint64(32))) + np.sqrt(float(low >> np.uint64(32)))) / 2
    return found
