"""Haralick's texture features of objects (CellProfiler's MeasureTexture).

Intensities become grey levels, 0 to 255 for 0 to full scale, and pairs of pixels at a distance are counted. Pairs that
touch level 0 do not count: CellProfiler takes it for background. All sums are kept as whole numbers, so that a uniform
object has no variance at all; they fit for objects of up to three million pixels. `DifferenceVariance` is taken over as
many differences as there are levels up to the object's brightest, as CellProfiler's is: it depends on that pixel.

References
----------
Haralick et al. 1973, doi:10.1109/TSMC.1973.4309314.
"""

import numpy as np
from numba import njit

from plateline.measure.names import Settings
from plateline.measure.pixels import Floats, Pixels, Values

# Steps (y, x) of the directions 0 to 3, in CellProfiler's order.
_STEPS = np.array([(0, 1), (1, 1), (1, 0), (1, -1)])
# n log2 n of the counts that are common.
_LOGS = np.arange(4096) * np.log2(np.maximum(np.arange(4096), 1))


def measure_texture(pixels: Pixels, values: Values, settings: Settings) -> Floats:
    """Features `Texture` of each object, (C, scales, directions, 13, n).

    NaN where some direction has no pair of pixels: CellProfiler then gives up the object at this scale.
    """
    wanted = np.isin(np.arange(len(_STEPS)), settings.texture_directions)
    grey = _quantise(values.values, np.int64(settings.texture_levels))
    found = [_haralick(pixels, grey, _STEPS, scale, wanted, _LOGS) for scale in settings.texture_scales]
    texture = np.stack(found, axis=1)[:, :, settings.texture_directions]
    texture[np.broadcast_to(~values.known[:, None, None, None], texture.shape)] = np.nan
    return texture


def count_clipped(values: Values) -> list[int]:
    """Pixels of objects above full scale in each channel, which texture takes for full scale."""
    return [int((channel > 1).sum()) for channel in values.values]


@njit(cache=True, error_model="numpy")
def _quantise(values, levels):
    """Grey levels from 0 to `levels` - 1; as in CellProfiler, to 8 bits first and from there down."""
    grey, lower = np.empty(values.shape, np.uint8), np.empty(256, np.uint8)
    for level in range(256):
        lower[level] = level if levels == 256 else np.uint8(level / 255.0 * (levels - 1))
    for channel in range(values.shape[0]):
        for at in range(values.shape[1]):
            share = min(max(np.float64(values[channel, at]), 0.0), 1.0)
            grey[channel, at] = lower[int(np.rint(share * 255))]
    return grey


@njit(cache=True, error_model="numpy")
def _haralick(pixels, grey, steps, scale, wanted, logs):
    """Features of each channel, direction and object, (C, 4, 13, n)."""
    channels, n = grey.shape[0], pixels.box.shape[0]
    found = np.full((channels, steps.shape[0], 13, n), np.nan)
    table = np.zeros(65536, np.int64)
    for row in range(n):
        first, last = pixels.start[row], pixels.start[row + 1]
        places, width = _places(pixels, row, scale)
        crop, seen = np.zeros((pixels.box[row, 2] - pixels.box[row, 0] + 2 * scale) * width, np.uint8), last - first
        touched = np.empty(seen, np.int64)
        for channel in range(channels):
            top = 0
            for at in range(seen):
                crop[places[at]] = grey[channel, first + at]
                top = max(top, np.int64(grey[channel, first + at]))
            for direction in range(steps.shape[0]):
                away = scale * (steps[direction, 0] * width + steps[direction, 1])
                m, pairs = _count(crop, places, away, table, touched)
                if pairs == 0:
                    found[channel, :, :, row] = np.nan
                    break
                if wanted[direction]:
                    _describe(table, touched[:m], pairs, top, logs, found[channel, direction, :, row])
                table[touched[:m]] = 0
    return found


