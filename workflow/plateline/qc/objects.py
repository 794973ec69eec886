"""What the bright objects of a field look like, on the means of its blocks: debris, halo, roundness."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from plateline.qc.kernels import BLOCK

# How far around a bright object its halo is taken, blocks.
_HALO = 2
# An ellipse fills the one of its own moments; on few blocks the least of it is rounding.
_FILLED, _LEAST_BLOCKS = 0.85, 4


def describe_objects(blocks: npt.NDArray[np.float64], ranked: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Debris score, halo and roundness of a field.

    Parameters
    ----------
    blocks : float64 array of shape (Y, X)
        Means of blocks of `BLOCK` pixels a side.
    ranked : float64 array of shape (Y * X,)
        The same, sorted.

    Returns
    -------
    tuple of float
        As `plateline.qc.measure_field` has them; 0, NaN and NaN for a constant image.
    """
    if ranked[0] == ranked[-1]:
        return 0.0, np.nan, np.nan
    otsu = _otsu(ranked)
    return _debris(blocks, ranked, otsu), _halo(blocks, ranked, otsu), _roundness(blocks > otsu)


def of_ranked(ranked: npt.NDArray, share: float) -> float:
    """Quantile of sorted values, with linear interpolation."""
    place = share * (len(ranked) - 1)
    low, high = ranked[[int(place), min(int(place) + 1, len(ranked) - 1)]]
    return float(low + (high - low) * (place - int(place)))


def _otsu(ranked: npt.NDArray) -> float:
    """Otsu's threshold of sorted values, from a histogram of 256 bins as scikit-image takes it."""
    steps = np.linspace(ranked[0], ranked[-1], 257)
    counts = np.diff(np.append(np.searchsorted(ranked, steps[:-1]), len(ranked)))
    return float(threshold_otsu(hist=(counts, (steps[:-1] + steps[1:]) / 2)))


def _moments(bright: npt.NDArray[np.bool_]) -> tuple[npt.NDArray, ...]:
    """Rows and columns of the bright blocks, the object of each; per object area and the spread yy, xx, yx."""
    labels, _ = ndimage.label(bright, np.ones((3, 3)))
    y, x = np.nonzero(labels)
    objects = labels[y, x] - 1
    area = np.bincount(objects)
    middle_y, middle_x = (np.bincount(objects, at) / area for at in (y, x))
    spread = [
        np.bincount(objects, first * second) / area - middle
        for first, second, middle in ((y, y, middle_y**2), (x, x, middle_x**2), (y, x, middle_y * middle_x))
    ]
    return y, x, objects, area, *spread


def _debris(blocks: npt.NDArray, ranked: npt.NDArray, otsu: float) -> float:
    """Largest light times radius of gyration of a connected bright object."""
    # Halfway to the brightest: cells that touch fall apart there, and what outshines them stays whole.
    bright = blocks > (otsu + of_ranked(ranked, 0.999)) / 2
    if not bright.any():
        return 0.0
    y, x, objects, _, yy, xx, _ = _moments(bright)
    # A block by itself has the radius of gyration of a square of its side.
    radius = np.sqrt(np.maximum(yy + xx, 0) + 1 / 6) * BLOCK
    light = np.bincount(objects, blocks[y, x] - of_ranked(ranked, 0.5))
    return float((light * BLOCK**2 * radius).max())


def _halo(blocks: npt.NDArray, ranked: npt.NDArray, otsu: float) -> float:
    """Light around the bright objects over that in them, both above the rest."""
    first = np.searchsorted(ranked, otsu, side="right")
    bright = blocks > otsu
    around = ndimage.maximum_filter(bright.view(np.uint8), 2 * _HALO + 1).view(bool) & ~bright
    if not 0 < first < len(ranked) or not around.any():
        return np.nan
    inside, rest = of_ranked(ranked[first:], 0.5), of_ranked(ranked[:first], 0.5)
    return float((np.median(blocks[around]) - rest) / (inside - rest))


def _roundness(bright: npt.NDArray[np.bool_]) -> float:
    """Share of the bright blocks that lie in objects which fill the ellipse of their moments."""
    if not bright.any():
        return np.nan
    *_, area, yy, xx, yx = _moments(bright)
    ellipse = 4 * np.pi * np.sqrt(np.maximum((yy + 1 / 12) * (xx + 1 / 12) - yx**2, 0))
    seen = area >= _LEAST_BLOCKS
    return float(area[seen & (area > _FILLED * ellipse)].sum() / area[seen].sum()) if seen.any() else np.nan
