"""The part of rank one of sorted fields: the slopes that all layers share, their noise, and a dark level.

The numbers behind `flatfield.basic`, which says what they mean; arrays in, arrays out.
"""

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

# `basic` sorts the fields within at most 16 x 16 blocks; each block holds 8 x 8 means of pixels from each field, so a
# field is never larger than 128 x 128. What a mean is of, and how many, hardly matters (tests/benchmarks/flatfield.py).
BLOCKS, MEANS = 16, 8
# A mean is of at least 4 x 4 pixels, or the shot noise, which grows with the root of the light, bends the layers.
MEAN_PX = 4
_GROUPS, _LAYERS = 8, 16
# Share of the layers' covariance, known from few groups, that is taken to be noise: 0.03 to 0.3 differ by 0.001.
_RIDGE = 0.1
# Share of its slopes by which a layer may depart from rank one, as shot noise and a background of its own make it.
_BENT = 0.1
# Variance counts twice when a shape is weighed against its noise, since an even field must stay even.
_NOISE_WEIGHT = 2.0
# Fall of chi-square that a dark level must bring: two standard errors.
_MIN_EVIDENCE = 4.0
# Counts. Under it, rounding and clipping at 0 bend what the layers say: BBBC013 (8 bit, darkest layer 1 count) seemed
# to have a dark level of 1, without which Z' of its log ratio fell from 0.897 to 0.886.
_MIN_DARKEST = 4.0
_MIN_ILLUM = 0.05


def sorted_layers(fields: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Sorted values of the blocks of each group of fields, averaged in layers from dark to bright: (K, y * x, L)."""
    groups = min(_GROUPS, len(fields))
    n_y, n_x = (size // MEANS for size in fields.shape[1:])
    layers = []
    for k in range(groups):
        group = fields[k::groups].reshape(-1, n_y, MEANS, n_x, MEANS)
        values = np.sort(group.transpose(1, 3, 0, 2, 4).reshape(n_y * n_x, -1), axis=1)
        starts = np.arange(_LAYERS) * values.shape[1] // _LAYERS
        layers.append(
            np.add.reduceat(values, starts, axis=1, dtype=np.float64) / np.diff(starts, append=values.shape[1])
        )
    return np.stack(layers)


def _powers(order: int) -> npt.NDArray[np.intp]:
    """Orders along y and x, (S, 2), of the polynomials up to a total order; the constant comes first."""
    return np.array([(i, total - i) for total in range(order + 1) for i in range(total + 1)])


def _legendre(at: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.floating]:
    """Legendre polynomials of mean square 1 over the field, at places from -1 to 1: (places, order + 1)."""
    return legendre.legvander(at, order) * np.sqrt(2 * np.arange(order + 1) + 1)


def design(edges: list[npt.NDArray[np.intp]], shape: tuple[int, ...], order: int) -> npt.NDArray[np.float64]:
    """Polynomials at the centres of the blocks, (y * x, S)."""
    sides = []
    for starts, size in zip(edges, shape, strict=True):
        borders = np.append(starts[::MEANS], size) / size
        sides.append(_legendre(borders[:-1] + borders[1:] - 1, order))
    i, j = _powers(order).T
    return (sides[0][:, None, i] * sides[1][None, :, j]).reshape(-1, len(i))


def draw(slopes: npt.NDArray[np.float64], shape: tuple[int, ...], order: int) -> npt.NDArray[np.float32]:
    """The illumination at every pixel, mean 1."""
    terms = np.zeros((order + 1, order + 1))
    terms[tuple(_powers(order).T)] = np.append(1, slopes)
    y, x = (_legendre((2 * np.arange(size) + 1) / size - 1, order) for size in shape)
    illum = np.maximum(y @ terms @ x.T, _MIN_ILLUM)
    return (illum / illum.mean()).astype(np.float32)


def fit_rank_one(coefficients: npt.NDArray[np.float64], *, dark: bool) -> tuple[npt.NDArray[np.float64], float, float]:
    """Relative slopes that all layers share, the variance of each, and the dark level: from (K, S, L)."""
    level, tilt = coefficients.mean(axis=0)[0], coefficients.mean(axis=0)[1:]
    precision = _precision(coefficients[:, 1:] - tilt, tilt)

    def fit(offset):
        light = (level - offset) @ precision
        slopes = tilt @ light / (light @ (level - offset))
        rest = tilt - np.outer(slopes, level - offset)
        return slopes, 1 / (light @ (level - offset)), np.einsum("sl,lm,sm->", rest, precision, rest)

    darkest = level.min() if dark and level.min() >= _MIN_DARKEST else 0.0
    # Ever finer towards the darkest layer, whose light may be a hundredth of the dark level.
    offsets = darkest - np.geomspace(darkest, darkest * 0.01, 64) if darkest > 0 else np.zeros(1)
    misfits = [fit(offset)[2] for offset in offsets]
    best = int(np.argmin(misfits))
    unit = max(1.0, misfits[best] / max(tilt.size - len(tilt) - 1, 1))
    offset = offsets[best] if misfits[0] - misfits[best] > _MIN_EVIDENCE * unit else 0.0
    slopes, variance, _ = fit(offset)
    return slopes, float(variance), float(offset)


def _precision(departures: npt.NDArray[np.float64], tilt: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inverse covariance, (L, L), of the layers' slopes (S, L), from departures (K, S, L) of the groups from them."""
    groups, shapes = departures.shape[:2]
    covariance = np.einsum("ksl,ksm->lm", departures, departures) / ((groups - 1) * shapes * groups)
    noise = np.diag(covariance) * _RIDGE + (tilt**2).sum(axis=0) * _BENT**2
    # Fields that are all alike and even have neither noise nor slopes.
    noise += 1e-12 * max(noise.max(), np.finfo(float).tiny * 1e12)
    return np.linalg.inv((1 - _RIDGE) * covariance + np.diag(noise))


def shrink(slopes: npt.NDArray[np.float64], variance: float, order: int) -> npt.NDArray[np.float64]:
    """Slopes of each total order, less the share that is noise."""
    total = _powers(order)[1:].sum(axis=1)
    power = np.bincount(total, slopes**2)
    noise = _NOISE_WEIGHT * variance * np.bincount(total)
    kept = np.maximum(1 - noise / np.maximum(power, np.finfo(float).tiny), 0)
    return slopes * kept[total]