@njit(cache=True, error_model="numpy")
def _places(pixels, row, scale):
    """Places of an object's pixels in its box with a margin of `scale`, row after row; width of that box."""
    y0, x0 = pixels.box[row, 0] - scale, pixels.box[row, 1] - scale
    width = pixels.box[row, 3] - x0 + scale
    first, last = pixels.start[row], pixels.start[row + 1]
    places = np.empty(last - first, np.int64)
    for at in range(first, last):
        places[at - first] = (pixels.y[at] - y0) * width + pixels.x[at] - x0
    return places, width


@njit(cache=True, error_model="numpy")
def _count(crop, places, away, table, touched):
    """Count pairs of levels, lower x 256 + higher, in the table; number of different ones, listed, and of pairs."""
    m, pairs = 0, 0
    for place in places:
        a, b = np.int64(crop[place]), np.int64(crop[place + away])
        if a and b:
            pair = a * 256 + b if a <= b else b * 256 + a
            if table[pair] == 0:
                touched[m] = pair
                m += 1
            table[pair] += 1
            pairs += 1
    return m, pairs


@njit(cache=True, error_model="numpy")
def _describe(table, touched, pairs, top, logs, out):
    """Haralick's 13 features; each pair counts in both orders, 2 x `pairs` in all."""
    level, plus, minus = np.zeros(top + 1, np.int64), np.zeros(2 * top + 1, np.int64), np.zeros(top + 1, np.int64)
    squares, logged, products, total = 0.0, 0.0, 0, 2 * pairs
    for pair in touched:
        a, b, count = pair >> 8, pair & 255, table[pair]
        entry, times = (2 * count, 1) if a == b else (count, 2)
        squares += times * float(entry) * entry
        logged += times * _log(entry, logs)
        products += 2 * a * b * count
        level[a] += count
        level[b] += count
        plus[a + b] += 2 * count
        minus[b - a] += 2 * count
    # A single pair of levels has none, not the rounding of a difference.
    entropy = 0.0 if logged == _log(total, logs) else np.log2(float(total)) - logged / total
    of_level = _entropy(level, total, logs)
    summed, variance = _mean_and_variance(level, total)
    out[0], out[1] = squares / total / total, _contrast(minus, total)
    out[2] = 1.0 if variance == 0 else (float(total * products - summed * summed)) / variance
    out[3], out[4] = variance / total / total, _homogeneity(minus, total)
    summed, variance = _mean_and_variance(plus, total)
    out[5], out[6], out[7] = summed / total, variance / total / total, _entropy(plus, total, logs)
    out[8], out[9], out[10] = entropy, _variance_of(minus, total), _entropy(minus, total, logs)
    out[11] = (entropy - 2 * of_level) / (of_level if of_level > 0 else 1.0)
    out[12] = np.sqrt(max(0.0, 1 - np.exp(-2 * (2 * of_level - entropy))))


@njit(cache=True, error_model="numpy")
def _log(count, logs):
    return logs[count] if count < logs.size else count * np.log2(float(count))


@njit(cache=True, error_model="numpy")
def _entropy(counts, total, logs):
    logged = 0.0
    for count in counts:
        logged += _log(count, logs)
    return 0.0 if logged == _log(total, logs) else max(0.0, np.log2(float(total)) - logged / total)


@njit(cache=True, error_model="numpy")
def _mean_and_variance(counts, total):
    """Mean x total and variance x total^2 of the indices, weighted by their counts, as whole numbers."""
    summed, squares = 0, 0
    for value in range(counts.size):
        summed += value * counts[value]
        squares += value * value * counts[value]
    return summed, float(total * squares - summed * summed)


@njit(cache=True, error_model="numpy")
def _contrast(minus, total):
    squares = 0
    for value in range(minus.size):
        squares += value * value * minus[value]
    return squares / total


@njit(cache=True, error_model="numpy")
def _homogeneity(minus, total):
    near = 0.0
    for value in range(minus.size):
        near += minus[value] / (1.0 + value * value)
    return near / total


@njit(cache=True, error_model="numpy")
def _variance_of(minus, total):
    """Variance of the shares themselves, over all differences below the object's brightest level."""
    squares, mean = 0.0, 1.0 / minus.size
    for count in minus:
        squares += (count / total - mean) ** 2
    return squares / minus.size
