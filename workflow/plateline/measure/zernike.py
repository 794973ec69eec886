"""Zernike moments of objects, of their shape and of the intensities on it.

The polynomials live on the smallest circle around the object. A pixel whose centre is a rounding error outside it does
not count, in CellProfiler and so here: the arithmetic of circle and radius must stay as it is.

References
----------
Boland et al. 1998, doi:10.1002/(SICI)1097-0320(19981101)33:3<366::AID-CYTO12>3.0.CO;2-R.
"""

from math import factorial

import numpy as np
import numpy.typing as npt
from numba import njit

from plateline.measure.hull import enclosing_circle, hull_of
from plateline.measure.names import ZERNIKES
from plateline.measure.pixels import Floats, Pixels

_DEGREE = max(n for n, _ in ZERNIKES)
# The polynomials are sums of z^m r^2k. The sums over these few are taken per pixel, the polynomials made of them once
# per object.
_POWERS = [(m, k) for m in range(_DEGREE + 1) for k in range((_DEGREE - m) // 2 + 1)]
_STEPS = np.array([(_DEGREE - m) // 2 + 1 for m in range(_DEGREE + 1)])


def shape_moments(pixels: Pixels) -> Floats:
    """Magnitude of each Zernike moment of each object's shape, (30, n), per area of the circle."""
    sums, radius = _sum_powers(pixels, np.ones((1, pixels.y.size), np.float32), _STEPS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(_polynomials(sums)[0]).T / (np.pi * radius**2)


def intensity_moments(pixels: Pixels, values: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Magnitude per pixel and phase of each Zernike moment of the intensities, (C, 30, n) each.

    The phase is CellProfiler's: the angle whose tangent is the real over the imaginary part.
    """
    sums, radius = _sum_powers(pixels, values, _STEPS)
    moments = np.where(radius[:, None] > 0, _polynomials(sums), np.nan).transpose(0, 2, 1)  # (C, 30, n)
    return np.abs(moments) / np.maximum(pixels.area, 1), np.arctan2(moments.real, moments.imag)


def _polynomials(sums: Floats) -> npt.NDArray[np.complex128]:
    """Moments (C, n, 30) from the sums over powers, real and imaginary, (C, n, 2, 30)."""
    weights = np.zeros((len(_POWERS), len(ZERNIKES)))
    for column, (n, m) in enumerate(ZERNIKES):
        for s in range((n - m) // 2 + 1):
            below = factorial(s) * factorial((n + m) // 2 - s) * factorial((n - m) // 2 - s)
            weights[_POWERS.index((m, (n - m) // 2 - s)), column] = (-1) ** s * factorial(n - s) / below
    return sums[:, :, 0] @ weights + 1j * (sums[:, :, 1] @ weights)


@njit(cache=True, error_model="numpy")
def _sum_powers(pixels, weights, steps):
    """Weighted sums of z^m r^2k over each object, (W, n, 2, powers), and the radius of its circle, (n,)."""
    n, powers = pixels.box.shape[0], steps.sum()
    sums, radii, basis = np.zeros((weights.shape[0], n, 2 * powers)), np.zeros(n), np.empty(2 * powers)
    for row in range(n):
        if pixels.start[row] == pixels.start[row + 1]:
            continue
        y, x = hull_of(pixels, row)
        centre_y, centre_x, radius = enclosing_circle(y, x)
        radii[row] = radius
        for at in range(pixels.start[row], pixels.start[row + 1]):
            dy, dx = (pixels.y[at] - centre_y) / radius, (pixels.x[at] - centre_x) / radius
            if dx * dx + dy * dy > 1 or radius == 0:
                continue
            _take_powers(dy, dx, steps, basis)
            for channel in range(weights.shape[0]):
                weight = np.float64(weights[channel, at])
                for power in range(2 * powers):
                    sums[channel, row, power] += weight * basis[power]
    return sums.reshape((weights.shape[0], n, 2, powers)), radii


@njit(cache=True, error_model="numpy")
def _take_powers(y, x, steps, basis):
    """Real parts of z^m r^2k for all m and k, then the imaginary ones; z = y + ix."""
    square, real, imaginary, at, half = x * x + y * y, 1.0, 0.0, 0, basis.size // 2
    for m in range(steps.size):
        scale = 1.0
        for _ in range(steps[m]):
            basis[at], basis[half + at] = real * scale, imaginary * scale
            at, scale = at + 1, scale * square
        real, imaginary = real * y - imaginary * x, real * x + imaginary * y
